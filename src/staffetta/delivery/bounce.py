"""Telling senders: notifications of failure, delay and success, as new messages from the null path.

RFC 3461 section 5.2 (who is told what), RFC 3464 (the report), RFC 5321 section 6.1: never a notification about a
notification, nor about what was put among the junk. A notice is committed in the same write as the step that caused it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from staffetta.delivery.courier import Report, Try
from staffetta.delivery.settle import Settlement
from staffetta.mail.address import NULL_PATH, Mailbox
from staffetta.mail.envelope import Body, Notify, Return, Sender
from staffetta.mail.identity import IdentitySource
from staffetta.mail.outcome import Outcome
from staffetta.mail.reply import Reply, reply, split_enhanced
from staffetta.message.report import make_report, original_part
from staffetta.message.report_input import Action, Kind, ReportedRecipient, ReportInput
from staffetta.observe.events import Event, Notice, encode, moment
from staffetta.policy.retry import RetrySettings
from staffetta.spool.contract import (
    Claim,
    Draft,
    JournalEntry,
    Message,
    NewMessage,
    Spool,
    SpoolUnavailable,
    WaitingRecipient,
)

ORIGINAL_OCTETS: Final = 64 * 1024
"""How much of the original is read for a report."""

NO_REPLY: Final = reply(451, "4.4.7", "no attempt had an answer")


class Notices(msgspec.Struct, frozen=True):
    """New messages to commit, and their events once they are."""

    messages: tuple[NewMessage, ...] = ()
    events: tuple[Event, ...] = ()


NOTHING: Final = Notices()

Targets = Callable[[Mailbox], Sequence[tuple[Mailbox, str]]]
"""Where mail for a sender goes: mailboxes and their destinations; empty when nobody of ours has that address."""


class Author(msgspec.Struct, frozen=True):
    """In whose name notices are written: a domain, and what gives the signature fields for a report from it."""

    domain: str
    sign: Callable[[bytes, float], Awaitable[bytes]]


class Notifier:
    """Makes notices. `targets` resolves local senders through accounts and aliases. Without an `author` they are from
    the hostname, and unsigned."""

    def __init__(
        self,
        spool: Spool,
        hostname: str,
        identities: IdentitySource,
        targets: Targets,
        retry: RetrySettings,
        *,
        author: Author | None = None,
    ) -> None:
        self._spool = spool
        self._hostname = hostname
        self._identities = identities
        self._targets = targets
        self._retry = retry
        self._author = author

    @staticmethod
    def concerned(settlement: Settlement) -> bool:
        """True when the sender may have to hear of these ends; else there is no need to ask `after`."""
        asked = [recipient for recipient, _ in settlement.delivered if Notify.SUCCESS in recipient.notify]
        return bool(settlement.failed or asked)

    async def after(self, claim: Claim, settlement: Settlement, report: Report | None, now: float) -> Notices:
        """What the sender must hear about these ends."""
        sender = _told_to(claim.message)
        if sender is None:
            return NOTHING
        last = report.tries[-1] if report is not None else None
        failed = [
            _failed(recipient, outcome, settlement, now, last)
            for recipient, outcome in settlement.failed
            if _wants(recipient, Notify.FAILURE)
        ]
        delivered = [
            _delivered(recipient, outcome, now, last)
            for recipient, outcome in settlement.delivered
            if Notify.SUCCESS in recipient.notify and not (last is not None and last.dsn)
        ]
        if not failed and not delivered:
            return NOTHING
        made = []
        if failed:
            made.append(await self._make(claim, Kind.FAILED, sender, tuple(failed), now))
        if delivered:
            made.append(await self._make(claim, Kind.DELIVERED, sender, tuple(delivered), now))
        return Notices(
            tuple(message for notices in made for message in notices.messages),
            tuple(event for notices in made for event in notices.events),
        )

    async def delayed(self, claim: Claim, recipients: Iterable[WaitingRecipient], now: float) -> Notices:
        """The message still waits."""
        sender = _told_to(claim.message)
        if sender is None:
            return NOTHING
        until = claim.message.received_at + self._retry.lifetime_seconds
        told = tuple(
            ReportedRecipient(
                recipient.address,
                Action.DELAYED,
                last_reply(recipient),
                original=recipient.original,
                orcpt=recipient.orcpt,
                in_doubt=recipient.in_doubt,
                retry_until=until,
            )
            for recipient in recipients
            if _wants(recipient, Notify.DELAY)
        )
        return await self._make(claim, Kind.DELAYED, sender, told, now) if told else NOTHING

    async def _make(
        self, claim: Claim, kind: Kind, to: Mailbox, recipients: tuple[ReportedRecipient, ...], now: float
    ) -> Notices:
        targets = self._targets(to)
        if not targets:
            return NOTHING
        message = claim.message
        beginning = claim.content if claim.content is not None else await self._beginning(message.id)
        number = self._identities.new(now)
        author = self._author
        report = make_report(
            ReportInput(
                kind,
                number,
                self._hostname,
                to,
                now,
                message.received_at,
                recipients,
                original_part(beginning, message.size, full=message.sender.ret is Return.FULL),
                message.sender.envid,
                message.message_id,
                "" if author is None else author.domain,
            )
        )
        head = b"" if author is None else await author.sign(report.content, now)
        content = head + report.content
        body = Body.EIGHT_BIT_MIME if report.eight_bit else Body.SEVEN_BIT
        sender = Sender(NULL_PATH, body, report.smtputf8)
        event = Notice(
            time=moment(now), id=number, kind=kind.value, for_id=message.id, recipient=", ".join(map(_text, targets))
        )
        header = f"{number}@{self._hostname}"
        new = NewMessage(
            Message(number, sender, len(content), now, header),
            tuple(
                WaitingRecipient(number, index, mailbox, destination, next_attempt_at=now)
                for index, (mailbox, destination) in enumerate(targets)
            ),
            content,
            Draft([]),
            JournalEntry(encode(event), now, number, message_id=header),
        )
        return Notices((new,), (event,))

    async def _beginning(self, message_id: str) -> bytes:
        found = b""
        with suppress(SpoolUnavailable):  # damaged, or the disk fails: a notice with less of the original is still due
            async for chunk in self._spool.content(message_id):
                found += chunk
                if len(found) >= ORIGINAL_OCTETS:
                    break
        return found


def last_reply(recipient: WaitingRecipient) -> Reply:
    """The reply that the queue remembers."""
    text = recipient.last_reply
    if len(text) < 3 or not (text[:3].isascii() and text[:3].isdigit()):
        return NO_REPLY
    enhanced, rest = split_enhanced(text[4:])
    return Reply(int(text[:3]), enhanced, (rest,))


def _told_to(message: Message) -> Mailbox | None:
    """Whom notices about a message may go to. Of what lies among the junk the sender is a claim that nobody believed,
    so that a notice would hit whoever was named there (RFC 5321 section 6.2, RFC 3834 section 2)."""
    sender = message.sender.reverse_path
    return sender if isinstance(sender, Mailbox) and message.quarantine is None else None


def _text(target: tuple[Mailbox, str]) -> str:
    return str(target[0])


def _wants(recipient: WaitingRecipient, what: Notify) -> bool:
    # RFC 3461 section 4.1: without NOTIFY the sender hears of failures, and of delays if we like.
    return not recipient.notify or what in recipient.notify


def _failed(
    recipient: WaitingRecipient, outcome: Outcome, settlement: Settlement, now: float, last: Try | None
) -> ReportedRecipient:
    return ReportedRecipient(
        recipient.address,
        Action.FAILED,
        outcome.reply,
        last.host if last is not None and outcome.remote else "",
        recipient.original,
        recipient.orcpt,
        expired=recipient.index in settlement.expired,
        in_doubt=outcome.in_doubt,
        last_attempt_at=now,
    )


def _delivered(recipient: WaitingRecipient, outcome: Outcome, now: float, last: Try | None) -> ReportedRecipient:
    remote = outcome.remote and last is not None
    return ReportedRecipient(
        recipient.address,
        Action.RELAYED if remote else Action.DELIVERED,
        outcome.reply,
        last.host if last is not None and remote else "",
        recipient.original,
        recipient.orcpt,
        last_attempt_at=now,
    )
