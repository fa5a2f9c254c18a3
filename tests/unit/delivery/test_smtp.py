"""One session and its transactions over a real socket: what arrives, and when a session may be used again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from staffetta.delivery.transports.smtp import Outbound, SessionRefused, SessionStale
from staffetta.mail.address import NULL_PATH
from staffetta.mail.envelope import Body, Notify, Return
from staffetta.mail.outcome import Outcome, Result, Scope
from staffetta.protocol.client import ClientSettings
from staffetta.spool.contract import SpoolUnavailable
from staffetta.testing.outgoing import HASTY, message, open_session, outbound, recipients, run
from staffetta.testing.sink import Sink
from staffetta.testing.sink_script import EXTENSIONS, Fault, Kind, Script, faults_of

CONTENT = b"Subject: x\r\n\r\n.\r\n..\r\nend.\r\n"
BOB = recipients("bob@rcpt.example")
WAYS = {"data": ("PIPELINING",), "stepwise": (), "bdat": ("PIPELINING", "CHUNKING"), "bdat stepwise": ("CHUNKING",)}


@pytest.mark.parametrize("chunk", [0, 1, 2, 3, 7, 1000])
@pytest.mark.parametrize("way", WAYS)
def test_content_arrives(way: str, chunk: int) -> None:
    contents = [CONTENT, b"", b"\r\n", b".", b"..\r\n", b"no end", b"\x80\xff\r\n", b"\r\n.\r\n", CONTENT * 100]

    async def work() -> None:
        async with Sink(Script(extensions=WAYS[way])) as sink:
            session = await open_session(sink)
            for content in contents:
                if chunk and chunk < 100 and len(content) > 100:
                    continue
                (outcome,) = await session.send(outbound(content, chunk=chunk), BOB)
                assert outcome.result is Result.DELIVERED, content
                got = sink.messages[-1]
                assert got.content == (content if content[-2:] == b"\r\n" or not content else content + b"\r\n")
                assert faults_of(got) == []
                assert (got.chunks > 0) == (chunk > 0 and "bdat" in way)
            assert session.reusable
            await session.quit()
            assert not sink.wrong
            assert sink.verbs()[-1] == "QUIT"

    run(work())


@pytest.mark.parametrize("content", [b"a\nb\r\n", b"a\rb\r\n", b"a\0b\r\n", b"a\r\n.\n", b"a\n.\r\n", b"ok\r\n\r"])
@pytest.mark.parametrize("chunk", [0, 1, 2])
@pytest.mark.parametrize("way", WAYS)
def test_a_bare_line_end_never_leaves(way: str, chunk: int, content: bytes) -> None:
    async def work() -> None:
        async with Sink(Script(extensions=WAYS[way])) as sink:
            session = await open_session(sink)
            outcomes = await session.send(outbound(content, chunk=chunk), recipients("a@b.example", "c@b.example"))
            (outcome,) = set(outcomes)
            assert (outcome.result, outcome.scope, outcome.stage) == (Result.FAILED, Scope.MESSAGE, "content")
            assert str(outcome.reply) == "554 5.6.0 content has a bare line end"
            assert not outcome.in_doubt
            # At hand, it is seen before anything was said; in a stream, the connection is the only thing to break.
            assert session.reusable == (chunk == 0)
            assert ("MAIL" in sink.verbs()) <= (chunk > 0)
            session.abort()
            assert not sink.messages

    run(work())


def test_envelope_parameters() -> None:
    async def work() -> None:
        async with Sink() as sink:
            session = await open_session(sink)
            out = outbound(
                b"8-bit \xff\r\n", reverse_path=NULL_PATH, body=Body.EIGHT_BIT_MIME, ret=Return.FULL, envid="e=1"
            )
            await session.send(out, recipients("b@b.example", notify=(Notify.FAILURE,), orcpt="rfc822;o@b.example"))
            assert sink.messages[0].mail == b"FROM:<> SIZE=9 BODY=8BITMIME RET=FULL ENVID=e+3D1"
            assert sink.messages[0].rcpts == [b"TO:<b@b.example> NOTIFY=FAILURE ORCPT=rfc822;o@b.example"]
            await session.send(outbound(b"x\r\n"), recipients("gr\u00e9ta@b.example"))
            assert sink.messages[1].mail == b"FROM:<anna@sender.example> SIZE=3 SMTPUTF8"
            assert sink.messages[1].rcpts == ["TO:<gr\u00e9ta@b.example>".encode()]
            await session.quit()

    run(work())


@pytest.mark.parametrize(
    ("extensions", "content", "sender", "expected"),
    [
        (("SIZE 10",), b"x" * 11, {}, "552 5.3.4"),
        (("SIZE 10",), b"8 octets", {}, "250"),
        ((), b"\xff", {"body": Body.EIGHT_BIT_MIME}, "554 5.6.3"),
        ((), b"\xff", {}, "250"),
        ((), b"x", {"body": Body.EIGHT_BIT_MIME}, "250"),
        ((), b"\xff", {"smtputf8": True}, "553 5.6.7"),
        ((), b"x", {"smtputf8": True}, "250"),
    ],
)
def test_messages_that_do_not_fit(
    extensions: tuple[str, ...], content: bytes, sender: dict[str, Any], expected: str
) -> None:
    async def work() -> None:
        async with Sink(Script(extensions=extensions)) as sink:
            session = await open_session(sink)
            (outcome,) = await session.send(outbound(content, **sender), BOB)
            assert str(outcome.reply).startswith(expected)
            if expected != "250":
                assert (outcome.result, outcome.scope, outcome.remote) == (Result.FAILED, Scope.MESSAGE, False)
                assert sink.verbs() == ["EHLO"]
            assert session.reusable
            await session.quit()

    run(work())


def test_the_limits_of_the_server_are_kept() -> None:
    five = recipients(*[f"r{number}@b.example" for number in range(5)])

    async def work() -> None:
        async with Sink(Script(extensions=(*EXTENSIONS, "LIMITS RCPTMAX=2"), recipients_max=2)) as sink:
            session = await open_session(sink)
            outcomes = await session.send(outbound(CONTENT), five)
            assert [one.result for one in outcomes] == [Result.DELIVERED] * 5
            assert [len(one.rcpts) for one in sink.messages] == [2, 2, 1]
            assert session.reusable
            await session.quit()
        async with Sink(Script(extensions=(*EXTENSIONS, "LIMITS RCPTMAX=2 MAILMAX=2"))) as sink:
            session = await open_session(sink)
            outcomes = await session.send(outbound(CONTENT), five)
            assert [one.result for one in outcomes] == [Result.DELIVERED] * 4 + [Result.DEFERRED]
            assert outcomes[4].scope is Scope.SESSION
            assert not session.reusable
            await session.quit()
        async with Sink(Script(recipients_max=2)) as sink:
            session = await open_session(sink)
            outcomes = await session.send(outbound(CONTENT), five)
            assert [one.result for one in outcomes] == [Result.DELIVERED] * 2 + [Result.DEFERRED] * 3
            assert {(one.scope, one.stage) for one in outcomes[2:]} == {(Scope.RECIPIENT, "rcpt")}
            await session.quit()

    run(work())


@pytest.mark.parametrize("kind", [Kind.DROP, Kind.RESET, Kind.LAST_WORDS])
def test_a_used_session_that_is_dead_is_no_attempt(kind: Kind) -> None:
    fault = Fault("mail", kind, b"421 4.4.2 idle too long\r\n", skip=1)

    async def work() -> None:
        async with Sink(Script(faults=(fault,))) as sink:
            session = await open_session(sink)
            await session.send(outbound(CONTENT), BOB)
            with pytest.raises(SessionStale):
                await session.send(outbound(CONTENT), BOB)
            assert not session.reusable

    run(work())


def test_an_idle_session_that_was_closed_is_not_reusable() -> None:
    async def work() -> None:
        async with Sink() as sink:
            session = await open_session(sink)
            assert session.reusable
            await sink.stop()
            async with asyncio.timeout(5):
                while session.reusable:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            session.abort()

    run(work())


def test_words_said_while_idle_are_no_answer() -> None:
    async def work() -> None:
        fault = Fault("dot", Kind.BEHIND, b"250 2.0.0 Ok\r\n", times=1)
        async with Sink(Script(faults=(fault,))) as sink:
            session = await open_session(sink)
            (outcome,) = await session.send(outbound(CONTENT), BOB)
            assert outcome.result is Result.DELIVERED
            async with asyncio.timeout(5):
                while session.reusable:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            with pytest.raises(SessionStale):
                await session.send(outbound(CONTENT), BOB)
            assert len(sink.messages) == 1

    run(work())


def test_the_first_transaction_is_an_attempt() -> None:
    async def work() -> None:
        async with Sink(Script(faults=(Fault("mail", Kind.DROP),))) as sink:
            session = await open_session(sink)
            (outcome,) = await session.send(outbound(CONTENT), BOB)
            assert (outcome.result, outcome.scope) == (Result.DEFERRED, Scope.SESSION)

    run(work())


def test_the_spool_may_fail_in_the_middle() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"first\r\n"
        raise SpoolUnavailable("disk on fire")

    async def work() -> None:
        for way in WAYS.values():
            async with Sink(Script(extensions=way)) as sink:
                session = await open_session(sink)
                (outcome,) = await session.send(Outbound(message(), None, broken), BOB)
                assert (outcome.result, outcome.scope, outcome.stage) == (Result.DEFERRED, Scope.MESSAGE, "content")
                assert not session.reusable
                assert not sink.messages

    run(work())


def test_cancelled_it_cuts_the_connection() -> None:
    async def work() -> None:
        async with Sink(Script(faults=(Fault("dot", Kind.SILENCE),))) as sink:
            session = await open_session(sink)
            sending = asyncio.create_task(session.send(outbound(CONTENT), BOB))
            await sink.heard("DATA")
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert not session.reusable

    run(work())


def test_a_stream_that_is_not_used_up_is_closed() -> None:
    closed: list[bool] = []

    async def stream() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"line\r\n" * 10000
        finally:
            closed.append(True)

    async def work() -> None:
        script = Script(extensions=(), faults=(Fault("content", Kind.LAST_WORDS, b"552 5.3.4 enough\r\n"),))
        async with Sink(script) as sink:
            session = await open_session(sink, client=HASTY)
            (outcome,) = await session.send(Outbound(message(), None, stream), BOB)
            assert isinstance(outcome, Outcome)
            assert closed == [True]

    run(work())


def test_facts_for_events() -> None:
    async def work() -> None:
        async with Sink() as sink:
            session = await open_session(sink)
            assert (session.host, session.address) == ("sink.example", f"127.0.0.1:{sink.port}")
            assert (session.tls, session.transactions) == (None, 0)
            await session.send(outbound(CONTENT), BOB)
            assert session.transactions == 1
            await session.quit()

    run(work())


def test_deadlines_are_those_of_the_rfc() -> None:
    assert ClientSettings().by_stage() == {
        "greeting": 300.0,
        "ehlo": 300.0,
        "starttls": 120.0,
        "auth": 120.0,
        "mail": 300.0,
        "rcpt": 300.0,
        "data": 120.0,
        "content": 180.0,
        "dot": 600.0,
    }
    assert ClientSettings(factor=0.1).by_stage()["dot"] == 60.0


def test_a_refused_session_is_left_politely() -> None:
    async def work() -> None:
        async with Sink(Script(name="relay.example")) as sink:
            with pytest.raises(SessionRefused) as refused:
                await open_session(sink)
            assert str(refused.value.outcome.reply.enhanced) == "5.4.6"
            await sink.heard("QUIT")

    run(work())
