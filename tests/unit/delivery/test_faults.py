"""Threats S14: whatever a server does at whichever stage, each recipient gets one outcome, and nothing hangs.

Outcomes are written as in `test_transaction`: `+` delivered, `d` deferred, `f` failed; scope (h s m r); stage;
`?` in doubt.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest

from staffetta.delivery.transports.smtp import Outbound, SessionRefused, SmtpSession
from staffetta.mail.outcome import Outcome, Result
from staffetta.protocol.client_sasl import Credentials
from staffetta.testing.outgoing import HASTY, PATIENT, message, open_session, outbound, recipients, run
from staffetta.testing.sink import Sink
from staffetta.testing.sink_script import Fault, Kind, Script, faults_of
from staffetta.tlspolicy.levels import TlsLevel

MARK = {Result.DELIVERED: "+", Result.DEFERRED: "d", Result.FAILED: "f"}
CONTENT = b"Subject: fault\r\n\r\n.dots\r\n..\r\n.\r\nend\r\n"

LATER = (Kind.REPLY, b"450 4.2.0 later\r\n")
NEVER = (Kind.REPLY, b"550 5.7.1 never\r\n")
GARBAGE = (Kind.REPLY, b"\x00\xff what is this\r\n")
CHANGE = (Kind.REPLY, b"250-one\r\n251 two\r\n")
ENDLESS = (Kind.ENDLESS, b"250-and so on\r\n")
HUGE = (Kind.ENDLESS, b"250 " + b"x" * 65000)
CLOSING = (Kind.LAST_WORDS, b"421 4.3.2 closing\r\n")
DROP = (Kind.DROP, b"")
RESET = (Kind.RESET, b"")
SILENCE = (Kind.SILENCE, b"")

USUAL = {"drop": DROP, "garbage": GARBAGE, "change": CHANGE, "endless": ENDLESS, "huge": HUGE, "silence": SILENCE}
TABLE: dict[str, dict[str, tuple[Kind, bytes, str]]] = {
    stage: {name: (*fault, usual) for name, fault in USUAL.items()}
    for stage, usual in [
        ("connect", "dh.greeting"),
        ("greeting", "dh.greeting"),
        ("ehlo", "dh.ehlo"),
        ("starttls", "dh.starttls"),
        ("auth", "dh.auth"),
        ("mail", "ds.mail"),
        ("rcpt", "ds.rcpt"),
        ("data", "ds.data"),
        ("dot", "ds.dot?"),
    ]
}
TABLE["greeting"] |= {"4": (*LATER, "dh.greeting"), "5": (*NEVER, "fh.greeting"), "421": (*CLOSING, "dh.greeting")}
TABLE["greeting"] |= {"nul": (Kind.REPLY, b"220 \0\x1b[2J\r\n", "+m.dot")}
TABLE["ehlo"] |= {"4": (*LATER, "dh.ehlo"), "5": (*NEVER, "+m.dot"), "421": (*CLOSING, "dh.ehlo")}
TABLE["starttls"] |= {"4": (*LATER, "dh.starttls"), "5": (*NEVER, "dh.starttls"), "421": (*CLOSING, "dh.starttls")}
TABLE["auth"] |= {"4": (*LATER, "dh.auth"), "5": (*NEVER, "dh.auth"), "421": (*CLOSING, "dh.auth")}
TABLE["mail"] |= {"4": (*LATER, "dm.mail"), "5": (*NEVER, "fm.mail"), "421": (*CLOSING, "ds.mail")}
TABLE["rcpt"] |= {"4": (*LATER, "dr.rcpt"), "5": (*NEVER, "fr.rcpt"), "421": (*CLOSING, "ds.rcpt")}
TABLE["data"] |= {"4": (*LATER, "dm.data"), "5": (*NEVER, "fm.data"), "421": (*CLOSING, "ds.data")}
TABLE["data"] |= {"250": (Kind.REPLY, b"250 no need\r\n", "ds.data")}
TABLE["dot"] |= {"4": (*LATER, "dm.dot"), "5": (*NEVER, "fm.dot"), "421": (*CLOSING, "ds.dot")}
TABLE["dot"] |= {"354": (Kind.REPLY, b"354 more\r\n", "ds.dot?"), "nul": (Kind.REPLY, b"250 a\0b\r\n", "+m.dot")}
TABLE["dot"] |= {"250 and gone": (Kind.LAST_WORDS, b"250 2.0.0 Ok\r\n", "+m.dot")}
TABLE["content"] = {"drop": (*DROP, "ds.dot?"), "silence": (*SILENCE, "ds.dot?"), "421": (*CLOSING, "ds.dot")}

ROWS = [
    pytest.param(stage, kind, octets, expected, id=f"{stage}-{name}")
    for stage, faults in TABLE.items()
    for name, (kind, octets, expected) in faults.items()
]


def short(outcome: Outcome) -> str:
    doubt = "?" if outcome.in_doubt else ""
    return f"{MARK[outcome.result]}{outcome.scope.value[0]}.{outcome.stage}{doubt}"


async def attempt(sink: Sink, count: int, client_context: ssl.SSLContext | None, hasty: bool) -> list[Outcome]:
    tls = sink.script.context is not None
    try:
        session = await open_session(
            sink,
            level=TlsLevel.REQUIRE if tls else TlsLevel.OFF,
            context=client_context,
            client=HASTY if hasty else PATIENT,
            credentials=Credentials("anna", "pw") if sink.script.login else None,
        )
    except SessionRefused as refused:
        return [refused.outcome] * count
    outcomes = await session.send(outbound(CONTENT), recipients(*[f"r{n}@rcpt.example" for n in range(count)]))
    await session.quit()
    assert not session.reusable
    return outcomes


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(("stage", "kind", "octets", "expected"), ROWS)
def test_fault(
    stage: str,
    kind: Kind,
    octets: bytes,
    expected: str,
    tls: bool,
    server: ssl.SSLContext,
    unverified: ssl.SSLContext,
) -> None:
    if stage in {"starttls", "auth"}:
        tls = True
    elif tls and expected == "+m.dot" and stage == "ehlo":
        expected = "dh.starttls"  # only HELO is known, so there is no TLS
    script = Script(
        context=server if tls else None,
        login=("anna", "pw") if stage == "auth" else None,
        faults=(Fault(stage, kind, octets),),
    )

    async def work() -> None:
        for count in (1, 50):
            async with Sink(script) as sink:
                async with asyncio.timeout(5):
                    outcomes = await attempt(sink, count, unverified, kind is Kind.SILENCE)
                assert {short(outcome) for outcome in outcomes} == {expected}
                assert len(outcomes) == count
                assert all(line.isprintable() for outcome in outcomes for line in outcome.reply.lines)
                assert not sink.wrong
                for received in sink.messages:
                    assert faults_of(received) == []
                if tls:
                    assert not [line for _, secure, line in sink.commands if line[:4] == b"MAIL" and not secure]

    run(work())


@pytest.mark.parametrize("stage", ["greeting", "ehlo", "mail", "rcpt", "data", "content", "dot"])
def test_reset(stage: str) -> None:
    async def work() -> None:
        async with Sink(Script(faults=(Fault(stage, Kind.RESET),))) as sink:
            (outcome,) = await attempt(sink, 1, None, hasty=False)
            # A reset may overtake the replies before it, so the stage is not certain.
            assert short(outcome)[:2] in {"dh", "ds"}
            assert not outcome.in_doubt or stage in {"content", "dot"}
            assert not outcome.remote

    run(work())


def test_each_recipient_has_its_own_answer() -> None:
    answers = {b"r1@rcpt.example": b"550 5.1.1 who?\r\n", b"r3@rcpt.example": b"452 4.2.2 full\r\n"}

    async def work() -> None:
        for extensions in (("PIPELINING",), (), ("PIPELINING", "CHUNKING")):
            async with Sink(Script(extensions=extensions, rcpt=answers)) as sink:
                session = await open_session(sink)
                four = recipients(*[f"r{n}@rcpt.example" for n in range(4)])
                for chunk in (0, 7):
                    outcomes = await session.send(outbound(CONTENT, chunk=chunk), four)
                    assert [short(one) for one in outcomes] == ["+m.dot", "fr.rcpt", "+m.dot", "dr.rcpt"]
                    assert str(outcomes[1].reply) == "550 5.1.1 who?"
                    assert sink.messages[-1].content == CONTENT
                    assert faults_of(sink.messages[-1]) == []
                assert session.reusable
                await session.quit()

    run(work())


def test_all_refused_and_the_session_goes_on() -> None:
    async def work() -> None:
        for extensions in (("PIPELINING",), (), ("PIPELINING", "CHUNKING")):
            for empty in (False, True):
                script = Script(extensions=extensions, rcpt={b"no@b.example": b"550 no\r\n"}, takes_empty_data=empty)
                async with Sink(script) as sink:
                    session = await open_session(sink)
                    for chunk in (0, 9):
                        bad = await session.send(outbound(CONTENT, chunk=chunk), recipients("no@b.example"))
                        good = await session.send(outbound(CONTENT, chunk=chunk), recipients("yes@b.example"))
                        assert [short(bad[0]), short(good[0])] == ["fr.rcpt", "+m.dot"]
                    await session.quit()
                    delivered = [one for one in sink.messages if one.rcpts]
                    assert [one.content for one in delivered] == [CONTENT, CONTENT]
                    assert all(not one.content for one in sink.messages if not one.rcpts)
                    assert not sink.wrong

    run(work())


def test_lies_about_pipelining() -> None:
    async def work() -> None:
        async with Sink(Script(discards_pipelined=True)) as sink:
            session = await open_session(sink, client=HASTY)
            (outcome,) = await session.send(outbound(CONTENT), recipients("a@b.example"))
            assert short(outcome) == "ds.rcpt"
            session = await open_session(sink, pipelining=False)
            (outcome,) = await session.send(outbound(CONTENT), recipients("a@b.example"))
            assert short(outcome) == "+m.dot"
            await session.quit()

    run(work())


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
def test_a_reply_too_many_is_not_the_answer_to_the_dot(stage: str) -> None:
    async def work() -> None:
        async with Sink(Script(faults=(Fault(stage, Kind.BEFORE, b"250 2.0.0 Ok\r\n"),))) as sink:
            session = await open_session(sink)
            (outcome,) = await session.send(outbound(CONTENT), recipients("a@b.example"))
            assert outcome.result is Result.DEFERRED
            assert not outcome.in_doubt
            assert not sink.messages

    run(work())


@pytest.mark.parametrize("chunk", [0, 5])
@pytest.mark.parametrize("extensions", [("PIPELINING",), (), ("PIPELINING", "CHUNKING")])
def test_an_answer_to_the_dot_before_the_dot(extensions: tuple[str, ...], chunk: int) -> None:
    stage, early = ("rcpt", b"250 Ok\r\n250 2.0.0 Ok: taken\r\n")
    if not chunk or "CHUNKING" not in extensions:
        stage, early = ("data", b"354 go on\r\n250 2.0.0 Ok: taken\r\n")

    async def work() -> None:
        async with Sink(Script(extensions=extensions, faults=(Fault(stage, Kind.REPLY, early),))) as sink:
            session = await open_session(sink)
            (outcome,) = await session.send(outbound(CONTENT, chunk=chunk), recipients("a@b.example"))
            assert short(outcome) == "ds.content"
            assert not session.reusable

    run(work())


async def endless(_: object = None) -> AsyncIterator[bytes]:
    line = b"x" * 998 + b"\r\n"
    while True:
        yield line * 64


STREAM_ROWS = [
    (Kind.SILENCE, b"", "ds.content"),
    (Kind.DROP, b"", "ds.content"),
    (Kind.REPLY, b"552 5.3.4 too big after all\r\n", "fm.content"),
    (Kind.REPLY, b"452 4.3.1 no space\r\n", "dm.content"),
    (Kind.REPLY, b"250 thanks\r\n", "ds.content"),
    (Kind.LAST_WORDS, b"421 4.3.2 closing\r\n", "ds.content"),
]


@pytest.mark.parametrize(("kind", "octets", "expected"), STREAM_ROWS)
def test_interrupted_stream(kind: Kind, octets: bytes, expected: str) -> None:
    async def work() -> None:
        script = Script(extensions=("PIPELINING",), faults=(Fault("content", kind, octets, times=1),))
        async with Sink(script) as sink:
            session = await open_session(sink, client=HASTY)
            async with asyncio.timeout(10):
                big = Outbound(message(1000), None, endless)
                outcomes = await session.send(big, recipients("a@b.example", "c@b.example"))
            assert [short(one) for one in outcomes] == [expected, expected]
            assert not session.reusable
            assert not sink.messages

    run(work())


def test_gone_before_the_end_is_no_doubt() -> None:
    async def work() -> None:
        for extensions in (("PIPELINING",), ("PIPELINING", "CHUNKING")):
            async with Sink(Script(extensions=extensions)) as sink:
                session = await open_session(sink)

                async def stream(session: SmtpSession = session, sink: Sink = sink) -> AsyncIterator[bytes]:
                    yield b"first\r\n"
                    await sink.stop()
                    while session.reusable:  # noqa: ASYNC110
                        await asyncio.sleep(0)
                    yield b"last\r\n"

                (outcome,) = await session.send(Outbound(message(), None, stream), recipients("a@b.example"))
                assert short(outcome) == "ds.content"

    run(work())


@pytest.mark.parametrize(
    ("kind", "octets", "expected"),
    [
        (Kind.DROP, b"", "ds.content"),
        (Kind.REPLY, b"552 5.3.4 too big\r\n", "fm.content"),
        (Kind.LAST_WORDS, b"421 closing\r\n", "ds.content"),
        (Kind.BEHIND, b"250 early\r\n", "ds.content"),
    ],
)
def test_interrupted_chunks(kind: Kind, octets: bytes, expected: str) -> None:
    async def work() -> None:
        async with Sink(Script(faults=(Fault("content", kind, octets),))) as sink:
            session = await open_session(sink, client=HASTY)
            (outcome,) = await session.send(outbound(CONTENT, chunk=5), recipients("a@b.example"))
            assert short(outcome) == expected
            assert not sink.messages
            await session.quit()

    run(work())


def test_delay_is_not_a_fault() -> None:
    async def work() -> None:
        gate = asyncio.Event()
        stages = ("connect", "greeting", "ehlo", "mail", "rcpt", "data", "content", "dot")
        async with Sink(Script(faults=tuple(Fault(stage, Kind.DELAY, until=gate) for stage in stages))) as sink:
            opening = asyncio.create_task(open_session(sink))
            await asyncio.sleep(0)
            gate.set()
            session = await opening
            (outcome,) = await session.send(outbound(CONTENT), recipients("a@b.example"))
            assert short(outcome) == "+m.dot"
            await session.quit()

    run(work())
