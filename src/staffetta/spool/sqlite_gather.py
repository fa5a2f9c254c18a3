"""Whether the next batch of the group commit waits a moment, so that one flush serves more operations.

A wait pays as long as somebody may still come. Whoever has sent a message says no more until it is durable; when all
who are connected have done so, nobody is left to wait for. This module refuses to know clocks, and what is written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

GATHER_OPERATIONS: Final = 16
"""So many need not wait for more."""


def _nobody_knows() -> int:
    return sys.maxsize


class Gathering:
    """What waits for the next batch. `senders` tells how many are connected; one too many costs the time of a wait, one
    too few a flush."""

    __slots__ = ("operations", "senders", "waiting_senders")

    def __init__(self) -> None:
        self.operations = 0
        self.waiting_senders = 0
        self.senders: Callable[[], int] = _nobody_knows

    def add(self, *, sender_waits: bool) -> None:
        """One more operation waits, and its sender may wait with it."""
        self.operations += 1
        self.waiting_senders += sender_waits

    def take(self, *, sender_waits: bool) -> None:
        """An operation is on its way."""
        self.operations -= 1
        self.waiting_senders -= sender_waits

    @property
    def complete(self) -> bool:
        """Nothing is won by waiting for more."""
        waiting = self.waiting_senders
        return self.operations >= GATHER_OPERATIONS or (waiting > 0 and waiting >= self.senders())
