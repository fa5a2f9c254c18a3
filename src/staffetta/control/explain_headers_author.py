"""What a header shows people of its author, and where that is not what it says: findings, the worst first.

RFC 5322 section 3.6 (From, Sender, Reply-To, Resent-*), RFC 2047 (encoded words), RFC 2919 (List-Id); look-alikes and
direction marks as in message/disguise. A `fault` is a trick; a `warning` deserves a look; a `note` is in order and
worth knowing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from staffetta.control.explain_headers_checks import Asked, Envelope
from staffetta.control.explain_headers_trust import Boundary, Trusted
from staffetta.mail.address import Mailbox
from staffetta.mail.domain import Domain
from staffetta.message.addresses import parse_address_list
from staffetta.message.authorship import HeaderIdentity
from staffetta.message.disguise import disguised_domain, hidden_marks, mixed_words
from staffetta.message.header import Header
from staffetta.message.phrases import addresses_in, decode_words
from staffetta.message.received import Hop

FINDINGS: Final = 40
"""Most findings of one message."""

SHOWN_CHARACTERS: Final = 300
"""How much of a field is quoted."""

_SEEN: Final = (b"from", b"sender", b"reply-to", b"subject", b"to")
_ORDER: Final = {"fault": 0, "warning": 1, "note": 2}


class Finding(msgspec.Struct, frozen=True, gc=False):
    """Something about the header. `code` is stable; `text` quotes the message and is escaped where it is shown."""

    code: str
    level: str
    text: str


class Facts(msgspec.Struct, frozen=True):
    """What findings are made of."""

    header: Header
    identity: HeaderIdentity
    hops: tuple[Hop, ...]
    boundary: Boundary
    trusted: Trusted
    envelope: Envelope
    asked: Asked


def shown(value: bytes) -> str:
    """A field's value as people see it, cut to size."""
    return decode_words(value[: 4 * SHOWN_CHARACTERS].decode("utf-8", "replace"))[:SHOWN_CHARACTERS]


def findings_of(facts: Facts) -> tuple[Finding, ...]:
    """All findings, faults first. Pure."""
    found = [
        *_from_tricks(facts.header, facts.identity),
        *_marks(facts.header),
        *_look_alikes(facts.header, facts.identity),
        *_forged_trace(facts),
        *_other_addresses(facts),
        *_relations(facts),
    ]
    found = list(dict.fromkeys(found))
    return tuple(sorted(found, key=lambda one: _ORDER[one.level])[:FINDINGS])


def _from_tricks(header: Header, identity: HeaderIdentity) -> Iterator[Finding]:
    if identity.from_problem:
        words = identity.from_problem.replace("_", " ")
        yield Finding("unclear_from", "fault", f"From can be read in several ways: {words}")
    written = ", ".join(map(str, identity.from_addresses)) or "nobody"
    if identity.from_shown:
        other = ", ".join(map(str, identity.from_shown[:3]))
        yield Finding("other_address_shown", "fault", f"From shows {other}, but the address is {written}")
    for field in header.all(b"from")[:4]:
        plain = field.value.decode("utf-8", "replace")[: 4 * SHOWN_CHARACTERS]
        decoded = decode_words(plain)
        if decoded.count("@") > plain.count("@"):
            hidden = ", ".join(map(str, addresses_in(decoded)[:3]))
            yield Finding(
                "hidden_at_sign", "fault", f"an encoded word in From hides an @; people see: {hidden or decoded}"
            )


def _marks(header: Header) -> Iterator[Finding]:
    """Characters that act and are not seen."""
    for name in _SEEN:
        for field in header.all(name)[:4]:
            kinds = hidden_marks(shown(field.value))
            said = name.decode().title()
            if "direction" in kinds:
                yield Finding("direction_mark", "fault", f"{said} has marks that turn the direction of writing")
            if "control" in kinds:
                yield Finding("control_character", "fault", f"{said} has control characters")
            if "invisible" in kinds:
                yield Finding("invisible_character", "warning", f"{said} has characters that cannot be seen")


