"""Where the figures were made: without this they mean nothing."""

from __future__ import annotations

import datetime
import os
import platform
import re
import ssl
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from bench.processes import tool
from bench.results import Missing

FLUSHES = 50
FLUSH_OCTETS = 4096


def describe() -> list[tuple[str, str]]:
    """Rows of name and value."""
    import staffetta  # noqa: PLC0415

    return [
        ("date", f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"),
        ("processor", f"{_processor()}, {len(os.sched_getaffinity(0))} cores"),
        ("memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"),
        ("stores on", f"{_filesystem()}; writing and flushing 4 KB takes {_flush_seconds() * 1e3:.2f} ms (median)"),
        ("system", f"{_distribution()}, {platform.system()} {platform.release()}"),
        ("load before", f"{os.getloadavg()[0]:.2f} (one minute)"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}, {ssl.OPENSSL_VERSION}"),
        ("Staffetta", f"{staffetta.__version__}{_commit()}"),
        ("Postfix", _postfix_version()),
    ]


def _processor() -> str:
    found = re.search(r"(?m)^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()


def _filesystem() -> str:
    here = Path(tempfile.gettempdir()).resolve()
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text().split("\n"):
        fields = line.split(" ")
        if len(fields) > 2 and here.is_relative_to(fields[1]) and len(fields[1]) >= len(best[0]):
            best = (fields[1], fields[2])
    return best[1]


def _flush_seconds() -> float:
    seconds = []
    with tempfile.TemporaryFile() as file:
        for _ in range(FLUSHES):
            begin = time.perf_counter()
            file.write(b"x" * FLUSH_OCTETS)
            file.flush()
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return ""
    return f", commit {done.stdout.decode().strip()}" if done.returncode == 0 else ""


def _postfix_version() -> str:
    try:
        command = [tool("postconf"), "-d", "-h", "mail_version"]
    except Missing:
        return "not installed"
    return subprocess.run(command, capture_output=True, check=False).stdout.decode().strip()
