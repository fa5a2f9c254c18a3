"""What an operator may ask of the queue and order for it, with and without a running relay.

This module refuses to know SQL and how an answer is printed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from staffetta.control.answer import Answer, moment
from staffetta.control.filters import route_of
from staffetta.control.place import as_owner, require
from staffetta.observe.events import Drop, Hold, Release, Retry, encode
from staffetta.spool import operator
from staffetta.spool.contract import State
from staffetta.spool.operator import Filter, Store, Waiting
from staffetta.spool.operator_acts import Act, Order, perform
from staffetta.spool.recovery import STORE_NAME

SAMPLES: Final = 3
"""Recipients that a preview shows."""

EVENTS: Final[dict[Act, type[Hold | Release | Drop | Retry]]] = {
    Act.HOLD: Hold,
    Act.RELEASE: Release,
    Act.DROP: Drop,
    Act.RETRY: Retry,
}
"""The acts that a command may order, with the event that records each."""

_TOUCHES: Final = {
    Act.RETRY: frozenset({State.QUEUED, State.DEFERRED}),
    Act.HOLD: frozenset({State.QUEUED, State.DEFERRED, State.ACTIVE}),
    Act.RELEASE: frozenset({State.HELD}),
    Act.DROP: frozenset(State),
}
"""The states in which an act means something."""


class QueueEntry(Answer, frozen=True, gc=False):
    """One waiting recipient. `sender` is "" for the null path; `next_attempt_at` is None while it is held."""

    id: str
    sender: str
    recipient: str
    state: State
    route: str
    destination: str
    size: int
    received_at: datetime
    attempts: int
    next_attempt_at: datetime | None
    last_reply: str
    in_doubt: bool


class QueueMessage(Answer, frozen=True, gc=False):
    """One message in the queue with what still waits of it. `header` is as stored, octets that are no text replaced."""

    id: str
    sender: str
    size: int
    received_at: datetime
    message_id: str
    session: str
    client: str
    login: str
    recipients: tuple[QueueEntry, ...]
    header: str


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


@contextlib.contextmanager
def open_queue(data_dir: Path) -> Iterator[Store]:
    """The store, as its owner. Raises place.NothingThere, place.NotAllowed, StoreError."""
    with as_owner(data_dir):
        require(data_dir / STORE_NAME)
        store = operator.open_for_command(data_dir)
        try:
            yield store
        finally:
            store.close()


def entries(store: Store, chosen: Filter, now: float) -> Iterator[QueueEntry]:
    """The waiting recipients, in order of arrival."""
    return map(_entry, operator.waiting(store, chosen, now))


def message(store: Store, message_id: str, now: float) -> QueueMessage | None:
    """One message; None when it is not in the queue (any more)."""
    stored = operator.show(store, message_id, now)
    if stored is None:
        return None
    found = stored.message
    return QueueMessage(
        found.id,
        str(found.sender.reverse_path),
        found.size,
        moment(found.received_at),
        found.message_id,
        found.session,
        found.client,
        found.login,
        tuple(map(_entry, stored.waiting)),
        stored.header.decode("utf-8", "replace"),
    )


def preview(store: Store, wish: Wish, now: float) -> Preview:
    """What would be touched now."""
    count, oldest = 0, float("inf")
    samples: list[QueueEntry] = []
    for one in operator.waiting(store, wish.chosen, now):
        if one.state not in _TOUCHES[wish.act]:
            continue
        count += 1
        oldest = min(oldest, one.received_at)
        if count <= SAMPLES:
            samples.append(_entry(one))
    return Preview(count, moment(oldest) if count else None, tuple(samples))


def carry_out(store: Store, wish: Wish, now: float) -> Acted:
    """Do it, and say so in the journal. Raises SpoolUnavailable; what was done before stays done."""
    kind, when = EVENTS[wish.act], moment(now)

    def line(message_id: str, recipient: str) -> bytes:
        return encode(kind(time=when, id=message_id, recipient=recipient, by=wish.by, reason=wish.reason))

    done = perform(store, wish.chosen, Order(wish.act, wish.by, now, line))
    return Acted(wish.act, done.touched, done.active)


def _entry(one: Waiting) -> QueueEntry:
    return QueueEntry(
        one.id,
        one.sender,
        one.recipient,
        one.state,
        route_of(one.destination),
        one.destination,
        one.size,
        moment(one.received_at),
        one.attempts,
        None if one.state is State.HELD else moment(one.next_attempt_at),
        one.last_reply,
        one.in_doubt,
    )
