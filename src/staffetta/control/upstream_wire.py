"""One connection of `check upstream`, as its steps use it, and what a second look at a host finds.

Delivery says why TLS failed; a person wants to see the certificate that was refused, or hear that the port speaks the
other kind of TLS. That takes a connection more, which only a check can afford.
"""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress

import msgspec

from staffetta.control.peer_certificate import certificate_facts
from staffetta.delivery.road import Road
from staffetta.delivery.transports.smtp import SessionSettings
from staffetta.mail.reply import Reply
from staffetta.net.channel import Channel, ChannelClosed, ChannelTimeout, TlsFailed
from staffetta.net.connect import ConnectFailed, Connector, Guard
from staffetta.net.contract import Endpoint, TlsFacts
from staffetta.net.tls import ClientContexts
from staffetta.policy.route import Hop
from staffetta.protocol.client import HANDSHAKE, READY, Opening, OpeningSettings, Refused
from staffetta.protocol.client_sasl import NONCE_OCTETS
from staffetta.protocol.replies import ReplyError, ReplyReader
from staffetta.tlspolicy.levels import TlsLevel


class StepFailed(Exception):
    """A step did not work: `text` says why, `reply` is there when the server said it."""

    def __init__(self, stage: str, text: str, reply: Reply | None = None, *, permanent: bool = False) -> None:
        super().__init__(text)
        self.stage = stage
        self.text = text
        self.reply = reply
        self.permanent = permanent or (reply is not None and reply.is_permanent)


class Certificate(msgspec.Struct, frozen=True, gc=False):
    """What was shown, as details of a step: `subject`, `issuer`, `names`, `not_after`, `days_left`; empty: nothing."""

    details: dict[str, str] = {}
    names: tuple[str, ...] = ()


class Wire:
    """Lines and replies over a channel, each with its time. Everything that goes wrong is StepFailed."""

    def __init__(self, channel: Channel, seconds: float) -> None:
        self.channel = channel
        self._reader = ReplyReader()
        self._seconds = seconds
        self._time = asyncio.get_running_loop().time

    def write(self, octets: bytes) -> None:
        """Say it; the next `hear` tells whether it arrived."""
        self.channel.write(octets)

    async def hear(self, stage: str) -> Reply:
        """The next reply."""
        deadline = self._time() + self._seconds
        try:
            while (reply := self._reader.next()) is None:
                data = await self.channel.read(deadline)
                if not data:
                    raise StepFailed(stage, "the server closed the connection")
                self._reader.feed(data)
        except ChannelTimeout:
            raise StepFailed(stage, f"no reply in {self._seconds:g} s") from None
        except ChannelClosed as error:
            raise StepFailed(stage, f"the connection was lost: {error}") from error
        except ReplyError as error:
            raise StepFailed(stage, f"what the server says is not SMTP: {error}") from error
        return reply

    async def say(self, line: str, stage: str) -> Reply:
        """A command and its reply."""
        self.write(line.encode() + b"\r\n")
        return await self.hear(stage)

    async def start_tls(self, settings: SessionSettings) -> tuple[TlsFacts, Certificate]:
        """Shake hands."""
        if settings.context is None:
            raise StepFailed("tls", "this level of TLS has no context")
        if self._reader.pending or self.channel.unread():
            raise StepFailed("tls", "the server said more in clear than its answer to STARTTLS")
        deadline = self._time() + self._seconds
        try:
            facts = await self.channel.start_tls(
                settings.context, server_name=settings.server_name, deadline=deadline
            )  # fmt: skip
        except TlsFailed as failure:
            raise StepFailed("tls", failure.reason) from failure
        self._reader = ReplyReader()
        return facts, _certificate(self.channel.peer_certificate)

    def close(self) -> None:
        """Hang up."""
        self.channel.close()


