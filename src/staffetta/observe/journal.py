"""Reading the journal: the journey of a message, accepted or refused, from the connection it came by to its end.

An answer is a list of events, oldest first, each the JSON object of observe/events as it was written. A message's
journey begins with what its session said of itself (connect, login, refusals) and leaves out the session's other
messages. This module refuses to know SQL and to interpret events beyond their names.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import apsw
import msgspec

from staffetta.mail.identity import is_identity
from staffetta.spool.sqlite_journal import Row, rows_of_header, rows_of_message, rows_of_session

Event = dict[str, Any]
"""One event as it stands in the journal: `event`, `time`, perhaps `session` and `id`, and its own fields."""

SESSIONS: Final = 100
"""Most sessions whose events one answer holds: a Message-ID may have come by very often."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


def trace(connection: apsw.Connection, name: str) -> list[Event]:
    """The journey of what `name` names: an id of a message or a session of ours, or a Message-ID with or without
    brackets. Empty when the journal knows nothing (any more)."""
    name = name.strip()
    if is_identity(name):
        return by_id(connection, name) or by_session(connection, name)
    return by_header(connection, name)


def by_id(connection: apsw.Connection, message_id: str) -> list[Event]:
    """The events of one message, its session's first."""
    rows = rows_of_message(connection, message_id)
    return _events([*_of_sessions(connection, rows, {message_id}), *rows])


def by_session(connection: apsw.Connection, session: str) -> list[Event]:
    """All events of one connection and the further journey of the messages that it brought."""
    rows = rows_of_session(connection, session)
    for message_id in dict.fromkeys(entry.id for _, entry in rows if entry.id):
        rows += rows_of_message(connection, message_id)
    return _events(rows)


def by_header(connection: apsw.Connection, header_message_id: str) -> list[Event]:
    """The events of every message that came with this Message-ID, and of the sessions in which one was refused."""
    if header_message_id.startswith("<") and header_message_id.endswith(">"):
        header_message_id = header_message_id[1:-1]
    found = rows_of_header(connection, header_message_id)
    ids = {entry.id for _, entry in found if entry.id}
    rows = list(found)
    for message_id in sorted(ids):
        rows += rows_of_message(connection, message_id)
    return _events([*_of_sessions(connection, rows, ids), *rows])


def _of_sessions(connection: apsw.Connection, rows: Iterable[Row], ids: set[str]) -> list[Row]:
    sessions = dict.fromkeys(entry.session for _, entry in rows if entry.session)
    found: list[Row] = []
    for session in list(sessions)[:SESSIONS]:
        found += [row for row in rows_of_session(connection, session) if not row[1].id or row[1].id in ids]
    return found


def _events(rows: Iterable[Row]) -> list[Event]:
    """Each row once, its events in the order of their time; of the same time, in the order they were written."""
    numbered = dict(rows)
    events: list[Event] = []
    for number in sorted(numbered):
        events += [_event(line) for line in numbered[number].lines.split(b"\n") if line]
    events.sort(key=_moment)
    return events


def _event(line: bytes) -> Event:
    try:
        return _decode(line)
    except msgspec.DecodeError:
        # Shown rather than hidden: a journal that was tampered with is news.
        return {"event": "unreadable", "line": line.decode("utf-8", "replace")}


def _moment(event: Event) -> datetime:
    # As a moment, not as text: "…00Z" sorts after "…00.5Z" as text.
    try:
        moment = datetime.fromisoformat(event["time"])
    except (KeyError, TypeError, ValueError):
        return _EPOCH
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
