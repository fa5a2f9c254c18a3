"""Messages, recipients and open sessions towards a sink, over real sockets on loopback: for tests of delivery."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from staffetta.delivery.transports.smtp import Outbound, SessionSettings, SmtpSession
from staffetta.mail.address import parse_mailbox
from staffetta.mail.envelope import Sender
from staffetta.net.connect import SocketConnector
from staffetta.net.contract import Endpoint
from staffetta.protocol.client import ClientSettings
from staffetta.spool.contract import Message, WaitingRecipient
from staffetta.testing.sink import Sink
from staffetta.tlspolicy.levels import TlsLevel

PATIENT = ClientSettings(factor=0.05)
"""6 to 30 seconds a step: more than a healthy loopback ever needs."""

HASTY = ClientSettings(0.15, 0.15, 0.15, 0.15, 0.15, 0.15)
"""For peers that are known to say nothing."""


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine; whatever reaches the loop's exception handler is an AssertionError."""
    wrong: list[dict[str, Any]] = []
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda _, context: wrong.append(context))
        runner.run(work)
        for _ in range(4):  # let what was aborted at the end be closed
            runner.run(asyncio.sleep(0))
    if wrong:
        raise AssertionError(wrong)


def message(size: int = 100, **sender: Any) -> Message:
    """A message of `size` octets; further arguments are those of Sender."""
    values: dict[str, Any] = {"reverse_path": parse_mailbox("anna@sender.example"), **sender}
    return Message("01J00000000000000000000000", Sender(**values), size, 0.0)


def recipients(*addresses: str, **more: Any) -> list[WaitingRecipient]:
    """One for each address; further arguments are those of WaitingRecipient."""
    return [
        WaitingRecipient("01J00000000000000000000000", number, parse_mailbox(address, smtputf8=True), "x", **more)
        for number, address in enumerate(addresses)
    ]


def outbound(content: bytes, *, chunk: int = 0, **more: Any) -> Outbound:
    """Small content at hand, or, with `chunk`, a stream of chunks of that size."""

    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(content), chunk):
            yield content[start : start + chunk]

    return Outbound(message(len(content), **more), None if chunk else content, stream)


async def open_session(sink: Sink, kind: type[SmtpSession] = SmtpSession, **settings: Any) -> SmtpSession:
    """A session with the sink; further arguments are those of SessionSettings."""
    channel = await SocketConnector().connect(
        [Endpoint("127.0.0.1", sink.port)], deadline=asyncio.get_running_loop().time() + 5
    )
    values: dict[str, Any] = {"hostname": "relay.example", "level": TlsLevel.OFF, "client": PATIENT, **settings}
    return await kind.open(channel, SessionSettings(**values), host="sink.example")
