"""Commands on the queue: what they list, what they change, and what they leave alone while a relay works on it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from staffetta.spool.contract import CHUNK_OCTETS, DestinationState, Final, JournalEntry, Ledger, State, Step
from staffetta.spool.database import StoreError
from staffetta.spool.operator import Filter, Store, audit, books, content, open_for_command, show, states, waiting
from staffetta.spool.operator_acts import Act, Done, Order, perform
from staffetta.spool.recovery import STORE_NAME, RelayLock
from staffetta.spool.sqlite import SqliteSettings, SqliteSpool
from staffetta.testing.spooled import HEAD, START, Letter, new_message

NONE_BUSY: frozenset[str] = frozenset()
LARGE = 5 * 1024 * 1024
CHILD_SECONDS = 60
"""How long the other process of a test acts, when the relay does not come to its end before."""


def filled(path: Path, *stories: Callable[[SqliteSpool], Awaitable[None]]) -> None:
    async def whole() -> None:
        spool = await SqliteSpool.open(path / STORE_NAME, lambda: START)
        for story in stories:
            await story(spool)
        await spool.close()

    asyncio.run(whole())


async def a_queue(spool: SqliteSpool) -> None:
    """FRESH waits; TRIED was deferred; DEAD waits for a destination that is down; HELD is held; NULL has no sender."""
    await spool.commit(new_message(Letter("FRESH", ["ben@x.example", '"a b"@y.example'], received_at=START - 10)))
    await spool.commit(new_message(Letter("TRIED", ["cara@z.example"], "Eve@Other.example", claim=True)))
    step = Step(0, next_attempt_at=START + 60, attempts=2, last_reply="451 4.7.1 Greylisted", in_doubt=True)
    down = DestinationState("mx:dead.example", START + 500, 1, "450 no answer")
    await spool.record("TRIED", [step], [], destination=down)
    await spool.commit(new_message(Letter("DEAD", ["dan@dead.example"], received_at=START - 100)))
    await spool.commit(new_message(Letter("HELD", ["hal@x.example"], claim=True)))
    await spool.record("HELD", [Step(0, state=State.HELD)], [])
    await spool.commit(new_message(Letter("NULL", ["anna@example.org"], "")))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    filled(tmp_path, a_queue)
    opened = open_for_command(tmp_path)
    yield opened
    opened.close()


def order(act: Act) -> Order:
    return Order(act, "op", START + 1, lambda message_id, recipient: f"{act} {message_id} {recipient}".encode())


def ids(store: Store, chosen: Filter) -> list[str]:
    return [one.id for one in waiting(store, chosen, START)]


ALL = ["FRESH", "FRESH", "TRIED", "DEAD", "HELD", "NULL"]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (Filter(), ALL),
        (Filter(id="TRIED"), ["TRIED"]),
        (Filter(id="NONE"), []),
        (Filter(sender="<>"), ["NULL"]),
        (Filter(sender="@other.example"), ["TRIED"]),
        (Filter(sender="eve@other.example"), ["TRIED"]),
        (Filter(sender="adam@other.example"), []),
        (Filter(recipient="@x.example"), ["FRESH", "HELD"]),
        (Filter(recipient="BEN@X.example"), ["FRESH"]),
        (Filter(recipient="a b@y.example"), ["FRESH"]),
        (Filter(recipient="' OR 1=1 --@x.example"), []),
        (Filter(state=State.QUEUED), ["FRESH", "FRESH", "NULL"]),
        (Filter(state=State.DEFERRED), ["TRIED", "DEAD"]),
        (Filter(state=State.HELD), ["HELD"]),
        (Filter(state=State.ACTIVE), []),
        (Filter(destination="mx:x.example"), ["FRESH", "HELD"]),
        (Filter(destination_prefix="mx:x"), ["FRESH", "HELD"]),
        (Filter(destination_prefix="mx:_"), []),
        (Filter(older_than_seconds=5), ["FRESH", "FRESH", "DEAD"]),
        (Filter(reply="greyLISTED"), ["TRIED"]),
        (Filter(reply="no answer"), ["DEAD"]),
        (Filter(reply="%"), []),
        (Filter(recipient="@x.example", state=State.HELD), ["HELD"]),
    ],
)
def test_filters(store: Store, chosen: Filter, expected: list[str]) -> None:
    assert ids(store, chosen) == expected


def test_the_fields_of_a_deferred_recipient(store: Store) -> None:
    (one,) = waiting(store, Filter(id="TRIED"), START)
    assert (one.sender, one.recipient, one.state) == ("Eve@other.example", "cara@z.example", State.DEFERRED)
    assert (one.destination, one.attempts, one.next_attempt_at) == ("mx:z.example", 2, START + 60)
    assert (one.last_reply, one.in_doubt, one.received_at) == ("451 4.7.1 Greylisted", True, START)
    assert one.size == len(HEAD) + 25


def test_a_recipient_never_tried_shows_what_its_destination_said(store: Store) -> None:
    (one,) = waiting(store, Filter(id="DEAD"), START)
    assert (one.state, one.last_reply, one.next_attempt_at) == (State.DEFERRED, "450 no answer", START + 500)
    (later,) = waiting(store, Filter(id="DEAD"), START + 501)
    assert later.state is State.QUEUED


def test_counts_and_books(store: Store) -> None:
    assert states(store, START) == {State.QUEUED: 3, State.ACTIVE: 0, State.DEFERRED: 2, State.HELD: 1}
    assert books(store) == audit(store) == Ledger(6, 0, 0, 0, 6)


def test_show_gives_envelope_header_and_content(store: Store) -> None:
    stored = show(store, "FRESH", START)
    assert stored is not None
    assert stored.message.id == "FRESH"
    assert [one.recipient for one in stored.waiting] == ["ben@x.example", '"a b"@y.example']
    assert stored.header == HEAD + b"Subject: hello\r\n"
    assert b"".join(content(store, "FRESH")) == HEAD + b"Subject: hello\r\n\r\nHello\r\n"
    assert show(store, "NONE", START) is None
    assert list(content(store, "NONE")) == []


def test_there_must_be_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        open_for_command(tmp_path)


def test_drop_removes_content_counts_and_says_so(store: Store) -> None:
    assert perform(store, Filter(recipient="@x.example"), order(Act.DROP)) == Done(2, 0)
    assert ids(store, Filter()) == ["FRESH", "TRIED", "DEAD", "NULL"]
    assert audit(store) == Ledger(6, 0, 0, 2, 4)
    lines = store.connection.execute(
        "SELECT lines FROM journal WHERE substr(lines, 1, 4) = x'64726f70' ORDER BY seq"
    ).fetchall()
    assert [row[0] for row in lines] == [b"drop FRESH ben@x.example", b"drop HELD hal@x.example"]
    perform(store, Filter(), order(Act.DROP))
    for table in ("messages", "recipients", "chunks"):
        assert store.connection.execute(f"SELECT count(*) FROM {table}").fetchall() == [(0,)]


def test_hold_and_release(store: Store) -> None:
    assert perform(store, Filter(state=State.QUEUED), order(Act.HOLD)) == Done(3, 0)
    assert ids(store, Filter(state=State.HELD)) == ["FRESH", "FRESH", "HELD", "NULL"]
    assert perform(store, Filter(), order(Act.RELEASE)) == Done(4, 0)
    assert states(store, START) == {State.QUEUED: 4, State.ACTIVE: 0, State.DEFERRED: 2, State.HELD: 0}


def test_retry_makes_due_now_and_gives_the_destination_another_chance(store: Store, tmp_path: Path) -> None:
    assert perform(store, Filter(), order(Act.RETRY)) == Done(5, 0)

    async def look(spool: SqliteSpool) -> None:
        claims = await spool.due(START + 1, NONE_BUSY, 100, 100)
        assert sorted(claim.message.id for claim in claims) == ["DEAD", "FRESH", "FRESH", "NULL", "TRIED"]

    filled(tmp_path, look)


def test_a_bounce_is_taken_by_the_relays_next_sweep_and_not_tried_again(store: Store, tmp_path: Path) -> None:
    assert perform(store, Filter(id="TRIED"), order(Act.BOUNCE)) == Done(1, 0)
    assert perform(store, Filter(id="TRIED"), order(Act.BOUNCE)) == Done(0, 0)

    async def look(spool: SqliteSpool) -> None:
        assert all(claim.message.id != "TRIED" for claim in await spool.due(START + 1e6, NONE_BUSY, 100, 100))
        (claim,) = await spool.overdue(0, 0, 10)
        assert claim.message.id == "TRIED"
        assert claim.recipients[0].bounce_by == "op"
        await spool.record("TRIED", [Step(0, Final.BOUNCED)], [])

    filled(tmp_path, look)


def test_what_a_living_relay_works_on_is_left_alone_and_a_dead_ones_is_not(tmp_path: Path) -> None:
    async def whole() -> None:
        lock = RelayLock.acquire(tmp_path)
        relay = await SqliteSpool.open(tmp_path / STORE_NAME, lambda: START)
        await relay.commit(new_message(Letter("BUSY", claim=True)))
        await relay.commit(new_message(Letter("FREE")))
        store = open_for_command(tmp_path)
        assert [one.state for one in waiting(store, Filter(), START)] == [State.ACTIVE, State.QUEUED]
        seen = relay.changes()
        assert perform(store, Filter(), order(Act.BOUNCE)) == Done(1, 1)
        assert perform(store, Filter(), order(Act.HOLD)) == Done(1, 1)
        assert perform(store, Filter(), order(Act.DROP)) == Done(1, 1)
        assert relay.changes() != seen
        await relay.record("BUSY", [Step(0, next_attempt_at=START + 60)], [])
        (claim,) = await relay.overdue(0, 0, 10)
        assert claim.recipients[0].bounce_by == "op"
        lock.release()  # what a death does
        assert [one.state for one in waiting(store, Filter(), START)] == [State.DEFERRED]
        assert perform(store, Filter(), order(Act.DROP)) == Done(1, 0)
        store.close()
        await relay.close()

    asyncio.run(whole())


def test_a_large_message_that_is_dropped_is_swept_by_the_relay(tmp_path: Path) -> None:
    async def large(spool: SqliteSpool) -> None:
        draft = spool.draft()
        for _ in range(LARGE // CHUNK_OCTETS):
            await spool.write(draft, b"x" * CHUNK_OCTETS)
        await spool.commit(new_message(Letter("L"), draft))

    filled(tmp_path, large)
    store = open_for_command(tmp_path)
    perform(store, Filter(), order(Act.DROP))
    assert store.connection.execute("SELECT count(*) FROM loose").fetchall() == [(1,)]

    async def sweep(spool: SqliteSpool) -> None:
        await asyncio.gather(*filter(None, [spool._sweeping]))

    filled(tmp_path, sweep)
    for table in ("loose", "chunks"):
        assert store.connection.execute(f"SELECT count(*) FROM {table}").fetchall() == [(0,)]
    store.close()


def test_a_question_of_several_statements_sees_one_state(tmp_path: Path) -> None:
    """What a command does between two statements of the relay must not tear its answer apart."""

    async def play(spool: SqliteSpool) -> None:
        await spool.commit(new_message(Letter("M", ["a@b.example"])))
        store = open_for_command(tmp_path)

        def question(connection: Any) -> tuple[Any, Any]:
            count = "SELECT count(*) FROM recipients"
            before = connection.execute(count).fetchall()
            assert perform(store, Filter(), order(Act.DROP)) == Done(1, 0)
            return before, connection.execute(count).fetchall()

        before, after = await spool._read(question)
        assert before == after == [(1,)]
        assert await spool.due(START + 2, frozenset(), 10, 10) == []
        store.close()

    filled(tmp_path, play)


def acting_child(path: Path) -> int:
    """Another process that retries, holds, releases and drops for as long as messages named DROP are there."""
    child = os.fork()
    if child:
        return child
    try:
        store = open_for_command(path)
        end = time.monotonic() + CHILD_SECONDS
        while time.monotonic() < end:
            for act in (Act.RETRY, Act.HOLD, Act.RELEASE):
                perform(store, Filter(), order(act), lambda _: None)
            perform(store, Filter(recipient="@drop.example"), order(Act.DROP), lambda _: None)
            if not ids(store, Filter()) and books(store).accepted >= 300:
                os._exit(0)
    except BaseException:
        os._exit(1)
    os._exit(2)


def test_two_processes_write_and_the_books_agree(tmp_path: Path) -> None:
    lock = RelayLock.acquire(tmp_path)
    filled(tmp_path)
    child = acting_child(tmp_path)

    async def relay() -> None:
        spool = await SqliteSpool.open(
            tmp_path / STORE_NAME, lambda: START, SqliteSettings(patience_milliseconds=30_000)
        )

        async def one(number: int) -> None:
            domain = "drop" if number % 3 == 0 else "keep"
            await spool.commit(new_message(Letter(f"M{number:05}", [f"a@{domain}.example"], claim=number % 2 == 0)))
            if number % 2 == 0:
                await spool.record(f"M{number:05}", [Step(0, Final.DELIVERED)], [JournalEntry(b"{}", START)])

        for start in range(0, 300, 20):
            await asyncio.gather(*[one(number) for number in range(start, start + 20)])
        while (await spool.ledger()).queued:
            for claim in await spool.due(START + 2, frozenset({"mx:drop.example"}), 10, 10):
                await spool.record(claim.message.id, [Step(0, Final.DELIVERED)], [])
            await asyncio.sleep(0)
        books_now = await spool.ledger()
        assert books_now.unaccounted == 0
        assert books_now.dropped > 0
        await spool.close()

    try:
        asyncio.run(relay())
    finally:
        _, status = os.waitpid(child, 0)
        lock.release()
    assert os.waitstatus_to_exitcode(status) == 0
    store = open_for_command(tmp_path)
    assert audit(store).unaccounted == 0
    store.close()
