"""The rows of the table, each a function that yields results."""

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

from server import free_port, mailroom, postfix, running, smtp_sink
from table import Result


@dataclasses.dataclass
class Setting:
    """What every row is given."""
    binary: str
    constant: str
    quick: bool

    def messages(self, full=20_000):
        return full // 10 if self.quick else full

    @property
    def rounds(self):
        return 1 if self.quick else 3


# --- receiving -----------------------------------------------------------------------------------------------------

# name, smtp-source options, stress options, floor, goal
SHAPES = [
    ("100 sessions, a connection each", ["-s", "100"], ["-c", "100", "--connections", "each"], 0.65, 1.0),
    ("100 sessions, kept", ["-s", "100", "-d"], ["-c", "100"], 0.55, 0.9),
    ("20 sessions, kept", ["-s", "20", "-d"], ["-c", "20"], 0.40, 0.7),
    ("100 sessions, kept, each message to a new mailbox", ["-s", "100", "-d", "-N"], ["-c", "100", "--mailboxes", "new"],
     0.35, 0.7),
]


def smtp_source(options):
    def send(setting, port, count):
        began = time.monotonic()
        subprocess.run(["smtp-source", *options, "-l", "10240", "-m", str(count), "-f", "ann@sender.test",
                        "-t", "bench@mailroom.test", f"127.0.0.1:{port}"], check=True)
        return count / (time.monotonic() - began)
    return send


def stress(options, body):
    def send(setting, port, count):
        # smtp-sink offers no mailboxes to tell apart and smtp-source no pipelining: the same steps for everyone.
        done = run_json([setting.binary, "stress", "smtp", f"127.0.0.1:{port}", *options, "-n", str(count),
                         "--size", "10KiB", "--body", body, "--json"])
        if done["failed"]:
            raise RuntimeError(f"{done['failed']} messages failed: {done['failures']}")
        return done["per_second"]
    return send


