"""What we put in front of a message, and what its header is when it goes on.

RFC 5321 section 4.4 (trace), RFC 8601 section 5 (fields in our name are removed), RFC 6409 section 8 (submission),
RFC 6376 (signatures stand under our trace field and over everything that they sign).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from staffetta.intake.transaction import Transaction
from staffetta.message.auth_results import without_ours
from staffetta.message.fixups import SubmissionFixups, submission_header
from staffetta.message.scan import Scan
from staffetta.message.trace import Client, received, received_opening, with_keyword
from staffetta.policy.door import Role
from staffetta.spool.contract import Quarantine

if TYPE_CHECKING:
    from staffetta.intake.session import Session


class Stamp(msgspec.Struct, frozen=True):
    """What checking came to: `fields` go on top, `checks` into the `accept` event (words by method), `dmarc` is what
    an aggregate report would need, `reverse_name` the client's when it is confirmed."""

    fields: bytes = b""
    checks: dict[str, str] = {}
    quarantine: Quarantine | None = None
    dmarc: msgspec.Struct | None = None
    reverse_name: str = ""


UNCHECKED = Stamp()


def trace(session: Session, transaction: Transaction, message_id: str, now: float, reverse_name: str = "") -> bytes:
    """The Received field. `reverse_name`: the client's, confirmed."""
    stream = session.stream
    opening = session.opening
    if opening is None:
        tls = stream.tls
        facts = f"{tls.version}:{tls.cipher}" if tls is not None else ""
        opening = session.opening = received_opening(
            Client(session.helo, session.client, reverse_name, facts), session.house.hostname
        )
    keyword = with_keyword(
        esmtp=session.esmtp,
        tls=stream.tls is not None,
        authenticated=bool(session.login),
        smtputf8=transaction.sender.smtputf8,
    )
    given = transaction.given
    return received(opening, keyword, message_id, given[0] if len(given) == 1 else None, now)


def header_block(session: Session, scan: Scan, message_id: str, now: float) -> bytes:
    """The header as it goes on: mended on doors for our own clients, without results in our name on the others."""
    door = session.door.door
    hostname = session.house.hostname
    if door.role is Role.MX:
        return without_ours(scan.header, hostname)
    return submission_header(scan.header, SubmissionFixups(message_id, hostname, now, door.sender_fixed))


def message_id_of(head: bytes) -> str:
    """The Message-ID that submission has just added."""
    start = head.find(b"\r\nMessage-ID: <")
    return head[start + 15 : head.find(b">", start)].decode("ascii", "replace") if start >= 0 else ""
