"""A message from outside that was examined: refuse it, put it off, mark it as junk, or take it, and say why each time.

RFC 8601 (the field with all results), RFC 9989 section 5.4. The verdict is policy/authentication's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from staffetta.intake.accept import accept
from staffetta.intake.examination import Examination, Origin
from staffetta.intake.refusals import Why
from staffetta.intake.sealing import seal_fields
from staffetta.intake.stamp import Stamp
from staffetta.intake.transaction import Transaction
from staffetta.mail.address import Mailbox, NullPath
from staffetta.mail.reply import Reply
from staffetta.mailauth.ar import Peer, method_results, remarks
from staffetta.mailauth.dmarc.aggregate import DmarcRecord, Handling, dmarc_record
from staffetta.mailauth.results import Checks
from staffetta.message.auth_results import authentication_results
from staffetta.message.junk import junk_fields
from staffetta.message.scan import Scan
from staffetta.policy.authentication import (
    ACCEPTED_RULE,
    AuthenticationFacts,
    Disposition,
    Judgement,
    judge_authentication,
)
from staffetta.spool.contract import Draft, Quarantine

if TYPE_CHECKING:
    from staffetta.intake.session import Session


async def accept_examined(
    session: Session, transaction: Transaction, scan: Scan, draft: Draft, examination: Examination
) -> Reply:
    """Ask the world, judge, and do what the verdict says; the reply for the client."""
    sender = transaction.claimed_sender
    checks = await examination.finish(Origin(session.client, session.helo, sender))
    facts = AuthenticationFacts(checks, isinstance(sender, NullPath))
    judgement = judge_authentication(facts, examination.room.settings)
    words = _words(judgement)
    record = _record(session, transaction, checks, judgement)
    refusal = judgement.refusal
    if refusal is not None:
        session.discard(draft)
        why = Why(refusal.rule, refusal.reason, transaction=transaction, checks=words, dmarc=record)
        session.note_refusal("data", refusal.reply, why)
        return refusal.reply
    stamp = _stamp(session, transaction, checks, judgement, record)
    if examination.body is not None and transaction.forwarder is not None:
        results = _results(session, transaction, checks)
        sealed = await seal_fields(session, transaction, examination, checks, results)
        stamp = replace(stamp, fields=sealed + stamp.fields)
    return await accept(session, transaction, scan, draft, stamp)


def _stamp(
    session: Session, transaction: Transaction, checks: Checks, judgement: Judgement, record: DmarcRecord | None
) -> Stamp:
    fields = _results(session, transaction, checks)
    quarantine = None
    if judgement.disposition is Disposition.JUNK:
        quarantine = Quarantine(judgement.rule, judgement.reason)
        fields = junk_fields(judgement.rule, judgement.reason) + fields
    reverse = checks.reverse
    name = reverse.name if reverse is not None and reverse.confirmed else ""
    return Stamp(fields, _words(judgement), quarantine, record, name)


def _results(session: Session, transaction: Transaction, checks: Checks) -> bytes:
    peer = Peer(session.client, session.helo, str(transaction.claimed_sender))
    return authentication_results(session.house.hostname, method_results(checks, peer), remarks(checks))


def _words(judgement: Judgement) -> dict[str, str]:
    """The results, and which rule decided when it was not simply that nothing spoke against the message."""
    if judgement.rule == ACCEPTED_RULE:
        return judgement.words
    return {**judgement.words, "decided_by": f"{judgement.rule}: {judgement.reason}"}


def _record(session: Session, transaction: Transaction, checks: Checks, judgement: Judgement) -> DmarcRecord | None:
    """For aggregate reports; nothing of what was only put off, since it comes again."""
    disposition = judgement.disposition
    if disposition is Disposition.DEFER:
        return None
    sender = transaction.claimed_sender
    handling = Handling(
        refused=disposition is Disposition.REFUSE,
        junked=disposition is Disposition.JUNK,
        override=judgement.override,
        comment=judgement.override_reason,
    )
    domain = str(sender.domain) if isinstance(sender, Mailbox) else ""
    return dmarc_record(session.client, domain, checks, handling)
