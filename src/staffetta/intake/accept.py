"""The last steps: stamp, commit, and only then 250 (RFC 5321 section 6.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from staffetta.intake.forecasts import Forecaster, Outgoing, author_domain, domain_of
from staffetta.intake.handover import Arrived
from staffetta.intake.refusals import Why
from staffetta.intake.signing import CANNOT_SIGN, BodyToSign, CannotSign, signatures
from staffetta.intake.stamp import UNCHECKED, Stamp, header_block, message_id_of, trace
from staffetta.intake.transaction import Transaction
from staffetta.mail.address import Mailbox
from staffetta.mail.domain import Domain
from staffetta.mail.reply import EnhancedStatus, Reply, reply
from staffetta.message.authorship import HeaderIdentity, identity_facts
from staffetta.message.header import Header
from staffetta.message.scan import Scan
from staffetta.observe.events import Accept, moment
from staffetta.policy.door import Role
from staffetta.policy.signing import signing_domain
from staffetta.policy.verdict import Refusal
from staffetta.spool.contract import Draft, Message, SpoolUnavailable, WaitingRecipient

if TYPE_CHECKING:
    from staffetta.intake.session import Session

FULL: Final = reply(452, "4.3.1", "insufficient storage, try again later")
UNAVAILABLE: Final = reply(451, "4.3.0", "storage is not available, try again later")
_ACCEPTED: Final = EnhancedStatus(2, 0, 0)


class Letter(msgspec.Struct, gc=False):
    """A message on its last steps. `block` is its header as it goes on; `signed_as` is the domain whose signatures it
    still lacks, None where nobody signs; `checks` will stand in its event."""

    scan: Scan
    draft: Draft
    stamp: Stamp
    id: str
    now: float
    block: bytes
    signed_as: Domain | None
    checks: dict[str, str]


def begin(session: Session, transaction: Transaction, scan: Scan, draft: Draft, stamp: Stamp = UNCHECKED) -> Letter:
    """Give it a name and the header with which it goes on."""
    house = session.house
    now = house.clock()
    message_id = house.identities.new(now)
    block = header_block(session, scan, message_id, now)
    signed_as = _signing_domain(session, transaction, block)
    return Letter(scan, draft, stamp, message_id, now, block, signed_as, stamp.checks)


def complete(session: Session, transaction: Transaction, letter: Letter) -> Arrived:
    """All that is put on disk. Nothing of the header changes any more."""
    house = session.house
    scan, draft, stamp, now = letter.scan, letter.draft, letter.stamp, letter.now
    head = b"".join((stamp.fields, trace(session, transaction, letter.id, now, stamp.reverse_name), letter.block))
    message = Message(
        letter.id,
        transaction.sender,
        len(head) + draft.stored_octets + draft.pending_octets,
        now,
        scan.message_id or message_id_of(head),
        session.id,
        session.login,
        session.client,
        scan.hops,
        stamp.quarantine,
    )
    recipients = transaction.waiting(letter.id, now, house.destination)
    if house.forecaster is not None and session.door.door.role is not Role.MX:
        words = _forecast(session, transaction, recipients, letter.signed_as, house.forecaster)
        if words:
            letter.checks = {**letter.checks, "forecast": words}
    return Arrived(message, recipients, head, draft, _event(session, transaction, letter, message, recipients))


def accepted(letter: Letter) -> Reply:
    """It is on disk."""
    return Reply(250, _ACCEPTED, (f"accepted as {letter.id}",))


def not_stored(session: Session, transaction: Transaction, draft: Draft, error: SpoolUnavailable) -> Reply:
    """It is not."""
    return _refused(session, draft, Refusal(_answer(error), "storage", str(error)), transaction)


async def accept(
    session: Session, transaction: Transaction, scan: Scan, draft: Draft, stamp: Stamp = UNCHECKED
) -> Reply:
    """Put it on disk and hand it to delivery; the reply for the client."""
    return await accept_begun(session, transaction, begin(session, transaction, scan, draft, stamp))


async def accept_begun(session: Session, transaction: Transaction, letter: Letter) -> Reply:
    """Sign it where that is still to be done, and go on as `accept` says."""
    house = session.house
    if letter.signed_as is not None:
        try:
            letter.block = await _signed(session, transaction, letter.signed_as, letter.block, letter.now)
        except CannotSign as error:
            return _refused(session, letter.draft, Refusal(CANNOT_SIGN, "signing", str(error)), transaction)
    try:
        await house.hand_over(house, complete(session, transaction, letter))
    except SpoolUnavailable as error:
        return not_stored(session, transaction, letter.draft, error)
    return accepted(letter)


def _event(
    session: Session,
    transaction: Transaction,
    letter: Letter,
    message: Message,
    recipients: tuple[WaitingRecipient, ...],
) -> Accept:
    tls = session.stream.tls
    return Accept(
        time=moment(message.received_at),
        session=session.id,
        id=message.id,
        sender=str(transaction.sender.reverse_path),
        recipients=tuple([str(recipient.address) for recipient in recipients]),
        size=message.size,
        message_id=message.message_id,
        client=session.client,
        login=session.login,
        listener=session.door.name,
        tls="" if tls is None else str(tls),
        helo=session.helo,
        checks=letter.checks,
        rule=transaction.rule,
        dmarc=letter.stamp.dmarc,
    )


def _forecast(
    session: Session,
    transaction: Transaction,
    recipients: tuple[WaitingRecipient, ...],
    signed_as: Domain | None,
    forecaster: Forecaster,
) -> str:
    """What receivers will say, when mail goes out and that is known already; else ""."""
    is_local = session.house.directory.is_local
    for recipient in recipients:
        if not is_local(recipient.address.domain):
            break
    else:
        return ""
    sender = domain_of(transaction.sender.reverse_path)
    fixed = session.door.door.sender_fixed
    identity = transaction.identity
    # Where nobody had to read the header, From is taken to be of the envelope's domain: reading it for each message of
    # a trusted network would cost more than the forecast is worth there.
    author = sender if identity is None and fixed is None else _author(identity, fixed)
    signed = "" if signed_as is None else signed_as.ascii
    return forecaster.look(Outgoing(author or sender, sender, signed, recipient.destination), recipient.message_id)


def _author(identity: HeaderIdentity | None, fixed: Mailbox | None) -> str:
    if fixed is not None:
        return domain_of(fixed)
    return "" if identity is None else author_domain(identity)


def _signing_domain(session: Session, transaction: Transaction, block: bytes) -> Domain | None:
    """The domain that will sign this message; None when nobody does."""
    room = session.house.signing
    if room is None or not isinstance(transaction.watch, BodyToSign):
        return None
    if transaction.identity is None:
        transaction.identity = identity_facts(Header(block))
    domain = signing_domain(session.door.door, session.rights, transaction.identity)
    return domain if domain is not None and room.signers.signs(domain.ascii) else None


async def _signed(session: Session, transaction: Transaction, signed_as: Domain, block: bytes, now: float) -> bytes:
    """The block under the signatures of its author's domain. Raises CannotSign."""
    room, body = session.house.signing, transaction.watch
    if room is None or not isinstance(body, BodyToSign):
        return block
    return await signatures(room, signed_as, block, body, now) + block


def _refused(session: Session, draft: Draft, refusal: Refusal, transaction: Transaction) -> Reply:
    session.discard(draft)
    session.note_refusal("data", refusal.reply, Why(refusal.rule, refusal.reason, transaction=transaction))
    return refusal.reply


def storage_refusal(error: Exception | None) -> Refusal | None:
    """Why content that could not be stored on its way in is refused; None when nothing went wrong."""
    return None if error is None else Refusal(_answer(error), "storage", str(error))


def _answer(error: Exception) -> Reply:
    return FULL if isinstance(error, SpoolUnavailable) and error.full else UNAVAILABLE
