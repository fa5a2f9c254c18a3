"""Streams content into a transaction: with dots after DATA, or in chunks with BDAT where the server offers it.

RFC 5321 section 4.1.1.4, RFC 3030 section 2. Never more than one chunk of content is held, and one written.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from staffetta.mail.outcome import Scope
from staffetta.mail.reply import Reply
from staffetta.net.channel import ChannelClosed, ChannelTimeout
from staffetta.protocol.content import BareLineEnd, LineGuard, Stuffer
from staffetta.protocol.replies import ReplyError
from staffetta.protocol.transaction import CONTENT, Transaction
from staffetta.protocol.verdict import BARE_LINE_END, BUSY_READER, UNASKED, UNREADABLE, judge, ours
from staffetta.spool.contract import SpoolUnavailable


class Wire(Protocol):
    """What a session lends to the sender of content."""

    async def write_block(self, data: bytes) -> None:
        """Write, and wait until the server takes it."""

    def answered(self) -> bool:
        """True when the server said something that nobody has read."""

    async def reply_now(self, stage: str) -> Reply:
        """The next reply."""


async def send_dotted(wire: Wire, transaction: Transaction, stream: AsyncIterator[bytes]) -> None:
    """The whole content with its terminator. A reply before the end is the server's last word: the session goes."""
    stuffer = Stuffer()
    try:
        async for chunk in stream:
            await wire.write_block(stuffer.feed(chunk))
            if wire.answered():
                await _interrupted(wire, transaction)
                return
        if wire.answered():
            await _interrupted(wire, transaction)
            return
        end = stuffer.finish()
        transaction.content_sent()
        await wire.write_block(end)
    except BareLineEnd:
        transaction.abandon(ours(BARE_LINE_END, Scope.MESSAGE, "content"))
    except SpoolUnavailable:
        transaction.abandon(ours(UNREADABLE, Scope.MESSAGE, "content"))
    except ChannelClosed:
        if transaction.stage != "content" or not wire.answered():
            raise
        await _interrupted(wire, transaction)
    except ChannelTimeout:
        transaction.fail(BUSY_READER)
    finally:
        await _close(stream)


async def send_chunks(wire: Wire, transaction: Transaction, stream: AsyncIterator[bytes]) -> None:
    """BDAT for each chunk, each answered before the next is sent; LAST with the last one, answered as the dot is."""
    guard = LineGuard()
    held = b""
    try:
        async for chunk in stream:
            if not chunk:
                continue
            guard.check(chunk)
            if held:
                if wire.answered():
                    transaction.fail(UNASKED)
                    return
                await wire.write_block(b"BDAT %d\r\n" % len(held) + held)
                transaction.content_sent(last=False)
                transaction.receive(await wire.reply_now("content"))
                if transaction.phase != CONTENT:
                    return
            held = chunk
        held += guard.finish()
        if wire.answered():
            transaction.fail(UNASKED)
            return
        transaction.content_sent()
        await wire.write_block(b"BDAT %d LAST\r\n" % len(held) + held)
    except BareLineEnd:
        transaction.abandon(ours(BARE_LINE_END, Scope.MESSAGE, "content"))
    except SpoolUnavailable:
        transaction.abandon(ours(UNREADABLE, Scope.MESSAGE, "content"))
    finally:
        await _close(stream)


async def _interrupted(wire: Wire, transaction: Transaction) -> None:
    """The server spoke before the end of the content: a refusal counts, anything else is out of step."""
    try:
        reply = await wire.reply_now("content")
    except (ChannelClosed, ChannelTimeout, ReplyError):
        transaction.fail(UNASKED)
        return
    if reply.code < 400:
        transaction.fail(UNASKED)
    else:
        transaction.abandon(judge(reply, Scope.MESSAGE, "content"))


async def _close(stream: AsyncIterator[bytes]) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()
