"""The reply behind a hand-over whose end is told: the way of a door worker, which makes no task of a message."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from staffetta.intake.handover import UnderWay
from staffetta.intake.session import Session
from staffetta.spool.contract import SpoolUnavailable

HELLO = b"EHLO client.example\r\n"
ENVELOPE = b"MAIL FROM:<anna@near.example>\r\nRCPT TO:<ben@far.example>\r\n"
LETTER = b"Subject: hello\r\nFrom: <anna@near.example>\r\n\r\nHello.\r\n.\r\n"
MESSAGE = ENVELOPE + b"DATA\r\n" + LETTER


class Answers:
    """Stands for the main process: what it has not answered yet."""

    def __init__(self, here: Any) -> None:
        self.waiting: list[UnderWay] = []
        self.fault: Exception | None = None
        here.house.hand_over = self.hand_over

    def hand_over(self, house: Any, arrived: Any) -> UnderWay:
        if self.fault is not None:
            raise self.fault
        self.waiting.append(UnderWay(arrived))
        return self.waiting[-1]


def test_the_reply_comes_with_the_answer_and_not_before(place: Any) -> None:
    async def play(here: Any) -> None:
        answers = Answers(here)
        session, stream = here.session()
        before = len(asyncio.all_tasks())
        session.bytes_received(HELLO + ENVELOPE + b"DATA\r\n")
        stream.said()
        session.bytes_received(LETTER + MESSAGE + b"QUIT\r\n")
        await asyncio.sleep(1)
        assert (stream.said(), len(asyncio.all_tasks())) == ("", before)
        answers.waiting[0].end(None)
        await asyncio.sleep(1)
        replies = [line[:3] for line in stream.said().splitlines()]
        assert replies == ["250", "250", "250", "354"]
        answers.waiting[1].end(None)
        await asyncio.sleep(1)
        assert [line[:3] for line in stream.said().splitlines()] == ["250", "221"]
        assert stream.closed
        here.leave(session)

    place(play)


def test_a_client_that_left_is_not_answered_and_its_message_is_taken(place: Any) -> None:
    async def play(here: Any) -> None:
        answers = Answers(here)
        session, stream = here.session()
        session.bytes_received(HELLO + MESSAGE + MESSAGE)
        here.leave(session)
        stream.said()
        answers.waiting[0].end(None)
        await asyncio.sleep(1)
        assert (stream.said(), len(answers.waiting)) == ("", 1)
        assert session not in here.house.sessions

    place(play)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("fault", "answer", "rule"),
    [
        (SpoolUnavailable("no space", full=True), "452 4.3.1", "storage"),
        (SpoolUnavailable("gone"), "451 4.3.0 storage", "storage"),
        (RuntimeError("a bug"), "451 4.3.0 internal", "internal_error"),
    ],
)
def test_what_is_not_taken_is_put_off(place: Any, fault: Exception, answer: str, rule: str, at_once: bool) -> None:
    async def play(here: Any) -> None:
        answers = Answers(here)
        session, stream = here.session()
        session.bytes_received(HELLO + ENVELOPE + b"DATA\r\n")
        stream.said()
        if at_once:
            answers.fault = fault
        session.bytes_received(LETTER + b"NOOP\r\n")
        if not at_once:
            answers.waiting[0].end(fault)
        await asyncio.sleep(1)
        first, second = stream.said().splitlines()
        assert first.startswith(answer)
        assert second.startswith("250")
        assert [event.rule for event in here.relay.told("refuse")] == [rule]
        assert not here.relay.told("accept")
        here.leave(session)
        if rule == "internal_error":
            here.relay.forgive("a bug")

    place(play)


def test_what_was_stored_of_a_message_that_is_not_taken_does_not_stay(place: Any) -> None:
    big = b"Subject: big\r\nFrom: <anna@near.example>\r\n\r\n" + (b"y" * 70 + b"\r\n") * 4000

    async def play(here: Any) -> None:
        answers = Answers(here)
        session, _ = here.session()
        session.bytes_received(HELLO + ENVELOPE + b"DATA\r\n")
        session.bytes_received(big)
        await asyncio.sleep(1)
        assert here.spool.stored
        session.bytes_received(b".\r\n")
        await asyncio.sleep(1)
        answers.waiting[0].end(SpoolUnavailable("no space", full=True))
        await asyncio.sleep(1)
        assert not here.spool.stored
        here.leave(session)

    place(play)


@pytest.mark.parametrize("fault", [None, SpoolUnavailable("gone")])
def test_what_is_under_way_can_be_awaited(fault: Exception | None) -> None:
    async def wait(handing: UnderWay) -> None:
        await handing

    async def main() -> None:
        handing = UnderWay(cast(Any, None))
        told = asyncio.create_task(wait(handing))
        await asyncio.sleep(0)
        handing.end(fault)
        assert await asyncio.gather(told, return_exceptions=True) == [fault]
        given_up = asyncio.create_task(wait(handing))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
        handing.end(fault)

    asyncio.run(main())


def test_a_bug_in_a_refusal_does_not_keep_the_client_waiting(place: Any) -> None:
    async def play(here: Any) -> None:
        answers = Answers(here)
        session, stream = here.session()
        session.bytes_received(HELLO + MESSAGE)
        stream.said()
        refusals, here.house.refusals = here.house.refusals, None
        answers.waiting[0].end(SpoolUnavailable("no space"))
        here.house.refusals = refusals
        assert stream.said().startswith("451 4.3.0 ")
        here.relay.forgive("'NoneType' object has no attribute 'add'")
        here.leave(session)

    place(play)


def test_a_session_that_cannot_begin_is_no_session(place: Any) -> None:
    async def play(here: Any) -> None:
        session, stream = here.session()
        here.leave(session)
        emit, here.house.emit = here.house.emit, None
        at_door: set[Session] = set()
        with pytest.raises(TypeError):
            Session(stream, here.house, session.door, at_door)
        here.house.emit = emit
        assert not here.house.sessions
        assert not at_door

    place(play)
