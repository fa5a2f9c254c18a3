"""What a domain's SPF record costs and allows, seen without a message: for the domain's owner, and for a forecast.

RFC 7208 sections 3, 4.6.4, 5 and 10.1. The worst case is counted: a client that matches nothing, so that every term up
to `all` is evaluated, includes and redirects with it.
This module refuses to know what an owner ought to publish: it names what is so.
"""

from __future__ import annotations

import msgspec

from staffetta.dns.resolver import Resolver
from staffetta.mailauth.results import SpfResult, SpfWord
from staffetta.mailauth.spf.check import POSTMASTER, SpfQuestion, check_spf, spf_domain
from staffetta.mailauth.spf.lookups import COSTLY_TERMS, VOID_LOOKUPS
from staffetta.mailauth.spf.record import SpfRecord
from staffetta.mailauth.spf.walk import COUNTED_TERMS, Place, SpfProblem, Walk, covers_everything


class SpfInspection(msgspec.Struct, frozen=True, gc=False):
    """What was found. `record` is "" when there is none, or several. `error`: a lookup failed, so that the rest may be
    incomplete.

    `lookups` and `voids` are terms as section 4.6.4 counts them; `lookups` ends at COUNTED_TERMS. `networks` pass, if
    no earlier term refuses them; `everything`: every IPv4 or every IPv6 address does. `conditional` are terms that pass
    clients depending on the message or on the client's name. `final` is what a client that matches nothing gets.
    `includes` and `redirects` are the domains whose records belong to this one, at any depth, in the order met.
    The codes of `problems`: no_record, several_records, syntax, include_without_record (redirects too), loop,
    too_many_lookups, too_many_voids, too_many_mx, passes_everybody, no_all, ptr, void, unreachable.
    """

    domain: str
    record: str = ""
    terms: tuple[str, ...] = ()
    lookups: int = 0
    voids: int = 0
    problems: tuple[SpfProblem, ...] = ()
    networks: tuple[str, ...] = ()
    everything: bool = False
    conditional: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    redirects: tuple[str, ...] = ()
    final: SpfWord = SpfWord.NONE
    error: str = ""


async def inspect_spf(resolver: Resolver, domain: str) -> SpfInspection:
    """Inspect the record of `domain`, with all it leads to. Never raises for what the DNS says."""
    name = spf_domain(domain)
    if not name:
        problem = SpfProblem("no_record", domain, "", "not a fully qualified domain name")
        return SpfInspection(domain, problems=(problem,))
    walk = Walk(resolver, name)
    record = await walk.record(name)
    if isinstance(record, SpfRecord):
        final = await walk.through(record, Place(name, (name,)))
        _judge_counts(walk, name)
    elif walk.error:
        final = SpfWord.TEMPERROR
    elif record is None and any(problem.code == "no_record" for problem in walk.problems):
        final = SpfWord.NONE
    else:
        final = SpfWord.PERMERROR
    text = "" if record is None else record.text
    return SpfInspection(
        name,
        text,
        tuple([term for term in text.split(" ")[1:] if term]),
        walk.lookups,
        walk.voids,
        walk.problems,
        tuple([str(network) for network in sorted(walk.networks)]),
        walk.everything or covers_everything(walk.networks),
        tuple(walk.conditional),
        tuple(walk.includes),
        tuple(walk.redirects),
        final,
        walk.error,
    )


def _judge_counts(walk: Walk, domain: str) -> None:
    if walk.lookups > COSTLY_TERMS:
        many = f"{COUNTED_TERMS} or more" if walk.lookups >= COUNTED_TERMS else str(walk.lookups)
        text = f"{many} terms need the DNS, of which {COSTLY_TERMS} are allowed: a check may end in permerror"
        walk.note("too_many_lookups", domain, "", text)
    if walk.voids > VOID_LOOKUPS:
        text = f"{walk.voids} terms find nothing, of which {VOID_LOOKUPS} are allowed: a check may end in permerror"
        walk.note("too_many_voids", domain, "", text)


async def spf_allows(resolver: Resolver, domain: str, address: str) -> SpfResult:
    """What a receiver concludes when `address` sends as postmaster@`domain` and greets with that name."""
    return await check_spf(resolver, SpfQuestion(address, domain, POSTMASTER, domain, "", 0.0))
