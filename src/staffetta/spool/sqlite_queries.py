"""What the SQLite spool asks of its reading connection. Every question costs what its answer holds, not the queue.

`due` walks the index from destination to destination (a loose scan), so a million recipients of a dead destination cost
one step. The sweeps walk messages in order of arrival, a bounded stretch at a time, and come round again.
This module refuses to write, and to know threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Final, TypeVar, cast

import apsw
import msgspec

from staffetta.spool.contract import Claim, Ledger, WaitingRecipient
from staffetta.spool.sqlite_schema import (
    CHUNK_BITS,
    MESSAGE_COLUMNS,
    RECIPIENT_COLUMNS,
    MessageRow,
    RecipientRow,
    message_of,
    recipient_of,
)

SMALL_OCTETS: Final = 64 * 1024
"""Content up to this comes with the claim."""

SWEEP_MESSAGES: Final = 50_000
"""How many messages one sweep looks at: some 30 ms without the interpreter lock."""

# The statements below are put together from constants only (S608).
_FREE: Final = "lease = 0 AND state < 2"
_HEADS: Final = f"""
WITH RECURSIVE heads(name) AS (
    SELECT (SELECT destination FROM recipients INDEXED BY due WHERE {_FREE} ORDER BY destination LIMIT 1)
    UNION ALL
    SELECT (SELECT destination FROM recipients INDEXED BY due WHERE {_FREE} AND destination > heads.name
            ORDER BY destination LIMIT 1)
    FROM heads WHERE heads.name IS NOT NULL
), firsts(name, first) AS MATERIALIZED (
    SELECT name, (SELECT next_attempt_at FROM recipients INDEXED BY due WHERE {_FREE} AND destination = heads.name
                  ORDER BY next_attempt_at LIMIT 1)
    FROM heads WHERE name IS NOT NULL AND name NOT IN (SELECT value FROM json_each(?1))
)
"""  # noqa: S608
_DUE_DESTINATIONS: Final = f"""{_HEADS}
SELECT name FROM firsts WHERE first <= ?2
AND NOT EXISTS (SELECT 1 FROM destinations WHERE destination = name AND not_before > ?2)
ORDER BY first, name LIMIT ?3
"""  # noqa: S608
_NEXT_DUE: Final = f"""{_HEADS}
SELECT min(max(first, coalesce((SELECT not_before FROM destinations WHERE destination = name), first))) FROM firsts
"""  # noqa: S608
_DUE_NUMBERS: Final = f"""
SELECT message_seq FROM recipients INDEXED BY due
WHERE {_FREE} AND destination = ? AND next_attempt_at <= ? ORDER BY next_attempt_at, message_seq, idx LIMIT ?
"""  # noqa: S608
_DUE_RECIPIENTS: Final = f"""
SELECT {RECIPIENT_COLUMNS} FROM recipients
WHERE message_seq = ? AND {_FREE} AND destination = ? AND next_attempt_at <= ? ORDER BY idx LIMIT ?
"""  # noqa: S608
_MESSAGE: Final = f"""
SELECT {MESSAGE_COLUMNS}, iif(size <= {SMALL_OCTETS}, (SELECT data FROM chunks WHERE key = seq << {CHUNK_BITS}), NULL)
FROM messages WHERE seq = ?
"""  # noqa: S608
_ASKED: Final = f"""
SELECT {RECIPIENT_COLUMNS} FROM recipients INDEXED BY bounce_asked
WHERE bounce_by IS NOT NULL AND lease = 0 AND state <> 2 ORDER BY message_seq, idx LIMIT ?
"""  # noqa: S608
_STRETCH: Final = "SELECT max(seq), count(*) FROM (SELECT seq FROM messages WHERE seq > ? ORDER BY seq LIMIT ?)"
_OLD: Final = f"""
SELECT {", ".join("r." + column for column in RECIPIENT_COLUMNS.split(", "))}
FROM messages AS m CROSS JOIN recipients AS r ON r.message_seq = m.seq
WHERE m.seq > ? AND m.seq <= ? AND m.received_at < iif(m.sender_domain IS NULL, ?, ?)
AND r.lease = 0 AND r.state < 2 AND r.delay_noticed < ? ORDER BY m.seq, r.idx LIMIT ?
"""  # noqa: S608
_LEFT_BEHIND: Final = """
SELECT message_seq, idx, lease FROM recipients
WHERE message_seq > ? AND message_seq <= ? AND lease <> 0 AND lease <> ?
"""


Value = TypeVar("Value")


class Found(msgspec.Struct, frozen=True, gc=False):
    """Recipients of one message that may be claimed: as rows, to claim them by. `claim` is None for a damaged row."""

    rows: tuple[tuple[int, int], ...]
    size: int
    claim: Claim | None


def in_one_view(connection: apsw.Connection, question: Callable[..., Value], arguments: tuple[object, ...]) -> Value:
    """Answer a question of several statements from one state of the store: a command may change it in between."""
    connection.execute("BEGIN")
    try:
        return question(connection, *arguments)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def due(connection: apsw.Connection, now: float, busy: str, limit: int, per_destination: int) -> list[Found]:
    """What is due, oldest first. `busy` is a JSON list of destinations to leave out."""
    found: list[Found] = []
    left = limit
    for (name,) in connection.execute(_DUE_DESTINATIONS, (busy, now, limit)).fetchall():
        here = min(per_destination, left)
        numbers = connection.execute(_DUE_NUMBERS, (name, now, here)).fetchall()
        for (seq,) in dict.fromkeys(numbers):
            if here <= 0:
                break
            rows = connection.execute(_DUE_RECIPIENTS, (seq, name, now, here)).fetchall()
            found.append(_found(connection, cast(list[RecipientRow], rows)))
            here -= len(rows)
            left -= len(rows)
        if left <= 0:
            break
    return found


def next_due(connection: apsw.Connection, busy: str) -> float | None:
    """When the first recipient that waits for a time, at a destination that is not busy, may go."""
    return cast(float | None, connection.execute(_NEXT_DUE, (busy,)).fetchall()[0][0])


class Sweep:
    """A walk over all messages in order of arrival that remembers where it stopped."""

    __slots__ = ("position",)

    def __init__(self) -> None:
        self.position = 0

    def old(
        self, connection: apsw.Connection, received_before: tuple[float, float], limit: int, *, undelayed: bool
    ) -> list[Found]:
        """Waiting recipients older than the bound for (the null path, any other sender); with `undelayed` only those
        whose sender was not told of the delay."""
        start = position = self.position
        budget = SWEEP_MESSAGES
        rows: list[RecipientRow] = []
        wrapped = start == 0
        while True:
            end, count = _stretch(connection, position, budget)
            if count:
                upper = min(end, start) if wrapped and start else end
                bounds = (position, upper, *received_before, 1 if undelayed else 2, limit - len(rows))
                rows += cast(list[RecipientRow], connection.execute(_OLD, bounds).fetchall())
                if len(rows) >= limit:
                    # The last message may have more recipients: begin with it the next time.
                    self.position = rows[-1][0] - 1
                    break
                position = end
                budget -= count
            if budget <= 0:
                self.position = position
                break
            if wrapped:
                self.position = 0
                break
            wrapped = True
            position = 0
        return _grouped(connection, rows)


def bounce_asked(connection: apsw.Connection, limit: int) -> list[Found]:
    """Recipients that an operator wants bounced."""
    return _grouped(connection, cast(list[RecipientRow], connection.execute(_ASKED, (limit,)).fetchall()))


def left_behind(connection: apsw.Connection, position: int, epoch: int) -> tuple[list[tuple[int, int, int]], int]:
    """Recipients that an earlier process had claimed, in the next stretch of messages; and where that ends, 0 at last.

    Rows are (message number, index, lease)."""
    end, count = _stretch(connection, position, SWEEP_MESSAGES)
    if not count:
        return [], 0
    rows = connection.execute(_LEFT_BEHIND, (position, end, epoch)).fetchall()
    return cast(list[tuple[int, int, int]], rows), end


def number_of(connection: apsw.Connection, message_id: str) -> tuple[int, int] | None:
    """Number and size of a message."""
    rows = connection.execute("SELECT seq, size FROM messages WHERE id = ?", (message_id,)).fetchall()
    return cast(tuple[int, int], rows[0]) if rows else None


def chunk_after(connection: apsw.Connection, seq: int, key: int) -> tuple[int, bytes] | None:
    """The first chunk of message number `seq` whose key is above `key`."""
    rows = connection.execute(
        "SELECT key, data FROM chunks WHERE key > ? AND key < ? ORDER BY key LIMIT 1", (key, (seq + 1) << CHUNK_BITS)
    ).fetchall()
    return cast(tuple[int, bytes], rows[0]) if rows else None


def ledger(connection: apsw.Connection) -> Ledger:
    """The books, as every transaction left them."""
    rows = connection.execute("SELECT accepted, delivered, bounced, dropped, queued FROM store").fetchall()
    return Ledger(*cast(tuple[int, int, int, int, int], rows[0]))


def loose_content(connection: apsw.Connection, epoch: int, limit: int) -> list[tuple[int, int, int]]:
    """Chunks that belong to no message and no draft of this epoch: (number, first key, last key) of a bounded stretch.

    The keys are 0 and 0 when the number has no chunk left and may be forgotten itself."""
    found: list[tuple[int, int, int]] = []
    numbers = connection.execute("SELECT seq FROM loose WHERE owner <> ? LIMIT 1", (epoch,)).fetchall()
    for (seq,) in cast(list[tuple[int]], numbers):
        first = seq << CHUNK_BITS
        span = (first, (seq + 1) << CHUNK_BITS, limit)
        rows = connection.execute("SELECT key FROM chunks WHERE key >= ? AND key < ? ORDER BY key LIMIT ?", span)
        keys = cast(list[tuple[int]], rows.fetchall())
        found.append((seq, keys[0][0], keys[-1][0]) if keys else (seq, 0, 0))
    return found


def _stretch(connection: apsw.Connection, position: int, messages: int) -> tuple[int, int]:
    return cast(tuple[int, int], connection.execute(_STRETCH, (position, messages)).fetchall()[0])


def _grouped(connection: apsw.Connection, rows: list[RecipientRow]) -> list[Found]:
    return [_found(connection, list(group)) for _, group in groupby(rows, key=lambda row: row[0])]


def _found(connection: apsw.Connection, rows: list[RecipientRow]) -> Found:
    seq = rows[0][0]
    keys = tuple((seq, row[1]) for row in rows)
    stored = connection.execute(_MESSAGE, (seq,)).fetchall()
    if not stored:
        return Found(keys, 0, None)
    *columns, content = stored[0]
    row = cast(MessageRow, tuple(columns))
    try:
        message = message_of(row)
        recipients = tuple(_recipients(rows, message.id))
    except (msgspec.MsgspecError, ValueError):
        return Found(keys, row[3], None)
    if not isinstance(content, bytes) or len(content) != message.size:
        content = None
    return Found(keys, message.size, Claim(message, recipients, content))


def _recipients(rows: list[RecipientRow], message_id: str) -> Iterator[WaitingRecipient]:
    for row in rows:
        yield recipient_of(row, message_id, active=True)
