"""What an operator may do to waiting recipients from another process: retry, hold, release, drop, ask for a bounce.

Each act runs in transactions of a thousand recipients at most, with a pause in between, so that a running relay gets
its turn; what is touched and its journal row are one write. A recipient that a living relay is working on is never
taken from under its feet: hold and drop leave it and count it as `active`, to be asked again; retry has nothing to do
for it; a bounce is noted and happens when it comes back. The relay sees all this through Spool.changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, cast

import apsw
import msgspec

from staffetta.spool.contract import Final as End
from staffetta.spool.contract import JournalEntry, Step
from staffetta.spool.operator import Filter, Key, Store, Waiting, pages
from staffetta.spool.sqlite_batch import Batch
from staffetta.spool.sqlite_schema import FREE
from staffetta.spool.sqlite_writer import refusal

ACT_ROWS: Final = 1000
"""Recipients changed in one transaction: some 40 ms."""

PAUSE_SECONDS: Final = 0.02
"""Between two transactions, so that the relay's writer comes in."""


class Act(StrEnum):
    """What to do."""

    RETRY = "retry"
    HOLD = "hold"
    RELEASE = "release"
    DROP = "drop"
    BOUNCE = "bounce"


class Order(msgspec.Struct, frozen=True):
    """`line` makes the journal's event of one recipient from (message id, recipient), empty for none.

    `by` is who asked.
    """

    act: Act
    by: str
    now: float
    line: Callable[[str, str], bytes]


class Done(msgspec.Struct, frozen=True):
    """`touched` recipients were changed; `active` were left alone because a relay is working on them."""

    touched: int
    active: int


_FREE: Final = " WHERE message_seq=? AND idx=? AND (lease=0 OR lease<>?)"
"""Ends every statement below: not what the living relay, whose lease is the last value, works on."""

_CHANGES: Final = {
    Act.RETRY: ("UPDATE recipients SET lease=0, next_attempt_at=?", " AND state<2"),
    Act.HOLD: ("UPDATE recipients SET lease=0, state=2", " AND state<>2"),
    Act.RELEASE: ("UPDATE recipients SET lease=0, state=iif(attempts=0, 0, 1), next_attempt_at=?", " AND state=2"),
    Act.BOUNCE: ("UPDATE recipients SET lease=0, state=3, bounce_by=?", " AND bounce_by IS NULL"),
    Act.DROP: ("UPDATE recipients SET lease=0", ""),
}
_BOUNCE_LATER: Final = "UPDATE recipients SET bounce_by=? WHERE message_seq=? AND idx=? AND bounce_by IS NULL"
_WAKES: Final = frozenset({Act.RETRY, Act.RELEASE})
"""Acts that ask for an attempt now, whatever was found out about the destination before."""

_DESTINATION_UP: Final = "DELETE FROM destinations WHERE destination=?"


def perform(
    store: Store,
    chosen: Filter,
    order: Order,
    pause: Callable[[float], None] = time.sleep,
    told: Callable[[int], None] = lambda _: None,
) -> Done:
    """Do it to every recipient that the filter chooses. Raises SpoolUnavailable; what was done before stays done.

    `told` hears after each page how many were touched or left alone.
    """
    touched = active = 0
    for page in pages(store, chosen, order.now, ACT_ROWS):
        if touched or active:
            pause(PAUSE_SECONDS)
        try:
            done = _perform(store, page, order)
        except apsw.Error as error:
            raise refusal(error) from error
        touched += done.touched
        active += done.active
        told(touched + active)
    return Done(touched, active)


def _perform(store: Store, page: Sequence[tuple[Key, Waiting]], order: Order) -> Done:
    connection = store.connection
    connection.execute("BEGIN IMMEDIATE")
    try:
        living = store.living()
        next_seq = cast(int, connection.execute("SELECT next_seq FROM store").fetchall()[0][0])
        batch = Batch(FREE, next_seq)
        changed, active = _change(connection, page, order, living)
        if order.act is Act.DROP:
            for (seq, index), one in changed:
                batch.add_steps(seq, one.size, (Step(index, End.DROPPED),))
        for _, one in changed:
            if line := order.line(one.id, one.recipient):
                batch.add_journal(JournalEntry(line, order.now, one.id))
        batch.write(connection, None)
        if order.act in _WAKES:
            names = {one.destination for _, one in changed}
            connection.executemany(_DESTINATION_UP, [(name,) for name in sorted(names)])
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return Done(len(changed), active)


def _change(
    connection: apsw.Connection, page: Sequence[tuple[Key, Waiting]], order: Order, living: int
) -> tuple[list[tuple[Key, Waiting]], int]:
    change, condition = _CHANGES[order.act]
    sql = change + _FREE + condition
    value: tuple[str | float, ...] = ()
    if order.act in {Act.RETRY, Act.RELEASE}:
        value = (order.now,)
    elif order.act is Act.BOUNCE:
        value = (order.by,)
    changed: list[tuple[Key, Waiting]] = []
    active = 0
    for key, one in page:
        connection.execute(sql, (*value, *key, living))
        if connection.changes():
            changed.append((key, one))
        elif _is_active(connection, key, living):
            active += 1
            if order.act is Act.BOUNCE:
                connection.execute(_BOUNCE_LATER, (order.by, *key))
    return changed, active


def _is_active(connection: apsw.Connection, key: Key, living: int) -> bool:
    rows = connection.execute("SELECT lease FROM recipients WHERE message_seq=? AND idx=?", key).fetchall()
    return bool(rows) and rows[0][0] == living
