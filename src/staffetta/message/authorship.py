"""What a header says about who wrote and who sent: facts for `policy/alignment` and DMARC, with every doubt named.

RFC 5322 section 3.6.2 (From, Sender), section 3.6.6 (Resent-*), RFC 6854; what attackers do with them: several From
fields, disguised names, lists, groups, routes, comments, encoded words.
Whatever two programs could read differently is a problem here, never a guess.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from staffetta.mail.address import Mailbox
from staffetta.message.addresses import AddressList, AddressProblem, parse_address_list
from staffetta.message.header import Field, Header, HeaderProblem

EXAMINED_FIELDS: Final = 16
"""How many fields of one name are parsed. More than one From is a problem anyway; that many Resent-From are too."""

EXAMINED_OCTETS: Final = 16 * 1024
"""How much is parsed of several fields of one name."""

SEVERAL_FIELDS: Final = "several_fields"
SEVERAL_ADDRESSES: Final = "several_addresses"
NO_FIELD: Final = "no_field"
DISGUISED: Final = "disguised_field"

_DIVIDING: Final = (
    HeaderProblem.TOO_BIG,
    HeaderProblem.TOO_MANY_FIELDS,
    HeaderProblem.NOT_A_FIELD,
    HeaderProblem.EMPTY_NAME,
    HeaderProblem.ODD_NAME,
    HeaderProblem.LEADING_SPACE,
    HeaderProblem.BLANK_FOLD,
    HeaderProblem.BARE_LINE_END,
    HeaderProblem.NUL,
)
"""Problems by which programs come to different headers, so to different authors."""

_FROM_ON_CONTINUATION = re.compile(rb"\r\n[ \t]++from[ \t]*+:[^\r\n]*@", re.IGNORECASE)
_SIGNATURES: Final = frozenset(
    {b"dkim-signature", b"arc-message-signature", b"domainkey-signature", b"arc-seal", b"x-google-dkim-signature"}
)
"""Fields that fold lists of field names, so that a line of theirs may start with `From:`."""


class HeaderIdentity(msgspec.Struct, frozen=True, gc=False):
    """Who the header says it is from.

    A problem is "" or the name of the first doubt: from `AddressProblem`, `HeaderProblem`, or this module's names.
    With a `from_problem` nothing may be concluded from `from_addresses`; they are for refusing, never for allowing.
    `from_shown` are other addresses that From shows to people: in display names, comments, encoded words.
    """

    from_fields: int
    from_addresses: tuple[Mailbox, ...]
    from_problem: str
    from_shown: tuple[Mailbox, ...]
    sender_addresses: tuple[Mailbox, ...]
    sender_problem: str
    resent_addresses: tuple[Mailbox, ...]
    resent_problem: str


class _Claim(msgspec.Struct, frozen=True, gc=False):
    """What the fields of one name say together."""

    mailboxes: tuple[Mailbox, ...] = ()
    problem: str = ""
    shown: tuple[Mailbox, ...] = ()


_NOTHING: Final = _Claim()


def identity_facts(header: Header) -> HeaderIdentity:
    """The identity facts of `header`. Total, bounded, and only odd headers cost more than a few microseconds."""
    fields = header.all(b"from")
    hidden = header.disguised(b"from")
    if hidden:
        fields += [field for field in hidden if not field.is_found]
    author = _read(fields, several=False)
    sender = _claim(header, (b"sender",), several=False)
    resent = _claim(header, (b"resent-from", b"resent-sender"), several=True)
    return HeaderIdentity(
        from_fields=len(fields),
        from_addresses=author.mailboxes,
        from_problem=_from_problem(header, author, bool(hidden)),
        from_shown=author.shown,
        sender_addresses=sender.mailboxes,
        sender_problem=sender.problem,
        resent_addresses=resent.mailboxes,
        resent_problem=resent.problem,
    )


def _claim(header: Header, names: tuple[bytes, ...], *, several: bool) -> _Claim:
    shown = tuple(filter(header.shows, names))
    if not shown:
        return _NOTHING
    fields = [field for name in shown for field in header.all(name)]
    hidden = [field for name in shown for field in header.disguised(name)]
    claim = _read(fields + [field for field in hidden if not field.is_found], several=several)
    return msgspec.structs.replace(claim, problem=DISGUISED) if hidden else claim


def _read(fields: list[Field], *, several: bool) -> _Claim:
    """All addresses of `fields`, and the first doubt; `several` tells whether more than one is in order."""
    if not fields:
        return _Claim(problem=NO_FIELD)
    if len(fields) == 1:
        found = parse_address_list(fields[0].value)
        return _Claim(found.mailboxes, _doubt(found, several=several), found.shown)
    problem = "" if several and len(fields) <= EXAMINED_FIELDS else SEVERAL_FIELDS
    mailboxes: list[Mailbox] = []
    shown: list[Mailbox] = []
    examined = 0
    for field in fields[:EXAMINED_FIELDS]:
        examined += len(field.raw)
        if examined > EXAMINED_OCTETS:
            problem = problem or AddressProblem.TOO_LONG.value
            break
        found = parse_address_list(field.value)
        mailboxes += found.mailboxes
        shown += found.shown
        problem = problem or _doubt(found, several=several)
    return _Claim(tuple(mailboxes), problem, tuple(shown))


def _doubt(found: AddressList, *, several: bool) -> str:
    if found.problems:
        return found.problems[0].value
    if not found.mailboxes:
        return AddressProblem.EMPTY.value
    return SEVERAL_ADDRESSES if len(found.mailboxes) > 1 and not several else ""


def _from_problem(header: Header, author: _Claim, hidden: bool) -> str:
    if hidden:
        return DISGUISED
    if not header.well_formed:
        for problem in header.problems:
            if problem in _DIVIDING:
                return problem.value
    if author.problem:
        return author.problem
    return DISGUISED if _on_continuation(header) else ""


def _on_continuation(header: Header) -> bool:
    """Whether a continuation line looks like a From field to a program that trims lines."""
    if _FROM_ON_CONTINUATION.search(header.block) is None:
        return False
    return any(field.name not in _SIGNATURES and _FROM_ON_CONTINUATION.search(field.raw) for field in header.fields)
