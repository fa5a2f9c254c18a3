"""`queue age`: how long what waits has waited, by destination, in classes that double."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from staffetta.control.answer import Answer, moment
from staffetta.control.filters import route_of
from staffetta.spool.operator import Store
from staffetta.spool.operator_destinations import ages

CLASSES: Final = (5, 10, 20, 40, 80, 160, 320, 640, 1280)
"""Upper limits of the classes, in minutes; one more class holds what is older."""


class AgeClass(msgspec.Struct, frozen=True, gc=False):
    """How many recipients are at most so many minutes old (and older than the class before); None: all above."""

    up_to_minutes: int | None
    recipients: int


class DestinationAges(Answer, frozen=True, gc=False):
    """One row of `queue age`."""

    destination: str
    route: str
    recipients: int
    oldest_at: datetime
    ages: tuple[AgeClass, ...]


def queue_ages(store: Store, now: float) -> list[DestinationAges]:
    """All rows, the destination with most recipients first."""
    rows = ages(store, [60.0 * minutes for minutes in CLASSES], now)
    return [
        DestinationAges(
            row.key,
            route_of(row.key),
            sum(row.counts),
            moment(row.oldest),
            tuple(AgeClass(limit, count) for limit, count in zip((*CLASSES, None), row.counts, strict=True)),
        )
        for row in rows
    ]
