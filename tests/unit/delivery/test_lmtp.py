"""LMTP: one reply per recipient, over TCP and a Unix socket. RFC 2033."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from staffetta.delivery.transports.lmtp import LmtpSession
from staffetta.delivery.transports.smtp import SessionSettings
from staffetta.mail.outcome import Outcome, Result
from staffetta.net.connect import SocketConnector
from staffetta.net.contract import Endpoint
from staffetta.testing.outgoing import open_session, outbound, recipients, run
from staffetta.testing.sink import Sink
from staffetta.testing.sink_script import Script
from staffetta.tlspolicy.levels import TlsLevel

CONTENT = b"Subject: x\r\n\r\n.dot\r\n"
THREE = recipients("a@b.example", "b@b.example", "c@b.example")
MARK = {Result.DELIVERED: "+", Result.DEFERRED: "d", Result.FAILED: "f"}

ROWS = [
    ({}, {}, "+r.dot +r.dot +r.dot"),
    ({b"b@b.example": b"550 5.1.1 who\r\n"}, {}, "+r.dot fr.rcpt +r.dot"),
    ({}, {b"b@b.example": b"452 4.2.2 full\r\n"}, "+r.dot dr.dot +r.dot"),
    ({}, {b"a@b.example": b"552 5.2.2 full\r\n"}, "fr.dot +r.dot +r.dot"),
    ({b"a@b.example": b"450 4.2.1 later\r\n"}, {b"b@b.example": b"550 5.7.1 no\r\n"}, "dr.rcpt fr.dot +r.dot"),
    ({}, {b"b@b.example": b""}, "+r.dot ds.dot? ds.dot?"),
    ({}, {b"b@b.example": b"421 4.3.2 bye\r\n"}, "+r.dot ds.dot ds.dot?"),
    ({}, {b"b@b.example": b"rubbish\r\n"}, "+r.dot ds.dot? ds.dot?"),
    (dict.fromkeys([b"a@b.example", b"b@b.example", b"c@b.example"], b"550 no\r\n"), {}, "fr.rcpt fr.rcpt fr.rcpt"),
]


def short(outcome: Outcome) -> str:
    doubt = "?" if outcome.in_doubt else ""
    return f"{MARK[outcome.result]}{outcome.scope.value[0]}.{outcome.stage}{doubt}"


@pytest.mark.parametrize("extensions", [("PIPELINING",), (), ("PIPELINING", "CHUNKING")])
@pytest.mark.parametrize(("rcpt", "dot", "expected"), ROWS)
def test_each_its_own(
    rcpt: dict[bytes, bytes], dot: dict[bytes, bytes], expected: str, extensions: tuple[str, ...]
) -> None:
    async def work() -> None:
        for chunk in (0, 6):
            async with Sink(Script(lmtp=True, extensions=extensions, rcpt=rcpt, dot=dot)) as sink:
                session = await open_session(sink, LmtpSession)
                outcomes = await session.send(outbound(CONTENT, chunk=chunk), THREE)
                assert " ".join([short(one) for one in outcomes]) == expected
                if "ds" not in expected:
                    assert session.reusable
                    again = await session.send(outbound(CONTENT, chunk=chunk), recipients("d@b.example"))
                    assert short(again[0]) == "+r.dot"
                    assert sink.messages[-1].content == CONTENT
                await session.quit()
                assert sink.verbs()[0] == "LHLO"

    run(work())


def test_unix_socket_and_a_server_of_our_name(tmp_path: Path) -> None:
    async def work() -> None:
        sink = Sink(Script(lmtp=True, name="relay.example"))
        path = str(tmp_path / "lmtp")
        await sink.start(path)
        channel = await SocketConnector().connect([Endpoint(path, 0)], deadline=asyncio.get_running_loop().time() + 5)
        session = await LmtpSession.open(channel, SessionSettings("relay.example", TlsLevel.OFF))
        outcomes = await session.send(outbound(CONTENT), THREE)
        assert [short(one) for one in outcomes] == ["+r.dot"] * 3
        assert session.address == path
        await session.quit()
        await sink.stop()

    run(work())
