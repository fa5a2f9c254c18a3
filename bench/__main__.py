"""`python -m bench [NAME…] [--write]`: run the benchmarks named (all without a name), print a table.

`--write` also writes docs/benchmarks.md. Exit status 1 when a target was missed or a benchmark could not run.
Everything that was started ends with us: at the end, on Ctrl-C, on SIGTERM and when the time is up.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from bench import machine
from bench.results import Failed, Figure, Missing, Outcome

NAMES = ("start", "idle", "end_to_end", "submission", "signed", "inbound", "backlog")
BENCHMARK_SECONDS = {
    "start": 40,
    "idle": 60,
    "end_to_end": 200,
    "submission": 200,
    "signed": 130,
    "inbound": 130,
    "backlog": 110,
}
"""A benchmark that takes longer is broken off; all together stay below fifteen minutes."""

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


class TimeIsUp(BaseException):
    """Not an Exception: nothing on the way may take it for its own."""


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    # Only once: what cleans up must not be interrupted in turn.
    for one in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
        signal.signal(one, signal.SIG_IGN)
    raise TimeIsUp if number == signal.SIGALRM else KeyboardInterrupt


def _listen() -> None:
    for one in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
        signal.signal(one, _stop)


def measure(name: str) -> Outcome:
    """Run one benchmark within its time."""
    module = importlib.import_module(f"bench.{name}")
    outcome = Outcome(name, module.TITLE, module.METHOD)
    begin = time.monotonic()
    _listen()
    signal.alarm(BENCHMARK_SECONDS[name])
    try:
        outcome.figures = module.run()
    except (Missing, Failed) as error:
        outcome.problem = str(error)
    except TimeIsUp:
        outcome.problem = f"not done after {BENCHMARK_SECONDS[name]} s"
    except Exception as error:
        # A fault of one benchmark; the others still count, and the exit status says it.
        traceback.print_exc()
        outcome.problem = f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    outcome.seconds = time.monotonic() - begin
    return outcome


def show(outcome: Outcome) -> None:
    print(f"\n{outcome.title} ({outcome.seconds:.0f} s)")
    width = max((len(figure.name) for figure in outcome.figures), default=0)
    for figure in outcome.figures:
        print(f"  {figure.name:<{width}}  {figure.value:<26}  {figure.target:<14} {figure.verdict}".rstrip())
    if outcome.problem:
        print(f"  not measured: {outcome.problem}")
    sys.stdout.flush()


def page(rows: Sequence[tuple[str, str]], outcomes: Sequence[Outcome]) -> str:
    """The page, as Markdown: figures as they came, and nothing else."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `python -m bench --write`; do not edit. Where several relays stand side by side they ran in turn",
        "in one run, and a ratio is the median of the ratios of its rounds (least and greatest in brackets).",
        "Everything runs on one machine over loopback, generator and sink included: ratios carry over to other",
        "machines, rates do not.",
        "",
        "| machine | |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in rows),
    ]
    for outcome in outcomes:
        lines += ["", f"## {outcome.title}", "", outcome.method, ""]
        if outcome.problem:
            lines += [f"Not measured: {_cell(outcome.problem)}", ""]
        if outcome.figures:
            lines += ["| | measured | target | met |", "| --- | --- | --- | --- |"]
            lines += [_row(figure) for figure in outcome.figures]
    left = [name for name in NAMES if name not in {outcome.name for outcome in outcomes}]
    if left:
        lines += ["", f"Not run this time: {', '.join(left)}."]
    return "\n".join(lines) + "\n"


def _row(figure: Figure) -> str:
    cells = (figure.name, figure.value, figure.target, figure.verdict)
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Staffetta against real peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--write", action="store_true", help=f"also write {PAGE.parent.name}/{PAGE.name}")
    options = parser.parse_args()
    for name in options.names:
        if name not in NAMES:
            parser.error(f"no benchmark is called {name}; there are {', '.join(NAMES)}")
    rows = machine.describe()
    for name, value in rows:
        print(f"{name}: {value}")
    outcomes = []
    for name in options.names or NAMES:
        outcomes.append(measure(name))
        show(outcomes[-1])
    if options.write:
        PAGE.write_text(page(rows, outcomes))
    missed = [figure for outcome in outcomes for figure in outcome.figures if figure.met is False]
    return 1 if missed or any(outcome.problem for outcome in outcomes) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
