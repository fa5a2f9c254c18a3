"""A server that answers octet by octet has the time of one reply, not that of each octet."""

from __future__ import annotations

import asyncio

from staffetta.delivery.transports.smtp import SessionSettings, SmtpSession
from staffetta.mail.outcome import Result
from staffetta.net.contract import Endpoint
from staffetta.net.memory import MemoryNetwork
from staffetta.protocol.client import ClientSettings
from staffetta.testing.clock import VirtualClock, run
from staffetta.testing.outgoing import outbound, recipients
from staffetta.testing.recorder import Recorder
from staffetta.tlspolicy.levels import TlsLevel

DOOR = Endpoint("198.51.100.1", 25)


def test_a_reply_that_drips_is_too_late() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        def act(recorder: Recorder, data: bytes) -> None:
            if data[:4] == b"EHLO":
                recorder.stream.write(b"250 sink.example\r\n")
            elif data[:4] == b"MAIL":
                for number in range(600):
                    loop.call_later(number, recorder.stream.write, b"2")

        server = Recorder(greet=lambda recorder: recorder.stream.write(b"220 sink.example\r\n"), act=act)
        network = MemoryNetwork()
        network.listen(DOOR, server.accept)
        channel = await network.connect([DOOR], deadline=loop.time() + 5)
        settings = SessionSettings("relay.example", TlsLevel.OFF, client=ClientSettings(mail_seconds=300))
        session = await SmtpSession.open(channel, settings)
        begun = loop.time()
        (outcome,) = await session.send(outbound(b"x\r\n"), recipients("ben@sink.example"))
        assert 299 < loop.time() - begun < 301
        assert (outcome.result, outcome.stage, outcome.in_doubt) == (Result.DEFERRED, "mail", False)
        assert not session.reusable

    run(main, VirtualClock())
