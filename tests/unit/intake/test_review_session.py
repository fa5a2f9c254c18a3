"""Clients that leave, stall or lie at the worst moment: threats R6, R8, S11."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

HELLO = b"EHLO client.example\r\n"
ENVELOPE = b"MAIL FROM:<anna@near.example>\r\nRCPT TO:<ben@far.example>\r\n"
LETTER = b"Subject: hello\r\nFrom: <anna@near.example>\r\n\r\nHello.\r\n.\r\n"
BIG = b"Subject: big\r\nFrom: <anna@near.example>\r\n\r\n" + b"x" * 60 + b"\r\n" + (b"y" * 70 + b"\r\n") * 4000

MX = """\
version = 1
hostname = "relay.example"
data_dir = "data"
[listen.mx]
bind = ["127.0.0.9:{port}"]
role = "mx"
tls = "off"
[domain."near.example"]
recipients = "any"
"""


def test_what_a_client_said_before_it_went_is_not_acted_on(place: Any) -> None:
    """Two messages are pipelined, and the client goes while the first is committed: it will send the second again."""

    async def play(here: Any) -> None:
        here.spool.gate = asyncio.Event()
        session, stream = here.session()
        session.bytes_received(HELLO + ENVELOPE + b"DATA\r\n")
        session.bytes_received(LETTER + ENVELOPE + b"DATA\r\n" + LETTER + b"NOOP\r\n")
        await asyncio.sleep(1)
        here.leave(session)
        stream.said()
        here.spool.gate.set()
        await asyncio.sleep(1)
        assert len(here.relay.told("accept")) == 1
        assert stream.sent == b""
        assert session.transaction is None

    place(play)


def test_content_of_a_client_that_left_while_it_was_stored_does_not_stay(place: Any) -> None:
    async def play(here: Any) -> None:
        here.spool.gate = asyncio.Event()
        session, _ = here.session()
        session.bytes_received(HELLO + ENVELOPE + b"DATA\r\n")
        session.bytes_received(BIG)
        await asyncio.sleep(0)
        here.leave(session)
        await asyncio.sleep(1)
        here.spool.gate.set()
        await asyncio.sleep(1)
        assert not here.spool.stored

    place(play)


def test_content_whose_commit_failed_does_not_stay(place: Any) -> None:
    """It would keep the disk as full as it is."""

    async def play(here: Any) -> None:
        session, stream = here.session()
        session.bytes_received(HELLO + ENVELOPE + b"DATA\r\n")
        session.bytes_received(BIG)
        await asyncio.sleep(1)
        assert here.spool.stored
        here.spool.full = True
        stream.said()
        session.bytes_received(b".\r\n")
        await asyncio.sleep(1)
        assert stream.said().startswith("452 4.3.1")
        assert not here.spool.stored
        assert not here.relay.told("accept")

    place(play)


@pytest.mark.parametrize("command", [b"RSET\r\n", b"EHLO again.example\r\n"])
def test_content_of_a_transaction_that_is_dropped_does_not_stay(place: Any, command: bytes) -> None:
    async def play(here: Any) -> None:
        session, stream = here.session()
        session.bytes_received(HELLO + ENVELOPE + b"BDAT %d\r\n" % len(BIG) + BIG)
        await asyncio.sleep(1)
        assert here.spool.stored
        session.bytes_received(command)
        await asyncio.sleep(1)
        assert not here.spool.stored
        stream.said()
        session.bytes_received(ENVELOPE + b"DATA\r\n" + LETTER)
        await asyncio.sleep(1)
        assert "250 2.0.0 accepted" in stream.said()

    place(play)


def test_a_client_that_finished_while_it_waited_is_let_go(place: Any) -> None:
    async def play(here: Any) -> None:
        here.spool.gate = asyncio.Event()
        session, stream = here.session()
        session.bytes_received(HELLO + ENVELOPE + b"DATA\r\n" + LETTER)
        session.peer_finished()
        await asyncio.sleep(1)
        assert not stream.closed
        here.spool.gate.set()
        await asyncio.sleep(1)
        assert stream.said().endswith("\r\n")
        assert len(here.relay.told("accept")) == 1
        assert stream.closed

    place(play)


def test_half_a_message_with_a_finish_behind_it_counts_for_nothing(place: Any) -> None:
    async def play(here: Any) -> None:
        session, stream = here.session()
        session.bytes_received(HELLO + ENVELOPE + b"DATA\r\n" + LETTER[:-3])
        session.peer_finished()
        await asyncio.sleep(1)
        assert stream.closed
        here.leave(session)
        assert not here.relay.told("accept")

    place(play)


def test_a_client_that_stops_reading_while_it_waits_has_a_deadline(place: Any) -> None:
    async def play(here: Any) -> None:
        here.spool.gate = asyncio.Event()
        session, stream = here.session()
        session.bytes_received(HELLO + ENVELOPE + b"DATA\r\n" + LETTER)
        await asyncio.sleep(1)
        here.look()
        session.write_blocked(True)
        here.spool.gate.set()
        for _ in range(400):
            await asyncio.sleep(1)
            here.look()
        assert stream.closed
        here.leave(session)

    place(play)


def test_a_client_that_stops_after_a_stretch_was_stored_has_a_deadline(place: Any) -> None:
    async def play(here: Any) -> None:
        here.spool.gate = asyncio.Event()
        session, stream = here.session()
        session.bytes_received(HELLO + ENVELOPE + b"DATA\r\n")
        session.bytes_received(BIG)
        await asyncio.sleep(2)
        here.look()
        here.spool.gate.set()
        for _ in range(400):
            await asyncio.sleep(1)
            here.look()
        assert stream.closed
        here.leave(session)

    place(play)


def test_a_client_may_wait_for_us_as_long_as_it_takes(place: Any) -> None:
    async def play(here: Any) -> None:
        here.spool.gate = asyncio.Event()
        session, stream = here.session()
        session.bytes_received(HELLO + ENVELOPE + b"DATA\r\n" + LETTER)
        for _ in range(400):
            await asyncio.sleep(1)
            here.look()
        assert not stream.closed
        here.spool.gate.set()
        await asyncio.sleep(1)
        assert "accepted as" in stream.said()

    place(play)


@pytest.mark.parametrize("octets", [b"N", b"\x00", b" "])
def test_a_command_that_trickles_in_has_the_time_of_a_command(place: Any, octets: bytes) -> None:
    async def play(here: Any) -> None:
        session, stream = here.session()
        for _ in range(350):
            session.bytes_received(octets)
            await asyncio.sleep(1)
            here.look()
        assert stream.closed
        here.leave(session)

    place(play)


def test_the_trace_field_has_the_name_of_the_last_hello(place: Any) -> None:
    async def play(here: Any) -> None:
        session, _ = here.session()
        for name in (b"first.example", b"second.example"):
            session.bytes_received(b"EHLO %s\r\n" % name + ENVELOPE + b"DATA\r\n" + LETTER)
            await asyncio.sleep(1)
        heads = here.spool.heads
        assert [b"first.example" in heads[0], b"second.example" in heads[1]] == [True, True]

    place(play)


def test_a_bug_behind_a_wait_ends_the_session(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(here: Any) -> None:
        here.spool.gate = asyncio.Event()
        session, stream = here.session()
        session.bytes_received(HELLO + ENVELOPE + b"DATA\r\n" + LETTER + b"VRFY x\r\n")
        here.house.directory = None
        session.bytes_received(ENVELOPE)
        here.spool.gate.set()
        await asyncio.sleep(1)
        assert stream.aborted
        here.leave(session)
        here.relay.forgive("NoneType")

    place(play)


def test_stopping_ends_sessions_at_a_command_boundary(place: Any) -> None:
    async def play(here: Any) -> None:
        idle, idle_stream = here.session()
        busy, busy_stream = here.session()
        busy.bytes_received(HELLO + ENVELOPE + b"DATA\r\n")
        for session in (idle, busy):
            session.stop()
        assert idle_stream.said().startswith("421 4.3.2")
        assert not busy_stream.closed
        busy_stream.said()
        busy.bytes_received(LETTER)
        await asyncio.sleep(1)
        replies = busy_stream.said().split("\r\n")
        assert [reply[:3] for reply in replies] == ["250", "421", ""]
        assert busy_stream.closed

    place(play)


def test_a_loop_is_refused_at_the_door_and_bounced_to_nobody(place: Any) -> None:
    """Backscatter: a stranger forges the sender, and with a Delivered-To of ours the bounce would go there."""

    async def play(here: Any) -> None:
        session, stream = here.session()
        session.bytes_received(HELLO + b"MAIL FROM:<victim@far.example>\r\nRCPT TO:<anna@near.example>\r\nDATA\r\n")
        stream.said()
        session.bytes_received(b"Delivered-To: anna@near.example\r\n" + LETTER)
        await asyncio.sleep(1)
        assert stream.said().startswith("554 5.4.6")
        assert not here.relay.told("accept")
        assert not here.relay.told("notice")

    place(play, MX)
