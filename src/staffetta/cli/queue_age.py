"""The table of `queue age`: destinations by age, as numbers and, on a terminal, in colours that get warmer."""

from __future__ import annotations

import os
from collections.abc import Sequence

from staffetta.cli.output import finish, on_terminal, record, safe, say, span
from staffetta.control.queue_age import CLASSES, AgeClass, DestinationAges

TERMINAL_ROWS = 100
"""Rows that a terminal shows; those with most recipients come first."""

_COLOURS = ("green", "green", "green", "yellow", "yellow", "yellow", "bright_red", "bright_red", "red", "bold red")


def print_ages(rows: Sequence[DestinationAges], now: float) -> None:
    """A table on a terminal; elsewhere tab separated: destination, total, oldest in seconds, a count for each class."""
    if not on_terminal():
        for row in rows:
            oldest = f"{now - row.oldest_at.timestamp():.0f}"
            record((row.destination, str(row.recipients), oldest, *(str(one.recipients) for one in row.ages)))
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    drawn.add_column("destination", overflow="fold")
    for name in ("total", "oldest", *(_span(minutes) for minutes in CLASSES), f"{_span(CLASSES[-1])}+"):
        drawn.add_column(name, justify="right")
    for row in (_total(rows), *rows[:TERMINAL_ROWS]):
        cells = [
            Text(str(one.recipients) if one.recipients else "-", style=_COLOURS[place] if one.recipients else "dim")
            for place, one in enumerate(row.ages)
        ]
        oldest = span(now - row.oldest_at.timestamp())
        drawn.add_row(Text(safe(row.destination)), Text(str(row.recipients)), Text(oldest), *cells)
    finish()
    Console(no_color=bool(os.environ.get("NO_COLOR"))).print(drawn)
    if len(rows) > TERMINAL_ROWS:
        say(f"{TERMINAL_ROWS} of {len(rows)} destinations; --json lists all.")


def _total(rows: Sequence[DestinationAges]) -> DestinationAges:
    sums = [sum(row.ages[place].recipients for row in rows) for place in range(len(rows[0].ages))]
    ages = tuple(AgeClass(limit, count) for limit, count in zip((*CLASSES, None), sums, strict=True))
    return DestinationAges("TOTAL", "", sum(sums), min(row.oldest_at for row in rows), ages)


def _span(minutes: int) -> str:
    return f"{minutes}m" if minutes < 60 else f"{minutes / 60:.2g}h"
