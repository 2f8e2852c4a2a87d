"""Measures what a client, a session, a mailbox and a message cost at 1, 2 and 4 nodes on one machine, then holds many
WebSocket clients over as many nodes as the limit of descriptors asks for: python3 scripts/capacity --binary FILE
[--clients 100000] [--write docs/capacity-measured.md]

Everything talks over loopback to a PostgreSQL and a Redis of its own, in a temporary directory. Fails when a client is not
served, a message is lost or a frame does not come.
"""

import argparse
import concurrent.futures
import contextlib
import json
import math
import os
import pathlib
import resource
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench"))

from engines import postgres, redis  # noqa: E402
from machine import describe  # noqa: E402
from rows import run_json, settled  # noqa: E402
from server import mailroom  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
# Descriptors of a node that are not for sockets: SMTP sessions, the database, files.
RESERVED = 4_500
SOURCES = [f"127.0.0.{n}" for n in range(2, 8)]
HELD = 6_000
SESSIONS = 2_000
MESSAGES = 20_000


def seconds_of(pid):
    """Processor seconds of a process and of those that it started."""
    total = 0
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
            if int(stat.parent.name) == pid or int(fields[1]) == pid:
                total += int(fields[11]) + int(fields[12])
    return total / TICK


class Place:
    """The nodes and what they share, and how much processor each part has used."""

    def __init__(self, nodes, database, bus):
        self.nodes, self.database, self.bus = nodes, database, bus

    def used(self):
        return {"nodes": sum(seconds_of(node.process.pid) for node in self.nodes), "database": seconds_of(self.database),
                "redis": seconds_of(self.bus)}

    def resident(self):
        return sum(settled(node) for node in self.nodes)


def pid_on(port):
    """The process that listens there."""
    out = subprocess.run(["ss", "-Hltnp", f"sport = :{port}"], check=True, capture_output=True, text=True).stdout
    return int(out.split("pid=")[1].split(",")[0])


@contextlib.contextmanager
def cluster(binary, count, **settings):
    with postgres() as database, redis() as bus, contextlib.ExitStack() as stack:
        shared = {"DATABASE__URL": database.url, "REDIS__URL": bus, "SMTP__MAX_SESSIONS": SESSIONS + 100,
                  "SMTP__MAX_SESSIONS_PER_CLIENT": SESSIONS + 100, "SMTP__READ_TIMEOUT": "600s", "MAILBOXES__IDLE": "1h"}
        nodes = [stack.enter_context(mailroom(binary, **(shared | settings))) for _ in range(count)]
        yield Place(nodes, pid_on(database.port), pid_on(int(bus.rsplit(":", 1)[1])))


@contextlib.contextmanager
def sockets(binary, node, count, domain, mailboxes=1, seconds=600):
    command = [binary, "stress", "ws", f"ws://127.0.0.1:{node.http}/v1/ws", "--clients", str(count), "--mailboxes",
               str(mailboxes), "--domain", domain, "--source", ",".join(SOURCES), "--duration", f"{seconds}s", "--json"]
    before = node.metric("websocket_connections_active")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while node.metric("websocket_connections_active") < before + count:
            if time.monotonic() > end or process.poll() is not None:
                raise RuntimeError("the clients do not connect")
            time.sleep(0.2)
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def sessions(node, count):
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", node.smtp), 30))
            connection.recv(512)
            connection.sendall(b"EHLO capacity.test\r\n")
            connection.recv(1024)
        yield


def all_at_once(calls):
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [job.result() for job in [pool.submit(*call) for call in calls]]


def good(results):
    failed = sum(result["failed"] for result in results)
    if failed:
        raise RuntimeError(f"{failed} failed: {[result['failures'] for result in results]}")
    return results


