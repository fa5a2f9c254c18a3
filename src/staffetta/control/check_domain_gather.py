"""Asking the DNS everything that a check of a domain needs, all at once. What follows: see `policy.posture`.

RFC 5321 section 5.1, RFC 7208, RFC 6376, RFC 9989, RFC 9990 section 4, RFC 8461, RFC 8460, RFC 7672.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from staffetta.control.lists import AskedList, ask_lists
from staffetta.dns.denied import why_denied
from staffetta.dns.mx import HOSTS, find_addresses
from staffetta.dns.resolver import Answer, NoSuchName, RecordKind, Resolver, Unavailable
from staffetta.dns.reverse import find_name
from staffetta.mail.domain import DomainError, parse_domain
from staffetta.mail.network import NetworkSet
from staffetta.mailauth.dkim.record import record_name
from staffetta.mailauth.dmarc.discovery import Discovery, Walk
from staffetta.mailauth.spf.count import inspect_spf
from staffetta.policy.posture.facts import (
    AddressFacts,
    DmarcRecordFacts,
    DomainFacts,
    HostFacts,
    MxFacts,
    Origin,
    PolicyFile,
    ReportTarget,
    SelectorFacts,
    StsFacts,
    Texts,
    TlsaFacts,
)
from staffetta.tlspolicy.dane import tlsa_name
from staffetta.tlspolicy.mta_sts import sts_records, why_bad_record

COMMON_SELECTORS: Final = (
    "google",
    "selector1",
    "selector2",
    "default",
    "dkim",
    "mail",
    "smtp",
    "k1",
    "k2",
    "k3",
    "s1",
    "s2",
    "mandrill",
    "zoho",
    "pm",
    "fm1",
    "protonmail",
    "sig1",
)
"""Selectors that large senders give to all their customers, and what manuals use in their examples."""

TARGETS: Final = 5
"""Most destinations of reports whose consent is asked for."""

Fetch = Callable[[str], Awaitable[PolicyFile]]
"""Fetches the MTA-STS policy file of a domain."""


class OurKey(msgspec.Struct, frozen=True, gc=False):
    """A key of this relay: the record it needs, and whether it signs now."""

    selector: str
    record: str
    signs: bool


class DomainQuestion(msgspec.Struct, frozen=True):
    """What to ask about. `allow` as in `[outbound]`; `keys_problem` says why `keys` may be incomplete."""

    domain: str
    selectors: tuple[str, ...] = ()
    keys: tuple[OurKey, ...] = ()
    local: bool = False
    keys_problem: str = ""
    lists: tuple[AskedList, ...] = ()
    allow: NetworkSet = NetworkSet()


async def gather_facts(resolver: Resolver, question: DomainQuestion, fetch: Fetch) -> DomainFacts:
    """All facts. Never raises for what the DNS or a server says."""
    domain = question.domain
    mx, spf, dmarc, sts, tls_rpt, selectors = await asyncio.gather(
        _mx(resolver, question),
        inspect_spf(resolver, domain),
        _dmarc(resolver, domain),
        _sts(resolver, domain, fetch),
        _texts(resolver, f"_smtp._tls.{domain}"),
        _selectors(resolver, question),
    )
    return DomainFacts(
        domain,
        mx,
        spf,
        dmarc,
        sts,
        tls_rpt,
        selectors,
        question.local,
        question.keys_problem,
        tuple([one.zone for one in question.lists]),
    )


async def _texts(resolver: Resolver, name: str) -> Texts:
    lookup = await resolver.query(name, RecordKind.TXT)
    if isinstance(lookup, Unavailable):
        return Texts(name, failure=lookup.reason)
    return Texts(name, lookup.texts if isinstance(lookup, Answer) else ())


# Where mail goes.


async def _mx(resolver: Resolver, question: DomainQuestion) -> MxFacts:
    domain = question.domain
    lookup = await resolver.query(domain, RecordKind.MX)
    if isinstance(lookup, Unavailable):
        return MxFacts(failure=lookup.reason)
    if isinstance(lookup, NoSuchName):
        return MxFacts(exists=False)
    exchangers = sorted(lookup.exchangers)
    if not exchangers and not lookup.unusable:
        host = await _host(resolver, question, 0, domain)
        found = host.addresses or host.failure
        return MxFacts(
            implicit=bool(host.addresses), hosts=(host,) if found else (), authenticated=lookup.authenticated
        )
    names = [mx for mx in exchangers if mx.host and not mx.host.rpartition(".")[2].isdigit()]
    null = any(not mx.host for mx in exchangers)
    bad = sum(bool(mx.host) for mx in exchangers) - len(names)
    once = {mx.host: mx for mx in reversed(names)}
    chosen = sorted(once.values())[:HOSTS]
    hosts = await asyncio.gather(*[_host(resolver, question, mx.preference, mx.host) for mx in chosen])
    return MxFacts(
        records=tuple([f"{mx.preference} {mx.host or '.'}" for mx in exchangers[:HOSTS]]),
        null=null,
        unusable=lookup.unusable + bad,
        hosts=tuple(hosts),
        authenticated=lookup.authenticated,
    )


async def _host(resolver: Resolver, question: DomainQuestion, preference: int, host: str) -> HostFacts:
    addresses, alias, tlsa = await asyncio.gather(
        find_addresses(resolver, host), resolver.query(host, RecordKind.CNAME), _tlsa(resolver, host)
    )
    names = alias.names if isinstance(alias, Answer) else ()
    # The domain's own address standing in for an MX may well be an alias: RFC 5321 section 5.1 follows it.
    found = names[0] if names and host != question.domain else ""
    if isinstance(addresses, Unavailable):
        return HostFacts(preference, host, alias=found, failure=addresses.reason, tlsa=tlsa)
    about = await asyncio.gather(*[_address(resolver, question, address) for address in addresses])
    return HostFacts(preference, host, tuple(about), found, tlsa=tlsa)


async def _address(resolver: Resolver, question: DomainQuestion, address: str) -> AddressFacts:
    denied = why_denied(address, question.allow)
    if denied is not None:
        return AddressFacts(address, denied)
    reverse, listings = await asyncio.gather(find_name(resolver, address), ask_lists(resolver, question.lists, address))
    return AddressFacts(address, "", reverse, listings)


async def _tlsa(resolver: Resolver, host: str) -> TlsaFacts:
    name = tlsa_name(host)
    lookup = await resolver.query(name, RecordKind.TLSA)
    if isinstance(lookup, Unavailable):
        return TlsaFacts(name, failure=lookup.reason)
    if isinstance(lookup, NoSuchName):
        return TlsaFacts(name)
    return TlsaFacts(name, lookup.associations, lookup.unusable, lookup.authenticated)


# Who may send.


async def _dmarc(resolver: Resolver, domain: str) -> DmarcRecordFacts:
    own, walk = await asyncio.gather(_texts(resolver, f"_dmarc.{domain}"), Discovery(resolver).walk(domain))
    found = walk.policy
    if found is None:
        return DmarcRecordFacts(own, walk, own)
    applied = own if found.domain == domain else await _texts(resolver, f"_dmarc.{found.domain}")
    strangers = _outside(found.record.reports, found.domain)
    if not strangers:
        return DmarcRecordFacts(own, walk, applied)
    organization = walk if found.domain == domain else await Discovery(resolver).walk(found.domain)
    targets = await asyncio.gather(
        *[_target(resolver, uri, found.domain, other, organization) for uri, other in strangers]
    )
    outside = tuple([target for target in targets if target is not None])
    return DmarcRecordFacts(own, walk, applied, outside)


def _outside(uris: tuple[str, ...], domain: str) -> list[tuple[str, str]]:
    """Destinations of reports that are not in the domain itself, with their domains."""
    found: list[tuple[str, str]] = []
    for uri in uris[:TARGETS]:
        if uri[:7].lower() != "mailto:":
            continue
        try:
            other = parse_domain(uri.partition("?")[0].rpartition("@")[2]).ascii
        except DomainError:
            continue
        if other != domain:
            found.append((uri, other))
    return found


async def _target(resolver: Resolver, uri: str, domain: str, other: str, organization: Walk) -> ReportTarget | None:
    """Whether `other` wants reports about `domain`; None when both are one organization."""
    name = f"{domain}._report._dmarc.{other}"
    walk, texts = await asyncio.gather(Discovery(resolver).walk(other), _texts(resolver, name))
    if (
        not walk.failure
        and not organization.failure
        and walk.organizational_domain == organization.organizational_domain
    ):
        return None
    if any(text.lstrip(b" \t")[:8] == b"v=DMARC1" for text in texts.texts):
        return ReportTarget(uri, name, allowed=True)
    unknown = texts.failure or walk.failure or organization.failure
    return ReportTarget(uri, name, None if unknown else False)


async def _selectors(resolver: Resolver, question: DomainQuestion) -> tuple[SelectorFacts, ...]:
    ours = {key.selector: key for key in question.keys}
    origins = dict.fromkeys(COMMON_SELECTORS, Origin.COMMON)
    origins |= dict.fromkeys(question.selectors, Origin.NAMED)
    origins |= dict.fromkeys(ours, Origin.OURS)
    order = sorted(origins, key=lambda selector: list(Origin).index(origins[selector]))
    names = [record_name(selector, question.domain) for selector in order]
    found = await asyncio.gather(*[_texts(resolver, name) for name in names])
    facts: list[SelectorFacts] = []
    for selector, texts in zip(order, found, strict=True):
        key = ours.get(selector)
        facts.append(
            SelectorFacts(selector, origins[selector], texts, key.record, key.signs)
            if key is not None
            else SelectorFacts(selector, origins[selector], texts)
        )
    return tuple(facts)


# How safe the way is.


async def _sts(resolver: Resolver, domain: str, fetch: Fetch) -> StsFacts:
    record = await _texts(resolver, f"_mta-sts.{domain}")
    records = sts_records(record.texts)
    if len(records) != 1 or why_bad_record(records[0]):
        return StsFacts(record)
    return StsFacts(record, await fetch(domain))
