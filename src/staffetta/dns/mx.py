"""Which hosts take mail for a domain, in the order to try them.

RFC 5321 section 5.1 (MX, implicit MX, our own name in the list), RFC 7505 (null MX), RFC 3463 (the status of each end).
`Unavailable` is never taken for an absence: no answer about MX never leads to the address records.
This module refuses to know connections and TLS; the addresses are judged by `denied` when they are connected to.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from typing import Any, Final

import msgspec

from staffetta.dns.resolver import (
    Answer,
    Lookup,
    MailExchanger,
    NoSuchName,
    RecordKind,
    Resolver,
    Unavailable,
)
from staffetta.mail.domain import AddressLiteral, Domain
from staffetta.mail.network import address_number
from staffetta.mail.reply import Reply, reply

HOSTS: Final = 16
"""Most MX hosts that are tried."""

ADDRESSES: Final = 16
"""Most addresses of one host that are tried, of each family half when there are more."""

LOOPBACK: Final = ("127.0.0.1", "::1")

NO_SUCH_DOMAIN: Final = reply(550, "5.1.2", "The recipient's domain does not exist")
TAKES_NO_MAIL: Final = reply(556, "5.1.10", "The recipient's domain takes no mail")
NO_HOST: Final = reply(550, "5.4.4", "The recipient's domain has no mail server and no address")
UNUSABLE_HOSTS: Final = reply(550, "5.4.4", "The mail servers of the recipient's domain are not valid host names")
LOOP: Final = reply(554, "5.4.6", "Mail for the recipient's domain leads back to this server")
LOOKUP_FAILED: Final = reply(451, "4.4.3", "The name service does not answer for the recipient's domain")
"""What the attempt says of Unavailable."""


class OwnIdentity(msgspec.Struct, frozen=True, gc=False):
    """Who we are: names in lower case, and addresses as `denied.canonical_address` writes them, without those that
    `[outbound] allow` names (where several relays share a machine, an address of ours may well be another's)."""

    hostnames: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()

    def is_any_of(self, addresses: tuple[str, ...]) -> bool:
        """True when one of the addresses is ours. The host with them, and all that are not preferred to it, lead back
        here (RFC 5321 section 5.1)."""
        return bool(self.addresses) and not self.addresses.isdisjoint(addresses)


class MxHost(msgspec.Struct, frozen=True, order=True, gc=False):
    """One host to try: a name, or for an address literal the address."""

    preference: int
    host: str


class Hosts(msgspec.Struct, frozen=True, gc=False):
    """Where to go, in this order; at least one. `implicit`: the domain has no MX and stands for itself.

    `authenticated`: the MX answer was (RFC 7672 section 2.2.1).
    """

    domain: str
    implicit: bool
    hosts: tuple[MxHost, ...]
    authenticated: bool = False


class Nowhere(msgspec.Struct, frozen=True, gc=False):
    """No server takes this mail, for good: `reply` says so to the sender."""

    domain: str
    reply: Reply


Destination = Hosts | Nowhere | Unavailable
Shuffle = Callable[[list[MxHost]], None]
"""Puts a list in random order, in place: `random.shuffle`, or a seeded one."""


async def find_hosts(
    resolver: Resolver, domain: Domain | AddressLiteral, own: OwnIdentity, shuffle: Shuffle
) -> Destination:
    """The hosts for mail to `domain`. Suspends only when the resolver has to ask."""
    if isinstance(domain, AddressLiteral):
        if own.is_any_of((_unmapped(domain.address),)):
            return Nowhere(str(domain), LOOP)
        return Hosts(str(domain), True, (MxHost(0, domain.address),))
    name = domain.ascii
    lookup = await resolver.query(name, RecordKind.MX)
    match lookup:
        case Unavailable():
            return lookup
        case NoSuchName():
            return Nowhere(name, NO_SUCH_DOMAIN)
        case Answer(records=(), unusable=0):
            return await _implicit(resolver, name, own)
    return _listed(name, lookup, own, shuffle)


def _listed(name: str, answer: Answer, own: OwnIdentity, shuffle: Shuffle) -> Hosts | Nowhere:
    exchangers = answer.exchangers
    if not answer.unusable and all(not exchanger.host for exchanger in exchangers):
        return Nowhere(name, TAKES_NO_MAIL)
    # A null MX beside others is a mistake (RFC 7505 section 3); the others tell what was meant.
    usable = [MxHost(mx.preference, mx.host) for mx in exchangers if _is_name(mx)]
    if not usable:
        return Nowhere(name, UNUSABLE_HOSTS)
    if len(usable) > 1:
        shuffle(usable)
        usable.sort(key=_preference)  # stable: equals stay shuffled
        usable = _without_repetition(usable)
    ours = min([mx.preference for mx in usable if mx.host in own.hostnames], default=None)
    if ours is not None:
        usable = [mx for mx in usable if mx.preference < ours]
        if not usable:
            return Nowhere(name, LOOP)
    return Hosts(name, False, tuple(usable[:HOSTS]), answer.authenticated)


async def _implicit(resolver: Resolver, name: str, own: OwnIdentity) -> Destination:
    addresses = await find_addresses(resolver, name)
    if isinstance(addresses, Unavailable):
        return addresses
    if not addresses:
        return Nowhere(name, NO_HOST)
    if name in own.hostnames or own.is_any_of(addresses):
        return Nowhere(name, LOOP)
    return Hosts(name, True, (MxHost(0, name),))


def _preference(host: MxHost) -> int:
    return host.preference


def _is_name(mx: MailExchanger) -> bool:
    # `MX 10 192.0.2.1` names a host in a top-level domain "1", not an address: RFC 5321 section 5.1 wants a name.
    return bool(mx.host) and not mx.host.rpartition(".")[2].isdigit()


def _without_repetition(hosts: list[MxHost]) -> list[MxHost]:
    best: dict[str, MxHost] = {}
    for host in hosts:
        best.setdefault(host.host, host)
    return list(best.values())


async def find_addresses(resolver: Resolver, host: str) -> tuple[str, ...] | Unavailable:
    """The addresses of a host of `Hosts`: IPv6 and IPv4 in turn, IPv6 first, bounded; empty: it has none.

    Unavailable only when nothing is known; where one family answers, the other's silence does not count.
    """
    if address_number(host) is not None:
        return (host,)
    if host == "localhost" or host.endswith(".localhost"):
        return LOOPBACK  # RFC 6761 section 6.3: known without asking; `denied` still judges where strangers name it
    four = resolver.cached(host, RecordKind.A)
    six = resolver.cached(host, RecordKind.AAAA)
    if four is None and six is None:
        four, six = await asyncio.gather(resolver.query(host, RecordKind.A), resolver.query(host, RecordKind.AAAA))
    elif four is None:
        four = await resolver.query(host, RecordKind.A)
    elif six is None:
        six = await resolver.query(host, RecordKind.AAAA)
    fours, sixes = _addresses(four), _addresses(six)
    if not fours and not sixes:
        for lookup in (four, six):
            if isinstance(lookup, Unavailable):
                return lookup
    return _in_turn(sixes, fours)


def _addresses(lookup: Lookup | None) -> tuple[str, ...]:
    return lookup.names if isinstance(lookup, Answer) else ()


def _in_turn(sixes: tuple[str, ...], fours: tuple[str, ...]) -> tuple[str, ...]:
    if not sixes:
        return fours[:ADDRESSES]
    if not fours:
        return sixes[:ADDRESSES]
    mixed: list[str] = []
    for position in range(min(max(len(sixes), len(fours)), ADDRESSES)):
        mixed += sixes[position : position + 1]
        mixed += fours[position : position + 1]
    return tuple(mixed[:ADDRESSES])


def _unmapped(address: str) -> str:
    mapped = ipaddress.IPv6Address(address).ipv4_mapped if ":" in address else None
    return address if mapped is None else str(mapped)


class DescribedHost(msgspec.Struct, frozen=True, gc=False):
    """One host with its addresses. `error`: why they are not known."""

    preference: int
    host: str
    addresses: tuple[str, ...]
    error: str | None = None


class Description(msgspec.Struct, frozen=True, gc=False):
    """What `lookup mx D` says. `error` is None when mail can go there; `temporary`: nobody knows now."""

    domain: str
    null_mx: bool
    implicit: bool
    hosts: tuple[DescribedHost, ...]
    error: str | None
    temporary: bool = False

    def fields(self) -> dict[str, Any]:
        """The JSON object of the interface."""
        hosts = [
            {"preference": host.preference, "host": host.host, "addresses": list(host.addresses)} for host in self.hosts
        ]
        return {
            "domain": self.domain,
            "null_mx": self.null_mx,
            "implicit": self.implicit,
            "hosts": hosts,
            "error": self.error,
        }


async def describe(resolver: Resolver, domain: Domain | AddressLiteral, own: OwnIdentity | None = None) -> Description:
    """What the DNS says of mail to `domain`, with the addresses of all hosts, in order of preference and name."""
    destination = await find_hosts(resolver, domain, own or OwnIdentity(), list.sort)
    if isinstance(destination, Unavailable):
        return Description(str(domain), False, False, (), destination.reason, True)
    if isinstance(destination, Nowhere):
        null_mx = destination.reply is TAKES_NO_MAIL
        return Description(str(domain), null_mx, False, (), str(destination.reply))
    found = await asyncio.gather(*[find_addresses(resolver, host.host) for host in destination.hosts])
    described = [
        DescribedHost(host.preference, host.host, (), addresses.reason)
        if isinstance(addresses, Unavailable)
        else DescribedHost(host.preference, host.host, addresses)
        for host, addresses in zip(destination.hosts, found, strict=True)
    ]
    if any(host.addresses for host in described):
        return Description(str(domain), False, destination.implicit, tuple(described), None)
    failed = [host.error for host in described if host.error]
    error = failed[0] if failed else str(NO_HOST)
    return Description(str(domain), False, destination.implicit, tuple(described), error, bool(failed))
