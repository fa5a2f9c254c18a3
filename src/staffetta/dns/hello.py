"""Is the name that a client greets with one of its own?

RFC 5321 sections 2.3.5 and 4.1.1.1 (a name with an address, or an address literal), 4.1.3 (literals). Section 4.1.4
forbids to refuse mail for a name that does not match; whoever refuses all the same does so by their own rule.
"""

from __future__ import annotations

from enum import StrEnum

from staffetta.dns.resolver import Answer, RecordKind, Resolver, Unavailable
from staffetta.dns.reverse import Reverse
from staffetta.mail.domain import DomainError, parse_domain
from staffetta.mail.network import address_number


class HelloWord(StrEnum):
    """What a client's HELO or EHLO came to."""

    CONFIRMED = "confirmed"
    """The name has the client's address, or it is that address as a literal."""
    OTHER = "other"
    """It has addresses, but not this one: harmless in many networks with one door to the outside."""
    UNKNOWN = "unknown"
    """The name has no address of the client's family."""
    UNQUALIFIED = "unqualified"
    """One label, such as `localhost`: nobody outside knows it."""
    MALFORMED = "malformed"
    """An address without brackets, or no name at all."""
    OURS = "ours"
    """The client says that it is us."""
    TEMPERROR = "temperror"
    """The DNS did not answer."""


def hello_form(hello: str, client: str, hostname: str) -> HelloWord | None:
    """What can be told without asking; None when it takes a question."""
    number = address_number(client)
    if hello[:1] == "[" and hello[-1:] == "]":
        inner = hello[1:-1]
        literal = address_number(inner[5:] if inner[:5].lower() == "ipv6:" else inner)
        if literal is None:
            return HelloWord.MALFORMED
        return HelloWord.CONFIRMED if literal == number else HelloWord.OTHER
    if address_number(hello) is not None:
        return HelloWord.MALFORMED
    try:
        name = parse_domain(hello.removesuffix(".")).ascii
    except DomainError:
        return HelloWord.MALFORMED
    if name == hostname:
        return HelloWord.OURS
    return None if "." in name else HelloWord.UNQUALIFIED


async def check_hello(resolver: Resolver, hello: str, client: str, hostname: str, reverse: Reverse) -> HelloWord:
    """What `hello` is to `client`. `hostname` is our own; `reverse` is what is known of the client's name already."""
    known = hello_form(hello, client, hostname)
    if known is not None:
        return known
    name = parse_domain(hello.removesuffix(".")).ascii
    if reverse.confirmed and reverse.name == name:
        return HelloWord.CONFIRMED
    number = address_number(client)
    kind = RecordKind.A if number is None or number[0] == 4 else RecordKind.AAAA
    lookup = await resolver.query(name, kind)
    if isinstance(lookup, Unavailable):
        return HelloWord.TEMPERROR
    addresses = lookup.names if isinstance(lookup, Answer) else ()
    if any(address_number(text) == number for text in addresses):
        return HelloWord.CONFIRMED
    return HelloWord.OTHER if addresses else HelloWord.UNKNOWN
