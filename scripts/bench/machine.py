"""What the figures were taken on: machine, versions, commit, how fast its disk syncs."""

import os
import pathlib
import platform
import shutil
import subprocess
import tempfile
import time


def describe(binary):
    """Lines of (name, value) for the head of the table."""
    return [
        ("commit", commit()),
        ("date", time.strftime("%Y-%m-%d", time.gmtime())),
        ("processor", f"{cpu_model()}, {os.cpu_count()} cores"),
        ("memory", f"{memory_gib():.0f} GiB"),
        ("kernel", platform.release()),
        ("disk", f"fdatasync of 10 KB appended: {fdatasync_ms():.2f} ms (median of 200) in {work_parent()}"),
        ("mailroom", version([binary, "--version"])),
        ("Postfix", version(["postconf", "-h", "mail_version"])),
    ]


def work_parent():
    """Where data directories are made: a real file system, not one in memory."""
    return os.environ.get("BENCH_DIR", "/var/tmp")


def commit():
    name = version(["git", "rev-parse", "--short=12", "HEAD"])
    dirty = subprocess.run(["git", "status", "--porcelain", "--", "src", "entity", "migration", "Cargo.lock"],
                           capture_output=True, text=True, check=False).stdout
    return name + (" with uncommitted changes" if dirty.strip() else "")


def version(command):
    if not shutil.which(command[0]):
        return "not installed"
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def memory_gib():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def fdatasync_ms(rounds=200):
    block, times = b"x" * 10240, []
    with tempfile.NamedTemporaryFile(dir=work_parent()) as file:
        for _ in range(rounds):
            file.write(block)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return sorted(times)[rounds // 2] * 1e3
