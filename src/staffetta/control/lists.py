"""Asking lists about an address for a person who wants to know: every answer with its meaning, errors as errors.

A relay that refuses mail must know that a list is in order (see `dns.list_health`); a person is shown what the list
says. Only one thing is tried: a list that holds 127.0.0.1 holds everything, so that its answers are no listings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

import msgspec

from staffetta.config.schema import Config
from staffetta.dns.blocklist import Listing, look_up_address
from staffetta.dns.list_meanings import counting_codes
from staffetta.dns.resolver import Resolver
from staffetta.mail.domain import Domain
from staffetta.mail.network import NetworkSet, parse_network

NEVER_LISTED: Final = "127.0.0.1"
"""RFC 5782 section 5."""

_ANY_ANSWER: Final = NetworkSet([parse_network("127.0.0.0/8")])


class AskedList(msgspec.Struct, frozen=True):
    """One list, and the answers that count as listed."""

    zone: str
    codes: NetworkSet


def asked_lists(config: Config | None, named: Iterable[Domain]) -> tuple[AskedList, ...]:
    """The lists of addresses that the configuration names, and those named by hand; each once.

    What counts is what the configuration says, else what the list documents, else every answer.
    """
    found = {one.zone.ascii: NetworkSet(one.codes) for one in config.checks.blocklist} if config else {}
    for zone in named:
        known = counting_codes(zone.ascii)
        found.setdefault(zone.ascii, _ANY_ANSWER if known is None else known)
    return tuple([AskedList(zone, codes) for zone, codes in found.items()])


async def ask_lists(resolver: Resolver, lists: Iterable[AskedList], address: str) -> tuple[Listing, ...]:
    """What the lists say, in their order. Raises ValueError when it is no address."""
    return tuple(await asyncio.gather(*[_ask(resolver, one, address) for one in lists]))


async def _ask(resolver: Resolver, one: AskedList, address: str) -> Listing:
    listing = await look_up_address(resolver, one.zone, address, one.codes, with_text=True)
    if not listing.listed or address == NEVER_LISTED:
        return listing
    everything = await look_up_address(resolver, one.zone, NEVER_LISTED, _ANY_ANSWER)
    if not everything.listed:
        return listing
    error = f"it lists {NEVER_LISTED}, so everything: the answer says nothing"
    return msgspec.structs.replace(listing, listed=False, error=error, fault=True)
