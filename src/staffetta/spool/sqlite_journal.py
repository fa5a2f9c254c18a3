"""Questions to the journal of a SQLite store, for observe/journal. Rows come in the order they were written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

import apsw

from staffetta.spool.contract import JournalEntry
from staffetta.spool.sqlite_schema import CHECKSUM_BITS, STRETCH_BITS, message_checksum, message_hash

ANSWER_ROWS: Final = 10_000
"""Most rows of one answer; a session of a day may have written more."""

_COLUMNS: Final = "SELECT seq, lines, time, coalesce(id, ''), coalesce(session, ''), coalesce(message_id, '') FROM"

# One look into each stretch from the first that is left (see sqlite_schema.message_key), and one for older rows.
# CROSS JOIN: the stretches are the outer loop, whatever the planner thinks.
_OF_HEADER: Final = f"""
WITH RECURSIVE stretches(number, last) AS (
    SELECT (SELECT message_key >> {CHECKSUM_BITS} FROM journal INDEXED BY journal_message WHERE message_key >= 0
            ORDER BY message_key LIMIT 1), (SELECT next_seq >> {STRETCH_BITS} FROM store)
    UNION ALL SELECT number + 1, last FROM stretches WHERE number < last
), keys(key) AS (
    SELECT (number << {CHECKSUM_BITS}) | ?1 FROM stretches WHERE number <= last UNION ALL SELECT ?2
)
{_COLUMNS} keys CROSS JOIN journal INDEXED BY journal_message ON message_key = key
WHERE message_id = ?3 ORDER BY seq LIMIT ?4
"""  # noqa: S608 - put together from constants

Row = tuple[int, JournalEntry]
"""Number and entry."""


def rows_of_message(connection: apsw.Connection, message_id: str) -> list[Row]:
    """What was written about the message with this id of ours."""
    sql = f"{_COLUMNS} journal WHERE id = ? ORDER BY seq LIMIT ?"
    return _rows(connection.execute(sql, (message_id, ANSWER_ROWS)))


def rows_of_session(connection: apsw.Connection, session: str) -> list[Row]:
    """What was written about a connection, its messages included."""
    sql = f"{_COLUMNS} journal WHERE session = ? ORDER BY seq LIMIT ?"
    return _rows(connection.execute(sql, (session, ANSWER_ROWS)))


def rows_of_header(connection: apsw.Connection, header_message_id: str) -> list[Row]:
    """What was written with this Message-ID (no brackets): one row per time it came by."""
    keys = (message_checksum(header_message_id), message_hash(header_message_id))
    return _rows(connection.execute(_OF_HEADER, (*keys, header_message_id, ANSWER_ROWS)))


def rows_before(connection: apsw.Connection, seq: int | None, rows: int) -> list[Row]:
    """Rows written before the one with this number (None: all), the newest first."""
    sql = f"{_COLUMNS} journal WHERE seq < ? ORDER BY seq DESC LIMIT ?"
    return _rows(connection.execute(sql, ((1 << 62) if seq is None else seq, rows)))


def _rows(found: Iterable[tuple[object, ...]]) -> list[Row]:
    rows = cast(Iterable[tuple[int, bytes, float, str, str, str]], found)
    return [(seq, JournalEntry(lines, time, id_, session, header)) for seq, lines, time, id_, session, header in rows]
