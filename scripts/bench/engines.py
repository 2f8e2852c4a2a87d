"""The rows of database servers and of several nodes."""

import concurrent.futures
import contextlib
import glob
import os
import pwd
import re
import shutil
import statistics
import subprocess
import tempfile
import time

from machine import work_parent
from rows import missing, run_json
from server import free_port, mailroom, running
from table import Result

# Rows of the same kinds and sizes as the program writes for 500 messages of 10 KB, as one transaction. The bodies are made
# beforehand; nothing comes over the wire and nothing is counted: what the server does with the rows alone.
RAW_TABLES = """
CREATE TABLE raw_sample AS SELECT n, string_agg(sha512((n * 1000 + k)::text::bytea), '') AS contents
    FROM generate_series(1, 500) n, generate_series(1, 160) k GROUP BY n;
CREATE TABLE raw_bodies (id UUID PRIMARY KEY, compressed BOOLEAN NOT NULL, size BIGINT NOT NULL,
    mailboxes INTEGER NOT NULL, contents BYTEA NOT NULL);
ALTER TABLE raw_bodies ALTER COLUMN contents SET STORAGE EXTERNAL;
CREATE SEQUENCE raw_uid;
CREATE TABLE raw_messages (LIKE messages INCLUDING ALL) PARTITION BY HASH (mailbox_id);
DO $$ BEGIN FOR n IN 0..15 LOOP EXECUTE format(
    'CREATE TABLE raw_messages_%s PARTITION OF raw_messages FOR VALUES WITH (MODULUS 16, REMAINDER %s)', n, n);
END LOOP; END $$;
"""
RAW_BATCH = """
BEGIN;
INSERT INTO raw_bodies SELECT gen_random_uuid(), true, 10240, 1, contents FROM raw_sample;
INSERT INTO raw_messages (mailbox_id, uid, stamp, id, received_at, size, segment, "offset", length, parse, is_read, attachments,
        subject, sender, recipients, date, preview, tags, envelope)
    SELECT n % 100, nextval('raw_uid'), n, gen_random_uuid(), 1, 10240, 0, 0, 10240, 0, false, 0,
        'Subject of message ' || n, 'ann@sender.test', 'bench@mailroom.test', 1, repeat('preview ', 20), NULL, repeat('e', 150)
    FROM raw_sample;
COMMIT;
"""
BATCH = 500


