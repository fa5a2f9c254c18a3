"""What only the SQLite engine promises: leases, fences, a full disk, a locked file, flat memory, threads in turn."""

from __future__ import annotations

import asyncio
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import pytest

from staffetta.spool.contract import (
    CHUNK_OCTETS,
    ClaimLost,
    DestinationState,
    Final,
    JournalEntry,
    SpoolUnavailable,
    Step,
)
from staffetta.spool.database import StoreError, StoreTooNew
from staffetta.spool.recovery import AlreadyRunning, RelayLock, relay_alive, relay_pid
from staffetta.spool.sqlite import SqliteSettings, SqliteSpool
from staffetta.spool.sqlite_operations import ClaimRows
from staffetta.testing.spooled import HEAD, START, Letter, new_message

NONE_BUSY: frozenset[str] = frozenset()


def clock() -> float:
    return START


async def opened(path: Path, settings: SqliteSettings | None = None) -> SqliteSpool:
    return await SqliteSpool.open(path / "spool.db", clock, settings)


def with_spool(
    path: Path, story: Callable[[SqliteSpool], Awaitable[None]], settings: SqliteSettings | None = None
) -> None:
    async def whole() -> None:
        spool = await opened(path, settings)
        try:
            await story(spool)
        finally:
            await spool.close()

    asyncio.run(whole())


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(path / "spool.db"))
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


async def abandon(spool: SqliteSpool) -> None:
    """What a crash leaves: connections closed, claims not given back."""
    for task in (spool._recovering, spool._sweeping):
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    await spool._writer.close()
    spool._reader.close()
    spool._executor.shutdown()


def test_what_a_dead_process_claimed_is_due_again(tmp_path: Path) -> None:
    async def story() -> None:
        first = await opened(tmp_path)
        await first.commit(new_message(Letter("A", claim=True)))
        await first.commit(new_message(Letter("B")))
        await first.due(START, NONE_BUSY, 10, 10)
        await abandon(first)
        second = await opened(tmp_path)
        assert second.epoch == first.epoch + 1
        claims = await second.due(START, NONE_BUSY, 10, 10)
        assert [claim.message.id for claim in claims] == ["A", "B"]
        await second.close()

    asyncio.run(story())


def test_a_clean_close_gives_claims_back_and_spares_the_walk(tmp_path: Path) -> None:
    async def story() -> None:
        first = await opened(tmp_path)
        await first.commit(new_message(Letter("A", claim=True)))
        await first.close()
        second = await opened(tmp_path)
        assert second._recovering is None
        assert [claim.message.id for claim in await second.due(START, NONE_BUSY, 10, 10)] == ["A"]
        await second.close()

    asyncio.run(story())


def test_a_process_that_was_superseded_writes_nothing_more(tmp_path: Path) -> None:
    async def story() -> None:
        first = await opened(tmp_path)
        await first.commit(new_message(Letter("A", claim=True)))
        second = await opened(tmp_path)
        with pytest.raises(SpoolUnavailable, match="took the store over"):
            await first.record("A", [Step(0, Final.DELIVERED)], [])
        with pytest.raises(SpoolUnavailable, match="took the store over"):
            await first.commit(new_message(Letter("B")))
        assert len(await second.due(START, NONE_BUSY, 10, 10)) == 1
        await first.close()
        await second.close()

    asyncio.run(story())


def test_a_store_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    async def nothing(_: SqliteSpool) -> None:
        return

    with_spool(tmp_path, nothing)
    connection = apsw.Connection(str(tmp_path / "spool.db"))
    connection.execute("PRAGMA user_version=999")
    connection.close()
    with pytest.raises(StoreTooNew):
        asyncio.run(opened(tmp_path))
    assert rows(tmp_path, "PRAGMA user_version") == [(999,)]


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(StoreError):
        asyncio.run(opened(tmp_path))


