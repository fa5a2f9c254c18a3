"""How long a command takes from the shell's point of view: the whole process, nothing on the network."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.peers import STAFFETTA, folder, staffetta_command
from bench.results import Failed, Figure

TITLE = "Start of a command"
METHOD = (
    "Wall time of the whole process, median of seven runs after one that does not count; CPU time beside it. `queue "
    "list` and `account list` work on an empty store. An interpreter that does nothing stands in the first row."
)
RUNS = 7
TARGET_SECONDS = 0.150
NOTHING_MATCHED = 3

VERBS = (
    ("--help",),
    ("queue", "list", "--json"),
    ("account", "list", "--json"),
    ("config", "check"),
)


def measure(command: Sequence[str]) -> tuple[float, float]:
    """Median seconds of wall time and of CPU. Raises Failed when the command does."""
    walls, cpus = [], []
    for number in range(RUNS + 1):
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout is not None
        with process.stdout as output:
            said = output.read()
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in {0, NOTHING_MATCHED}:
            raise Failed(f"{' '.join(command)} ended with {process.returncode}: {said.decode()[-500:].strip()}")
        if number:
            walls.append(wall)
            cpus.append(used.ru_utime + used.ru_stime)
    return statistics.median(walls), statistics.median(cpus)


def run() -> list[Figure]:
    with folder("start") as path:
        config = path / "staffetta.toml"
        config.write_text(STAFFETTA.format(folder=path, port=2525, sink=2526, extra=""))
        (path / "data").mkdir()
        figures = [_figure("an empty Python", [sys.executable, "-c", "pass"], target=False)]
        figures += [_figure(f"staffetta {' '.join(verb)}", _command(verb, config)) for verb in VERBS]
    return figures


def _command(verb: Sequence[str], config: Path) -> list[str]:
    words = [] if verb[0].startswith("-") else ["-c", str(config)]
    return [staffetta_command(), *verb, *words]


def _figure(name: str, command: Sequence[str], target: bool = True) -> Figure:
    try:
        wall, cpu = measure(command)
    except Failed as failure:
        return Figure(f"{name}, ms", str(failure).replace("\n", " ")[-200:], "under 150", False)
    value = f"{wall * 1e3:.0f} (CPU {cpu * 1e3:.0f})"
    return Figure(f"{name}, ms", value, "under 150", wall < TARGET_SECONDS) if target else Figure(f"{name}, ms", value)
