"""Where a domain's DMARC record stands, and which organization the domain belongs to: the walk up the DNS tree.

RFC 9989 sections 4.10 (the walk, at most eight queries), 4.10.1 (whose record applies) and 4.10.2 (the organizational
domain). A DNS failure is kept as a failure and never becomes "no record".
One thing is stricter than the RFC: a top-level domain whose record forgets `psd=y` does not make all domains below it
one organization. Section 11.8 names that mistake as a way to pass in another's name; it would be a TLD's typing error
or wildcard away.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from staffetta.dns.resolver import Answer, Lookup, RecordKind, Resolver, Unavailable
from staffetta.mailauth.dmarc.record import Record, the_record

LABELS: Final = 8
"""Names with more labels are cut to one less than this after the first query (RFC 9989 section 4.10, step 4)."""


class Failure(msgspec.Struct, frozen=True, gc=False):
    """The DNS did not say. `reason` is for the operator."""

    reason: str


class Found(msgspec.Struct, frozen=True, gc=False):
    """A valid record, and the domain (without `_dmarc.`) that has it."""

    domain: str
    record: Record

    @property
    def psd(self) -> str:
        """The tag, or `y` for a top-level domain that does not say: nobody else can be there."""
        return "y" if self.record.psd == "u" and "." not in self.domain else self.record.psd


class Walk(msgspec.Struct, frozen=True, gc=False):
    """One walk from `start`; `found` from the longest name to the shortest, as far as the walk went.

    With a `failure` the rest is not known: nothing may be concluded but from the start's own record.
    """

    start: str
    found: tuple[Found, ...] = ()
    failure: str = ""

    @property
    def organizational_domain(self) -> str:
        """RFC 9989 section 4.10.2. Without meaning when there is a failure."""
        for one in self.found:
            if one.psd == "n":
                return one.domain
            if one.psd == "y" and one.domain != self.start:
                return _one_label_more(self.start, one.domain)
        return self.found[-1].domain if self.found else self.start

    @property
    def policy(self) -> Found | None:
        """The record that applies to mail from `start`: its own, its organization's, or its public suffix's."""
        if not self.found:
            return None
        if self.found[0].domain == self.start:
            return self.found[0]
        organization = self.organizational_domain
        for one in self.found:
            if one.domain == organization:
                return one
        last = self.found[-1]
        return last if last.psd == "y" else None


def targets(domain: str) -> tuple[str, ...]:
    """The domains that a walk from `domain` asks, `domain` first: at most eight."""
    labels = domain.split(".")
    count = len(labels) - 1 if len(labels) <= LABELS else LABELS - 1
    return (domain, *[".".join(labels[-size:]) for size in range(count, 0, -1)])


def _one_label_more(name: str, above: str) -> str:
    return ".".join(name.split(".")[-(above.count(".") + 2) :])


class Discovery:
    """All that one message needs to know of DMARC records; every name is asked at most once. Not for two at a time."""

    __slots__ = ("_known", "_resolver", "_walks")

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._known: dict[str, Record | Failure | None] = {}
        self._walks: dict[str, Walk] = {}

    async def record(self, domain: str) -> Record | Failure | None:
        """The record at `domain` itself; None when there is none."""
        if domain in self._known:
            return self._known[domain]
        return self._learn(domain, await self._resolver.query(f"_dmarc.{domain}", RecordKind.TXT))

    async def walk(self, domain: str) -> Walk:
        """The walk from `domain`. The names above it are asked together: one more query where one stops early, and
        one waiting time instead of seven."""
        walk = self._walks.get(domain)
        if walk is None:
            own, *above = targets(domain)
            first = await self.record(own)
            stops = first.psd != "u" if isinstance(first, Record) else first is not None
            if not stops:
                await self._learn_all(above)
            walk = self._walks[domain] = self._walked(domain)
        return walk

    async def exists(self, domain: str) -> bool | Failure:
        """False when the DNS says that there is nothing at or below `domain` (RFC 9989 section 3.2.13, RFC 8020).

        TXT is asked because SPF asked for it already, as often as not.
        """
        lookup = await self._resolver.query(domain, RecordKind.TXT)
        if isinstance(lookup, Unavailable):
            return Failure(f"{domain}: {lookup.reason}")
        return isinstance(lookup, Answer)

    async def _learn_all(self, domains: list[str]) -> None:
        asked: list[str] = []
        for domain in domains:
            if domain in self._known:
                continue
            lookup = self._resolver.cached(f"_dmarc.{domain}", RecordKind.TXT)
            if lookup is None:
                asked.append(domain)
            else:
                self._learn(domain, lookup)
        if len(asked) == 1:  # a task costs more than all the rest
            await self.record(asked[0])
        elif asked:
            await asyncio.gather(*[self.record(domain) for domain in asked])

    def _learn(self, domain: str, lookup: Lookup) -> Record | Failure | None:
        known: Record | Failure | None = None
        if isinstance(lookup, Unavailable):
            known = Failure(f"_dmarc.{domain}: {lookup.reason}")
        elif isinstance(lookup, Answer):
            known = the_record(lookup.texts)
        self._known[domain] = known
        return known

    def _walked(self, domain: str) -> Walk:
        found: list[Found] = []
        for name in targets(domain):
            known = self._known.get(name)
            if isinstance(known, Failure):
                return Walk(domain, tuple(found), known.reason)
            if known is not None:
                found.append(Found(name, known))
                if known.psd != "u":
                    break
        return Walk(domain, tuple(found))
