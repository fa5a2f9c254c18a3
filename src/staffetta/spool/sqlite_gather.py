"""Whether the next batch of the group commit waits a moment, so that one flush serves more operations.

A wait pays while enough comes during it. A few clients send no more than a message each before they are answered, and
then all of them wait for a timer; nothing tells such clients from a burst that has just begun but what a wait brings.
This module refuses to know clocks, and what is written.
"""

from __future__ import annotations

from typing import Final

WORTH_OPERATIONS: Final = 12
"""A wait that ends with fewer was in vain: five clients could do no more, each with a message and the end of one."""

VAIN_WAITS: Final = 3
"""So many waits in vain, one after the other, are no accident."""

BATCHES_AT_ONCE: Final = 64
"""Then so many batches wait for nothing, before another wait is tried: some 60 ms."""


class Gathering:
    """Learns from each batch that was written."""

    __slots__ = ("_at_once", "_vain", "_waited")

    def __init__(self) -> None:
        self._waited = False
        self._vain = 0
        self._at_once = 0

    def pays(self, operations: int) -> bool:
        """A batch of so many operations was written: shall the next one wait? Who writes alone waits for nothing."""
        if operations >= WORTH_OPERATIONS:
            self._vain = self._at_once = 0
        elif self._waited:
            self._vain += 1
            if self._vain >= VAIN_WAITS:
                self._at_once = BATCHES_AT_ONCE
        elif self._at_once:
            self._at_once -= 1
        self._waited = operations > 1 and not self._at_once
        return self._waited
