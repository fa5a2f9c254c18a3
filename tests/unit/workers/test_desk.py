"""Mail of a worker through the wire into a real store: what is acknowledged is there, the rest leaves nothing."""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import apsw
import pytest
from msgspec.structs import replace

from staffetta.app.workers.desk import Counter, MailDesk
from staffetta.app.workers.frames import FROM_WORKER, TO_WORKER, Append, Arrival, Chunk, Discard, LogLines
from staffetta.app.workers.remote import LINES_AT_ONCE, MOST_UNSENT_OCTETS, RemoteLog, RemoteSpool
from staffetta.app.workers.wire import Wire
from staffetta.intake.handover import CONTENT_AT_HAND_OCTETS, Arrived
from staffetta.mail.address import parse_mailbox
from staffetta.mail.envelope import Sender
from staffetta.observe.events import Accept, Connect, moment
from staffetta.observe.log import LineMaker, LogSettings
from staffetta.spool.contract import CHUNK_OCTETS, Claim, JournalEntry, Message, SpoolUnavailable, WaitingRecipient
from staffetta.spool.sqlite import SqliteSpool

pytestmark = pytest.mark.timeout(60)
ANNA = parse_mailbox("anna@example.org")


class Lines:
    """A log that keeps lines."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.dropped = 0

    def pass_on(self, lines: bytes, count: int, dropped: int = 0) -> None:
        found = lines.split(b"\n")[:-1]
        assert len(found) == count
        self.lines += found
        self.dropped += dropped


class Delivery:
    """A dispatcher that keeps claims."""

    def __init__(self) -> None:
        self.room = True
        self.claims: list[Claim] = []
        self.woken = 0

    def has_room(self, destination: str) -> bool:
        return self.room

    def offer(self, claim: Claim) -> None:
        self.claims.append(claim)

    def wake(self) -> None:
        self.woken += 1


class Both:
    """Both ends in one loop."""

    def __init__(self, spool: SqliteSpool, settings: LogSettings) -> None:
        near, far = socket.socketpair()
        self.store = spool
        self.log = Lines()
        self.delivery = Delivery()
        self.main = Wire(far, FROM_WORKER, self._received, lambda: None)
        counter: Any = SimpleNamespace(spool=spool, dispatcher=self.delivery, log=self.log)
        assert set(vars(counter)) == set(Counter.__struct_fields__)
        self.desk = MailDesk(counter, self.main)
        self.wire = Wire(near, TO_WORKER, self._answered, lambda: None)
        self.worker_log = RemoteLog(self.wire, LineMaker(settings, -1))
        self.spool = RemoteSpool(self.wire, self.worker_log)
        self.house: Any = SimpleNamespace(sessions={1, 2, 3})
        self._does: dict[type, Callable[[Any], None]] = {
            Arrival: self.desk.arrival,
            Chunk: self.desk.chunk,
            Discard: self.desk.discard,
            Append: self.desk.append,
            LogLines: self.desk.lines,
        }

    def _answered(self, frame: Any) -> None:
        self.spool.answered(frame)

    def _received(self, frame: Any) -> None:
        self._does[type(frame)](frame)

    async def send(self, number: int, size: int, head: bytes = b"Subject: x\r\n\r\n") -> None:
        draft = self.spool.draft()
        left = size
        while left:
            piece = bytes(min(left, 60_000))
            left -= len(piece)
            await self.spool.write(draft, piece)
        await self.spool.hand_over(self.house, arrived(number, size, head, draft))

    async def stored(self, number: int) -> bytes:
        return b"".join([piece async for piece in self.store.content(f"m{number}")])


def arrived(number: int, size: int, head: bytes, draft: Any) -> Arrived:
    message = Message(f"m{number}", Sender(ANNA), len(head) + size, 1.0, "", "s1", "", "192.0.2.1", 0)
    event = Accept(
        time=moment(1.0), id=message.id, sender="anna@example.org", recipients=("b@example.net",), size=message.size,
        message_id="", client="192.0.2.1", login="", checks={},
    )  # fmt: skip
    recipient = WaitingRecipient(message.id, 0, parse_mailbox("b@example.net"), "mx:example.net", next_attempt_at=1.0)
    return Arrived(message, (recipient,), head, draft, event)


def play(
    folder: Path,
    scene: Callable[[Both], Awaitable[None]],
    settings: LogSettings = LogSettings("json"),  # noqa: B008
) -> None:
    async def main() -> None:
        spool = await SqliteSpool.open(folder / "spool.db", time.time)
        both = Both(spool, settings)
        try:
            await scene(both)
            ledger = await spool.ledger()
            assert ledger.unaccounted == 0
        finally:
            both.wire.drop()
            both.main.drop()
            await both.desk.close()
            await spool.close()

    asyncio.run(main())


def loose(folder: Path) -> int:
    connection = apsw.Connection(str(folder / "spool.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        rows: list[Any] = connection.execute("SELECT count(*) FROM loose").fetchall()
        return int(rows[0][0])
    finally:
        connection.close()


@pytest.mark.parametrize(
    "size",
    [
        0,
        4000,
        CONTENT_AT_HAND_OCTETS - 14,
        CONTENT_AT_HAND_OCTETS,
        CHUNK_OCTETS - 14,
        CHUNK_OCTETS - 1,
        CHUNK_OCTETS,
        3 * CHUNK_OCTETS + 5,
    ],
)
def test_content_of_every_size(tmp_path: Path, size: int) -> None:
    head = b"Subject: x\r\n\r\n"

    async def scene(both: Both) -> None:
        await both.send(1, size, head)
        assert await both.stored(1) == head + bytes(size)
        [claim] = both.delivery.claims
        at_hand = len(head) + size <= CONTENT_AT_HAND_OCTETS
        assert claim.content == (head + bytes(size) if at_hand else None)
        assert claim.message.id == "m1"
        assert [line[:17] for line in both.log.lines] == [b'{"event":"accept"']

    play(tmp_path, scene)
    assert loose(tmp_path) == 0


def test_many_at_once_share_commits_and_come_back_to_whom_they_belong(tmp_path: Path) -> None:
    async def scene(both: Both) -> None:
        await asyncio.gather(*[both.send(number, number * 700) for number in range(60)])
        for number in range(0, 60, 7):
            assert len(await both.stored(number)) == 14 + number * 700
        assert len(both.delivery.claims) == 60

    play(tmp_path, scene)


def test_what_is_durable_together_is_acknowledged_at_once_and_before_it_goes_to_delivery(tmp_path: Path) -> None:
    async def scene(both: Both) -> None:
        told: list[list[int]] = []
        answered, offer = both._answered, both.delivery.offer

        def hear(frame: Any) -> None:
            told.append([frame.number, *frame.others])
            answered(frame)

        def offer_after_the_answer(claim: Claim) -> None:
            assert select.select([both.wire._socket], [], [], 0)[0], "the answer has not left"
            offer(claim)

        both.wire._received, both.delivery.offer = hear, offer_after_the_answer  # type: ignore[method-assign]
        await asyncio.gather(*[both.send(number, 100) for number in range(5)])
        assert told == [[1, 2, 3, 4, 5]]
        assert [claim.message.id for claim in both.delivery.claims] == [f"m{number}" for number in range(5)]

    play(tmp_path, scene)


def test_a_bug_in_one_message_takes_no_other_away(tmp_path: Path) -> None:
    async def scene(both: Both) -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        offer, count = both.delivery.offer, both.worker_log.count

        def offer_or_fail(claim: Claim) -> None:
            if claim.message.id == "m1":
                raise ZeroDivisionError
            offer(claim)

        def count_or_fail(event: Any) -> None:
            if event.id == "m2":
                raise OverflowError
            count(event)

        both.delivery.offer, both.worker_log.count = offer_or_fail, count_or_fail  # type: ignore[method-assign]
        sent = [asyncio.ensure_future(both.send(number, 100)) for number in range(4)]
        await asyncio.wait_for(asyncio.gather(*sent), 10)  # also the one whose count broke off: it is durable
        assert [claim.message.id for claim in both.delivery.claims] == ["m0", "m2", "m3"]
        assert [type(one["exception"]) for one in complaints] == [ZeroDivisionError, OverflowError]

    play(tmp_path, scene)


def test_without_room_it_waits_in_the_store(tmp_path: Path) -> None:
    async def scene(both: Both) -> None:
        both.delivery.room = False
        await both.send(1, 100)
        assert (both.delivery.claims, both.delivery.woken) == ([], 1)
        [claim] = await both.store.due(2.0, frozenset(), 10, 10)
        assert claim.message.id == "m1"

    play(tmp_path, scene)


def test_a_refused_message_leaves_nothing(tmp_path: Path) -> None:
    async def scene(both: Both) -> None:
        draft = both.spool.draft()
        await both.spool.write(draft, bytes(2 * CHUNK_OCTETS + 3))
        assert loose(tmp_path) == 1
        await both.spool.discard(draft)
        assert draft.number is None
        await until(lambda: loose(tmp_path) == 0)

    play(tmp_path, scene)


def test_a_worker_that_dies_leaves_nothing_but_what_arrived_whole(tmp_path: Path) -> None:
    async def scene(both: Both) -> None:
        draft = both.spool.draft()
        await both.spool.write(draft, bytes(2 * CHUNK_OCTETS + 3))

        def then_die(arrival: Arrival) -> None:
            both.desk.arrival(arrival)
            both.main.drop()

        both._does[Arrival] = then_die
        other = asyncio.create_task(both.send(7, 2 * CHUNK_OCTETS))
        await until(lambda: both.wire.closed)
        await both.desk.close()
        assert not other.done()
        other.cancel()
        await until(lambda: loose(tmp_path) == 0)
        assert await both.stored(7) == b"Subject: x\r\n\r\n" + bytes(2 * CHUNK_OCTETS)

    play(tmp_path, scene)


def test_a_worker_found_dead_by_its_answer_takes_no_message_away(tmp_path: Path) -> None:
    async def scene(both: Both) -> None:
        def then_die(arrival: Arrival) -> None:
            both.desk.arrival(arrival)
            asyncio.get_running_loop().remove_reader(both.main._socket.fileno())
            both.wire.drop()

        both._does[Arrival] = then_die
        sent = asyncio.create_task(both.send(7, 100))
        await until(lambda: both.main.closed)
        assert [claim.message.id for claim in both.delivery.claims] == ["m7"]
        sent.cancel()

    play(tmp_path, scene)


def test_a_store_that_cannot_says_so_and_can_be_asked_again(tmp_path: Path) -> None:
    async def scene(both: Both) -> None:
        def full(octets: int) -> None:
            raise SpoolUnavailable("no space left", full=True)

        check, both.store._check_room = both.store._check_room, full  # type: ignore[method-assign]
        with pytest.raises(SpoolUnavailable, match="no space left") as told:
            await both.send(1, 100)
        assert told.value.full
        draft = both.spool.draft()
        with pytest.raises(SpoolUnavailable):
            await both.spool.write(draft, bytes(CHUNK_OCTETS))
        both.store._check_room = check  # type: ignore[method-assign]
        await both.send(2, 100)
        assert [claim.message.id for claim in both.delivery.claims] == ["m2"]
        assert len(both.log.lines) == 1

    play(tmp_path, scene)


def test_a_message_that_is_not_what_it_says_is_a_bug_of_ours(tmp_path: Path) -> None:
    async def scene(both: Both) -> None:
        draft = both.spool.draft()
        await both.spool.write(draft, b"four")
        with pytest.raises(RuntimeError, match="size"):
            await both.spool.hand_over(both.house, arrived(1, 5, b"", draft))
        assert both.delivery.claims == []

    play(tmp_path, scene)


def test_what_is_refused_is_journaled(tmp_path: Path) -> None:
    async def scene(both: Both) -> None:
        await both.spool.append_journal([JournalEntry(b'{"event":"refuse"}', 1.0, session="s")])
        connection = apsw.Connection(str(tmp_path / "spool.db"), flags=apsw.SQLITE_OPEN_READONLY)
        assert connection.execute("SELECT session, lines FROM journal").fetchall() == [("s", b'{"event":"refuse"}')]
        connection.close()

    play(tmp_path, scene)


def test_lines_travel_in_stretches(tmp_path: Path) -> None:
    async def scene(both: Both) -> None:
        for number in range(LINES_AT_ONCE + 3):
            both.worker_log.emit(Connect(time=moment(1.0), session=str(number), listener="mx", client="c", tls=""))
        await until(lambda: len(both.log.lines) == LINES_AT_ONCE)
        await until(lambda: len(both.log.lines) == LINES_AT_ONCE + 3)
        assert both.worker_log.counters.total(Connect) == LINES_AT_ONCE + 3

    play(tmp_path, scene)


def connect(client: str) -> Connect:
    return Connect(time=moment(1.0), session="s", listener="mx", client=client, tls="")


def test_lines_are_left_out_and_counted_while_the_main_process_reads_nothing() -> None:
    async def scene() -> None:
        wire = SimpleNamespace(unsent=MOST_UNSENT_OCTETS + 1, sent=[])
        wire.send = wire.sent.append
        log = RemoteLog(cast(Wire, wire), LineMaker(LogSettings("json"), -1))
        log.emit(connect("a"))
        log.emit(connect("b"))
        log.flush()
        wire.unsent = 0
        log.emit(connect("c"))
        log.flush()
        log.flush()
        assert [(frame.count, frame.dropped, frame.lines.count(b"\n")) for frame in wire.sent] == [(0, 2, 0), (1, 0, 1)]
        assert log.counters.total(Connect) == 3

    asyncio.run(scene())


def test_a_line_is_as_the_configuration_said_when_it_happened() -> None:
    async def scene() -> None:
        wire = SimpleNamespace(unsent=0, sent=[])
        wire.send = wire.sent.append
        log = RemoteLog(cast(Wire, wire), LineMaker(LogSettings("json"), -1))
        log.emit(connect("a"))
        log.adopt(LineMaker(LogSettings("text"), -1))
        log.emit(connect("b"))
        log.flush()
        assert [frame.lines.startswith(b"{") for frame in wire.sent] == [True, False]

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (LogSettings("json"), b'"sender":"anna@example.org"'),
        (LogSettings("json", privacy="masked"), b'"sender":"a***@example.org"'),
        (LogSettings("text"), b" accept "),
        (LogSettings("json", level="warning"), None),
    ],
)
def test_lines_are_as_the_configuration_says(tmp_path: Path, settings: LogSettings, line: bytes | None) -> None:
    async def scene(both: Both) -> None:
        await both.send(1, 10)
        assert [line is not None and line in one for one in both.log.lines] == ([True] if line is not None else [])
        assert both.worker_log.counters.total(Accept) == 1

    play(tmp_path, scene, settings)


async def until(true: Callable[[], Any], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def test_what_looks_like_a_control_is_escaped_in_the_log_and_kept_in_the_journal(tmp_path: Path) -> None:
    async def scene(both: Both) -> None:
        sent = arrived(1, 5, b"", both.spool.draft())
        await both.spool.write(sent.draft, bytes(5))
        await both.spool.hand_over(both.house, replace(sent, event=replace(sent.event, helo="a\x9b\u202eb")))
        assert b'"helo":"a\\u009b\\u202eb"' in both.log.lines[0]
        reader = apsw.Connection(str(tmp_path / "spool.db"), flags=apsw.SQLITE_OPEN_READONLY)
        assert "a\x9b\u202eb".encode() in reader.execute("SELECT lines FROM journal").fetchall()[0][0]
        reader.close()

    play(tmp_path, scene)


def test_the_main_process_learns_how_many_clients_a_worker_has(tmp_path: Path) -> None:
    async def scene(both: Both) -> None:
        assert both.desk.senders == 0
        await both.send(1, 100)
        assert both.desk.senders == len(both.house.sessions)

    play(tmp_path, scene)
