"""For which domain may this message be signed? Only for one whose name the sender was allowed to use.

RFC 6376 section 5.1 (who signs), RFC 9989 section 4.4 (the signature has to be of the From domain). An address alone
is no reason to sign: a trusted network gets signatures only for the domains that the door's `from` grants it, because
whoever signs everything that comes from a shared network signs forgeries too.
"""

from __future__ import annotations

from staffetta.mail.address import Mailbox
from staffetta.mail.domain import Domain
from staffetta.message.authorship import HeaderIdentity
from staffetta.policy.alignment import Rights
from staffetta.policy.door import Door, Role


def may_be_signed(door: Door, rights: Rights | None) -> bool:
    """Whether anything that comes through this door, with these rights, may be signed at all."""
    if door.role is Role.MX:
        return False
    return rights is not None or door.any_name or bool(door.senders) or door.sender_fixed is not None


def signing_domain(door: Door, rights: Rights | None, identity: HeaderIdentity) -> Domain | None:
    """The domain in whose name the message may be signed: the one of its only From address, or None.

    `identity` is of a header that `may_use_header` let pass.
    """
    if not may_be_signed(door, rights):
        return None
    if door.sender_fixed is not None:
        host = door.sender_fixed.domain
        return host if isinstance(host, Domain) else None
    if identity.from_problem or len(identity.from_addresses) != 1:
        return None
    author = identity.from_addresses[0]
    return author.domain if _may_use(door, rights, author) and isinstance(author.domain, Domain) else None


def _may_use(door: Door, rights: Rights | None, author: Mailbox) -> bool:
    if rights is not None:
        return rights.covers(author)
    return door.lets_pass(author) if door.senders else door.any_name
