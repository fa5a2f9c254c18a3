"""What a command sees of destinations: how many wait for each and how long, and which are down.

Synchronous and read-only, over the connection of spool/operator. Every question here looks at each waiting recipient
once: a second for some millions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec

from staffetta.spool.operator import Store


class Destination(msgspec.Struct, frozen=True, gc=False):
    """One destination. `oldest` is when the oldest of its `waiting` recipients arrived, 0.0 when none waits.

    `not_before` is until when it counts as down, 0.0 when it does not; `failures` in a row, `last_reply` of the last.
    """

    key: str
    waiting: int = 0
    held: int = 0
    oldest: float = 0.0
    not_before: float = 0.0
    failures: int = 0
    last_reply: str = ""


class Ages(msgspec.Struct, frozen=True, gc=False):
    """How long the recipients of one destination have waited: a count for each class, the last for all above."""

    key: str
    oldest: float
    counts: tuple[int, ...]


def destination(store: Store, key: str, now: float) -> Destination:
    """What is known of one destination; it need not have anything waiting."""
    sql = """SELECT count(*), total(r.state = 2), coalesce(min(m.received_at), 0.0) FROM recipients AS r
    JOIN messages AS m ON m.seq = r.message_seq WHERE r.destination = ?"""
    ((waiting, held, oldest),) = cast(
        list[tuple[int, float, float]], store.connection.execute(sql, (key,)).fetchall()
    )  # fmt: skip
    down = store.connection.execute(
        "SELECT not_before, failures, last_reply FROM destinations WHERE destination = ? AND not_before > ?", (key, now)
    ).fetchall()
    not_before, failures, last_reply = cast(tuple[float, int, str], down[0]) if down else (0.0, 0, "")
    return Destination(key, waiting, int(held), oldest, not_before, failures, last_reply)


def ages(store: Store, limits: Sequence[float], now: float) -> list[Ages]:
    """Waiting recipients by destination and age, the destination with most first. `limits` in seconds, ascending:
    each class holds ages up to its limit and above the one before; a last class holds the rest."""
    columns = ", ".join([f"sum(:now - m.received_at <= :limit{place})" for place in range(len(limits))])
    sql = f"""SELECT r.destination, min(m.received_at), count(*), {columns} FROM recipients AS r
    JOIN messages AS m ON m.seq = r.message_seq GROUP BY r.destination ORDER BY 3 DESC, 1"""  # noqa: S608 - constants
    values = {"now": now, **{f"limit{place}": limit for place, limit in enumerate(limits)}}
    found: list[Ages] = []
    for row in store.connection.execute(sql, values):
        key, oldest, total, *up_to = cast(tuple[str, float, int, int], row)
        counts = [count - before for before, count in zip((0, *up_to), (*up_to, total), strict=False)]
        found.append(Ages(key, oldest, tuple(counts)))
    return found