def _look_alikes(header: Header, identity: HeaderIdentity) -> Iterator[Finding]:
    for mailbox in (*identity.from_addresses[:4], *_reply_to(header)[:4]):
        domain = mailbox.domain
        if isinstance(domain, Domain) and (seen := disguised_domain(domain)):
            yield Finding(
                "look_alike_domain", "fault", f"the domain {domain} is shown as {domain.unicode} and looks like {seen}"
            )
    for field in header.all(b"from")[:4]:
        words = mixed_words(shown(field.value))
        if words:
            yield Finding(
                "mixed_scripts", "fault", f"From has words that mix scripts which look alike: {', '.join(words[:3])}"
            )


def _forged_trace(facts: Facts) -> Iterator[Finding]:
    """What came with the message and says that our side wrote it."""
    trusted, boundary = facts.trusted, facts.boundary
    if not boundary.certain:
        return
    # What went round by a list may have been with us before; who is proven has no need to forge a trace.
    level = "warning" if facts.asked.proofs else "fault"
    for number, hop in enumerate(facts.hops[boundary.index :], boundary.index + 1):
        if hop.by and trusted.is_name(hop.by):
            text = (
                f"hop {number} says that {hop.by} wrote it; below the boundary it is forged, or of an earlier journey"
            )
            yield Finding("forged_received", level, text)
            break
    for one in facts.asked.recorded:
        if not one.trusted and trusted.is_name(one.by):
            text = f"a result {one.method}={one.result} says that {one.by} wrote it; it came with the message"
            yield Finding("forged_results", level, text)
            break


def _other_addresses(facts: Facts) -> Iterator[Finding]:
    """Sender, Reply-To and envelope beside From."""
    identity = facts.identity
    authors = {mailbox.domain for mailbox in identity.from_addresses}
    for mailbox in identity.sender_addresses[:1]:
        if mailbox not in identity.from_addresses:
            yield Finding("sender_differs", "note", f"Sender is {mailbox}: it was sent on behalf of From")
    for mailbox in _reply_to(facts.header)[:3]:
        if authors and mailbox.domain not in authors:
            yield Finding("reply_to_differs", "warning", f"answers go to {mailbox}, at another domain than From")
    envelope = facts.envelope.mailbox
    if envelope is not None and authors and envelope.domain not in authors:
        yield Finding("envelope_differs", "note", f"bounces go to {envelope}, at another domain than From")


def _relations(facts: Facts) -> Iterator[Finding]:
    header, asked = facts.header, facts.asked
    if facts.identity.resent_addresses or header.has(b"resent-from"):
        by = ", ".join(map(str, facts.identity.resent_addresses[:2])) or "somebody"
        yield Finding("resent", "note", f"it was sent on by {by} (Resent-From)")
    lists = header.first(b"list-id")
    if lists is not None:
        yield Finding("mailing_list", "note", f"it says that it comes from the list {shown(lists.value)}")
    for problem in header.problems if not header.well_formed else ():
        yield Finding(
            "header_problem", "note", f"programs may read the header differently: {problem.value.replace('_', ' ')}"
        )
    arc = asked.checks.arc
    if arc is not None and arc.sealers and not asked.proofs:
        by = arc.sealers[-1]
        yield Finding(
            "arc_chain", "note", f"{by} vouches for an earlier check (ARC); that is worth what {by}'s word is worth"
        )
    for one in asked.recorded:
        if one.trusted and one.now and one.result not in one.now.split(",") and one.now != "temperror":
            text = f"{one.by} found {one.method}={one.result} when it came; today it is {one.now}"
            yield Finding("changed_since", "note", text)


def _reply_to(header: Header) -> Sequence[Mailbox]:
    fields = header.all(b"reply-to")[:4]
    return [mailbox for field in fields for mailbox in parse_address_list(field.value).mailboxes]
