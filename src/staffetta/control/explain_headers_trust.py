"""Whose Received fields are believed, and the boundary: the lowest field that one of them wrote.

RFC 5321 section 4.4: every server puts its field on top, so the fields above one of ours were written later, by those
who had the message after us, and the fields below it came with the message: whoever sent it may have made them up.
A field below ours is ours too only when ours says that the message came from one of us. Names that a client says of
itself count for nothing here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from staffetta.config.schema import Config
from staffetta.dns.denied import canonical_address
from staffetta.dns.resolver import Answer, RecordKind, Resolver
from staffetta.mail.domain import DomainError, parse_domain
from staffetta.mail.network import Network, NetworkError, NetworkSet, parse_network
from staffetta.message.received import Hop

HOSTS: Final = 20
"""Most trusted names whose addresses are asked for."""

_INSIDE: Final = NetworkSet(
    parse_network(text)
    for text in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)
"""Addresses that no stranger has."""

_LOOPBACK: Final = NetworkSet((parse_network("127.0.0.0/8"), parse_network("::1/128")))


class Trusted(msgspec.Struct, frozen=True):
    """Hosts that are believed: `names` exactly, `.domain` of `suffixes` and what is below, and addresses."""

    names: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()
    networks: NetworkSet = NetworkSet()
    addresses: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.names or self.suffixes or self.networks)

    def is_name(self, host: str) -> bool:
        """Whether `host`, a name as a field says it, is one of them."""
        name = host.rstrip(".")
        if not name.isascii():
            return False
        name = name.lower()
        if self.networks.contains(name):
            return True
        return name in self.names or name.endswith(self.suffixes or ("\0",))

    def is_address(self, address: str) -> bool:
        """Whether an address is known to be of one of them."""
        return canonical_address(address) in self.addresses or self.networks.contains(address)


class Boundary(msgspec.Struct, frozen=True, gc=False):
    """Where facts end. `index` is that of the hop, counted from 1 at the top; 0 when there is no field at all.

    `certain` is False when no trusted host wrote it, so that it is only the best guess; `caveat` says so, and what else
    limits it. `local`: the message was handed over on the host itself, with no connection.
    """

    index: int
    by: str
    address: str
    helo: str
    reverse: str
    certain: bool
    local: bool
    caveat: str


def parse_trust(texts: Iterable[str]) -> Trusted:
    """What `--trust` names: a host, `.domain` for all hosts of a domain, an address or network. Raises ValueError."""
    names: list[str] = []
    suffixes: list[str] = []
    networks: list[Network] = []
    for text in texts:
        try:
            networks.append(parse_network(text))
        except NetworkError:
            try:
                name = parse_domain(text.removesuffix(".").removeprefix(".")).ascii
            except (DomainError, UnicodeError) as error:
                raise ValueError("not a host name, .domain, address or network") from error
            (suffixes if text.startswith(".") else names).append(f".{name}" if text.startswith(".") else name)
    return Trusted(frozenset(names), tuple(suffixes), NetworkSet(networks))


async def gather_trust(given: Trusted, config: Config | None, resolver: Resolver | None) -> Trusted:
    """`given` with our own host name, the mail servers of our domains, and the addresses of all that have a name."""
    names = set(given.names)
    if config is not None:
        names.add(config.hostname.ascii)
        if resolver is not None:
            domains = [one.domain.ascii for one in config.domains[:HOSTS]]
            for found in await asyncio.gather(*(resolver.query(name, RecordKind.MX) for name in domains)):
                if isinstance(found, Answer):
                    names.update(one.host for one in found.exchangers if one.host)
    addresses: set[str] = set()
    if resolver is not None:
        asked = sorted(names)[:HOSTS]
        kinds = (RecordKind.A, RecordKind.AAAA)
        answers = await asyncio.gather(*(resolver.query(name, kind) for name in asked for kind in kinds))
        for answer in answers:
            if isinstance(answer, Answer):
                addresses.update(filter(None, map(canonical_address, answer.names)))
    return msgspec.structs.replace(given, names=frozenset(names), addresses=frozenset(addresses))


def find_boundary(hops: Sequence[Hop], trusted: Trusted) -> Boundary:
    """The boundary of a message whose hops are given from newest to oldest. Pure."""
    if not hops:
        return Boundary(0, "", "", "", "", False, False, "there is no Received field: nobody tells where it came from")
    start = _first_of_ours(hops, trusted)
    if start is None:
        who = "no trusted host wrote the top" if trusted else "no host is named as trusted"
        at = next((at for at, hop in enumerate(hops) if hop.address and not trusted.is_address(hop.address)), 0)
        return _boundary(hops, at, False, f"{who}, so the top-most Received field is taken as true without proof")
    at = start
    caveats: list[str] = []
    while at + 1 < len(hops) and (why := _leads_on(hops[at], hops[at + 1], trusted)):
        if why != _KNOWN:
            caveats.append(why.replace("{}", str(at + 1)))
        at += 1
    while at > start and not (hops[at].by or hops[at].address):
        at -= 1  # a note of a local program, such as qmail's, that belongs to the field above it
    return _boundary(hops, at, True, "; ".join(caveats[-1:]))


def _boundary(hops: Sequence[Hop], at: int, certain: bool, caveat: str) -> Boundary:
    hop = hops[at]
    return Boundary(at + 1, hop.by, hop.address, hop.helo, hop.reverse, certain, not hop.address, caveat)


def _first_of_ours(hops: Sequence[Hop], trusted: Trusted) -> int | None:
    """The first field of a trusted host, below nothing but fields that tell of no connection from outside."""
    for index, hop in enumerate(hops):
        if trusted.is_name(hop.by):
            return index
        if hop.address and not _INSIDE.contains(hop.address) and not trusted.is_address(hop.address):
            return None
    return None


_KNOWN: Final = "known"


def _leads_on(hop: Hop, below: Hop, trusted: Trusted) -> str:
    """Why the field below `hop`, which is true, is true as well: `known`, or with which doubt; "" when it is not."""
    if hop.by_user or (below.by and not trusted.is_name(below.by) and below.by.lower() != "localhost"):
        return ""
    if not hop.address or trusted.is_address(hop.address):
        return _KNOWN
    if _LOOPBACK.contains(hop.address):
        if hop.with_.upper().startswith(("LMTP", "UTF8LMTP")):
            return _KNOWN
        return f"a program on {hop.by} itself, if one was misused, could have made up what is below hop {{}}"
    if not _INSIDE.contains(hop.address):
        return ""
    return (
        f"hop {{}} came from the private address {hop.address}: if that is a gateway that hides its clients, look there"
    )
