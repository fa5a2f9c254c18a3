"""Processes that a benchmark starts: they end with it, also when it is killed, and say what they cost.

Each runs in its own session, so that Ctrl-C reaches the benchmark alone and it can clean up in order; and the kernel
kills it when the benchmark dies without cleaning up (`setpriv --pdeathsig`, where util-linux has it).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from bench.results import Failed, Missing

SBIN = "/usr/sbin:/sbin"
TICKS = os.sysconf("SC_CLK_TCK")


@cache
def tool(name: str, package: str = "postfix") -> str:
    """The path of a program. Raises Missing."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SBIN}")
    if found is None:
        raise Missing(f"{name} is not installed (Debian package {package})")
    return found


@cache
def _bound_to_us() -> tuple[str, ...]:
    found = shutil.which("setpriv")
    if found is None:
        return ()
    options = subprocess.run([found, "--help"], capture_output=True, check=False).stdout
    return (found, "--pdeathsig", "KILL") if b"--pdeathsig" in options else ()


def spawn(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process that does not outlive us."""
    return subprocess.Popen([*_bound_to_us(), *command], start_new_session=True, stdin=subprocess.DEVNULL, **options)


def run(command: Sequence[str], seconds: float, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run to the end, `seconds` at most. Raises Failed with what it said."""
    with spawn(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{Path(command[0]).name} did not end within {seconds:g} s") from None
        finally:
            if process.poll() is None:
                process.kill()
    if process.returncode:
        raise Failed(f"{Path(command[0]).name} ended with {process.returncode}: {(err or out).decode()[-500:].strip()}")
    return subprocess.CompletedProcess(list(command), process.returncode, out, err)


def stop(process: subprocess.Popen[bytes], seconds: float = 40.0) -> None:
    """Ask it to end, then make it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(seconds)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def first_greeting(
    port: int, process: subprocess.Popen[bytes] | None = None, seconds: float = 20.0, pause: float = 0.05
) -> float:
    """When a server first greeted (220). Raises Failed, at once when its `process` has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and (process is None or process.poll() is None):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as probe:
            probe.settimeout(5)
            if probe.recv(200)[:3] == b"220":
                greeted = time.monotonic()
                probe.sendall(b"QUIT\r\n")
                probe.recv(200)
                return greeted
        time.sleep(pause)
    raise Failed(f"nothing answers on port {port}")


def family(pid: int) -> list[int]:
    """The process and all that came from it and lives."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += [int(word) for word in (task / "children").read_text().split()]
    return found


def cpu_seconds(pid: int) -> float:
    """CPU of a process and all that came from it, the ended ones too."""
    ticks = 0
    for one in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS


class Neighbours:
    """How much of the machine others took since this was made: what a figure from a busy machine is worth."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._foreign = self._foreign_seconds()

    def share(self) -> float:
        """Of all cores, 0 to 1. Time that the hypervisor took away counts."""
        seconds = (time.monotonic() - self._begin) * (os.cpu_count() or 1)
        return max(0.0, self._foreign_seconds() - self._foreign) / seconds

    @staticmethod
    def _foreign_seconds() -> float:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
        user, nice, system, _, _, irq, softirq, steal = fields[:8]
        return (user + nice + system + irq + softirq + steal) / TICKS - cpu_seconds(os.getpid())


def resident_octets(pid: int, field: str = "VmRSS") -> int:
    """Resident memory of a process and of all that came from it, shared pages once; of `VmHWM`, the peak, its own."""
    if field == "VmRSS" and len(processes := family(pid)) > 1:
        return sum(map(_proportional_octets, processes))
    for line in Path(f"/proc/{pid}/status").read_text().split("\n"):
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise Failed("no memory figure")


def _proportional_octets(pid: int) -> int:
    """Its share of the memory that it uses: a page that several processes have counts in parts (proc(5))."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().split("\n"):
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def until_quiet(pid: int, idle: Callable[[], bool] = lambda: True, seconds: float = 20.0) -> None:
    """Wait until nothing is left to do: `idle` agrees, and the process burns no CPU. Raises Failed."""
    end = time.monotonic() + seconds
    before = cpu_seconds(pid)
    while time.monotonic() < end:
        time.sleep(0.1)
        now = cpu_seconds(pid)
        if now - before <= 1 / TICKS and idle():
            return
        before = now
    raise Failed("work is left over from the last round")
