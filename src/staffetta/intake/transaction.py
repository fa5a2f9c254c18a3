"""One mail transaction: born at MAIL, dropped at its end, never reset.

Content is looked at while it streams: the header block is kept by the scan (submission may have to mend it, and trace
fields go in front of it), the body goes into the draft, in memory while it is small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from staffetta.accounts.directory import Resolution
from staffetta.mail.address import Mailbox, ReversePath, fold_local_part
from staffetta.mail.domain import Domain
from staffetta.mail.envelope import Recipient, Sender
from staffetta.message.authorship import HeaderIdentity
from staffetta.message.header import Header
from staffetta.message.scan import Scan
from staffetta.policy.door import Client
from staffetta.policy.relay import Place
from staffetta.spool.contract import CHUNK_OCTETS, Draft, Spool, WaitingRecipient

SMALL_OCTETS: Final = 1024
"""Stretches shorter than this are gathered: kept one by one, single octets would cost fifty times their size."""


class Watch(Protocol):
    """What looks at the body while it streams past."""

    def after_header(self, data: bytes) -> None:
        """The next octets of what follows the header, beginning with the empty line."""


class Transaction:
    """What the client has said so far. `reverse_path` is what leaves us: the door may have fixed it."""

    __slots__ = (
        "_begin_watch",
        "_targets",
        "claimed_sender",
        "client",
        "draft",
        "failed",
        "given",
        "identity",
        "rule",
        "scan",
        "sender",
        "watch",
    )

    def __init__(self, sender: Sender, client: Client, fixed: Mailbox | None) -> None:
        self.claimed_sender: ReversePath = sender.reverse_path
        if fixed is not None:
            sender = Sender(fixed, sender.body, sender.smtputf8, sender.declared_size, sender.ret, sender.envid)
        self.sender = sender
        self.client = client
        self.rule = ""
        self.given: list[Mailbox | None] = []
        self._targets: dict[Mailbox, tuple[Recipient, Mailbox, Mailbox | None, str]] = {}
        """By the name that must be met only once, in the order in which they came."""
        self.draft: Draft | None = None
        self.scan: Scan | None = None
        self.failed: Exception | None = None
        self.identity: HeaderIdentity | None = None
        """Who the header says it is from, once somebody had to know."""
        self.watch: Watch | None = None
        self._begin_watch: Callable[[Header], Watch | None] | None = None

    @property
    def message_id(self) -> str:
        """The Message-ID as far as it is known."""
        return self.scan.message_id if self.scan is not None else ""

    def add(self, recipient: Recipient, resolution: Resolution) -> None:
        """A recipient was accepted: it stands for itself, or for the targets of its resolution, each of them once."""
        path = recipient.forward_path
        given = path if isinstance(path, Mailbox) else None
        self.given.append(given)
        if given is not None and resolution.place is Place.OUTSIDE:
            self._add(recipient, given, "", None)
        for target in resolution.targets:
            self._add(recipient, target.mailbox, target.destination, given if target.mailbox != given else None)

    def _add(self, recipient: Recipient, mailbox: Mailbox, destination: str, original: Mailbox | None) -> None:
        # Local names differ in no case; elsewhere that is their owner's business (RFC 5321 section 2.4).
        key = mailbox.folded() if destination else mailbox
        self._targets.setdefault(key, (recipient, mailbox, original, destination))

    @property
    def forwarder(self) -> Domain | None:
        """The domain of ours whose alias sends this outside; None when none does."""
        for _, _, original, destination in self._targets.values():
            if original is not None and not destination and isinstance(original.domain, Domain):
                return original.domain
        return None

    def begin_content(self, draft: Draft, begin_watch: Callable[[Header], Watch | None] | None = None) -> None:
        """DATA or the first BDAT was allowed. `begin_watch` makes of the complete header what looks at the body."""
        self.draft = draft
        self.scan = Scan()
        self._begin_watch = begin_watch

    def content(self, data: bytes) -> bool:
        """A stretch of content. True when the draft should be stored before more comes."""
        scan, draft = self.scan, self.draft
        if scan is None or draft is None:
            return False
        before = scan.octets
        in_body = scan.header_complete
        scan.feed(data)
        body = data
        if not in_body:
            if not scan.header_complete:
                return False
            start = scan.header_octets - before
            # The empty line may have begun in an earlier stretch; what is missing of it is known.
            body = data[start:] if start >= 0 else b"\r\n"[:-start] + data
        if scan.problem is not None or self.failed is not None:
            return False  # it will be refused; nothing more of it is kept
        if self._begin_watch is not None:
            self._look_at(body, scan.header)
        pending = draft.pending
        if len(body) < SMALL_OCTETS and pending:
            last = pending[-1]
            if not isinstance(last, bytearray):
                last = bytearray()
                pending.append(last)
            last += body
        else:
            pending.append(body)
        draft.pending_octets += len(body)
        return draft.pending_octets >= CHUNK_OCTETS

    def _look_at(self, body: bytes, header: Header) -> None:
        """Show it to who watches the body; the first time, when its header is complete, that one is made."""
        watch = self.watch
        if watch is None and self._begin_watch is not None:
            watch = self.watch = self._begin_watch(header)
            if watch is None:
                self._begin_watch = None
        if watch is not None:
            watch.after_header(body)

    async def store(self, spool: Spool) -> None:
        """Put the full chunks of the draft on disk. Raises SpoolUnavailable."""
        if self.draft is not None:
            await spool.write(self.draft, b"")

    def end_content(self) -> Scan:
        """All content is here."""
        scan = self.scan
        assert scan is not None  # noqa: S101 - content ends only where it began
        scan.finish()
        if self.watch is None and self._begin_watch is not None and scan.problem is None:
            self._look_at(b"", scan.header)  # all header, no body
        return scan

    def returned(self, header: Header) -> str:
        """The local recipient that a Delivered-To of the header names (RFC 9228), "" when there is none."""
        if not header.has(b"delivered-to"):
            return ""
        were_there = {
            fold_local_part(field.value.strip(b" \t\r\n<>").decode("utf-8", "replace"))
            for field in header.all(b"delivered-to")
        }
        for _, mailbox, _, destination in self._targets.values():
            if destination and str(mailbox.folded()) in were_there:
                return str(mailbox)
        return ""

    def waiting(
        self, message_id: str, now: float, destination: Callable[[Mailbox, ReversePath], str]
    ) -> tuple[WaitingRecipient, ...]:
        """The recipients as the spool keeps them."""
        reverse_path = self.sender.reverse_path
        return tuple(
            [
                WaitingRecipient(
                    message_id,
                    index,
                    mailbox,
                    key or destination(mailbox, reverse_path),
                    next_attempt_at=now,
                    notify=recipient.notify,
                    orcpt=recipient.orcpt,
                    original=original,
                )
                for index, (recipient, mailbox, original, key) in enumerate(self._targets.values())
            ]
        )
