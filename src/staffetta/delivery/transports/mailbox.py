"""The courier into mailboxes of our own: Return-Path and Delivered-To on top, one file, flushed, then `delivered`.

RFC 5321 section 4.4 (Return-Path), RFC 9228 (Delivered-To): a message that carries our own Delivered-To already is in a
loop. File work is done in threads; what comes while a thread is busy goes into its next batch, so that letters share
the flush of their folder. What the disk says becomes an outcome: full or over quota waits, and so does a folder that
we may not enter.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from staffetta.accounts.store import AccountsUnavailable
from staffetta.delivery.courier import Report, Try
from staffetta.mail.address import Mailbox, fold_local_part
from staffetta.mail.outcome import Outcome, Result, Scope
from staffetta.mail.reply import Reply, reply
from staffetta.mailbox.contract import Letter, MailboxNameError, MailboxStore
from staffetta.message.header import HEADER_OCTETS, Header
from staffetta.message.trace import delivered_to, return_path
from staffetta.spool.contract import Claim, Spool, SpoolUnavailable, WaitingRecipient

DELIVERED: Final = reply(250, "2.0.0", "delivered to the mailbox")
LOOP: Final = reply(554, "5.4.6", "mail loop: the message was in this mailbox already")
OVER_QUOTA: Final = reply(452, "4.2.2", "the mailbox is full")
DISK_FULL: Final = reply(452, "4.3.1", "there is no space for the mailbox")
NO_ACCESS: Final = reply(451, "4.3.0", "the mailbox cannot be written")
UNREADABLE: Final = reply(451, "4.3.0", "the message or its mailbox cannot be looked up now")
INTERNAL: Final = reply(451, "4.3.0", "internal error, it will be tried again")
NO_NAME: Final = reply(550, "5.1.3", "the address cannot be the name of a mailbox")

DELIVERED_OUTCOME: Final = Outcome(Result.DELIVERED, Scope.RECIPIENT, DELIVERED, "local", remote=False)

BATCH_LETTERS: Final = 64
"""Letters that one thread takes at once."""

THREADS: Final = 4
"""Batches that are written at the same time; disks gain nothing from more."""

_Value = TypeVar("_Value")
Answer = str | OSError | MailboxNameError


class Gatherer:
    """Brings letters to their stores in batches: alone at once, under load together. Belongs to one event loop."""

    __slots__ = ("_busy", "_tasks", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[tuple[MailboxStore, Letter, asyncio.Future[Answer]]] = []
        self._busy = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def put(self, store: MailboxStore, letter: Letter) -> Answer:
        """What the store says of this letter. A letter whose sender gives up waiting may still be written."""
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((store, letter, answer))
        if self._busy < THREADS:
            self._busy += 1
            task = asyncio.create_task(self._work(), name="mailboxes")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        found: Answer = await answer
        return found

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[:BATCH_LETTERS]
                del self._waiting[:BATCH_LETTERS]
                try:
                    answers = await asyncio.to_thread(_deliver, [(store, letter) for store, letter, _ in batch])
                except Exception as error:  # a bug of ours: it belongs to those who wait, and the next batch goes on
                    for _, _, answer in batch:
                        if not answer.done():
                            answer.set_exception(error)
                    continue
                except BaseException:
                    for _, _, answer in batch:
                        answer.cancel()
                    raise
                for (_, _, answer), found in zip(batch, answers, strict=True):
                    if not answer.done():
                        answer.set_result(found)
        finally:
            self._busy -= 1


class MailboxTools(msgspec.Struct, frozen=True):
    """What delivery into mailboxes needs. `maildir` gives the mailboxes that an owner's is among; `owner` says whose
    mailbox an address (with its sub-address) is; `junk_folder` takes what was quarantined."""

    spool: Spool
    maildir: Callable[[Mailbox], MailboxStore]
    owner: Callable[[Mailbox], Mailbox]
    clock: Callable[[], float]
    gatherer: Gatherer = msgspec.field(default_factory=Gatherer)
    junk_folder: str = "Junk"


class MailboxCourier:
    """See delivery.courier.Courier."""

    __slots__ = ("_route", "_tools")

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
        """Every recipient's mailbox; one that fails does not stop the others."""
        clock = asyncio.get_running_loop().time
        begun = clock()
        header = await self._header(claim)
        if len(claim.recipients) == 1 or claim.content is None:
            outcomes = [await self._deliver_one(claim, header, recipient) for recipient in claim.recipients]
        else:
            outcomes = await asyncio.gather(
                *(self._deliver_one(claim, header, recipient) for recipient in claim.recipients)
            )
        return Report((Try(tuple(outcomes), seconds=clock() - begun),), self._route)

    async def _deliver_one(self, claim: Claim, header: bytes, recipient: WaitingRecipient) -> Outcome:
        """One recipient's outcome, and never an exception: it would be taken for the end of the others too."""
        try:
            return await self._bring(claim, header, recipient.address)
        except (OSError, MailboxNameError) as error:
            return outcome_of(error)
        except (SpoolUnavailable, AccountsUnavailable):
            return _outcome(Result.DEFERRED, Scope.RECIPIENT, UNREADABLE)
        except Exception as error:
            context = {"message": f"{claim.message.id} did not reach its mailbox", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
            return _outcome(Result.DEFERRED, Scope.RECIPIENT, INTERNAL)

    async def _bring(self, claim: Claim, header: bytes, address: Mailbox) -> Outcome:
        if was_delivered_to(header, address):
            return _outcome(Result.FAILED, Scope.RECIPIENT, LOOP)
        tools = self._tools
        owner = tools.owner(address)
        head = return_path(claim.message.sender.reverse_path) + delivered_to(address)
        folder = "" if claim.message.quarantine is None else tools.junk_folder
        letter = Letter(
            owner.local_part, (head,) if claim.content is None else (head, claim.content), tools.clock(), folder
        )
        if claim.content is not None:
            return outcome_of(await tools.gatherer.put(tools.maildir(owner), letter))
        return outcome_of(await self._stream(tools.maildir(owner), letter, claim.message.id))

    async def _stream(self, store: MailboxStore, letter: Letter, message_id: str) -> str:
        writing = await asyncio.to_thread(store.begin, letter.local_part, letter.now, letter.folder)
        try:
            for piece in letter.pieces:
                await _to_its_end(writing.write, piece)
            async for chunk in self._tools.spool.content(message_id):
                await _to_its_end(writing.write, chunk)
            return await _to_its_end(writing.finish)
        except BaseException:
            writing.abandon()
            raise

    async def _header(self, claim: Claim) -> bytes:
        """The beginning of the message, at least its header as far as anybody reads one."""
        content = claim.content
        if content is None:
            pieces: list[bytes] = []
            octets = 0
            async for chunk in self._tools.spool.content(claim.message.id):
                pieces.append(chunk)
                octets += len(chunk)
                if octets >= HEADER_OCTETS or b"\r\n\r\n" in chunk:
                    break
            content = b"".join(pieces)
        end = content.find(b"\r\n\r\n")
        return content[: end + 2] if end >= 0 else content


async def _to_its_end(step: Callable[..., _Value], *arguments: object) -> _Value:
    """In a thread. Who is cancelled waits for its end all the same: the thread still uses descriptors, and a number
    that was closed under it may be another file's a moment later."""
    work = asyncio.ensure_future(asyncio.to_thread(step, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        raise


def was_delivered_to(header: bytes, mailbox: Mailbox) -> bool:
    """True when a Delivered-To of the header names this mailbox: it has been here, so it goes in a circle."""
    if b"delivered-to" not in header.lower():
        return False
    mine = str(mailbox.folded())
    for field in Header(header).all(b"delivered-to"):
        value = field.value.strip(b" \t\r\n<>").decode("utf-8", "replace")
        if fold_local_part(value) == mine:
            return True
    return False


def outcome_of(answer: Answer) -> Outcome:
    """What the store's answer means for the recipient. Nothing that a disk says is for good."""
    if isinstance(answer, str):
        return DELIVERED_OUTCOME
    if isinstance(answer, MailboxNameError):
        return _outcome(Result.FAILED, Scope.RECIPIENT, NO_NAME)
    if answer.errno == errno.EDQUOT:
        return _outcome(Result.DEFERRED, Scope.RECIPIENT, OVER_QUOTA)
    if answer.errno == errno.ENOSPC:
        return _outcome(Result.DEFERRED, Scope.DESTINATION, DISK_FULL)
    scope = (
        Scope.DESTINATION if answer.errno in {errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE} else Scope.RECIPIENT
    )
    reason = (answer.strerror or "").lower()
    text = f"{NO_ACCESS.lines[0]}: {reason}" if reason else NO_ACCESS.lines[0]
    return _outcome(Result.DEFERRED, scope, Reply(NO_ACCESS.code, NO_ACCESS.enhanced, (text,)))


def _deliver(batch: list[tuple[MailboxStore, Letter]]) -> list[Answer]:
    """In a thread: each store gets its letters at once."""
    answers: list[Answer] = [""] * len(batch)
    by_store: dict[int, list[int]] = {}
    for position, (store, _) in enumerate(batch):
        by_store.setdefault(id(store), []).append(position)
    for positions in by_store.values():
        store = batch[positions[0]][0]
        found = store.deliver([batch[position][1] for position in positions])
        for position, answer in zip(positions, found, strict=True):
            answers[position] = answer
    return answers


def _outcome(result: Result, scope: Scope, answer: Reply) -> Outcome:
    return Outcome(result, scope, answer, "local", remote=False)
