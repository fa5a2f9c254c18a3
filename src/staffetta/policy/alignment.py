"""May this client speak in this name? The envelope sender at MAIL, the header's From, Sender and Resent-* at the end.

RFC 6409 section 6.1 (enforced submission rights), RFC 5322 sections 3.6.2 and 3.6.6 (From, Sender, Resent-*), RFC 5321
section 4.5.5 (null path). The one place that stops a login, a trusted machine or a stranger from borrowing a name.
This module refuses to parse headers: it gets what others found in them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from staffetta.mail.address import Mailbox, NullPath, ReversePath
from staffetta.mail.domain import Domain
from staffetta.mail.reply import reply
from staffetta.message.authorship import HeaderIdentity
from staffetta.policy.door import Client, Door, Role
from staffetta.policy.verdict import Allowed, Refusal, Verdict


class Rights(msgspec.Struct, frozen=True):
    """What one login may send as. `addresses` are folded: its own, its aliases, granted ones; `domains` are granted.

    `own` is the login itself, folded; with `separator` its sub-addresses (`anna+x@D`) are its own too.
    """

    own: Mailbox
    addresses: frozenset[Mailbox] = frozenset()
    domains: frozenset[Domain] = frozenset()
    separator: str = "+"

    def covers(self, mailbox: Mailbox) -> bool:
        """True when the login may call itself `mailbox`. A granted domain does not stand for its subdomains."""
        if mailbox.domain in self.domains:
            return True
        folded = mailbox.folded()
        own = self.own
        if folded == own or folded in self.addresses:
            return True
        separator = self.separator
        return (
            bool(separator) and folded.domain == own.domain and folded.local_part.startswith(own.local_part + separator)
        )


OWN_NAME: Final = Allowed("own_name")
NULL_SENDER: Final = Allowed("null_path")
REWRITTEN: Final = Allowed("from_fixed")
UNRESTRICTED: Final = Allowed("door_without_sender_list")
LISTED: Final = Allowed("door_sender_list")
FROM_OUTSIDE: Final = Allowed("mx")

_NOT_OWNED: Final = reply(553, "5.7.1", "this login may not send from that address")
_NOT_AT_THIS_DOOR: Final = reply(553, "5.7.1", "that sender address may not pass here")
_LOCAL_NAME: Final = reply(550, "5.7.1", "mail from this domain is taken only from its own users, after a login")
_HEADER_NOT_OWNED: Final = reply(550, "5.7.1", "the From or Sender address of the message is not yours to use")
_SHOWS_ANOTHER: Final = reply(550, "5.7.1", "From shows an address that is not yours to use")
_HEADER_UNCLEAR: Final = reply(550, "5.6.0", "the message needs one From field with exactly one address")

LOCAL_NAME_FROM_OUTSIDE: Final = Refusal(
    _LOCAL_NAME, "local_sender_from_outside", "the envelope claims a domain of ours, and the client is not logged in"
)


def may_use_sender(
    door: Door, client: Client, rights: Rights | None, sender: ReversePath, *, sender_is_local: bool
) -> Verdict:
    """May this client name this envelope sender? `rights` are those of its login, None without one.

    `sender_is_local`: the sender's domain is one of ours.
    """
    if door.sender_fixed is not None:
        return REWRITTEN
    if isinstance(sender, NullPath):
        return NULL_SENDER
    if rights is not None:
        if not rights.covers(sender):
            return Refusal(_NOT_OWNED, "sender_not_owned", f"{rights.own} may not send as {sender}")
    elif sender_is_local and not (client.trusted and door.role is Role.RELAY):
        return LOCAL_NAME_FROM_OUTSIDE
    if not door.lets_pass(sender):
        return Refusal(_NOT_AT_THIS_DOOR, "sender_not_at_this_door", f"{sender} is not in the list of door {door.name}")
    if rights is not None:
        return OWN_NAME
    return LISTED if door.senders else UNRESTRICTED


def _nobody(_: Domain) -> bool:
    return False


def may_use_header(
    door: Door, rights: Rights | None, header: HeaderIdentity, is_local: Callable[[Domain], bool] = _nobody
) -> Verdict:
    """May the author fields of this message stand as they are?

    A login owns every name in them. A trusted machine at a door with a list stays inside that list. Mail at an `mx`
    door from somebody without a login is judged by mail authentication, not here.

    What From only shows, in a display name or an encoded word, must not be an address of ours that is somebody else's:
    most programs show people nothing but that. Foreign addresses there are common and honest (`x@far.example via us`).
    `is_local` knows our domains.
    """
    fixed = door.sender_fixed is not None
    if rights is None:
        if door.role is Role.MX:
            return FROM_OUTSIDE
        if not door.senders:
            return REWRITTEN if fixed else UNRESTRICTED
    # What the door rewrites is not judged; what stays is.
    problem = ("" if fixed else _author_problem(header)) or header.sender_problem or header.resent_problem
    if problem:
        return Refusal(_HEADER_UNCLEAR, "header_unclear", problem)
    for mailbox in () if fixed else header.from_addresses:
        if not _may_be(mailbox, door, rights):
            return Refusal(_HEADER_NOT_OWNED, "header_not_owned", f"From: {mailbox}: {_whose(door, rights)}")
    for mailbox in () if fixed else header.from_shown:
        domain = mailbox.domain
        if isinstance(domain, Domain) and is_local(domain) and not _may_be(mailbox, door, rights):
            return Refusal(_SHOWS_ANOTHER, "header_not_owned", f"From shows {mailbox}: {_whose(door, rights)}")
    for mailbox in (*header.sender_addresses, *header.resent_addresses):
        if not _may_be(mailbox, door, rights):
            return Refusal(_HEADER_NOT_OWNED, "header_not_owned", f"Sender: {mailbox}: {_whose(door, rights)}")
    if fixed:
        return REWRITTEN
    return OWN_NAME if rights is not None else LISTED


def _author_problem(header: HeaderIdentity) -> str:
    """RFC 6409 section 6.1 needs one author: where two programs could read two names, there is none."""
    if header.from_problem:
        return header.from_problem
    if header.from_fields != 1:
        return f"{header.from_fields} From fields"
    if len(header.from_addresses) != 1:
        return f"{len(header.from_addresses)} addresses in From"
    return ""


def _may_be(mailbox: Mailbox, door: Door, rights: Rights | None) -> bool:
    return (rights is None or rights.covers(mailbox)) and door.lets_pass(mailbox)


def _whose(door: Door, rights: Rights | None) -> str:
    return (
        f"not of login {rights.own} at door {door.name}"
        if rights is not None
        else f"not in the list of door {door.name}"
    )
