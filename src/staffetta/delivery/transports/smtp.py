"""An SMTP session with one host: opened once, then one transaction after another. Drives the cores of `protocol`.

The cores say what to write and what a reply means; here are the waiting, its deadlines (RFC 5321 section 4.5.3.2),
the handshake and the flow of content. Whatever the peer does ends in one outcome per recipient.
This module refuses to know hosts, addresses and retries: a channel comes in.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import ClassVar, Self

import msgspec

from staffetta.delivery.transports.content import send_chunks, send_dotted
from staffetta.mail.outcome import Outcome, Scope
from staffetta.mail.reply import Reply
from staffetta.net.channel import Channel, ChannelClosed, ChannelTimeout, TlsFailed
from staffetta.net.contract import TlsFacts
from staffetta.protocol.capabilities import NOTHING_OFFERED, Capabilities
from staffetta.protocol.client import HANDSHAKE, READY, ClientSettings, Opening, OpeningSettings, Refused
from staffetta.protocol.client_commands import Commands, ContentFacts, plan
from staffetta.protocol.client_sasl import NONCE_OCTETS, Credentials
from staffetta.protocol.content import BareLineEnd, wrap
from staffetta.protocol.replies import ReplyError, ReplyReader
from staffetta.protocol.transaction import CONTENT, DONE, Manner, Transaction
from staffetta.protocol.verdict import (
    BARE_LINE_END,
    ENOUGH_MAIL,
    INJECTED,
    LOST,
    NOT_VERIFIED,
    SILENT,
    UNASKED,
    garbled,
    ours,
    tls_failed,
)
from staffetta.spool.contract import Message, WaitingRecipient
from staffetta.tlspolicy.levels import TlsLevel

_TROUBLE = (ChannelClosed, ChannelTimeout, ReplyError)


class SessionSettings(msgspec.Struct, frozen=True):
    """How to talk to one next hop; shared by its sessions.

    `context` and `server_name` (for SNI and verification) are needed for every level but `off`.
    `detect_loop` false for hosts that may rightly have our name. `pipelining` false for servers that offer it and lie.
    """

    hostname: str
    level: TlsLevel = TlsLevel.OPPORTUNISTIC
    context: ssl.SSLContext | None = None
    server_name: str | None = None
    credentials: Credentials | None = None
    client: ClientSettings = ClientSettings()
    detect_loop: bool = True
    pipelining: bool = True
    random_bytes: Callable[[int], bytes] = os.urandom
    quit_seconds: float = 2.0


class Outbound(msgspec.Struct, frozen=True, gc=False):
    """One message to be sent. `content` when it is small and at hand, else `stream` gives it, each call from its start.

    `is_8bit` is None when nobody looked.
    """

    message: Message
    content: bytes | None
    stream: Callable[[], AsyncIterator[bytes]]
    is_8bit: bool | None = None


class SessionRefused(Exception):
    """No session; `outcome` holds for every recipient. The channel is closed.

    `clear_may_do`: the handshake failed at the opportunistic level; a new connection without TLS is allowed.
    """

    def __init__(self, outcome: Outcome, *, clear_may_do: bool = False) -> None:
        super().__init__(str(outcome.reply))
        self.outcome = outcome
        self.clear_may_do = clear_may_do


class SessionStale(Exception):
    """A session that was used before died before it answered MAIL: nothing happened, no attempt is to be counted."""


class SmtpSession:
    """One open session. One task at a time calls `send`."""

    lmtp: ClassVar[bool] = False

    __slots__ = (
        "_bdat",
        "_channel",
        "_data",
        "_dead",
        "_reader",
        "_reset",
        "_seconds",
        "_settings",
        "_time",
        "capabilities",
        "host",
        "tls",
        "transactions",
    )

    def __init__(self, channel: Channel, settings: SessionSettings, host: str) -> None:
        self._channel = channel
        self._settings = settings
        self._reader = ReplyReader()
        self._seconds = settings.client.by_stage()
        self._time = asyncio.get_running_loop().time
        self._reset = False
        self._dead = False
        self._data = self._bdat = Manner()
        self.capabilities: Capabilities = NOTHING_OFFERED
        self.host = host
        self.tls: TlsFacts | None = None
        self.transactions = 0

    @classmethod
    async def open(cls, channel: Channel, settings: SessionSettings, *, host: str = "") -> Self:
        """Greeting, EHLO, TLS and login. Raises SessionRefused, after which the channel is closed.

        `host` is the name for events; the level decides what may be said in clear.
        """
        session = cls(channel, settings, host)
        try:
            await session._open()
        except Refused as refused:
            # The server answered and is in step: take leave in good order.
            session.dismiss()
            raise SessionRefused(refused.outcome) from None
        except BaseException:
            session.abort()
            raise
        return session

    @property
    def address(self) -> str:
        """The address that is connected to, for events."""
        return str(self._channel.peer)

    @property
    def reusable(self) -> bool:
        """True when another message may be sent: alive, in step, below the server's MAILMAX."""
        limit = self.capabilities.mail_max
        return (
            not self._dead
            and (not limit or self.transactions < limit)
            and self._channel.usable
            and not self._channel.unread()
            and not self._reader.pending
        )

    async def send(self, outbound: Outbound, recipients: Sequence[WaitingRecipient]) -> list[Outcome]:
        """One outcome per recipient, in order; more recipients than the server's RCPTMAX go in several transactions.

        Raises SessionStale (see there). Cancelled, it cuts the connection off.
        """
        limit = self.capabilities.rcpt_max
        if limit and len(recipients) > limit:
            return await self._send_in_parts(outbound, recipients, limit)
        content = outbound.content
        eight_bit = outbound.is_8bit
        wire = b""
        if content is not None:
            if eight_bit is None:
                eight_bit = not content.isascii()
            try:
                wire = wrap(content)
            except BareLineEnd:
                return [ours(BARE_LINE_END, Scope.MESSAGE, "content")] * len(recipients)
        message = outbound.message
        commands = plan(message.sender, recipients, ContentFacts(message.size, eight_bit), self.capabilities)
        if isinstance(commands, Outcome):
            return [commands] * len(recipients)
        transaction = await self._run(commands, outbound, wire)
        if transaction.closed:
            self.abort()
            if self.transactions and not transaction.heard:
                raise SessionStale
        self.transactions += 1
        self._reset = transaction.reset_needed
        return transaction.outcomes

    async def _send_in_parts(
        self, outbound: Outbound, recipients: Sequence[WaitingRecipient], limit: int
    ) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for start in range(0, len(recipients), limit):
            part = recipients[start : start + limit]
            if start and not self.reusable:
                outcomes += [ours(LOST if self._dead else ENOUGH_MAIL, Scope.SESSION, "mail")] * len(part)
                continue
            try:
                outcomes += await self.send(outbound, part)
            except SessionStale:
                if not start:
                    raise
                outcomes += [ours(LOST, Scope.SESSION, "mail")] * len(part)
        return outcomes

    async def quit(self) -> None:
        """Say QUIT, wait a moment for the answer, close."""
        if not self._dead and self._channel.usable:
            self._channel.write(b"QUIT\r\n")
            with suppress(*_TROUBLE):
                await self._reply(self._settings.quit_seconds)
        self._dead = True
        self._channel.close()

    def dismiss(self) -> None:
        """Say QUIT and close, without waiting for an answer."""
        if not self._dead:
            self._channel.write(b"QUIT\r\n")
        self._dead = True
        self._channel.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._dead = True
        self._channel.abort()

    # Opening.

    async def _open(self) -> None:
        settings = self._settings
        implicit = settings.level is TlsLevel.IMPLICIT
        if implicit:
            await self._handshake("starttls")
        opening = Opening(
            OpeningSettings(
                hostname=settings.hostname,
                lmtp=self.lmtp,
                want_tls=settings.level is not TlsLevel.OFF,
                need_tls=settings.level.required,
                detect_loop=settings.detect_loop and not self.lmtp,
                credentials=settings.credentials,
            ),
            secure=implicit,
            nonce=b64encode(settings.random_bytes(NONCE_OCTETS)).decode() if settings.credentials else "",
        )
        try:
            await self._converse(opening)
        except ChannelClosed:
            raise SessionRefused(ours(LOST, Scope.HOST, opening.stage)) from None
        except ChannelTimeout:
            raise SessionRefused(ours(SILENT, Scope.HOST, opening.stage)) from None
        except ReplyError as error:
            raise SessionRefused(ours(garbled(str(error)), Scope.HOST, opening.stage)) from error
        offers = self.capabilities = opening.capabilities
        pipelining = offers.pipelining and settings.pipelining
        self._data = self._bdat = Manner(pipelining=pipelining, lmtp=self.lmtp)
        if offers.chunking:
            self._bdat = Manner(pipelining=pipelining, chunking=True, lmtp=self.lmtp)

    async def _converse(self, opening: Opening) -> None:
        while opening.phase != READY:
            if opening.phase == HANDSHAKE:
                await self._handshake(opening.stage)
                self._channel.write(opening.secured())
                continue
            reply = await self._reply(self._seconds[opening.stage])
            if opening.heavy:
                data = await asyncio.to_thread(opening.receive, reply)
            else:
                data = opening.receive(reply)
            if opening.phase != HANDSHAKE and self._out_of_step():
                raise SessionRefused(ours(UNASKED, Scope.HOST, opening.stage))
            if data:
                self._channel.write(data)

    async def _handshake(self, stage: str) -> None:
        settings = self._settings
        if settings.context is None:
            raise ValueError(f"level {settings.level} needs a context")
        if self._out_of_step():
            # What was said in clear behind the 220 would be read as if it had come through TLS.
            raise SessionRefused(ours(INJECTED, Scope.HOST, stage))
        deadline = self._time() + self._seconds["starttls"]
        try:
            facts = await self._channel.start_tls(settings.context, server_name=settings.server_name, deadline=deadline)
        except TlsFailed as failure:
            outcome = ours(tls_failed(str(failure)), Scope.HOST, stage)
            raise SessionRefused(outcome, clear_may_do=settings.level.may_go_clear) from failure
        if settings.level.verified and not facts.verified:
            raise SessionRefused(ours(NOT_VERIFIED, Scope.HOST, stage))
        self.tls = facts
        self._reader = ReplyReader()

    # One transaction.

    async def _run(self, commands: Commands, outbound: Outbound, wire: bytes) -> Transaction:
        channel = self._channel
        reader = self._reader
        transaction = Transaction(commands, self._data if wire else self._bdat, reset=self._reset)
        if self._out_of_step():
            transaction.fail(UNASKED)
            return transaction
        try:
            channel.write(transaction.begin())
            while transaction.phase != DONE:
                if transaction.phase == CONTENT:
                    if wire:
                        self._send_small(transaction, wire)
                    else:
                        await self._send_stream(transaction, outbound)
                    continue
                reply = reader.next()
                if reply is None:
                    reply = await self._next_reply(self._seconds[transaction.stage])
                data = transaction.receive(reply)
                if data:
                    channel.write(data)
        except ChannelClosed:
            transaction.fail(LOST)
        except ChannelTimeout:
            transaction.fail(SILENT)
        except ReplyError as error:
            transaction.fail(garbled(str(error)))
        except BaseException:
            self.abort()
            raise
        return transaction

    def _send_small(self, transaction: Transaction, wire: bytes) -> None:
        if self._out_of_step():
            # A reply too many would be taken for the answer to the final dot, and the message be lost.
            transaction.fail(UNASKED)
            return
        if not self._channel.usable:
            # Said now, it is no doubt: nothing of the content has left.
            raise ChannelClosed(None)
        self._channel.write(wire)
        transaction.content_sent()

    async def _send_stream(self, transaction: Transaction, outbound: Outbound) -> None:
        if self._out_of_step():
            transaction.fail(UNASKED)
        elif self.capabilities.chunking:
            await send_chunks(self, transaction, outbound.stream())
        else:
            await send_dotted(self, transaction, outbound.stream())

    # The wire, as the senders of content need it too.

    async def write_block(self, data: bytes) -> None:
        """Write, and wait until the server takes it. Raises ChannelClosed, ChannelTimeout."""
        channel = self._channel
        if not channel.usable:
            raise ChannelClosed(None)
        channel.write(data)
        await channel.drain(self._time() + self._seconds["content"])

    def answered(self) -> bool:
        """True when the server said something that nobody has read."""
        return self._out_of_step()

    async def reply_now(self, stage: str) -> Reply:
        """The next reply, in the time that `stage` has. Raises ChannelClosed, ChannelTimeout, ReplyError."""
        return await self._reply(self._seconds[stage])

    def _out_of_step(self) -> bool:
        return self._reader.pending or self._channel.unread()

    async def _reply(self, seconds: float) -> Reply:
        return self._reader.next() or await self._next_reply(seconds)

    async def _next_reply(self, seconds: float) -> Reply:
        """The next reply, of which more has yet to come."""
        reader = self._reader
        channel = self._channel
        deadline = self._time() + seconds
        reply = None
        while reply is None:
            data = await channel.read(deadline)
            if not data:
                raise ChannelClosed(None)
            reader.feed(data)
            reply = reader.next()
        return reply