def postgres_programs():
    """Where Debian's package has them; none without it."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
    return found[-1] if found else None


def absent():
    """Says what is missing; the rows are left out."""
    if postgres_programs() is None or os.geteuid() != 0:
        print("PostgreSQL is missing or this is not root: its rows are left out", flush=True)
        return True
    return False


class Postgres:
    def __init__(self, port, programs):
        self.url, self.programs, self.port = f"postgres://mailroom@127.0.0.1:{port}/mailroom", programs, port

    def run(self, program, *arguments):
        command = [os.path.join(self.programs, program), "-h", "127.0.0.1", "-p", str(self.port), "-U", "mailroom", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def raw_rate(self, seconds):
        """Rows of messages a second that four connections insert in batches."""
        self.run("psql", "-q", "-v", "ON_ERROR_STOP=1", "-c", RAW_TABLES, "mailroom")
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write(RAW_BATCH)
            script.flush()
            out = self.run("pgbench", "-n", "-f", script.name, "-c", "4", "-j", "4", "-T", str(seconds), "mailroom")
        return float(re.search(r"tps = ([\d.]+)", out).group(1)) * BATCH


@contextlib.contextmanager
def postgres():
    """PostgreSQL with its defaults, but for memory, in a temporary directory and under its own user."""
    programs, port = postgres_programs(), free_port()
    root = tempfile.mkdtemp(prefix="postgres-bench-", dir=work_parent())
    owner = pwd.getpwnam("postgres")
    os.chown(root, owner.pw_uid, owner.pw_gid)
    data = os.path.join(root, "data")
    identity = {"user": "postgres", "group": "postgres", "extra_groups": [], "cwd": root}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        subprocess.run([f"{programs}/initdb", "-D", data, "-A", "trust", "-U", "mailroom", "--no-sync"], check=True, **quiet, **identity)
        with open(os.path.join(data, "postgresql.conf"), "a", encoding="ascii") as config:
            config.write(f"port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n"
                         "shared_buffers = 1GB\nmax_wal_size = 4GB\nmax_connections = 300\n")
        with running([f"{programs}/postgres", "-D", data], port, **quiet, **identity):
            server = Postgres(port, programs)
            # It listens before it is ready.
            for _ in range(200):
                with contextlib.suppress(subprocess.CalledProcessError):
                    server.run("createdb", "mailroom")
                    break
                time.sleep(0.1)
            yield server
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def redis():
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with running(command, port, stdout=subprocess.DEVNULL):
        yield f"redis://127.0.0.1:{port}"


def send(setting, ports, count, body):
    """Sends `count` messages, shared out among the nodes; messages a second of all."""
    def one(port):
        return run_json([setting.binary, "stress", "smtp", f"127.0.0.1:{port}", "-c", str(100 // len(ports)), "-n",
                         str(count // len(ports)), "--size", "10KiB", "--body", body, "--json"])
    with concurrent.futures.ThreadPoolExecutor(len(ports)) as pool:
        done = list(pool.map(one, ports))
    failed = sum(result["failed"] for result in done)
    if failed:
        raise RuntimeError(f"{failed} messages failed: {[result['failures'] for result in done]}")
    return sum(result["per_second"] for result in done)


def on_postgres(setting):
    """Durable receive of incompressible bodies on PostgreSQL, against raw inserts of the same rows into the same server."""
    if absent():
        return
    ours, raw, text = [], [], []
    for _ in range(setting.rounds):
        with postgres() as database, mailroom(setting.binary, DATABASE__URL=database.url) as server:
            send(setting, [server.smtp], setting.messages() // 10, "random")
            ours.append(send(setting, [server.smtp], setting.messages(), "random"))
            text.append(send(setting, [server.smtp], setting.messages(), "text"))
            raw.append(database.raw_rate(2 if setting.quick else 6))
    ratio = statistics.median(own / other for own, other in zip(ours, raw))
    detail = f"{statistics.median(ours):,.0f}/s against {statistics.median(raw):,.0f}/s; bodies of text {statistics.median(text):,.0f}/s"
    yield Result("receive on PostgreSQL, 100 sessions, against raw inserts of the same rows", ratio, "", detail=detail)


def three_nodes(setting):
    """Three nodes on one database against one, and how long a push takes from one to another."""
    if absent() or missing("redis-server"):
        return
    one, three, p50s, p99s = [], [], [], []
    for _ in range(setting.rounds):
        with postgres() as database, redis() as bus:
            shared = {"DATABASE__URL": database.url, "REDIS__URL": bus}
            with mailroom(setting.binary, **shared) as first:
                send(setting, [first.smtp], setting.messages() // 10, "text")
                one.append(send(setting, [first.smtp], setting.messages(), "text"))
                with mailroom(setting.binary, **shared) as second, mailroom(setting.binary, **shared) as third:
                    ports = [node.smtp for node in (first, second, third)]
                    three.append(send(setting, ports, setting.messages(), "text"))
                    done = run_json([setting.binary, "stress", "ws", f"ws://127.0.0.1:{second.http}/v1/ws", "--clients", "100",
                                     "--smtp", f"127.0.0.1:{third.smtp}", "--rate", "200", "--duration",
                                     "5s" if setting.quick else "20s", "--json"])
                    if done["failed"]:
                        raise RuntimeError(f"{done['failed']} failed: {done['failures']}")
                    p50s.append(done["latency_ms"]["p50"])
                    p99s.append(done["latency_ms"]["p99"])
    ratio = statistics.median(together / single for together, single in zip(three, one))
    detail = f"{statistics.median(three):,.0f}/s against {statistics.median(one):,.0f}/s; all on this one machine"
    yield Result("three nodes on one PostgreSQL against one, bodies of text", ratio, "", detail=detail)
    for name, values, floor in (("p50", p50s, None), ("p99", p99s, 50)):
        yield Result(f"final dot at one node to WebSocket frame at another, 200/s, {name}", statistics.median(values), "ms", floor,
                     less=True)


ALL = {"postgres": on_postgres, "nodes": three_nodes}
