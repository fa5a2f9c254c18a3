"""What an operator may order for the queue: a preview first, then the act, which the journal remembers.

This module refuses to know SQL and how an operator is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec

from staffetta.control.answer import Answer, moment
from staffetta.control.queue import QueueEntry, entry_of
from staffetta.observe.events import Drop, Hold, Release, Retry, encode
from staffetta.spool.contract import State
from staffetta.spool.operator import Filter, Store, waiting
from staffetta.spool.operator_acts import Act, Order, perform

SAMPLES: Final = 3
"""Recipients that a preview shows."""

EVENTS: Final[dict[Act, type[Hold | Release | Drop | Retry]]] = {
    Act.HOLD: Hold,
    Act.RELEASE: Release,
    Act.DROP: Drop,
    Act.RETRY: Retry,
}
"""The acts that a command may order, with the event that records each. A bounce is recorded when the relay makes it."""

_TOUCHES: Final = {
    Act.RETRY: frozenset({State.QUEUED, State.DEFERRED}),
    Act.HOLD: frozenset({State.QUEUED, State.DEFERRED, State.ACTIVE}),
    Act.RELEASE: frozenset({State.HELD}),
    Act.DROP: frozenset(State),
    Act.BOUNCE: frozenset(State),
}
"""The states in which an act means something."""


class Wish(msgspec.Struct, frozen=True):
    """What an operator wants done to what the filter chooses; `by` and `reason` go into the journal."""

    act: Act
    chosen: Filter
    by: str
    reason: str = ""


class Preview(Answer, frozen=True):
    """What an act would touch. `oldest` is the earliest arrival among it."""

    recipients: int
    oldest: datetime | None
    samples: tuple[QueueEntry, ...]


class Acted(Answer, frozen=True, gc=False):
    """What an act did. `active` were left alone, because the relay is working on them: ask again."""

    act: Act
    touched: int
    active: int


def preview(store: Store, wish: Wish, now: float) -> Preview:
    """What would be touched now."""
    count, oldest = 0, float("inf")
    samples: list[QueueEntry] = []
    for one in waiting(store, wish.chosen, now):
        if one.state not in _TOUCHES[wish.act] or (wish.act is Act.BOUNCE and one.bounce_by):
            continue
        count += 1
        oldest = min(oldest, one.received_at)
        if count <= SAMPLES:
            samples.append(entry_of(one))
    return Preview(count, moment(oldest) if count else None, tuple(samples))


def carry_out(store: Store, wish: Wish, now: float, told: Callable[[int], None] = lambda _: None) -> Acted:
    """Do it, and say so in the journal. Raises SpoolUnavailable; what was done before stays done. `told` hears how far
    it is.

    A bounce is only asked for: the relay returns the message to its sender at its next look.
    """
    kind, when = EVENTS.get(wish.act), moment(now)
    # Who asks is kept with the recipient, for the event that the relay writes; so the reason goes there too.
    by = f"{wish.by}: {wish.reason}" if wish.act is Act.BOUNCE and wish.reason else wish.by

    def line(message_id: str, recipient: str) -> bytes:
        if kind is None:
            return b""
        return encode(kind(time=when, id=message_id, recipient=recipient, by=wish.by, reason=wish.reason))

    done = perform(store, wish.chosen, Order(wish.act, by, now, line), told=told)
    return Acted(wish.act, done.touched, done.active)
