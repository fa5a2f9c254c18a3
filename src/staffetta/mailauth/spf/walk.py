"""Every record that a domain's SPF record leads to, walked through as a client would that matches nothing.

RFC 7208 sections 4.6.4, 5 and 6. Each inclusion counts, as it does in a real check, even where the same domain was
included before; the DNS is asked once for each question, in parallel within a record.
This module refuses to know how what it finds is told; see `count`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

import msgspec

from staffetta.dns.resolver import Answer, Lookup, RecordKind, Resolver, Unavailable
from staffetta.mail.network import Network, address_number
from staffetta.mailauth.results import SpfWord
from staffetta.mailauth.spf.lookups import MX_HOSTS
from staffetta.mailauth.spf.macros import Facts, MacroText, expand_name, letters
from staffetta.mailauth.spf.record import Kind, Malformed, Mechanism, SpfRecord, is_small, read_spf_record, spf_records

COUNTED_TERMS: Final = 50
"""Where counting stops: far past the limit of 10, and the number says enough."""

QUERIES: Final = 300
"""Most questions of one walk: ten terms with ten MX hosts each, and both kinds of address of each, fit."""

_KNOWN_LETTERS: Final = frozenset("do")
_SPENT: Final = Unavailable("the records lead to more DNS queries than an inspection makes")
_WIDTH: Final = {4: 32, 6: 128}
_ADDRESSES: Final = (RecordKind.A, RecordKind.AAAA)

Key = tuple[str, RecordKind]


class SpfProblem(msgspec.Struct, frozen=True, gc=False):
    """One thing that is wrong or unwise. `domain` is the one whose record holds `term`, as written, or ""."""

    code: str
    domain: str
    term: str
    text: str


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where the walk is. `path` are the domains that led here, with this one. `passes`: a match here is a match of the
    whole; `decides`: what this record says of whoever matches nothing is the answer."""

    domain: str
    path: tuple[str, ...]
    passes: bool = True
    decides: bool = True

    def below(self, domain: str, *, passes: bool, decides: bool) -> Place:
        return Place(domain, (*self.path, domain), self.passes and passes, self.decides and decides)