def test_a_full_store_refuses_new_mail_lets_the_rest_go_on_and_recovers(tmp_path: Path) -> None:
    async def story(spool: SqliteSpool) -> None:
        await spool.commit_many([new_message(Letter(f"Q{n}", claim=True)) for n in range(20)])
        connection = spool._writer._connection
        assert connection is not None
        pages = connection.execute("PRAGMA page_count").fetchall()[0][0]
        assert isinstance(pages, int)
        connection.execute(f"PRAGMA max_page_count={pages + 10}")
        large = new_message(Letter("LARGE", body=b"x" * 200_000))
        outcomes = await asyncio.gather(
            spool.commit(large),
            *[spool.commit(new_message(Letter(f"S{n}"))) for n in range(5)],
            *[spool.record(f"Q{n}", [Step(0, Final.DELIVERED)], []) for n in range(20)],
            return_exceptions=True,
        )
        assert isinstance(outcomes[0], SpoolUnavailable)
        assert outcomes[0].full
        assert outcomes[1:] == [None] * 25
        connection.execute("PRAGMA max_page_count=1000000")
        await spool.commit(large)
        assert b"".join([chunk async for chunk in spool.content("LARGE")]) == HEAD + b"x" * 200_000
        assert (await spool.ledger()).queued == 6

    with_spool(tmp_path, story)


def test_a_full_store_refuses_the_chunks_of_a_draft(tmp_path: Path) -> None:
    async def story(spool: SqliteSpool) -> None:
        connection = spool._writer._connection
        assert connection is not None
        connection.execute("PRAGMA max_page_count=150")
        draft = spool.draft()

        async def fill() -> None:
            for _ in range(40):
                await spool.write(draft, b"x" * 65536)

        with pytest.raises(SpoolUnavailable) as caught:
            await fill()
        assert caught.value.full
        await spool.discard(draft)
        await asyncio.gather(*filter(None, [spool._sweeping]))
        await spool.commit(new_message(Letter("A", body=b"y" * 200_000)))

    with_spool(tmp_path, story)


def test_below_the_reserve_nothing_new_is_taken_but_ends_are_recorded(tmp_path: Path) -> None:
    async def story(spool: SqliteSpool) -> None:
        await spool.commit(new_message(Letter("A", claim=True)))
        spool._room._reserve = 1 << 60
        spool._room.forget()
        with pytest.raises(SpoolUnavailable) as caught:
            await spool.commit(new_message(Letter("B")))
        assert caught.value.full
        await spool.record("A", [Step(0, Final.DELIVERED)], [JournalEntry(b"{}", START, "A")])
        assert (await spool.ledger()).queued == 0

    with_spool(tmp_path, story)


def test_the_loop_runs_on_while_another_process_holds_the_lock(tmp_path: Path) -> None:
    async def story(spool: SqliteSpool) -> None:
        other = apsw.Connection(str(tmp_path / "spool.db"))
        other.execute("BEGIN IMMEDIATE")
        committing = asyncio.ensure_future(spool.commit(new_message(Letter("A"))))
        turns = 0
        started = time.monotonic()
        while time.monotonic() - started < 0.1:
            await asyncio.sleep(0)
            turns += 1
        assert turns > 100
        assert not committing.done()
        other.execute("COMMIT")
        other.close()
        await committing
        assert (await spool.ledger()).queued == 1

    with_spool(tmp_path, story)


def test_a_lock_that_is_never_given_back_is_told(tmp_path: Path) -> None:
    async def story(spool: SqliteSpool) -> None:
        other = apsw.Connection(str(tmp_path / "spool.db"))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SpoolUnavailable) as caught:
            await spool.commit(new_message(Letter("A")))
        assert not caught.value.full
        other.close()
        await spool.commit(new_message(Letter("A")))

    with_spool(tmp_path, story, SqliteSettings(patience_milliseconds=20))


def test_a_session_that_is_cancelled_after_its_commit_leaves_no_claim_behind(tmp_path: Path) -> None:
    async def story(spool: SqliteSpool) -> None:
        task = asyncio.ensure_future(spool.commit(new_message(Letter("A", claim=True))))
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await spool.append_journal([JournalEntry(b"{}", START)])
        await spool.append_journal([JournalEntry(b"{}", START)])
        assert [claim.message.id for claim in await spool.due(START, NONE_BUSY, 10, 10)] == ["A"]
        assert len(spool._claimed) == 1

    with_spool(tmp_path, story)


