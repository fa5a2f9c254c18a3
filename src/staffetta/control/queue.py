"""What an operator may ask of the queue, with and without a running relay.

This module refuses to know SQL and how an answer is printed; orders are queue_acts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from staffetta.control.answer import Answer, moment
from staffetta.control.filters import route_of
from staffetta.control.place import as_owner, require
from staffetta.spool import operator
from staffetta.spool.contract import State
from staffetta.spool.operator import Filter, Store, Waiting
from staffetta.spool.recovery import STORE_NAME


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
    return map(entry_of, operator.waiting(store, chosen, now))


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
        tuple(map(entry_of, stored.waiting)),
        stored.header.decode("utf-8", "replace"),
    )


def entry_of(one: Waiting) -> QueueEntry:
    """A recipient as operators see it."""
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