def costs(binary, count):
    """A row of the table for so many nodes."""
    row = {"nodes": count}
    share = HELD // count
    # Each in a fresh cluster: memory that was given back once would not show again.
    with cluster(binary, count) as place, contextlib.ExitStack() as stack:
        before = place.resident()
        row["idle"] = before / count
        for n, node in enumerate(place.nodes):
            stack.enter_context(sockets(binary, node, share, f"one{n}.test"))
        row["client"] = (place.resident() - before) / (share * count)
        used = place.used()
        time.sleep(20)
        row["client_cpu"] = (place.used()["nodes"] - used["nodes"]) / 20 / (share * count) * 1e6
    with cluster(binary, count) as place, contextlib.ExitStack() as stack:
        before = place.resident()
        for n, node in enumerate(place.nodes):
            stack.enter_context(sockets(binary, node, share, f"each{n}.test", share))
        row["mailbox"] = (place.resident() - before) / (share * count) - row["client"]
    with cluster(binary, count) as place, contextlib.ExitStack() as stack:
        before = place.resident()
        for node in place.nodes:
            stack.enter_context(sessions(node, SESSIONS // count))
        row["session"] = (place.resident() - before) / (SESSIONS // count * count)
    with cluster(binary, count) as place:
        used = place.used()
        sent = good(all_at_once([(run_json, [binary, "stress", "smtp", f"127.0.0.1:{node.smtp}", "-c", str(100 // count), "-n",
                                             str(MESSAGES // count), "--size", "10KiB", "--body", "text", "--json"])
                                 for node in place.nodes]))
        after = place.used()
        row["messages"] = sum(result["per_second"] for result in sent)
        for part in after:
            row[f"message_{part}"] = (after[part] - used[part]) / (MESSAGES // count * count) * 1e6
        used = place.used()
        page = "/v1/mailboxes/stress-0@mailroom.test/messages?limit=20"
        asked = good(all_at_once([(run_json, [binary, "stress", "api", f"http://127.0.0.1:{node.http}{page}", "-c",
                                              str(32 // count), "-d", "5s", "--json"]) for node in place.nodes]))
        after = place.used()
        row["requests"] = sum(result["per_second"] for result in asked)
        done = sum(result["done"] for result in asked)
        for part in after:
            row[f"request_{part}"] = (after[part] - used[part]) / done * 1e6
    return row


def many(binary, clients):
    """Holds all of them; each node's mailbox gets mail through another node, so that every push goes over Redis."""
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED
    count = max(2, math.ceil(clients / room))
    each = math.ceil(clients / count)
    with cluster(binary, count, SMTP__MAX_SESSIONS=500, SMTP__MAX_SESSIONS_PER_CLIENT=500, HTTP__MAX_CONNECTIONS=each + 500,
                 HTTP__BACKLOG=16_384) as place:
        before = place.resident()
        commands = []
        for n, node in enumerate(place.nodes):
            other = place.nodes[(n + 1) % count]
            commands.append([binary, "stress", "ws", f"ws://127.0.0.1:{node.http}/v1/ws", "--clients", str(each), "--mailboxes", "1",
                             "--domain", f"node{n}.test", "--source", ",".join(SOURCES), "--smtp", f"127.0.0.1:{other.smtp}",
                             "--rate", "0.2", "--senders", "1", "--size", "2KiB", "--duration", "60s", "--json"])
        processes = [subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) for command in commands]
        try:
            end = time.monotonic() + 240
            held = 0
            while held < each * count:
                held = sum(node.metric("websocket_connections_active") for node in place.nodes)
                if time.monotonic() > end or any(process.poll() for process in processes):
                    raise RuntimeError(f"{held:.0f} clients of {each * count} are held")
                time.sleep(0.5)
            resident = place.resident() - before
            results = good([json.loads(process.communicate(timeout=300)[0]) for process in processes])
        finally:
            for process in processes:
                process.kill()
                process.wait()
        missing = sum(result["frames_missing"] for result in results)
        if missing:
            raise RuntimeError(f"{missing} frames did not come")
        return {"clients": each * count, "nodes": count, "resident": resident,
                "messages": sum(result["messages_sent"] for result in results),
                "frames": sum(result["done"] for result in results),
                "p50": max(result["latency_ms"]["p50"] for result in results),
                "p99": max(result["latency_ms"]["p99"] for result in results),
                "max": max(result["latency_ms"]["max"] for result in results)}


def render(machine, rows, held):
    kb = lambda value: f"{value / 1000:.2f} KB"  # noqa: E731
    us = lambda value: f"{value:.0f} µs"  # noqa: E731
    lines = ["# What things cost, measured", "", "Made by `make test-capacity`; do not edit. What it means stands in [capacity.md](capacity.md).",
             "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in machine]
    lines += ["", "| | " + " | ".join(f"{row['nodes']} node{'s' * (row['nodes'] > 1)}" for row in rows) + " |",
              "|---" * (len(rows) + 1) + "|"]
    table = [("memory of a node at rest", lambda row: f"{row['idle'] / 2**20:.1f} MB"),
             ("memory of a WebSocket client", lambda row: kb(row["client"])),
             ("processor time of an idle WebSocket client in a second", lambda row: f"{row['client_cpu']:.2f} µs"),
             ("memory of an active mailbox", lambda row: kb(row["mailbox"])),
             ("memory of an idle SMTP session", lambda row: kb(row["session"])),
             ("10 KB messages of text a second", lambda row: f"{row['messages']:,.0f}"),
             ("processor time a message: nodes", lambda row: us(row["message_nodes"])),
             ("PostgreSQL", lambda row: us(row["message_database"])),
             ("Redis", lambda row: us(row["message_redis"])),
             ("lists of 20 messages a second, one mailbox", lambda row: f"{row['requests']:,.0f}"),
             ("processor time a list: nodes", lambda row: us(row["request_nodes"])),
             ("PostgreSQL", lambda row: us(row["request_database"]))]
    lines += [f"| {name} | " + " | ".join(show(row) for row in rows) + " |" for name, show in table]
    if held:
        lines += ["", f"{held['clients']:,} WebSocket clients held by {held['nodes']} nodes of this machine: {held['resident'] / 2**20:,.0f} MB more "
                  f"than without them ({held['resident'] / held['clients'] / 1000:.2f} KB each). {held['messages']} messages, each from another node "
                  f"over Redis to {held['clients'] // held['nodes']:,} clients: {held['frames']:,} frames, from the final dot to the frame "
                  f"{held['p50']:.0f} ms at the median of the slowest node, {held['p99']:.0f} ms at the 99th percentile, {held['max']:.0f} ms "
                  "at most. None was missing."]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(prog="capacity", description=__doc__)
    parser.add_argument("--binary", required=True, help="the release build of mailroom")
    parser.add_argument("--clients", type=int, default=100_000, help="WebSocket clients to hold; 0 leaves that out")
    parser.add_argument("--nodes", default="1,2,4", help="numbers of nodes to measure the costs at")
    parser.add_argument("--write", metavar="FILE", help="also write the page there")
    options = parser.parse_args()
    rows = [costs(options.binary, int(count)) for count in options.nodes.split(",") if count]
    held = many(options.binary, options.clients) if options.clients else None
    page = render(describe(options.binary), rows, held)
    print(page)
    if options.write:
        with open(options.write, "w", encoding="utf-8") as file:
            file.write(page)


main()
