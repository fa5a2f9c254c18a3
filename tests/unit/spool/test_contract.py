"""What every engine of the spool promises: one suite, run over each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from staffetta.mail.address import parse_mailbox
from staffetta.mail.domain import AddressLiteral
from staffetta.mail.envelope import Body, Notify, Return, Sender
from staffetta.spool.contract import (
    CHUNK_OCTETS,
    Claim,
    ClaimLost,
    DestinationState,
    Final,
    JournalEntry,
    Ledger,
    Message,
    NewMessage,
    Spool,
    SpoolUnavailable,
    State,
    Step,
    WaitingRecipient,
)
from staffetta.spool.memory import MemorySpool
from staffetta.spool.sqlite import SqliteSpool
from staffetta.testing.spooled import HEAD, START, Letter, new_message

NONE_BUSY: frozenset[str] = frozenset()


@asynccontextmanager
async def an_engine(kind: str, path: Path) -> AsyncIterator[Spool]:
    spool: Spool
    if kind == "memory":
        spool = MemorySpool(lambda: START)
    else:
        spool = await SqliteSpool.open(path / "spool.db", lambda: START)
    try:
        yield spool
    finally:
        await spool.close()


Story = Callable[[Spool], Awaitable[None]]
Tell = Callable[[Story], None]


@pytest.fixture(params=["memory", "sqlite"])
def tell(request: pytest.FixtureRequest, tmp_path: Path) -> Tell:
    def run(story: Story) -> None:
        async def whole() -> None:
            async with an_engine(request.param, tmp_path) as spool:
                await story(spool)
                books = await spool.ledger()
                assert books.unaccounted == 0

        asyncio.run(whole())

    return run


async def content_of(spool: Spool, message_id: str) -> bytes:
    return b"".join([chunk async for chunk in spool.content(message_id)])


async def due_ids(spool: Spool, now: float = START, limit: int = 100, per_destination: int = 100) -> list[str]:
    return [claim.message.id for claim in await spool.due(now, NONE_BUSY, limit, per_destination)]


def indexes(claims: Iterable[Claim]) -> list[tuple[str, list[int]]]:
    return [(claim.message.id, [one.index for one in claim.recipients]) for claim in claims]


def test_a_message_is_invisible_until_commit_and_whole_after(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        draft = spool.draft()
        await spool.write(draft, b"Subject: x\r\n")
        await spool.write(draft, b"\r\nbody\r\n")
        assert await due_ids(spool) == []
        assert (await spool.ledger()).accepted == 0
        await spool.commit(new_message(Letter("A"), draft))
        (claim,) = await spool.due(START, NONE_BUSY, 10, 10)
        assert claim.content == HEAD + b"Subject: x\r\n\r\nbody\r\n"
        assert await content_of(spool, "A") == claim.content
        assert claim.recipients[0].state is State.ACTIVE
        assert await spool.ledger() == Ledger(1, 0, 0, 0, 1)

    tell(story)


def test_every_field_comes_back_as_it_went_in(tell: Tell) -> None:
    sender = Sender(parse_mailbox('"odd @ one"@[IPv6:2001:db8::1]'), Body.EIGHT_BIT_MIME, True, 99, Return.FULL, "e=1")
    message = Message("A", sender, 4, START - 1.25, "m@id", "S", "anna@example.org", "192.0.2.1", 3)
    recipients = (
        WaitingRecipient(
            "A",
            0,
            parse_mailbox("zoë@example.net", smtputf8=True),
            "lmtp:unix:box",
            next_attempt_at=START,
            notify=(Notify.SUCCESS, Notify.DELAY),
            orcpt="rfc822;zoe@example.net",
            original=parse_mailbox("list@example.org"),
        ),
        WaitingRecipient("A", 1, parse_mailbox("ben@[192.0.2.7]"), "lmtp:unix:box", next_attempt_at=START),
    )

    async def story(spool: Spool) -> None:
        draft = spool.draft()
        await spool.write(draft, b"body")
        await spool.commit(NewMessage(message, recipients, b"", draft, JournalEntry(b"{}", START, "A")))
        (claim,) = await spool.due(START, NONE_BUSY, 10, 10)
        assert claim.message == message
        waiting = tuple(msgspec.structs.replace(one, state=State.ACTIVE) for one in recipients)
        assert claim.recipients == waiting
        assert claim.recipients[1].address.domain == AddressLiteral("192.0.2.7")

    tell(story)


@pytest.mark.parametrize(
    "octets", [0, 1, 64 * 1024, CHUNK_OCTETS - 1, CHUNK_OCTETS, CHUNK_OCTETS + 1, 3 * CHUNK_OCTETS + 5]
)
@pytest.mark.parametrize("piece", [7777, 300_000])
def test_content_comes_back_in_order_and_in_bounded_pieces(tell: Tell, octets: int, piece: int) -> None:
    body = bytes(range(256)) * (octets // 256 + 1)
    body = body[:octets]

    async def story(spool: Spool) -> None:
        draft = spool.draft()
        for start in range(0, octets, piece):
            await spool.write(draft, body[start : start + piece])
        await spool.commit(new_message(Letter("A"), draft))
        pieces = [chunk async for chunk in spool.content("A")]
        assert b"".join(pieces) == HEAD + body
        assert max(map(len, pieces)) <= CHUNK_OCTETS
        (claim,) = await spool.due(START, NONE_BUSY, 10, 10)
        small = octets + len(HEAD) <= 64 * 1024
        assert claim.content == (HEAD + body if small else None)
        await spool.record("A", [Step(0, Final.DELIVERED)], [])
        with pytest.raises(SpoolUnavailable):
            await content_of(spool, "A")

    tell(story)


def test_a_size_that_lies_is_a_bug_and_nothing_is_stored(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        new = new_message(Letter("A"))
        wrong = msgspec.structs.replace(new.message, size=new.message.size + 1)
        with pytest.raises(ValueError, match="size"):
            await spool.commit(msgspec.structs.replace(new, message=wrong))
        assert (await spool.ledger()).accepted == 0

    tell(story)


def test_a_claimed_commit_is_not_due_until_it_is_recorded(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        await spool.commit(new_message(Letter("A", claim=True)))
        assert await due_ids(spool, START + 999) == []
        assert await spool.next_due(START, NONE_BUSY) is None
        step = Step(0, next_attempt_at=START + 60, attempts=1, last_reply="451 later", in_doubt=True)
        await spool.record("A", [step], [])
        assert await due_ids(spool, START + 59) == []
        assert await spool.next_due(START, NONE_BUSY) == START + 60
        (claim,) = await spool.due(START + 60, NONE_BUSY, 10, 10)
        one = claim.recipients[0]
        assert (one.attempts, one.last_reply, one.in_doubt) == (1, "451 later", True)

    tell(story)


def test_what_is_claimed_is_not_claimed_again(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        await spool.commit_many([new_message(Letter(name)) for name in "ABC"])
        first, second = await asyncio.gather(due_ids(spool), due_ids(spool))
        assert sorted(first + second) == ["A", "B", "C"]

    tell(story)


def test_commit_many_is_all_or_nothing(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        await spool.commit(new_message(Letter("A")))
        with pytest.raises(SpoolUnavailable):
            await spool.commit_many([new_message(Letter("B")), new_message(Letter("A"))])
        assert await due_ids(spool) == ["A"]
        assert (await spool.ledger()).accepted == 1

    tell(story)


def test_the_ends_of_recipients_are_counted_and_the_last_takes_the_message_along(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        await spool.commit(new_message(Letter("A", ["a@x.example", "b@y.example", "c@z.example"], claim=True)))
        await spool.record("A", [Step(0, Final.DELIVERED), Step(2, Final.BOUNCED)], [])
        assert await spool.ledger() == Ledger(3, 1, 1, 0, 1)
        assert (await content_of(spool, "A")).startswith(HEAD)
        await spool.record("A", [Step(1, Final.DROPPED)], [])
        assert await spool.ledger() == Ledger(3, 1, 1, 1, 0)
        with pytest.raises(SpoolUnavailable):
            await content_of(spool, "A")

    tell(story)


def test_recording_what_is_not_claimed_is_refused_and_changes_nothing(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        await spool.commit(new_message(Letter("A", ["a@x.example", "b@x.example"])))
        for message_id, step in [("A", Step(0, Final.DELIVERED)), ("A", Step(1)), ("Z", Step(0, Final.DELIVERED))]:
            with pytest.raises(ClaimLost):
                await spool.record(message_id, [step], [])
        assert await spool.ledger() == Ledger(2, 0, 0, 0, 2)
        assert indexes(await spool.due(START, NONE_BUSY, 10, 10)) == [("A", [0, 1])]

    tell(story)


def test_recording_twice_is_refused(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        await spool.commit(new_message(Letter("A", ["a@x.example", "b@x.example"], claim=True)))
        await spool.record("A", [Step(0, Final.DELIVERED)], [])
        with pytest.raises(ClaimLost):
            await spool.record("A", [Step(0, Final.DELIVERED)], [])
        assert await spool.ledger() == Ledger(2, 1, 0, 0, 1)

    tell(story)


def test_due_goes_by_destination_oldest_first_within_its_limits(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        for number in range(6):
            await spool.commit(new_message(Letter(f"X{number}", ["a@x.example"], next_attempt_at=START - number)))
        await spool.commit(new_message(Letter("Y", ["a@y.example"], next_attempt_at=START - 3)))
        await spool.commit(new_message(Letter("Z", ["a@z.example"], next_attempt_at=START + 1)))
        assert await due_ids(spool, limit=4, per_destination=3) == ["X5", "X4", "X3", "Y"]
        assert indexes(await spool.due(START, frozenset({"mx:x.example"}), 10, 10)) == []
        assert await due_ids(spool, limit=2) == ["X2", "X1"]
        assert await due_ids(spool, START + 1) == ["X0", "Z"]

    tell(story)


def test_recipients_of_one_message_at_one_destination_share_a_claim(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        await spool.commit(new_message(Letter("A", ["a@x.example", "b@y.example", "c@x.example", "d@x.example"])))
        await spool.commit(new_message(Letter("B", ["a@x.example"], next_attempt_at=START + 1)))
        claims = await spool.due(START, NONE_BUSY, 10, 10)
        assert sorted(indexes(claims)) == [("A", [0, 2, 3]), ("A", [1])]

    tell(story)


def test_a_group_is_cut_at_the_limits(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        await spool.commit(new_message(Letter("A", [f"r{n}@x.example" for n in range(7)])))
        assert indexes(await spool.due(START, NONE_BUSY, 10, 3)) == [("A", [0, 1, 2])]
        assert indexes(await spool.due(START, NONE_BUSY, 2, 9)) == [("A", [3, 4])]
        assert indexes(await spool.due(START, NONE_BUSY, 9, 9)) == [("A", [5, 6])]

    tell(story)


def test_a_destination_that_is_down_holds_back_all_its_messages_until_then(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        await spool.commit(new_message(Letter("A", ["a@x.example"], claim=True)))
        await spool.commit_many([new_message(Letter("B", ["b@x.example"])), new_message(Letter("C", ["c@y.example"]))])
        down = DestinationState("mx:x.example", START + 100, 1, "450 no answer")
        step = Step(0, next_attempt_at=START + 50, attempts=1)
        await spool.record("A", [step], [], destination=down)
        assert await due_ids(spool, START + 99) == ["C"]
        assert await spool.next_due(START, NONE_BUSY) == START + 100
        assert await due_ids(spool, START + 100) == ["B", "A"]

    tell(story)


def test_a_destination_that_answers_again_is_due_at_once(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        await spool.commit(new_message(Letter("A", ["a@x.example"])))
        await spool.record("A", [], [], destination=DestinationState("mx:x.example", START + 100, 1, ""))
        assert await due_ids(spool) == []
        await spool.destination_up("mx:x.example")
        assert await due_ids(spool) == ["A"]

    tell(story)


def test_held_recipients_wait_for_nobody(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        await spool.commit(new_message(Letter("A", claim=True)))
        await spool.record("A", [Step(0, state=State.HELD)], [])
        assert await due_ids(spool, START + 1e9) == []
        assert await spool.next_due(START, NONE_BUSY) is None
        assert await spool.overdue(START + 1e9, START + 1e9, 10) == []
        assert await spool.undelayed(START + 1e9, 10) == []

    tell(story)


def test_a_step_may_change_the_destination(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        await spool.commit(new_message(Letter("A", ["a@x.example"], claim=True)))
        await spool.record("A", [Step(0, destination="mx:other.example")], [])
        (claim,) = await spool.due(START, frozenset({"mx:x.example"}), 10, 10)
        assert claim.recipients[0].destination == "mx:other.example"
        await spool.record("A", [Step(0)], [])
        (claim,) = await spool.due(START, NONE_BUSY, 10, 10)
        assert claim.recipients[0].destination == "mx:other.example"

    tell(story)


def test_overdue_tells_the_null_path_from_others_and_claims(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        await spool.commit(new_message(Letter("OLD", received_at=START - 50)))
        await spool.commit(new_message(Letter("NULL", sender="", received_at=START - 20)))
        await spool.commit(new_message(Letter("NEW", received_at=START - 20)))
        assert indexes(await spool.overdue(START - 40, START - 10, 10)) == [("OLD", [0]), ("NULL", [0])]
        assert await spool.overdue(START - 40, START - 10, 10) == []
        assert await due_ids(spool) == ["NEW"]

    tell(story)


def test_overdue_in_portions_comes_to_everything(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        await spool.commit_many([new_message(Letter(f"M{n}", ["a@x.example", "b@y.example"])) for n in range(5)])
        seen: list[tuple[str, int]] = []
        while claims := await spool.overdue(START + 1, START + 1, 3):
            assert sum(len(claim.recipients) for claim in claims) <= 3
            seen += [(claim.message.id, one.index) for claim in claims for one in claim.recipients]
        assert seen == [(f"M{n}", index) for n in range(5) for index in (0, 1)]

    tell(story)


def test_undelayed_asks_once(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        await spool.commit(new_message(Letter("A", ["a@x.example", "b@x.example"], received_at=START - 50)))
        await spool.commit(new_message(Letter("B", received_at=START)))
        (claim,) = await spool.undelayed(START - 40, 10)
        assert indexes([claim]) == [("A", [0, 1])]
        await spool.record("A", [Step(0, delay_noticed=True), Step(1)], [])
        assert indexes(await spool.undelayed(START - 40, 10)) == [("A", [1])]

    tell(story)


def test_notices_and_steps_are_one_write(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        await spool.commit(new_message(Letter("A", claim=True)))
        notice = new_message(Letter("N", ["anna@example.org"], sender=""))
        with pytest.raises(ClaimLost):
            await spool.record("A", [Step(7, Final.BOUNCED)], [], [notice])
        assert (await spool.ledger()).accepted == 1
        await spool.record("A", [Step(0, Final.BOUNCED)], [], [notice])
        assert await due_ids(spool) == ["N"]
        assert await spool.ledger() == Ledger(2, 0, 1, 0, 1)

    tell(story)


def test_a_discarded_draft_leaves_nothing(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        for octets in (10, 3 * CHUNK_OCTETS):
            draft = spool.draft()
            await spool.write(draft, b"x" * octets)
            await spool.discard(draft)
        assert await spool.ledger() == Ledger(0, 0, 0, 0, 0)

    tell(story)


def test_expiry_takes_old_rows_only_and_no_more_than_asked(tell: Tell) -> None:
    async def story(spool: Spool) -> None:
        await spool.append_journal([JournalEntry(b"{}", START + n, session="S") for n in range(10)])
        assert await spool.expire_journal(START, 100) == 0
        assert await spool.expire_journal(START + 6, 4) == 4
        assert await spool.expire_journal(START + 6, 100) == 2
        assert await spool.expire_journal(START + 6, 100) == 0

    tell(story)