class Walk:
    """One walk, and what it has found so far."""

    def __init__(self, resolver: Resolver, domain: str) -> None:
        self._resolver = resolver
        self._known: dict[Key, Lookup] = {}
        self._facts = Facts("postmaster", domain, domain, 4, 0, domain)
        self._problems: dict[SpfProblem, None] = {}
        self.lookups = 0
        self.voids = 0
        self.networks: set[Network] = set()
        self.everything = False
        self.conditional: dict[str, None] = {}
        self.includes: dict[str, None] = {}
        self.redirects: dict[str, None] = {}
        self.error = ""

    @property
    def problems(self) -> tuple[SpfProblem, ...]:
        """In the order met."""
        return tuple(self._problems)

    def note(self, code: str, domain: str, term: str, text: str) -> None:
        """Keep a problem, once."""
        self._problems[SpfProblem(code, domain, term, text)] = None

    async def record(self, domain: str, term: str = "", holder: str = "") -> SpfRecord | Malformed | None:
        """The one record of `domain`, to which `term` in the record of `holder` led. What is wrong is noted."""
        await self._fetch([(domain, RecordKind.TXT)])
        answer = self._answer(domain, RecordKind.TXT)
        records = spf_records(answer.texts) if answer is not None else ()
        if not records:
            if answer is not None:
                code = "include_without_record" if term else "no_record"
                self.note(code, holder or domain, term, f"{domain} has no SPF record")
            return None
        if len(records) > 1:
            text = f"{domain} has {len(records)} SPF records: a check ends in permerror"
            self.note("several_records", domain, "", text)
            return None
        if not is_small(records[0]):
            await asyncio.sleep(0)  # fifty of the largest in a row would hold up every session
        record = read_spf_record(records[0])
        if isinstance(record, Malformed):
            for wrong in record.problems:
                self.note("syntax", domain, wrong.term, wrong.problem)
        return record

    async def through(self, record: SpfRecord, place: Place) -> SpfWord:
        """Count one record with all below it, and say what a client that matches nothing in it gets."""
        reached = _reached(record)
        await self._fetch_for(reached, record.redirect, place.domain)
        for mechanism in reached:
            passing = place.passes and mechanism.result is SpfWord.PASS
            if mechanism.kind is Kind.ALL:
                self._note_unreached(record, place.domain, len(reached))
                if passing:
                    self._pass_everybody(place.domain, mechanism.text, "every client passes")
                return mechanism.result
            if mechanism.network is None:
                if not self._count_term():
                    return SpfWord.PERMERROR
                await self._costly(mechanism, place, passing=passing)
            elif passing:
                self.networks.add(mechanism.network)
        if record.redirect is not None:
            return await self._redirected(record.redirect, f"redirect={record.redirect_text}", place)
        if place.decides:
            self.note("no_all", place.domain, "", "no 'all' ends the record: whoever matches nothing is neutral")
        return SpfWord.NEUTRAL

    def _count_term(self) -> bool:
        """False when enough was counted."""
        if self.lookups >= COUNTED_TERMS:
            return False
        self.lookups += 1
        return True

    def _pass_everybody(self, domain: str, term: str, text: str) -> None:
        self.everything = True
        self.note("passes_everybody", domain, term, text)

    def _note_unreached(self, record: SpfRecord, domain: str, reached: int) -> None:
        if len(record.mechanisms) > reached:
            term = record.mechanisms[reached].text
            self.note("unreachable", domain, term, "it stands after 'all' and is never looked at")
        if record.redirect is not None:
            term = f"redirect={record.redirect_text}"
            self.note("unreachable", domain, term, "a record with 'all' never redirects")

    async def _fetch(self, keys: Iterable[Key]) -> None:
        """Ask for what is not known yet, in parallel."""
        wanted = [key for key in dict.fromkeys(keys) if key not in self._known]
        room = max(0, QUERIES - len(self._known))
        answers = await asyncio.gather(*[self._resolver.query(*key) for key in wanted[:room]])
        self._known.update(zip(wanted, answers, strict=False))

    def _answer(self, name: str, kind: RecordKind) -> Answer | None:
        """What was fetched, empty for an absence; None when it is not known, which `error` then tells."""
        lookup = self._known.get((name, kind), _SPENT)
        if isinstance(lookup, Unavailable):
            self.error = self.error or f"{kind.name} of {name}: {lookup.reason}"
            return None
        return lookup if isinstance(lookup, Answer) else _NOTHING

    async def _fetch_for(self, mechanisms: tuple[Mechanism, ...], redirect: MacroText | None, domain: str) -> None:
        """What the terms of one record need, all at once, then the addresses of MX hosts."""
        keys: list[Key] = []
        exchanges: list[str] = []
        costly = [mechanism for mechanism in mechanisms if mechanism.network is None]
        ends = bool(costly) and costly[-1].kind is Kind.ALL
        for mechanism in costly[: COUNTED_TERMS - self.lookups]:
            name = self._name(mechanism.target, domain)
            if name is None:
                continue
            match mechanism.kind:
                case Kind.INCLUDE:
                    keys.append((name, RecordKind.TXT))
                case Kind.A:
                    keys += [(name, kind) for kind in _ADDRESSES]
                case Kind.EXISTS:
                    keys.append((name, RecordKind.A))
                case Kind.MX:
                    keys.append((name, RecordKind.MX))
                    exchanges.append(name)
                case _:
                    pass
        target = self._name(redirect, domain) if redirect is not None and not ends else None
        if target is not None:
            keys.append((target, RecordKind.TXT))
        await self._fetch(keys)
        await self._fetch([(host, kind) for name in exchanges for host in self._hosts(name) for kind in _ADDRESSES])

    def _name(self, target: MacroText | None, domain: str) -> str | None:
        """Where a term leads; None when that depends on the message."""
        if target is None:
            return domain
        if not letters(target) <= _KNOWN_LETTERS:
            return None
        return expand_name(target, msgspec.structs.replace(self._facts, domain=domain))

    def _hosts(self, name: str) -> list[str]:
        lookup = self._known.get((name, RecordKind.MX))
        exchangers = lookup.exchangers if isinstance(lookup, Answer) else ()
        return [exchanger.host for exchanger in exchangers[:MX_HOSTS] if exchanger.host]

    async def _costly(self, mechanism: Mechanism, place: Place, *, passing: bool) -> None:
        term, kind = mechanism.text, mechanism.kind
        if kind is Kind.PTR or (mechanism.target is not None and "p" in letters(mechanism.target)):
            text = "it asks for the client's name: slow, and often ignored (RFC 7208 section 5.5)"
            self.note("ptr", place.domain, term, text)
        name = self._name(mechanism.target, place.domain)
        if name is None or kind is Kind.PTR:
            if passing:
                self.conditional[term] = None
            return
        match kind:
            case Kind.INCLUDE:
                await self._included(term, name, place, passing=passing)
            case Kind.MX:
                self._exchangers(mechanism, name, place.domain, passing=passing)
            case Kind.A:
                self._void_unless(self._addresses(mechanism, [name], passing=passing), place.domain, term, name)
            case _:
                answer = self._answer(name, RecordKind.A)
                self._void_unless(None if answer is None else bool(answer.records), place.domain, term, name)
                if passing and answer is not None and answer.records:
                    self._pass_everybody(place.domain, term, f"{name} exists, so every client passes")

    async def _included(self, term: str, name: str, place: Place, *, passing: bool) -> None:
        if name in place.path:
            self.note("loop", place.domain, term, f"{name} leads back to itself: a check ends in permerror")
            return
        self.includes[name] = None
        record = await self.record(name, term, place.domain)
        if isinstance(record, SpfRecord):
            await self.through(record, place.below(name, passes=passing, decides=False))

    async def _redirected(self, target: MacroText, term: str, place: Place) -> SpfWord:
        name = self._name(target, place.domain)
        if not self._count_term():
            return SpfWord.PERMERROR
        if name is None:
            self.conditional[term] = None
            return SpfWord.NEUTRAL
        if name in place.path:
            self.note("loop", place.domain, term, f"{name} leads back to itself: a check ends in permerror")
            return SpfWord.PERMERROR
        self.redirects[name] = None
        record = await self.record(name, term, place.domain)
        if isinstance(record, SpfRecord):
            return await self.through(record, place.below(name, passes=True, decides=True))
        return SpfWord.PERMERROR

    def _exchangers(self, mechanism: Mechanism, name: str, domain: str, *, passing: bool) -> None:
        answer = self._answer(name, RecordKind.MX)
        count = 0 if answer is None else len(answer.exchangers)
        self._void_unless(
            None if answer is None else bool(answer.records or answer.unusable), domain, mechanism.text, name
        )
        if count > MX_HOSTS:
            text = f"{name} has {count} MX hosts, of which {MX_HOSTS} are allowed: a check ends in permerror"
            self.note("too_many_mx", domain, mechanism.text, text)
        self._addresses(mechanism, self._hosts(name), passing=passing)

    def _addresses(self, mechanism: Mechanism, names: list[str], *, passing: bool) -> bool | None:
        """Whether there are any; None when that is not known."""
        answers = [self._answer(name, kind) for name in names for kind in _ADDRESSES]
        addresses = [address for answer in answers if answer is not None for address in answer.names]
        if passing:
            self.networks.update([_around(address, mechanism.bits4, mechanism.bits6) for address in addresses])
        return None if None in answers and not addresses else bool(addresses)

    def _void_unless(self, found: bool | None, domain: str, term: str, name: str) -> None:
        if found is False:
            self.voids += 1
            self.note("void", domain, term, f"{name} has nothing that this term asks for")


_NOTHING: Final = Answer((), 0)


def _reached(record: SpfRecord) -> tuple[Mechanism, ...]:
    """The mechanisms up to the first `all`, which is one of them."""
    for position, mechanism in enumerate(record.mechanisms):
        if mechanism.kind is Kind.ALL:
            return record.mechanisms[: position + 1]
    return record.mechanisms


def _around(address: str, bits4: int, bits6: int) -> Network:
    version, number = address_number(address) or (6, 0)
    spare = _WIDTH[version] - (bits4 if version == 4 else bits6)
    first = number >> spare << spare
    return Network(version, first, first | (1 << spare) - 1)


def covers_everything(networks: Iterable[Network]) -> bool:
    """Whether the networks together leave out no address of a family."""
    free = dict.fromkeys(_WIDTH, 0)
    for network in sorted(networks):
        if network.first <= free[network.version]:
            free[network.version] = max(free[network.version], network.last + 1)
    return any(free[version] == 1 << width for version, width in _WIDTH.items())
