"""What every process tells of itself, under the names that every dashboard knows (`process_…`)."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from typing import Final

import msgspec

from staffetta.console.exposition import Family

_STAT: Final = "/proc/self/stat"


class Process(msgspec.Struct, frozen=True, gc=False):
    """One process at one moment; -1 where this system does not say."""

    cpu_seconds: float
    resident_octets: int
    virtual_octets: int
    started_at: float
    open_descriptors: int
    most_descriptors: int

    def families(self) -> Iterator[Family]:
        """Those that are known."""
        told = (
            ("process_cpu_seconds_total", "counter", "CPU time, user and system.", self.cpu_seconds),
            ("process_resident_memory_bytes", "gauge", "Memory in RAM.", self.resident_octets),
            ("process_virtual_memory_bytes", "gauge", "Memory that is mapped.", self.virtual_octets),
            ("process_start_time_seconds", "gauge", "When the process began.", self.started_at),
            ("process_open_fds", "gauge", "Open descriptors.", self.open_descriptors),
            ("process_max_fds", "gauge", "Descriptors at most.", self.most_descriptors),
        )
        for name, kind, text, value in told:
            if value >= 0:
                yield Family(name, kind, text, {(): value})


def this_process() -> Process:
    """This one, now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    virtual, resident, started_at = _from_proc()
    try:
        descriptors = len(os.listdir("/proc/self/fd")) - 1  # one of them was for looking
    except OSError:
        descriptors = -1
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return Process(used.ru_utime + used.ru_stime, resident, virtual, started_at, descriptors, most)


def _from_proc() -> tuple[int, int, float]:
    """Virtual and resident octets and the start, as proc(5) has them; -1 where there is none."""
    try:
        with open(_STAT, "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()  # the name before it may hold anything
        ticks = os.sysconf("SC_CLK_TCK")
        started = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + int(fields[19]) / ticks
        return int(fields[20]), int(fields[21]) * os.sysconf("SC_PAGE_SIZE"), started
    except (OSError, AttributeError, IndexError, ValueError):
        return -1, -1, -1.0
