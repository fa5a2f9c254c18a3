"""How far a long act is: a line that is written over on a terminal, a line now and then elsewhere. On stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final

import click

from staffetta.cli.output import span

SHOWN_AFTER_SECONDS: Final = 0.5
"""What ends before needs no progress."""

BAR_CELLS: Final = 24
REDRAW_SECONDS: Final = 0.1
LINE_SECONDS: Final = 10.0
"""Between two lines where nobody watches."""


class Progress:
    """Tell it what is done; it says so with rate and time left. `total` 0: not known."""

    def __init__(self, total: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._clock = clock
        self._begun = clock()
        self._watched = sys.stderr.isatty()
        self._next = self._begun + (SHOWN_AFTER_SECONDS if self._watched else LINE_SECONDS)
        self._drawn = False

    def __call__(self, done: int) -> None:
        """So many are done."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + (REDRAW_SECONDS if self._watched else LINE_SECONDS)
        text = self._text(done, now - self._begun)
        click.echo(f"\r\033[K{text}" if self._watched else text, err=True, nl=not self._watched)
        self._drawn = self._watched

    def finish(self) -> None:
        """Take the line away: what was done is said next."""
        if self._drawn:
            click.echo("\r\033[K", err=True, nl=False)
            self._drawn = False

    def _text(self, done: int, seconds: float) -> str:
        rate = done / max(seconds, 0.001)
        if not self._total:
            return f"{done} done, {rate:.0f}/s"
        share = min(1.0, done / self._total)
        left = f", {span((self._total - done) / rate)} left" if rate and done < self._total else ""
        told = f"{done} of {self._total}, {rate:.0f}/s{left}"
        filled = int(share * BAR_CELLS)
        return f"[{'#' * filled}{'.' * (BAR_CELLS - filled)}] {told}" if self._watched else told