def run_json(command):
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def against_sink(setting, name, send, floor, goal):
    """Alternates server and smtp-sink; both are fresh in each round."""
    ours, theirs = [], []
    for _ in range(setting.rounds):
        with mailroom(setting.binary) as server:
            send(setting, server.smtp, setting.messages() // 10)
            ours.append(send(setting, server.smtp, setting.messages()))
        with smtp_sink() as port:
            theirs.append(send(setting, port, setting.messages()))
    ratio = statistics.median(own / sink for own, sink in zip(ours, theirs))
    detail = f"{statistics.median(ours):,.0f}/s against smtp-sink {statistics.median(theirs):,.0f}/s"
    return Result(name, ratio, "", floor, goal, detail=detail)


def receive(setting):
    """Durable receive of 10 KB against smtp-sink, by three generators."""
    if not missing("smtp-source", "smtp-sink"):
        for shape, source, _, floor, goal in SHAPES:
            yield against_sink(setting, f"receive, {shape}, smtp-source", smtp_source(source), floor, goal)
    if not missing("smtp-sink"):
        for body, kind in (("text", "realistic bodies"), ("random", "incompressible bodies")):
            for shape, _, options, floor, goal in SHAPES:
                yield against_sink(setting, f"receive, {shape}, {kind}", stress(options, body), floor, goal)


def against_postfix(setting):
    """The same against Postfix, which queues and discards."""
    if missing("smtp-source", "postfix") or os.geteuid() != 0:
        print("Postfix is missing or this is not root: its row is left out", file=sys.stderr)
        return
    generators = [(f"{shape}, smtp-source", smtp_source(source)) for shape, source, _, _, _ in SHAPES[:2]]
    generators += [(f"{shape}, incompressible bodies", stress(options, "random")) for shape, _, options, _, _ in SHAPES[:2]]
    for shape, send in generators:
        ours, theirs, ceiling = [], [], []
        for _ in range(setting.rounds):
            with mailroom(setting.binary) as server:
                ours.append(send(setting, server.smtp, setting.messages()))
            with postfix() as port:
                theirs.append(send(setting, port, setting.messages()))
            with smtp_sink() as port:
                ceiling.append(send(setting, port, setting.messages()))
        ratio = statistics.median(own / other for own, other in zip(ours, theirs))
        most = statistics.median(sink / other for sink, other in zip(ceiling, theirs))
        detail = (f"{statistics.median(ours):,.0f}/s against {statistics.median(theirs):,.0f}/s; "
                  f"smtp-sink, which stores nothing, {most:.2f} x")
        yield Result(f"receive against Postfix, {shape}", ratio, "x", 7, 12, detail=detail)


def sustained(setting):
    """60 s at full rate with the search index on."""
    seconds = 6 if setting.quick else 60
    with mailroom(setting.binary) as server:
        done = run_json([setting.binary, "stress", "smtp", f"127.0.0.1:{server.smtp}", "-c", "100", "-d", f"{seconds}s",
                         "--size", "10KiB", "--body", "text", "--json"])
        lag = server.health()["parts"]["search"]["index_lag"]
        began = time.monotonic()
        while server.health()["parts"]["search"]["index_lag"] > 0 and time.monotonic() - began < 600:
            time.sleep(0.2)
        caught_up = time.monotonic() - began
    detail = (f"index lag at the end {lag:,} messages, caught up after {caught_up:.1f} s; "
              f"p99 {done['latency_ms']['p99']:.1f} ms; {done['failed']} failed")
    yield Result(f"sustained receive, {seconds} s, realistic bodies, search index on", done["per_second"], "/s", detail=detail)


def rows_written(setting):
    """Rows a second that the store writes in batches: messages to ten mailboxes each."""
    rates = []
    for _ in range(setting.rounds):
        with mailroom(setting.binary) as server:
            done = run_json([setting.binary, "stress", "smtp", f"127.0.0.1:{server.smtp}", "-c", "400", "-n",
                             str(setting.messages(40_000)), "--recipients", "10", "--mailboxes", "1000", "--size", "1KiB",
                             "--json"])
            rates.append(done["per_second"] * 10)
    yield Result("rows written by the store in batches", statistics.median(rates), "/s", 50_000, 150_000,
                 detail="messages of 1 KiB to ten mailboxes each, through SMTP, 400 sessions")


def bytes_written(setting):
    """Bytes written for each byte received, incompressible bodies, under load."""
    cases = (("search index left out", {"SEARCH__ENABLED": "false"}, 2.0, 1.3), ("with the search index", {}, None, None))
    for name, settings, floor, goal in cases:
        with mailroom(setting.binary, **settings) as server:
            before = server.written
            done = run_json([setting.binary, "stress", "smtp", f"127.0.0.1:{server.smtp}", "-c", "100", "-n",
                             str(setting.messages()), "--size", "10KiB", "--body", "random", "--json"])
            began = time.monotonic()
            while server.health()["parts"]["search"]["index_lag"] > 0 and time.monotonic() - began < 300:
                time.sleep(0.2)
            written = server.written - before
        yield Result(f"bytes written for each byte received, {name}", written / done["bytes"], "", floor, goal, less=True,
                     detail=f"{written / done['done'] / 1000:.1f} KB a message")


# --- pushing and reading -------------------------------------------------------------------------------------------

def push(setting):
    """From the final dot, and from the final 250, to the frame of a WebSocket client."""
    duration = "5s" if setting.quick else "20s"
    for rate, source, limits in ((1000, "dot", (3, 15, 1, 4)), (50, "250", (0.3, 1, 0.1, 0.4))):
        p50s, p99s = [], []
        for _ in range(setting.rounds):
            with mailroom(setting.binary) as server:
                done = run_json([setting.binary, "stress", "ws", f"ws://127.0.0.1:{server.http}/v1/ws", "--clients", "100",
                                 "--smtp", f"127.0.0.1:{server.smtp}", "--rate", str(rate), "--duration", duration, "--json"])
                if done["failed"]:
                    raise RuntimeError(f"{done['failed']} failed: {done['failures']}")
                latency = done["latency_ms"] if source == "dot" else done["from_final_250_ms"]
                p50s.append(latency["p50"])
                p99s.append(latency["p99"])
        for name, values, floor, goal in (("p50", p50s, limits[0], limits[2]), ("p99", p99s, limits[1], limits[3])):
            yield Result(f"final {source} to WebSocket frame at {rate}/s, {name}", statistics.median(values), "ms", floor, goal,
                         less=True)


def listing(setting):
    """The first page of a 1,000-message mailbox against a constant handler that sends the same bytes."""
    page = "/v1/mailboxes/stress-0@mailroom.test/messages?limit=20"
    ours, constants = [], []
    for _ in range(setting.rounds):
        with mailroom(setting.binary) as server:
            run_json([setting.binary, "stress", "smtp", f"127.0.0.1:{server.smtp}", "-c", "20", "-n", "1000", "--size", "2KiB",
                      "--mailboxes", "1", "--json"])
            url = f"http://127.0.0.1:{server.http}{page}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                body = answer.read()
            ours.append(get_rate(setting, url))
        port = free_port()
        path = os.path.join("/var/tmp", f"bench-constant-{os.getpid()}")
        with open(path, "wb") as file:
            file.write(body)
        try:
            with running([setting.constant, f"127.0.0.1:{port}", path], port):
                constants.append(get_rate(setting, f"http://127.0.0.1:{port}{page}"))
        finally:
            os.unlink(path)
    ratio = statistics.median(own / constant for own, constant in zip(ours, constants))
    detail = f"{statistics.median(ours):,.0f}/s against {statistics.median(constants):,.0f}/s"
    yield Result("message list of a 1,000-message mailbox, 20 a page, against a constant handler", ratio, "", 0.25, 0.6,
                 detail=detail)
    yield Result("the same in requests a second, 32 connections", statistics.median(ours), "/s", 10_000, 30_000)


def get_rate(setting, url):
    seconds = "2s" if setting.quick else "8s"
    done = run_json([setting.binary, "stress", "api", url, "-c", "32", "-d", seconds, "--json"])
    if done["failed"]:
        raise RuntimeError(f"{done['failed']} requests failed")
    return done["per_second"]


# --- memory --------------------------------------------------------------------------------------------------------

def settled(server):
    """Resident bytes once they stop moving."""
    last = server.resident
    for _ in range(40):
        time.sleep(0.25)
        now = server.resident
        if abs(now - last) < 64 * 1024:
            return now
        last = now
    return last


def idle_memory(setting):
    with mailroom(setting.binary) as server:
        yield Result("idle memory after start", settled(server) / 2**20, "MB", 30, 15, less=True)


@contextlib.contextmanager
def ws_clients(setting, server, count, mailboxes):
    """WebSocket clients in a process of their own."""
    command = [setting.binary, "stress", "ws", f"ws://127.0.0.1:{server.http}/v1/ws", "--clients", str(count), "--mailboxes",
               str(mailboxes), "--duration", "600s", "--json"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while server.metric("websocket_connections_active") < count:
            if time.monotonic() > end or process.poll() is not None:
                raise RuntimeError("the clients do not connect")
            time.sleep(0.2)
        time.sleep(2)
        yield
    finally:
        process.kill()
        process.wait()


def client_memory(setting):
    count = 1_000 if setting.quick else 10_000
    # Descriptors are shared out between the listeners: what SMTP may hold is not there for sockets.
    descriptors = {"SMTP__MAX_SESSIONS": 100, "SMTP__MAX_SESSIONS_PER_CLIENT": 100}
    with mailroom(setting.binary, **descriptors) as server:
        before = settled(server)
        with ws_clients(setting, server, count, 1):
            shared = settled(server)
    yield Result(f"a WebSocket client ({count:,} held)", (shared - before) / count / 1000, "KB", 7, 3, less=True)
    with mailroom(setting.binary, MAILBOXES__IDLE="1h", **descriptors) as server:
        before = settled(server)
        with ws_clients(setting, server, count, count):
            each = settled(server)
    yield Result(f"an active mailbox actor ({count:,} held, beside the socket that follows each)",
                 ((each - before) - (shared - before)) / count / 1000, "KB", 2, 1, less=True,
                 detail="clients that follow a mailbox each, less clients that follow one together")


def session_memory(setting):
    count = 1_000 if setting.quick else 10_000
    with mailroom(setting.binary, SMTP__READ_TIMEOUT="600s") as server:
        before = settled(server)
        held = []
        try:
            for _ in range(count):
                connection = socket.create_connection(("127.0.0.1", server.smtp), 30)
                connection.recv(512)
                connection.sendall(b"EHLO bench.test\r\n")
                connection.recv(1024)
                held.append(connection)
            after = settled(server)
        finally:
            for connection in held:
                connection.close()
    yield Result(f"an idle SMTP session ({count:,} held)", (after - before) / count / 1000, "KB", 5, 2, less=True)


def missing(*programs):
    absent = [name for name in programs if not shutil.which(name)]
    if absent:
        print(f"not installed: {', '.join(absent)}; the rows that need it are left out", file=sys.stderr)
    return absent


ALL = {
    "receive": receive,
    "postfix": against_postfix,
    "sustained": sustained,
    "rows": rows_written,
    "written": bytes_written,
    "push": push,
    "list": listing,
    "idle": idle_memory,
    "clients": client_memory,
    "sessions": session_memory,
}