def test_a_commit_that_fails_at_the_disk_is_no_success_and_the_next_one_works(tmp_path: Path) -> None:
    """The worker's COMMIT raises an IO error once; the connection must be replaced, the message not be there."""

    async def story(spool: SqliteSpool) -> None:
        connection = spool._writer._connection
        assert connection is not None

        def fail() -> bool:
            raise apsw.IOError("flush failed")

        connection.set_commit_hook(fail)
        with pytest.raises(SpoolUnavailable):
            await spool.commit(new_message(Letter("A")))
        await spool.commit(new_message(Letter("B")))
        assert spool._writer._connection is not connection
        assert [claim.message.id for claim in await spool.due(START, NONE_BUSY, 10, 10)] == ["B"]

    with_spool(tmp_path, story)


def test_statements_run_on_the_loop_and_commits_in_one_other_thread(tmp_path: Path) -> None:
    seen: dict[str, set[str]] = {}

    def hook(step: str) -> None:
        seen.setdefault(step, set()).add(threading.current_thread().name)

    async def story(spool: SqliteSpool) -> None:
        async def one(number: int) -> None:
            await spool.commit(new_message(Letter(f"M{number}", claim=True)))
            await spool.record(f"M{number}", [Step(0, Final.DELIVERED)], [])

        await asyncio.gather(*[one(number) for number in range(500)])

    with_spool(tmp_path, story, SqliteSettings(hook=hook))
    assert seen["written"] == {threading.current_thread().name}
    assert seen["committed"] == {"spool-commit"}


def test_many_operations_share_a_commit(tmp_path: Path) -> None:
    commits = 0

    def hook(step: str) -> None:
        nonlocal commits
        commits += step == "committed"

    async def story(spool: SqliteSpool) -> None:
        before = commits
        await asyncio.gather(*[spool.commit(new_message(Letter(f"M{number}"))) for number in range(100)])
        assert commits - before <= 4

    with_spool(tmp_path, story, SqliteSettings(hook=hook))


def test_what_another_process_adds_is_seen_and_our_own_writes_are_no_change(tmp_path: Path) -> None:
    async def story(spool: SqliteSpool) -> None:
        seen = spool.changes()
        await spool.commit(new_message(Letter("A")))
        assert spool.changes() == seen
        sender = await opened(tmp_path, SqliteSettings(delivers=False))
        await sender.commit(new_message(Letter("B", claim=True)))
        await sender.close()
        assert spool.changes() != seen
        assert [claim.message.id for claim in await spool.due(START, NONE_BUSY, 10, 10)] == ["A", "B"]

    with_spool(tmp_path, story)


def test_a_draft_swept_by_a_new_relay_cannot_be_committed(tmp_path: Path) -> None:
    async def story() -> None:
        sender = await opened(tmp_path, SqliteSettings(delivers=False))
        draft = sender.draft()
        await sender.write(draft, b"x" * CHUNK_OCTETS)
        relay = await opened(tmp_path)
        await asyncio.gather(*filter(None, [relay._sweeping]))
        with pytest.raises(SpoolUnavailable, match="swept"):
            await sender.commit(new_message(Letter("A"), draft))
        assert (await relay.ledger()).accepted == 0
        await sender.close()
        await relay.close()

    asyncio.run(story())
    assert rows(tmp_path, "SELECT count(*) FROM chunks") == [(0,)]


def test_25_mib_stream_in_and_out_in_bounded_memory(tmp_path: Path) -> None:
    piece = bytes(range(256)) * 256
    count = 25 * 16

    async def story(spool: SqliteSpool) -> None:
        await spool.commit(new_message(Letter("WARM")))
        tracemalloc.start()
        try:
            draft = spool.draft()
            for _ in range(count):
                await spool.write(draft, piece)
            await spool.commit(new_message(Letter("A", claim=True), draft))
            octets = 0
            async for chunk in spool.content("A"):
                octets += len(chunk)
            assert octets == count * len(piece) + len(HEAD)
            await spool.record("A", [Step(0, Final.DELIVERED)], [])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 4 * CHUNK_OCTETS + 500_000
        await asyncio.gather(*filter(None, [spool._sweeping]))

    with_spool(tmp_path, story)
    assert rows(tmp_path, "SELECT count(*) FROM chunks") == [(1,)]
    assert rows(tmp_path, "SELECT count(*) FROM loose") == [(0,)]


