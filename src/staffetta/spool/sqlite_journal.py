"""Questions to the journal of a SQLite store, for observe/journal. Rows come in the order they were written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

import apsw

from staffetta.spool.contract import JournalEntry
from staffetta.spool.sqlite_schema import message_key

ANSWER_ROWS: Final = 10_000
"""Most rows of one answer; a session of a day may have written more."""

_COLUMNS: Final = (
    "SELECT seq, lines, time, coalesce(id, ''), coalesce(session, ''), coalesce(message_id, '') FROM journal"
)

Row = tuple[int, JournalEntry]
"""Number and entry."""


def rows_of_message(connection: apsw.Connection, message_id: str) -> list[Row]:
    """What was written about the message with this id of ours."""
    sql = f"{_COLUMNS} WHERE id = ? ORDER BY seq LIMIT ?"
    return _rows(connection.execute(sql, (message_id, ANSWER_ROWS)))


def rows_of_session(connection: apsw.Connection, session: str) -> list[Row]:
    """What was written about a connection, its messages included."""
    sql = f"{_COLUMNS} WHERE session = ? ORDER BY seq LIMIT ?"
    return _rows(connection.execute(sql, (session, ANSWER_ROWS)))


def rows_of_header(connection: apsw.Connection, header_message_id: str) -> list[Row]:
    """What was written with this Message-ID (no brackets): one row per time it came by."""
    sql = f"{_COLUMNS} WHERE message_key = ? AND message_id = ? ORDER BY seq LIMIT ?"
    return _rows(connection.execute(sql, (message_key(header_message_id), header_message_id, ANSWER_ROWS)))


def rows_before(connection: apsw.Connection, seq: int | None, rows: int) -> list[Row]:
    """Rows written before the one with this number (None: all), the newest first."""
    sql = f"{_COLUMNS} WHERE seq < ? ORDER BY seq DESC LIMIT ?"
    return _rows(connection.execute(sql, ((1 << 62) if seq is None else seq, rows)))


def _rows(found: Iterable[tuple[object, ...]]) -> list[Row]:
    rows = cast(Iterable[tuple[int, bytes, float, str, str, str]], found)
    return [(seq, JournalEntry(lines, time, id_, session, header)) for seq, lines, time, id_, session, header in rows]
