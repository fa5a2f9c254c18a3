"""The contract every spool engine keeps: `draft -> chunk* -> commit -> claim -> record -> done`.

Each transition is one transaction and carries its own events, so the queue, the journal and the ledger
(`accepted = delivered + bounced + dropped + queued`) cannot disagree. Coroutines return only when the transition is
durable: data and names flushed (RFC 5321 section 6.1). Times are seconds since the epoch, UTC.

This module refuses to know SQL, routes and replies' meaning.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from staffetta.mail.address import Mailbox
from staffetta.mail.envelope import Notify, Sender

CHUNK_OCTETS = 256 * 1024
"""Largest piece of content that is held in memory or stored in one row."""


class State(StrEnum):
    """Where a waiting recipient stands."""

    QUEUED = "queued"
    """Never tried."""
    ACTIVE = "active"
    """Claimed by a relay process that is alive."""
    DEFERRED = "deferred"
    """Tried, waiting for the next attempt."""
    HELD = "held"
    """Stopped by an operator until released."""


class Quarantine(msgspec.Struct, frozen=True, gc=False):
    """Why a message goes to the junk folder: the rule that decided, and its reason for people."""

    rule: str
    reason: str


class Message(msgspec.Struct, frozen=True, gc=False):
    """One accepted message; its content is stored beside it as chunks.

    `size` is the stored size in octets, trace fields included. `hops` is the number of Received fields it came with.
    `message_id` is the Message-ID header without brackets, or "" where there is none.
    """

    id: str
    sender: Sender
    size: int
    received_at: float
    message_id: str = ""
    session: str = ""
    login: str = ""
    client: str = ""
    hops: int = 0
    quarantine: Quarantine | None = None


class WaitingRecipient(msgspec.Struct, frozen=True, gc=False):
    """One recipient that is not finished. Finished recipients leave the spool; the journal remembers them.

    `index` counts from 0 within the message. `destination` groups recipients that share a next hop (a key of
    policy/route). `original` is the address as the sender gave it, where an alias changed it.
    """

    message_id: str
    index: int
    address: Mailbox
    destination: str
    state: State = State.QUEUED
    attempts: int = 0
    next_attempt_at: float = 0.0
    last_reply: str = ""
    in_doubt: bool = False
    delay_noticed: bool = False
    notify: tuple[Notify, ...] = ()
    orcpt: str | None = None
    original: Mailbox | None = None
    bounce_by: str = ""
    """Who asked that it be bounced now, whatever its age; `overdue` hands such recipients out."""


class Claim(msgspec.Struct, frozen=True, gc=False):
    """Recipients of one message that this process may now work on, alone. `content` is there when small and at hand."""

    message: Message
    recipients: tuple[WaitingRecipient, ...]
    content: bytes | None = None


class JournalEntry(msgspec.Struct, frozen=True, gc=False):
    """One row of the journal. `lines` is one or several events, JSON, joined by LF; `id` or `session` finds it again.

    `message_id` is the Message-ID header, given once per message so that it can be searched.
    """

    lines: bytes
    time: float
    id: str = ""
    session: str = ""
    message_id: str = ""


class Final(StrEnum):
    """How a recipient left the spool; each counts in the ledger."""

    DELIVERED = "delivered"
    BOUNCED = "bounced"
    DROPPED = "dropped"


class Step(msgspec.Struct, frozen=True, gc=False):
    """What becomes of one claimed recipient: it leaves (`final`), or waits again with the new values."""

    index: int
    final: Final | None = None
    state: State = State.DEFERRED
    next_attempt_at: float = 0.0
    attempts: int = 0
    last_reply: str = ""
    destination: str = ""
    in_doubt: bool = False
    delay_noticed: bool = False


class Draft(msgspec.Struct):
    """Content on its way in. `number` is the engine's key once something was stored; `pending` is not yet stored."""

    pending: list[bytes | bytearray]
    pending_octets: int = 0
    stored_octets: int = 0
    stored_chunks: int = 0
    number: int | None = None

    def take_full(self, data: bytes) -> bytes:
        """Append content; what of it now fills whole chunks is taken out of `pending`, to be stored."""
        self.pending.append(data)
        self.pending_octets += len(data)
        if self.pending_octets < CHUNK_OCTETS:
            return b""
        content = b"".join(self.pending)
        whole = len(content) - len(content) % CHUNK_OCTETS
        self.pending = [content[whole:]] if whole < len(content) else []
        self.pending_octets = len(content) - whole
        return content[:whole]


