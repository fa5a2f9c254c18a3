"""The courier into mailboxes of our own: Return-Path and Delivered-To on top, one file, flushed, then `delivered`.

RFC 5321 section 4.4 (Return-Path); a message that carries our own Delivered-To already is in a loop. File work is done
in threads. What the disk says becomes an outcome: full or over quota waits, and so does a folder we may not enter.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Final

import msgspec

from staffetta.delivery.courier import Report, Try
from staffetta.mail.address import Mailbox
from staffetta.mail.outcome import Outcome, Result, Scope
from staffetta.mail.reply import Reply, reply
from staffetta.mailbox.maildir import MailboxNameError, Maildir, Writing
from staffetta.message.header import HEADER_OCTETS, Header
from staffetta.message.trace import delivered_to, return_path
from staffetta.spool.contract import Claim, Spool, WaitingRecipient

DELIVERED: Final = reply(250, "2.0.0", "delivered to the mailbox")
LOOP: Final = reply(554, "5.4.6", "mail loop: the message was in this mailbox already")
FULL: Final = reply(452, "4.2.2", "the mailbox is full")
NO_ACCESS: Final = reply(451, "4.3.0", "the mailbox cannot be written")
NO_NAME: Final = reply(550, "5.1.3", "the address cannot be the name of a mailbox")


class MailboxTools(msgspec.Struct, frozen=True):
    """What delivery into mailboxes needs. `maildir` gives the Maildirs that hold an address's mailbox."""

    spool: Spool
    maildir: Callable[[Mailbox], Maildir]
    owner: Callable[[Mailbox], Mailbox]
    clock: Callable[[], float]


class MailboxCourier:
    """See delivery.courier.Courier. `owner` says whose mailbox an address (with its sub-address) is."""

    def __init__(self, tools: MailboxTools, route: str) -> None:
        self._tools = tools
        self._route = route

    @property
    def warm(self) -> bool:
        """Nothing is kept open."""
        return False

    async def finish(self) -> None:
        """Nothing to let go of."""

    async def deliver(self, claim: Claim) -> Report:
        """Every recipient's mailbox in turn; one that fails does not stop the others."""
        begun = asyncio.get_running_loop().time()
        outcomes = [await self._deliver_one(claim, recipient) for recipient in claim.recipients]
        seconds = asyncio.get_running_loop().time() - begun
        return Report((Try(tuple(outcomes), seconds=seconds),), self._route)

    async def _deliver_one(self, claim: Claim, recipient: WaitingRecipient) -> Outcome:
        if await self._was_there(claim, recipient.address):
            return _outcome(Result.FAILED, LOOP)
        owner = self._tools.owner(recipient.address)
        head = return_path(claim.message.sender.reverse_path) + delivered_to(recipient.address)
        try:
            maildir = self._tools.maildir(owner)
            if claim.content is not None:
                pieces = (head, claim.content)
                await asyncio.to_thread(maildir.deliver, owner.local_part, pieces, self._tools.clock())
            else:
                await self._stream(maildir, owner, head, claim.message.id)
        except MailboxNameError:
            return _outcome(Result.FAILED, NO_NAME)
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            return _outcome(Result.DEFERRED, FULL if full else _with(NO_ACCESS, error.strerror or ""))
        return _outcome(Result.DELIVERED, DELIVERED)

    async def _stream(self, maildir: Maildir, owner: Mailbox, head: bytes, message_id: str) -> None:
        writing: Writing = await asyncio.to_thread(maildir.begin, owner.local_part, self._tools.clock())
        try:
            await asyncio.to_thread(writing.write, head)
            async for chunk in self._tools.spool.content(message_id):
                await asyncio.to_thread(writing.write, chunk)
            await asyncio.to_thread(writing.finish)
        except BaseException:
            writing.abandon()
            raise

    async def _was_there(self, claim: Claim, address: Mailbox) -> bool:
        beginning = claim.content
        if beginning is None:
            beginning = b""
            async for chunk in self._tools.spool.content(claim.message.id):
                beginning += chunk
                if len(beginning) > HEADER_OCTETS:
                    break
        end = beginning.find(b"\r\n\r\n")
        header = Header(beginning[: end + 2] if end >= 0 else beginning)
        if not header.has(b"delivered-to"):
            return False
        mine = str(address).lower().encode()
        return any(field.value.lower() == mine for field in header.all(b"delivered-to"))


def _outcome(result: Result, answer: Reply) -> Outcome:
    return Outcome(result, Scope.RECIPIENT, answer, "local", remote=False)


def _with(answer: Reply, reason: str) -> Reply:
    return Reply(answer.code, answer.enhanced, (f"{answer.lines[0]}: {reason.lower()}",)) if reason else answer