def test_damaged_content_is_never_passed_on_as_a_whole(tmp_path: Path) -> None:
    async def story(spool: SqliteSpool) -> None:
        await spool.commit(new_message(Letter("A")))
        other = apsw.Connection(str(tmp_path / "spool.db"))
        other.execute("UPDATE chunks SET data=substr(data, 2)")
        other.close()
        (claim,) = await spool.due(START, NONE_BUSY, 10, 10)
        assert claim.content is None
        with pytest.raises(SpoolUnavailable, match="damaged"):
            async for _ in spool.content("A"):
                pass

    with_spool(tmp_path, story)


def test_a_damaged_envelope_is_held_and_others_flow(tmp_path: Path) -> None:
    async def story(spool: SqliteSpool) -> None:
        await spool.commit_many([new_message(Letter("A")), new_message(Letter("B"))])
        other = apsw.Connection(str(tmp_path / "spool.db"))
        other.execute("UPDATE messages SET data=x'c1' WHERE id='A'")
        other.close()
        assert [claim.message.id for claim in await spool.due(START, NONE_BUSY, 10, 10)] == ["B"]
        assert await spool.next_due(START, NONE_BUSY) is None

    with_spool(tmp_path, story)
    assert rows(tmp_path, "SELECT state FROM recipients ORDER BY message_seq") == [(2,), (0,)]


def test_claims_left_in_memory_match_what_is_claimed(tmp_path: Path) -> None:
    async def story(spool: SqliteSpool) -> None:
        for number in range(50):
            await spool.commit(new_message(Letter(f"M{number}", ["a@x.example", "b@y.example"], claim=number % 2 == 0)))
        for claim in await spool.due(START, NONE_BUSY, 1000, 1000):
            steps = [Step(one.index, Final.DELIVERED) for one in claim.recipients]
            await spool.record(claim.message.id, steps, [])
        for number in range(0, 50, 2):
            await spool.record(f"M{number}", [Step(0, Final.DELIVERED)], [])
            await spool.record(f"M{number}", [Step(1, Final.BOUNCED)], [])
        assert len(spool._claimed) == 0

    with_spool(tmp_path, story)
    for table in ("messages", "recipients", "chunks", "loose"):
        assert rows(tmp_path, f"SELECT count(*) FROM {table}") == [(0,)]


def test_one_operation_that_fails_does_not_take_its_neighbours_along(tmp_path: Path) -> None:
    async def story(spool: SqliteSpool) -> None:
        outcomes = await asyncio.gather(
            spool.commit(new_message(Letter("A"))),
            spool.record("NOBODY", [Step(0, Final.DELIVERED)], []),
            spool.commit(new_message(Letter("A"))),
            spool.commit(new_message(Letter("B"))),
            return_exceptions=True,
        )
        assert outcomes[0] is None
        assert isinstance(outcomes[1], ClaimLost)
        assert isinstance(outcomes[2], SpoolUnavailable)
        assert outcomes[3] is None
        assert (await spool.ledger()).queued == 2

    with_spool(tmp_path, story)


def test_a_thousand_waiting_for_a_dead_destination_cost_the_others_nothing(tmp_path: Path) -> None:
    async def story(spool: SqliteSpool) -> None:
        dead = [new_message(Letter(f"D{n}", ["a@dead.example"], next_attempt_at=START - 9)) for n in range(1000)]
        await spool.commit_many(dead)
        await spool.record("D0", [], [], destination=DestinationState("mx:dead.example", START + 60, 3, "no"))
        await spool.commit(new_message(Letter("A")))
        assert [claim.message.id for claim in await spool.due(START, NONE_BUSY, 50, 10)] == ["A"]
        assert await spool.next_due(START, NONE_BUSY) == START + 60
        claims = await spool.due(START + 60, NONE_BUSY, 1000, 300)
        assert len(claims) == 300

    with_spool(tmp_path, story)


