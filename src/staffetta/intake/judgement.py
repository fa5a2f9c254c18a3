"""Facts of this session, put before the judges of `policy`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from staffetta.intake.transaction import Transaction
from staffetta.mail.address import Mailbox, ReversePath
from staffetta.message.authorship import identity_facts
from staffetta.message.scan import Scan
from staffetta.policy.acceptance import ACCEPTED, ContentFacts, may_accept
from staffetta.policy.alignment import may_use_header, may_use_sender
from staffetta.policy.door import Client, Role
from staffetta.policy.verdict import Refusal, Verdict
from staffetta.protocol.framing import ContentProblem

if TYPE_CHECKING:
    from staffetta.intake.session import Session


def judge_sender(session: Session, sender: ReversePath, client: Client) -> Verdict:
    """May this client name this envelope sender?"""
    local = isinstance(sender, Mailbox) and session.house.directory.is_local(sender.domain)
    return may_use_sender(session.door.door, client, session.rights, sender, sender_is_local=local)


def judge_content(
    session: Session, transaction: Transaction, scan: Scan, problem: ContentProblem | None
) -> Refusal | None:
    """May this message be taken? None: yes."""
    door = session.door
    author: Verdict = ACCEPTED
    # The header is read only where somebody must own it; everywhere else it is opaque.
    if problem is None and scan.problem is None and (session.rights is not None or _judges_authors(session)):
        identity = transaction.identity = identity_facts(scan.header)
        author = may_use_header(door.door, session.rights, identity, session.house.directory.is_local)
    # Our own clients may be told later; the senders of strangers are forged too often for that.
    returned = transaction.returned(scan.header) if door.door.role is Role.MX else ""
    continues = scan.header.block[:1] in {b" ", b"\t"}
    facts = ContentFacts(problem, scan.octets, scan.hops, author, scan.problem, returned, continues)
    verdict = may_accept(facts, door.acceptance)
    return verdict if isinstance(verdict, Refusal) else None


def _judges_authors(session: Session) -> bool:
    door = session.door.door
    return door.role is not Role.MX and bool(door.senders)
