"""Servers under measurement, each in a temporary directory, stopped by its process id."""

import contextlib
import json
import os
import pathlib
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

from machine import work_parent


def free_port():
    """One below those that the system gives to clients, of which the row before may have left thousands."""
    while True:
        port = random.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            return port


def wait_for(port, process, seconds=60):
    """Until something listens there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"ended with {process.returncode} before it listened on {port}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"nothing listens on {port}")


@contextlib.contextmanager
def running(command, port, **options):
    """A process that listens on a port."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
    try:
        wait_for(port, process)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Mailroom:
    """A running mailroom."""

    def __init__(self, process, smtp, http, ops, data):
        self.process, self.smtp, self.http, self.ops, self.data = process, smtp, http, ops, data

    @property
    def resident(self):
        """Resident memory in bytes."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no VmRSS")

    @property
    def written(self):
        """Bytes that it had written to the block layer so far."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/io").read_text(encoding="ascii").splitlines():
            if line.startswith("write_bytes:"):
                return int(line.split()[1])
        raise RuntimeError("no write_bytes")

    def health(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ops}/health", timeout=10) as answer:
            return json.load(answer)

    def metric(self, name):
        """The sum over all labels of a metric."""
        total = 0.0
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ops}/metrics", timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith((name + " ", name + "{")):
                    total += float(line.rsplit(" ", 1)[1])
        return total


@contextlib.contextmanager
def mailroom(binary, **settings):
    """A mailroom with its defaults, but for what a load needs; settings as SECTION__NAME=value."""
    data = tempfile.mkdtemp(prefix="mailroom-bench-", dir=work_parent())
    smtp, http, ops = free_port(), free_port(), free_port()
    environment = dict(os.environ, MAILROOM__SMTP__MAX_SESSIONS="20000", MAILROOM__SMTP__MAX_SESSIONS_PER_CLIENT="20000")
    # Nobody stands in front of it who would have to hear of its end.
    environment["MAILROOM__RUNTIME__DRAIN"] = "0s"
    environment.update({"MAILROOM__" + name: str(value) for name, value in settings.items()})
    command = [binary, "serve", "--data", data, "--smtp", f"127.0.0.1:{smtp}", "--http", f"127.0.0.1:{http}",
               "--ops", f"127.0.0.1:{ops}"]
    try:
        with open(os.path.join(data, "log"), "wb") as log, \
                running(command, smtp, env=environment, stdout=log, stderr=log) as process:
            wait_for(http, process)
            yield Mailroom(process, smtp, http, ops, data)
    finally:
        shutil.rmtree(data, ignore_errors=True)


@contextlib.contextmanager
def smtp_sink():
    """Postfix's smtp-sink: takes mail and throws it away."""
    port = free_port()
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    with running(["smtp-sink", *user, f"127.0.0.1:{port}", "4096"], port):
        yield port


POSTFIX_MAIN = """
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {data}
mail_owner = postfix
setgid_group = postdrop
myhostname = bench.test
mydestination =
local_recipient_maps =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
relay_domains = static:all
default_transport = discard:
relay_transport = discard:
smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
default_process_limit = 200
disable_dns_lookups = yes
maillog_file = {data}/maillog
maillog_file_prefixes = {data}
alias_maps =
alias_database =
"""

POSTFIX_MASTER = """
{port} inet n - n - 200 smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
discard unix - - n - - discard
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
tlsmgr unix - - n 1000? 1 tlsmgr
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


@contextlib.contextmanager
def postfix():
    """Postfix with a configuration of its own: queues durably, then discards. Needs root."""
    root = tempfile.mkdtemp(prefix="postfix-bench-", dir=work_parent())
    os.chmod(root, 0o755)
    port = free_port()
    config, queue, data = (os.path.join(root, name) for name in ("etc", "queue", "data"))
    for path in (config, queue, data):
        os.mkdir(path)
    owner = pwd.getpwnam("postfix")
    os.chown(data, owner.pw_uid, owner.pw_gid)
    pathlib.Path(config, "main.cf").write_text(POSTFIX_MAIN.format(queue=queue, data=data), encoding="ascii")
    pathlib.Path(config, "master.cf").write_text(POSTFIX_MASTER.format(port=port), encoding="ascii")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        subprocess.run(["postfix", "-c", config, "check"], check=False, **quiet)
        process = subprocess.Popen(["postfix", "-c", config, "start-fg"], stdin=subprocess.DEVNULL, **quiet)
        try:
            wait_for(port, process)
            yield port
        finally:
            subprocess.run(["postfix", "-c", config, "stop"], check=False, timeout=60, **quiet)
            process.wait(60)
    finally:
        shutil.rmtree(root, ignore_errors=True)
