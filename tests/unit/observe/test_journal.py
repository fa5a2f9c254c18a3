"""The journey of a message out of the journal, however it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from staffetta.mail.identity import IdentitySource
from staffetta.observe.events import Accept, Connect, Deliver, Event, Login, Refuse, encode, moment
from staffetta.observe.journal import by_header, by_id, by_session, trace
from staffetta.spool.contract import JournalEntry
from staffetta.spool.sqlite import SqliteSpool

START = 1_790_000_000.0
IDS = IdentitySource(bytes)
SESSION, OTHER_SESSION, FIRST, SECOND = (IDS.new(START) for _ in range(4))


def accept(id_: str, at: float) -> Event:
    return Accept(
        time=moment(at),
        session=SESSION,
        id=id_,
        sender="a@b.example",
        recipients=("c@d.example",),
        size=1,
        message_id="m",
        client="192.0.2.1",
        login="",
        checks={},
    )


def refuse(session: str, at: float) -> Event:
    return Refuse(
        time=moment(at),
        session=session,
        stage="rcpt",
        client="192.0.2.1",
        sender="a@b.example",
        recipient="x@d.example",
        reply="550 5.1.1 no",
        rule="unknown",
        reason="",
    )


def entry(*events: Event, message_id: str = "") -> JournalEntry:
    first = events[0]
    lines = b"\n".join(map(encode, events))
    return JournalEntry(lines, first.time.timestamp(), first.id, first.session, message_id)


ENTRIES = [
    entry(
        Connect(time=moment(START), session=SESSION, listener="mx", client="192.0.2.1", tls=""),
        Login(time=moment(START + 0.5), session=SESSION, login="a", mechanism="PLAIN"),
    ),
    entry(accept(FIRST, START + 1), message_id="twice@b.example"),
    entry(accept(SECOND, START + 3), message_id="once@b.example"),
    entry(Deliver(time=moment(START + 4), id=FIRST, recipient="c@d.example", reply="250 ok")),
    # Written late, as a session that notes its refusals at its end would:
    entry(refuse(SESSION, START + 2)),
    entry(refuse(OTHER_SESSION, START + 5), message_id="twice@b.example"),
]


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    async def write() -> None:
        spool = await SqliteSpool.open(tmp_path / "spool.db", lambda: START)
        await spool.append_journal(ENTRIES)
        await spool.close()

    asyncio.run(write())
    opened = apsw.Connection(str(tmp_path / "spool.db"))
    yield opened
    opened.close()


def names(events: list[dict[str, object]]) -> list[object]:
    return [event["event"] for event in events]


JOURNEY = ["connect", "login", "accept", "refuse", "deliver"]


def test_a_message_by_its_id(connection: apsw.Connection) -> None:
    events = by_id(connection, FIRST)
    assert names(events) == JOURNEY
    assert {event["id"] for event in events if "id" in event} == {FIRST}
    assert events[0] == {
        "event": "connect",
        "time": "2026-09-21T14:13:20Z",
        "session": SESSION,
        "listener": "mx",
        "client": "192.0.2.1",
        "tls": "",
    }


def test_a_session(connection: apsw.Connection) -> None:
    assert names(by_session(connection, SESSION)) == ["connect", "login", "accept", "refuse", "accept", "deliver"]


@pytest.mark.parametrize("name", ["twice@b.example", "<twice@b.example>", " <twice@b.example>\n"])
def test_a_message_id_finds_the_accepted_and_the_refused(connection: apsw.Connection, name: str) -> None:
    assert names(trace(connection, name)) == [*JOURNEY, "refuse"]
    assert names(by_header(connection, "none@b.example")) == []


def test_trace_tells_ids_apart(connection: apsw.Connection) -> None:
    assert trace(connection, FIRST) == by_id(connection, FIRST)
    assert trace(connection, SESSION) == by_session(connection, SESSION)
    assert trace(connection, IDS.new(START)) == []
    assert trace(connection, "' OR 1=1 --") == []


def test_a_row_that_was_tampered_with_is_shown_as_such(connection: apsw.Connection) -> None:
    connection.execute("UPDATE journal SET lines=x'ff00' WHERE id=? AND session IS NULL", (FIRST,))
    events = by_id(connection, FIRST)
    assert events[0] == {"event": "unreadable", "line": "\ufffd\x00"}
    assert names(events)[1:] == JOURNEY[:-1]