def test_only_one_relay_holds_the_lock_and_its_death_frees_it(tmp_path: Path) -> None:
    assert not relay_alive(tmp_path)
    lock = RelayLock.acquire(tmp_path)
    assert relay_alive(tmp_path)
    assert relay_pid(tmp_path)
    with pytest.raises(AlreadyRunning) as caught:
        RelayLock.acquire(tmp_path)
    assert caught.value.pid == relay_pid(tmp_path)
    lock.release()
    assert not relay_alive(tmp_path)
    RelayLock.acquire(tmp_path).release()


def test_after_close_everything_is_refused_and_nothing_hangs(tmp_path: Path) -> None:
    async def story() -> None:
        spool = await opened(tmp_path)
        await spool.close()
        with pytest.raises(SpoolUnavailable, match="closed"):
            await spool.commit(new_message(Letter("A")))
        with pytest.raises(SpoolUnavailable, match="closed"):
            await spool.ledger()

    asyncio.run(story())


@pytest.mark.parametrize("turns", range(12))
def test_a_cancelled_due_leaves_no_claim_behind(tmp_path: Path, turns: int) -> None:
    async def story(spool: SqliteSpool) -> None:
        await spool.commit_many([new_message(Letter(f"M{n:03}")) for n in range(150)])
        task = asyncio.ensure_future(spool.due(START, NONE_BUSY, 1000, 1000))
        for _ in range(turns):
            await asyncio.sleep(0.0005 if turns > 6 else 0)
        task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(outcome, list):
            return  # it was faster
        for _ in range(3):
            await spool.append_journal([JournalEntry(b"{}", START)])
        assert len(await spool.due(START, NONE_BUSY, 1000, 1000)) == 150

    with_spool(tmp_path, story)


def test_a_due_cancelled_just_after_its_claims_were_made_gives_them_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(spool: SqliteSpool) -> None:
        await spool.commit(new_message(Letter("A")))
        task = asyncio.ensure_future(spool.due(START, NONE_BUSY, 10, 10))
        committed = ClaimRows.committed

        def committed_then_cancelled(operation: ClaimRows) -> None:
            committed(operation)
            asyncio.get_running_loop().call_soon(task.cancel)

        monkeypatch.setattr(ClaimRows, "committed", committed_then_cancelled)
        with pytest.raises(asyncio.CancelledError):
            await task
        monkeypatch.undo()
        await spool.append_journal([JournalEntry(b"{}", START)])
        assert len(await spool.due(START, NONE_BUSY, 10, 10)) == 1

    with_spool(tmp_path, story)


def test_a_process_that_only_adds_messages_cannot_claim(tmp_path: Path) -> None:
    async def story(spool: SqliteSpool) -> None:
        with pytest.raises(ValueError, match="not to deliver"):
            await spool.due(START, NONE_BUSY, 1, 1)

    with_spool(tmp_path, story, SqliteSettings(delivers=False))


def test_recovery_that_meets_a_locked_store_is_tried_again(tmp_path: Path) -> None:
    async def story() -> None:
        first = await opened(tmp_path)
        await first.commit(new_message(Letter("A", claim=True)))
        await abandon(first)
        second = await opened(tmp_path, SqliteSettings(patience_milliseconds=10))
        other = apsw.Connection(str(tmp_path / "spool.db"))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SpoolUnavailable):
            await second.due(START, NONE_BUSY, 1, 1)
        other.close()
        assert len(await second.due(START, NONE_BUSY, 1, 1)) == 1
        await second.close()

    asyncio.run(story())


