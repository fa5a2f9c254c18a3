"""The last steps: stamp, commit, and only then 250 (RFC 5321 section 6.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from staffetta.intake.transaction import Transaction
from staffetta.mail.reply import EnhancedStatus, Reply, reply
from staffetta.message.fixups import SubmissionFixups, submission_header
from staffetta.message.scan import Scan
from staffetta.message.trace import Client, received, received_opening, with_keyword
from staffetta.observe.events import Accept, encode, moment
from staffetta.policy.door import Role
from staffetta.policy.verdict import Refusal
from staffetta.spool.contract import Claim, Draft, JournalEntry, Message, NewMessage, SpoolUnavailable

if TYPE_CHECKING:
    from staffetta.intake.session import Session

CONTENT_AT_HAND_OCTETS: Final = 64 * 1024
"""Messages up to this size go to delivery without being read back from disk."""

FULL: Final = reply(452, "4.3.1", "insufficient storage, try again later")
UNAVAILABLE: Final = reply(451, "4.3.0", "storage is not available, try again later")
_ACCEPTED: Final = EnhancedStatus(2, 0, 0)


async def accept(session: Session, transaction: Transaction, scan: Scan, draft: Draft) -> Reply:
    """Put it on disk and hand it to delivery; the reply for the client."""
    house = session.house
    now = house.clock()
    message_id = house.identities.new(now)
    head = _head(session, transaction, scan, message_id, now)
    message = Message(
        message_id,
        transaction.sender,
        len(head) + draft.stored_octets + draft.pending_octets,
        now,
        scan.message_id or message_id_of(head),
        session.id,
        session.login,
        session.client,
        scan.hops,
    )
    recipients = transaction.waiting(message_id, now, house.destination)
    tls = session.stream.tls
    event = Accept(
        time=moment(now),
        session=session.id,
        id=message_id,
        sender=str(transaction.sender.reverse_path),
        recipients=tuple([str(recipient.address) for recipient in recipients]),
        size=message.size,
        message_id=message.message_id,
        client=session.client,
        login=session.login,
        listener=session.door.name,
        tls="" if tls is None else str(tls),
        helo=session.helo,
        checks={},
        rule=transaction.rule,
    )
    outlet = house.outlet
    claim = all(outlet.has_room(recipient.destination) for recipient in recipients)
    content = None
    if claim and draft.number is None and message.size <= CONTENT_AT_HAND_OCTETS:
        content = b"".join([head, *draft.pending])
    journal = JournalEntry(encode(event), now, message_id, session.id, message.message_id)
    try:
        await house.spool.commit(NewMessage(message, recipients, head, draft, journal, claim))
    except SpoolUnavailable as error:
        session.discard(draft)
        session.note_refusal("data", answer := _answer(error), "storage", str(error))
        return answer
    try:
        house.emit(event)
        if claim:
            outlet.offer(Claim(message, recipients, content))
        else:
            outlet.wake()
    except Exception as error:
        # Our bug, and the message is on disk: any answer but 250 would have the client send it twice.
        house.report(error)
    return Reply(250, _ACCEPTED, (f"accepted as {message_id}",))


def storage_refusal(error: Exception | None) -> Refusal | None:
    """Why content that could not be stored on its way in is refused; None when nothing went wrong."""
    return None if error is None else Refusal(_answer(error), "storage", str(error))


def _answer(error: Exception) -> Reply:
    return FULL if isinstance(error, SpoolUnavailable) and error.full else UNAVAILABLE


def _head(session: Session, transaction: Transaction, scan: Scan, message_id: str, now: float) -> bytes:
    """Trace field and header block; on doors for our own clients the block is mended (RFC 6409 section 8)."""
    stream = session.stream
    opening = session.opening
    if opening is None:
        tls = stream.tls
        facts = f"{tls.version}:{tls.cipher}" if tls is not None else ""
        opening = session.opening = received_opening(
            Client(session.helo, session.client, "", facts), session.house.hostname
        )
    keyword = with_keyword(
        esmtp=session.esmtp,
        tls=stream.tls is not None,
        authenticated=bool(session.login),
        smtputf8=transaction.sender.smtputf8,
    )
    given = transaction.given
    trace = received(opening, keyword, message_id, given[0] if len(given) == 1 else None, now)
    door = session.door.door
    if door.role is Role.MX:
        return trace + scan.header.block
    fixups = SubmissionFixups(message_id, session.house.hostname, now, door.sender_fixed)
    return trace + submission_header(scan.header, fixups)


def message_id_of(head: bytes) -> str:
    """The Message-ID that submission has just added."""
    start = head.find(b"\r\nMessage-ID: <")
    return head[start + 15 : head.find(b">", start)].decode("ascii", "replace") if start >= 0 else ""