class NewMessage(msgspec.Struct, frozen=True, gc=False):
    """Everything one commit needs. `head` is put before the draft's content (trace fields are known only at the end).

    `claim` asks that the recipients be claimed for this process in the same transaction.
    """

    message: Message
    recipients: tuple[WaitingRecipient, ...]
    head: bytes
    draft: Draft
    journal: JournalEntry
    claim: bool = False


class Ledger(msgspec.Struct, frozen=True):
    """Recipients since the store was made. `accepted - delivered - bounced - dropped - queued` must be zero."""

    accepted: int
    delivered: int
    bounced: int
    dropped: int
    queued: int

    @property
    def unaccounted(self) -> int:
        """What the books cannot explain; anything but zero is a bug."""
        return self.accepted - self.delivered - self.bounced - self.dropped - self.queued


class DestinationState(msgspec.Struct, frozen=True):
    """A destination that is known to be down: nothing of it is due before `not_before`, however many wait."""

    destination: str
    not_before: float
    failures: int
    last_reply: str


class SpoolUnavailable(Exception):
    """The store could not make it durable now (disk full, IO error, locked): answer 451 or 452, never 250.

    `full` is true when space ran out (452 4.3.1).
    """

    def __init__(self, reason: str, *, full: bool = False) -> None:
        super().__init__(reason)
        self.full = full


class ClaimLost(Exception):
    """What was to be recorded is not claimed by this process: our bug, or another relay took the store over."""


class Spool(Protocol):
    """What intake, delivery and commands may ask of an engine."""

    def draft(self) -> Draft:
        """A new, empty draft. Costs nothing; invisible until commit; swept at the next start if never committed."""

    async def write(self, draft: Draft, data: bytes) -> None:
        """Append content. Below CHUNK_OCTETS it stays in memory; full chunks are stored before this returns.

        Raises SpoolUnavailable."""

    async def discard(self, draft: Draft) -> None:
        """Forget a draft and what was stored of it."""

    async def commit(self, new: NewMessage) -> None:
        """Message, recipients, content, journal and ledger in one durable transaction. Raises SpoolUnavailable."""

    async def commit_many(self, new: Sequence[NewMessage]) -> None:
        """All or none of several messages."""

    async def record(
        self,
        message_id: str,
        steps: Sequence[Step],
        journal: Sequence[JournalEntry],
        notices: Sequence[NewMessage] = (),
        destination: DestinationState | None = None,
    ) -> None:
        """The end of one attempt: steps, their events, the notices they caused, the destination's state, in one write.

        When the last recipient leaves, message and content go too. Raises SpoolUnavailable; the claim then stands."""

    async def append_journal(self, entries: Sequence[JournalEntry]) -> None:
        """Events that belong to no transition (a refusal at the door)."""

    async def expire_journal(self, before: float, limit: int) -> int:
        """Forget at most `limit` of the oldest journal rows that are older than `before`; how many went."""

    async def due(self, now: float, destinations_busy: frozenset[str], limit: int, per_destination: int) -> list[Claim]:
        """Claim what is due: at most `limit` recipients, at most `per_destination` of one destination, oldest first,
        none of a busy destination, none of one that is down. Each claim is durable before it is returned."""

    async def next_due(self, now: float, destinations_busy: frozenset[str]) -> float | None:
        """The earliest moment at which something not of a busy destination becomes due; None when nothing waits."""

    async def overdue(self, received_before: float, null_path_received_before: float, limit: int) -> list[Claim]:
        """Claim waiting recipients (not held) older than the lifetime of their kind, and those that an operator wants
        bounced (`bounce_by`). At most `limit` recipients; looks at a bounded part of a large queue and goes on there
        the next time."""

    async def undelayed(self, received_before: float, limit: int) -> list[Claim]:
        """Claim waiting recipients (not held) older than the delay notice whose sender was not told yet; bounded like
        `overdue`."""

    def content(self, message_id: str) -> AsyncIterator[bytes]:
        """The stored content in order, in chunks of at most CHUNK_OCTETS."""

    async def destination_up(self, destination: str) -> None:
        """The destination answered again: forget that it was down."""

    def changes(self) -> int:
        """A number that changes when another process changes the store. Cheap; called often."""

    async def ledger(self) -> Ledger:
        """The books."""

    async def close(self) -> None:
        """Finish pending writes and let go of the store. What is claimed and unfinished becomes due again."""