class Upstream(msgspec.Struct, frozen=True):
    """One host of a road, and how to get there."""

    road: Road
    target: Hop
    endpoints: tuple[Endpoint, ...]
    settings: SessionSettings
    connector: Connector
    guard: Guard | None
    seconds: float

    async def connect(self) -> Wire:
        """A connection. Raises StepFailed."""
        deadline = asyncio.get_running_loop().time() + self.seconds
        try:
            channel = await self.connector.connect(self.endpoints, deadline=deadline, guard=self.guard)
        except ConnectFailed as failure:
            denied = bool(failure.tries) and all(one.denied for one in failure.tries)
            text = f"not allowed: {failure}" if denied else str(failure)
            raise StepFailed("connect", text, permanent=denied) from failure
        return Wire(channel, self.seconds)

    def opening(self, *, with_login: bool = True) -> Opening:
        """The dialogue up to the login, as delivery would have it."""
        settings, level = self.settings, self.target.tls
        credentials = settings.credentials if with_login else None
        return Opening(
            OpeningSettings(
                hostname=settings.hostname,
                lmtp=self.road.lmtp,
                want_tls=level is not TlsLevel.OFF,
                need_tls=level.required,
                detect_loop=settings.detect_loop and not self.road.lmtp,
                credentials=credentials,
            ),
            secure=level is TlsLevel.IMPLICIT,
            nonce=b64encode(settings.random_bytes(NONCE_OCTETS)).decode() if credentials else "",
        )


class SecondLook(msgspec.Struct, frozen=True):
    """What another connection found. None: nobody looked."""

    certificate: Certificate = Certificate()
    speaks_tls_at_once: bool | None = None
    greets_in_clear: bool | None = None


async def look_again(upstream: Upstream, failure: StepFailed) -> SecondLook:
    """Why a step may have failed. Raises nothing."""
    implicit = upstream.target.tls is TlsLevel.IMPLICIT
    if failure.stage == "greeting" and failure.reply is None and not implicit:
        return SecondLook(speaks_tls_at_once=await _speaks_tls_at_once(upstream))
    if failure.stage != "tls" or failure.reply is not None:
        return SecondLook()
    if "certificate not accepted" in failure.text:
        unverified = msgspec.structs.replace(upstream.settings, context=ClientContexts().unverified())
        with suppress(StepFailed, Refused):
            _, certificate = await _reach_tls(upstream, unverified)
            return SecondLook(certificate)
    if implicit:
        return SecondLook(greets_in_clear=await _greets_in_clear(upstream))
    return SecondLook()


async def would_verify(upstream: Upstream) -> str:
    """For levels that look at no certificate: whether one that does would be content with it. Raises nothing."""
    verified = msgspec.structs.replace(
        upstream.settings, context=ClientContexts().verified(upstream.road.ca), server_name=upstream.target.host
    )
    try:
        await _reach_tls(upstream, verified)
    except StepFailed as failure:
        return f"not verified (it would not be: {failure.text})"
    except Refused:
        return "not verified"
    return "not verified (it would be)"


async def _reach_tls(upstream: Upstream, settings: SessionSettings) -> tuple[TlsFacts, Certificate]:
    wire = await upstream.connect()
    try:
        opening = upstream.opening(with_login=False)
        if not opening.secure:
            while opening.phase != HANDSHAKE:
                if opening.phase == READY:
                    raise StepFailed("tls", "the server does not offer STARTTLS")
                wire.write(opening.receive(await wire.hear(opening.stage)))
        return await wire.start_tls(settings)
    finally:
        wire.close()


async def _speaks_tls_at_once(upstream: Upstream) -> bool:
    unverified = msgspec.structs.replace(upstream.settings, context=ClientContexts().unverified())
    try:
        wire = await upstream.connect()
        try:
            await wire.start_tls(unverified)
        finally:
            wire.close()
    except StepFailed:
        return False
    return True


async def _greets_in_clear(upstream: Upstream) -> bool:
    try:
        wire = await upstream.connect()
        try:
            return (await wire.hear("greeting")).code == 220
        finally:
            wire.close()
    except StepFailed:
        return False


def _certificate(der: bytes | None) -> Certificate:
    facts = certificate_facts(der) if der is not None else None
    if facts is None:
        return Certificate()
    details = {
        "subject": facts.subject or (facts.names[0] if facts.names else ""),
        "issuer": facts.issuer,
        "names": " ".join(facts.names),
        "not_after": facts.not_after.isoformat().replace("+00:00", "Z"),
        "days_left": str(facts.days_left(time.time())),
    }
    return Certificate(details, facts.names)


AskConnector = Callable[[tuple[str, ...]], Connector]
"""Makes connections from given local addresses; none: the system's choice."""