def test_what_hears_of_a_whole_batch_runs_before_anything_else_and_cannot_stop_the_store(tmp_path: Path) -> None:
    async def story(spool: SqliteSpool) -> None:
        loop = asyncio.get_running_loop()
        heard: list[str] = []
        complaints: list[dict[str, object]] = []
        loop.set_exception_handler(lambda _, context: complaints.append(context))

        def whole() -> None:
            heard.append("whole")
            raise ZeroDivisionError

        def told(error: Exception | None) -> None:
            assert error is None
            heard.append("one")
            loop.call_soon(heard.append, "later")
            if heard == ["one"]:
                spool.after_batch(whole)

        spool.take(new_message(Letter("A")), told)
        spool.take(new_message(Letter("B")), told)
        await spool.commit(new_message(Letter("C")))
        await asyncio.sleep(0)
        assert heard == ["one", "one", "whole", "later", "later"]
        assert [type(one["exception"]) for one in complaints] == [ZeroDivisionError]
        await spool.commit(new_message(Letter("D")))
        assert (await spool.ledger()).queued == 4

    with_spool(tmp_path, story)


def test_who_wants_no_future_hears_why_a_message_was_not_taken(tmp_path: Path) -> None:
    async def story(spool: SqliteSpool) -> None:
        heard: list[Exception | None] = []
        await spool.commit(new_message(Letter("A")))
        spool.take(new_message(Letter("A")), heard.append)
        spool.take(new_message(Letter("B")), heard.append)
        await spool.commit(new_message(Letter("C")))
        assert sorted(type(error).__name__ for error in heard) == ["NoneType", "SpoolUnavailable"]
        await spool.close()
        spool.take(new_message(Letter("D")), heard.append)
        assert str(heard[-1]) == "the store is closed"

    async def whole() -> None:
        await story(await opened(tmp_path))

    asyncio.run(whole())


@pytest.mark.parametrize("way", ["take", "commit"])
def test_a_message_on_its_way_to_the_disk_when_the_store_closes_is_delivered_later(tmp_path: Path, way: str) -> None:
    async def story() -> None:
        spool = await opened(tmp_path)
        writer: Any = spool._writer
        commit, may_go_on = writer._commit, threading.Event()

        def slow_commit() -> None:
            assert may_go_on.wait(10)
            commit()

        writer._commit = slow_commit
        told: list[Exception | None] = []
        new = new_message(Letter("m1", claim=True), spool.draft())
        if way == "take":
            spool.take(new, told.append)
        else:
            spool.begin_commit((new,))
        while not writer._busy:  # noqa: ASYNC110 - its COMMIT is under way before the store hears that it shall close
            await asyncio.sleep(0)
        closing = asyncio.create_task(spool.close())
        asyncio.get_running_loop().call_later(0.1, may_go_on.set)
        while not writer._leaving:  # noqa: ASYNC110
            await asyncio.sleep(0)
        refused: list[Exception | None] = []
        spool.take(new_message(Letter("m2", claim=True), spool.draft()), refused.append)
        await closing
        assert told == ([None] if way == "take" else [])
        assert [type(error) for error in refused] == [SpoolUnavailable]

    asyncio.run(story())

    async def next_start(spool: SqliteSpool) -> None:
        assert [claim.message.id for claim in await spool.due(START, NONE_BUSY, 10, 10)] == ["m1"]

    with_spool(tmp_path, next_start)


@pytest.mark.parametrize("full", [False, True])
def test_a_bug_in_who_is_told_keeps_it_from_nobody_else(tmp_path: Path, full: bool) -> None:
    def broken(_: Exception | None) -> None:
        raise ZeroDivisionError

    async def story(spool: SqliteSpool) -> None:
        bugs: list[BaseException] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context["exception"]))
        writer: Any = spool._writer
        if full:
            writer._commit = lambda: (_ for _ in ()).throw(SpoolUnavailable("no"))
        told: list[Exception | None] = []
        spool.take(new_message(Letter("m1"), spool.draft()), broken)
        spool.take(new_message(Letter("m2"), spool.draft()), told.append)
        await writer._until_idle()
        assert [type(bug) for bug in bugs] == [ZeroDivisionError]
        assert [error is not None for error in told] == [full]
        if full:
            del writer._commit

    with_spool(tmp_path, story)
