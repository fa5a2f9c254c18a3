"""What one SPF check may ask of the DNS, and what it counts: terms, void lookups, names.

RFC 7208 section 4.6.4. A check that goes past a limit is over at once, wherever in the records it stands, and so is
one whose question the DNS does not answer: both are raised as `Ended`.
This module refuses to know records and their order.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from typing import Final

import msgspec

from staffetta.dns.resolver import Answer, Lookup, RecordKind, Resolver, Unavailable, normal_name
from staffetta.mail.network import address_number
from staffetta.mailauth.results import SpfWord

COSTLY_TERMS: Final = 10
"""Most include, a, mx, ptr, exists and redirect of one check, section 4.6.4."""

VOID_LOOKUPS: Final = 2
"""Most terms whose question has no answer, section 4.6.4."""

MX_HOSTS: Final = 10
"""Most MX hosts whose addresses are looked up for one `mx`; more are an error, section 4.6.4."""

POINTERS: Final = 10
"""Most names of the client that are looked at; more are passed over, section 4.6.4."""

UNKNOWN_NAME: Final = "unknown"


class Ended(Exception):
    """The whole check ends with `word`, because of `problem`."""

    def __init__(self, word: SpfWord, problem: str) -> None:
        super().__init__(problem)
        self.word = word
        self.problem = problem


class Client(msgspec.Struct, frozen=True, gc=False):
    """The address that asks to be let in: IP version, number, and the kind of record that holds such addresses."""

    version: int
    number: int
    width: int
    kind: RecordKind


def read_client(address: str) -> Client | None:
    """The client at `address`; an IPv4-mapped one is IPv4 (section 5). None when it is no address."""
    found = address_number(address)
    if found is None:
        return None
    version, number = found
    return Client(version, number, 32 if version == 4 else 128, RecordKind.A if version == 4 else RecordKind.AAAA)


class Lookups:
    """The questions of one check."""

    __slots__ = ("_client", "_pointers", "_proven", "_resolver", "costly_terms", "void_lookups")

    def __init__(self, resolver: Resolver, client: Client) -> None:
        self._resolver = resolver
        self._client = client
        self._pointers: tuple[str, ...] | None = None
        self._proven: dict[str, bool] = {}
        self.costly_terms = 0
        self.void_lookups = 0

    def spend_term(self) -> None:
        """Count a term that needs the DNS. Raises Ended."""
        self.costly_terms += 1
        if self.costly_terms > COSTLY_TERMS:
            raise Ended(SpfWord.PERMERROR, f"more than {COSTLY_TERMS} terms need the DNS")

    async def texts(self, name: str) -> tuple[bytes, ...]:
        """The TXT records of `name`. Raises Ended."""
        lookup = await self._resolver.query(name, RecordKind.TXT)
        if isinstance(lookup, Unavailable):
            raise _failed(name, "TXT", lookup)
        return lookup.texts if isinstance(lookup, Answer) else ()

    async def explanation(self, name: str) -> bytes | None:
        """The one text at `name`; None for anything else. It counts against nothing (section 4.6.4)."""
        lookup = await self._resolver.query(name, RecordKind.TXT)
        if not isinstance(lookup, Answer) or lookup.unusable or len(lookup.texts) != 1:
            return None
        return lookup.texts[0]

    async def exists(self, name: str) -> bool:
        """Whether `name` has an IPv4 address, of whatever family the client is (section 5.7). Raises Ended."""
        return bool((await self._answer(name, RecordKind.A)).records)

    async def has_address(self, name: str, bits4: int, bits6: int) -> bool:
        """Whether the client agrees with an address of `name` in so many bits. Raises Ended."""
        return self._matches((await self._answer(name, self._client.kind)).names, bits4, bits6)

    async def has_exchanger(self, name: str, bits4: int, bits6: int) -> bool:
        """The same for the addresses of the MX hosts of `name`, which are asked for at once. Raises Ended."""
        exchangers = (await self._answer(name, RecordKind.MX)).exchangers
        if len(exchangers) > MX_HOSTS:
            raise Ended(SpfWord.PERMERROR, f"more than {MX_HOSTS} MX hosts")
        failed: Ended | None = None
        hosts = dict.fromkeys(exchanger.host for exchanger in exchangers if exchanger.host)
        for host, lookup in await self._ask_together(hosts, self._client.kind):
            if isinstance(lookup, Unavailable):
                failed = _failed(host, self._client.kind.name, lookup)
            elif isinstance(lookup, Answer) and self._matches(lookup.names, bits4, bits6):
                return True
        if failed is not None:
            raise failed
        return False

    async def has_name_under(self, domain: str) -> bool:
        """Whether a name of the client that leads back to it is `domain` or below (section 5.5)."""
        wanted = normal_name(domain)
        names = await self._names()
        return bool(wanted) and any(await self._prove([name for name in names if _is_under(name, wanted)]))

    async def validated_name(self, domain: str) -> str:
        """What `%{p}` stands for: a proven name of the client, best `domain`, then one below it (section 7.3)."""
        wanted = normal_name(domain)
        names = list(await self._names())
        proven = [name for name, good in zip(names, await self._prove(names), strict=True) if good]
        if wanted in proven:
            return wanted
        below = [name for name in proven if wanted and _is_under(name, wanted)]
        return (below or proven or [UNKNOWN_NAME])[0]

    async def _answer(self, name: str, kind: RecordKind) -> Answer:
        lookup = await self._resolver.query(name, kind)
        if isinstance(lookup, Unavailable):
            raise _failed(name, kind.name, lookup)
        if isinstance(lookup, Answer) and (lookup.records or lookup.unusable):
            return lookup
        self._count_void()
        return _NOTHING

    def _count_void(self) -> None:
        self.void_lookups += 1
        if self.void_lookups > VOID_LOOKUPS:
            raise Ended(SpfWord.PERMERROR, f"more than {VOID_LOOKUPS} lookups that find nothing")

    def _matches(self, addresses: Iterable[str], bits4: int, bits6: int) -> bool:
        spare = self._client.width - (bits4 if self._client.version == 4 else bits6)
        number = self._client.number
        return any((_number(address) ^ number) >> spare == 0 for address in addresses)

    async def _names(self) -> tuple[str, ...]:
        """The client's names as it claims them; asked once. A failure is none (section 5.5), and having none is not a
        void lookup: it is not the domain's owner who publishes them, and a client must not choose the result."""
        if self._pointers is None:
            address = ipaddress.IPv4Address if self._client.version == 4 else ipaddress.IPv6Address
            lookup = await self._resolver.query(address(self._client.number).reverse_pointer, RecordKind.PTR)
            self._pointers = tuple(dict.fromkeys(lookup.names[:POINTERS])) if isinstance(lookup, Answer) else ()
        return self._pointers

    async def _prove(self, names: list[str]) -> list[bool]:
        """Which of the client's names lead back to it; one that cannot be looked up does not."""
        unknown = [name for name in names if name not in self._proven]
        for name, lookup in await self._ask_together(unknown, self._client.kind):
            self._proven[name] = isinstance(lookup, Answer) and self._matches(lookup.names, 32, 128)
        return [self._proven[name] for name in names]

    async def _ask_together(self, names: Iterable[str], kind: RecordKind) -> list[tuple[str, Lookup]]:
        """The answers for all names; those that are not known yet are asked for in parallel."""
        found: dict[str, Lookup | None] = {name: self._resolver.cached(name, kind) for name in names}
        asked = [name for name, lookup in found.items() if lookup is None]
        if len(asked) == 1:
            answers = [await self._resolver.query(asked[0], kind)]
        else:
            answers = await asyncio.gather(*[self._resolver.query(name, kind) for name in asked])
        found.update(zip(asked, answers, strict=True))
        return [(name, lookup) for name, lookup in found.items() if lookup is not None]


_NOTHING: Final = Answer((), 0)


def _failed(name: str, kind: str, lookup: Unavailable) -> Ended:
    return Ended(SpfWord.TEMPERROR, f"{kind} of {name}: {lookup.reason}")


def _is_under(name: str, domain: str) -> bool:
    return name == domain or name.endswith("." + domain)


def _number(address: str) -> int:
    # What a resolver gives is canonical, so the C function that knows nothing else may read it.
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return int.from_bytes(socket.inet_pton(family, address), "big")
