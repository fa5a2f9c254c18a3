"""The name of an address, and whether that name leads back to the address.

RFC 1035 section 3.5 and RFC 3596 section 2.5 (in-addr.arpa, ip6.arpa); RFC 8601 section 2.7.3 (iprev).
Whoever holds an address writes any name they like for it; only a confirmed one says something.
"""

from __future__ import annotations

import ipaddress
from typing import Final

import msgspec

from staffetta.dns.resolver import Answer, Lookup, RecordKind, Resolver, Unavailable
from staffetta.mail.network import address_number

NAMES: Final = 4
"""Most names of one address that are looked up again; there should be one."""


class Reverse(msgspec.Struct, frozen=True, gc=False):
    """`name` is "" when there is none. `temporary`: a lookup failed, so that `confirmed` false proves nothing."""

    name: str = ""
    confirmed: bool = False
    temporary: bool = False


def reverse_name(address: str) -> str:
    """Where the name of `address` is kept. Raises ValueError when it is no address."""
    number = address_number(address)
    if number is None:
        raise ValueError("not an address")
    version, value = number
    return (ipaddress.IPv4Address(value) if version == 4 else ipaddress.IPv6Address(value)).reverse_pointer


async def find_name(resolver: Resolver, address: str) -> Reverse:
    """The name of `address`: the first that leads back to it, else the first of all. Raises ValueError."""
    number = address_number(address)
    pointers = await resolver.query(reverse_name(address), RecordKind.PTR)
    if not isinstance(pointers, Answer):
        return Reverse(temporary=isinstance(pointers, Unavailable))
    names = pointers.names[:NAMES]
    if not names or number is None:
        return Reverse()
    kind = RecordKind.A if number[0] == 4 else RecordKind.AAAA
    temporary = False
    for name in names:
        forward: Lookup = await resolver.query(name, kind)
        if isinstance(forward, Unavailable):
            temporary = True
        elif isinstance(forward, Answer) and any(address_number(text) == number for text in forward.names):
            return Reverse(name, confirmed=True)
    return Reverse(names[0], temporary=temporary)
