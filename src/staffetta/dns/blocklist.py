"""Asking a list in the DNS what it holds of an address or a domain, and believing only what it documents.

RFC 5782 sections 2 (IPv4 and IPv6 addresses) and 3 (domains); what lists answer in 127.255.255.0/24 is about us, never
about who was asked for. An answer outside 127.0.0.0/8 is a parked or captured zone.
This module refuses to know what follows from a listing. Whether a list is in order: see `list_health`.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Final

import msgspec

from staffetta.dns.list_meanings import FAULTS, says_nothing
from staffetta.dns.resolver import Answer, Lookup, NoSuchName, RecordKind, Resolver, Unavailable, normal_name
from staffetta.mail.network import NetworkSet, address_number, parse_network

LOOKUP_SECONDS: Final = 2.0
"""How long one list may take; a list is asked beside all else, and mail does not wait longer for it."""

CODES: Final = 16
"""Most answers of one list that are read; real ones give up to four."""

REASON_CHARACTERS: Final = 200

_ANSWERS: Final = NetworkSet([parse_network("127.0.0.0/8")])
_FAULTS: Final = NetworkSet([parse_network("127.255.255.0/24")])


class Listing(msgspec.Struct, frozen=True, gc=False):
    """What one list says of one address or domain. `error`: it said nothing that counts; `fault`: because the list, or
    our way of asking it, is not in order. `text` is the list's own reason, as it came. `codes` are all its answers."""

    zone: str
    subject: str
    listed: bool = False
    codes: tuple[str, ...] = ()
    action: str = "record"
    error: str = ""
    fault: bool = False
    text: str = ""


def address_query(zone: str, address: str) -> str:
    """The name under which `zone` keeps `address`. Raises ValueError when it is no address.

    An IPv4-mapped IPv6 address is the IPv4 address.
    """
    number = address_number(address)
    if number is None:
        raise ValueError("not an address")
    version, value = number
    pointer = (ipaddress.IPv4Address(value) if version == 4 else ipaddress.IPv6Address(value)).reverse_pointer
    return f"{pointer.rpartition('.')[0].rpartition('.')[0]}.{zone}"


def domain_query(zone: str, domain: str) -> str:
    """The name under which `zone` keeps `domain`; "" for what is no domain name, above all an address: asking a list
    of domains for addresses makes some lists list everything."""
    name = normal_name(domain)
    if not name or address_number(name) is not None:
        return ""
    last = name.rpartition(".")[2]
    if last.isdigit() or last.startswith("0x") or ":" in name or "[" in name:
        return ""
    return f"{name}.{zone}"


async def look_up_address(
    resolver: Resolver, zone: str, address: str, codes: NetworkSet, *, with_text: bool = False
) -> Listing:
    """What `zone` says of `address`; listed only for answers in `codes`. Raises ValueError when it is no address."""
    return await look_up_name(resolver, zone, address_query(zone, address), address, codes, with_text=with_text)


async def look_up_domain(
    resolver: Resolver, zone: str, domain: str, codes: NetworkSet, *, with_text: bool = False
) -> Listing:
    """What `zone` says of `domain`; what is no domain name is not asked for."""
    name = domain_query(zone, domain)
    if not name:
        return Listing(zone, domain, error="not a domain name, so not asked for")
    return await look_up_name(resolver, zone, name, domain, codes, with_text=with_text)


async def look_up_name(
    resolver: Resolver, zone: str, name: str, subject: str, codes: NetworkSet, *, with_text: bool = False
) -> Listing:
    """The same with the query's name already made."""
    lookup = await ask(resolver, name, RecordKind.A)
    listing = read_answer(zone, subject, lookup, codes)
    if listing.listed and with_text:
        texts = await ask(resolver, name, RecordKind.TXT)
        if isinstance(texts, Answer) and texts.texts:
            text = texts.texts[0].decode("utf-8", "replace")[:REASON_CHARACTERS]
            return msgspec.structs.replace(listing, text=text)
    return listing


async def ask(resolver: Resolver, name: str, kind: RecordKind) -> Lookup:
    """One question within `LOOKUP_SECONDS`."""
    known = resolver.cached(name, kind)
    if known is not None:
        return known
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            return await resolver.query(name, kind)
    except TimeoutError:
        return Unavailable(f"no answer within {LOOKUP_SECONDS:g} s")


def read_answer(zone: str, subject: str, lookup: Lookup, codes: NetworkSet) -> Listing:
    """What an answer means. Total."""
    if isinstance(lookup, Unavailable):
        return Listing(zone, subject, error=lookup.reason)
    if isinstance(lookup, NoSuchName) or not lookup.names:
        return Listing(zone, subject)
    answers = tuple(dict.fromkeys(lookup.names[:CODES]))
    listing = Listing(zone, subject, codes=answers)
    problem = next((text for text in [_fault(zone, answer) for answer in answers] if text), "")
    if problem:
        return msgspec.structs.replace(listing, error=problem, fault=True)
    if any(codes.contains(answer) for answer in answers):
        return msgspec.structs.replace(listing, listed=True)
    return msgspec.structs.replace(listing, error=f"answered {answers[0]}, which is not among the codes that count")


def _fault(zone: str, answer: str) -> str:
    """Why `answer` says something about the list or about us, and nothing about who was asked for."""
    if _FAULTS.contains(answer):
        return f"answered {answer}: {FAULTS.get(answer, 'the list reports an error')}"
    if not _ANSWERS.contains(answer):
        return f"answered {answer}, which no list does: the zone may have been given up"
    if says_nothing(zone, answer):
        return f"answered {answer}: the list does not answer this question"
    return ""
