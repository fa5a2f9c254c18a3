"""`check ip`: the name of an address, whether it leads back, and what lists say. Asks the DNS; connects to nobody.

RFC 8601 section 2.7.3 (iprev), RFC 5782 (lists).
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Final

import msgspec

from staffetta.config.schema import Config
from staffetta.control.answer import Answer
from staffetta.control.lists import AskedList, ask_lists, asked_lists
from staffetta.control.mx import resolver_settings
from staffetta.control.patience import patience
from staffetta.dns.blocklist import Listing
from staffetta.dns.denied import canonical_address, why_denied
from staffetta.dns.list_meanings import meaning
from staffetta.dns.live import LiveResolver
from staffetta.dns.resolver import Resolver
from staffetta.dns.reverse import find_name, reverse_name
from staffetta.mail.domain import Domain
from staffetta.mail.network import NetworkSet, address_number
from staffetta.policy.posture.findings import shown

GENERIC_WORDS: Final = frozenset(
    {
        *("adsl", "broadband", "cable", "catv", "cpe", "cust", "customer", "dhcp", "dial", "dialin", "dialup", "dip"),
        *("docsis", "dsl", "dyn", "dynamic", "dynip", "fiber", "fibre", "ftth", "fttx", "gpon", "lte", "modem", "pool"),
        *("pools", "ppp", "pppoe", "residential", "unassigned", "unknown", "vdsl", "wifi", "wlan", "xdsl"),
    }
)
"""Words in names that providers give to addresses nobody named: receivers take them for home connections."""

_SPECIAL: Final = {
    "private": "a private address (RFC 1918, RFC 4193): nobody outside sees it",
    "loopback": "this machine itself (loopback)",
    "link-local": "a link-local address: it ends at the next router",
    "documentation": "an address for documentation: nobody has it",
    "shared with the provider": "behind the provider's translation (CGNAT, RFC 6598): others see another address",
}


class Outcome(IntEnum):
    """What the check came to."""

    CLEAN = 0
    PROBLEM = 1
    UNKNOWN = 2


class ListAnswer(msgspec.Struct, frozen=True, gc=False):
    """What one list says. `code` and `meaning` of its answers, "" when there is none. `error`: it said nothing that
    counts, so that `listed` false proves nothing; None when all went well. `reason` is the list's own text."""

    zone: str
    listed: bool
    code: str
    meaning: str
    error: str | None
    reason: str = ""


class IpAnswer(Answer, frozen=True, gc=False):
    """`check ip`. `reverse` is None when the address has no name. `generic` says why the name looks like one that
    nobody chose, `special` which kind of address it is; "" when neither. `error`: the name is not known now."""

    address: str
    reverse: str | None
    confirmed: bool
    lists: tuple[ListAnswer, ...]
    generic: str = ""
    special: str = ""
    error: str | None = None


class IpReport(msgspec.Struct, frozen=True, gc=False):
    """The answer, and what it comes to."""

    answer: IpAnswer
    outcome: Outcome


async def ask(address: str, config: Config | None, named: Iterable[Domain], clock: Callable[[], float]) -> IpReport:
    """Check as this machine sees the DNS. Raises ValueError when it is no address."""
    resolver = LiveResolver(resolver_settings(config))
    try:
        return await report(patience(resolver, clock), address, asked_lists(config, named))
    finally:
        await resolver.close()


async def report(resolver: Resolver, address: str, lists: tuple[AskedList, ...]) -> IpReport:
    """The same with a given resolver. Raises ValueError."""
    canonical = canonical_address(address)
    if canonical is None:
        raise ValueError("not an address")
    reverse, listings = await asyncio.gather(find_name(resolver, canonical), ask_lists(resolver, lists, canonical))
    error = f"the DNS does not answer for {reverse_name(canonical)} or its name" if reverse.temporary else None
    answer = IpAnswer(
        canonical,
        shown(reverse.name) or None,
        reverse.confirmed,
        tuple(map(_list_answer, listings)),
        why_generic(reverse.name, canonical) if reverse.name else "",
        special_words(canonical),
        error,
    )
    return IpReport(answer, outcome(answer))


def outcome(answer: IpAnswer) -> Outcome:
    """A listing is a problem whatever else is not known; a missing name only when it is known to be missing."""
    if any(one.listed for one in answer.lists) or (not answer.confirmed and answer.error is None):
        return Outcome.PROBLEM
    if answer.error is not None or any(one.error is not None for one in answer.lists):
        return Outcome.UNKNOWN
    return Outcome.CLEAN


def special_words(address: str) -> str:
    """What kind of address it is, when it is not one of the open internet."""
    word = why_denied(address, NetworkSet())
    return "" if word is None else _SPECIAL.get(word, f"not an address of the open internet: {word}")


def why_generic(name: str, address: str) -> str:
    """Why a reverse name looks like one that nobody chose; "" when it does not."""
    number = address_number(address)
    if number is None:
        return ""
    host = _host_part(name)
    if _holds_digits(host, *number):
        return "it contains the address itself"
    words = {word.strip("0123456789") for word in host.replace("_", "-").replace(".", "-").split("-")}
    found = sorted(words & GENERIC_WORDS)
    return f"it contains {', '.join(found)}" if found else ""


def _host_part(name: str) -> str:
    """The labels before the last two: those are somebody's name, whatever it contains."""
    labels = name.lower().split(".")
    return ".".join(labels[:-2]) if len(labels) > 2 else labels[0]


def _holds_digits(host: str, version: int, number: int) -> bool:
    """Whether the name is made of the address: its octets in either order, as decimals or in hexadecimal."""
    if version == 6:
        groups = ipaddress.IPv6Address(number).exploded.split(":")
        joined = host.replace("-", "").replace(".", "").replace(":", "")
        return "".join(groups[4:]) in joined or "".join(groups)[::-1][:16] in joined
    octets = [str(octet) for octet in number.to_bytes(4, "big")]
    parts = [part for part in _numbers(host) if part]
    plain = [part.lstrip("0") or "0" for part in parts]
    for order in (octets, octets[::-1]):
        if _within(order, plain) or _within(order[:3], plain) or _within(order[1:], plain):
            return True
    run = "".join(octet.zfill(3) for octet in octets).lstrip("0")
    return f"{number:08x}" in host or run in host


def _numbers(host: str) -> list[str]:
    return "".join(character if "0" <= character <= "9" else " " for character in host).split(" ")


def _within(wanted: list[str], parts: list[str]) -> bool:
    size = len(wanted)
    return any(parts[at : at + size] == wanted for at in range(len(parts) - size + 1))


def _list_answer(listing: Listing) -> ListAnswer:
    codes = listing.codes
    said = [meaning(listing.zone, code) for code in codes]
    words = "; ".join(dict.fromkeys(word for word in said if word))
    if codes and listing.listed and not words:
        words = "the meaning of this code is not known here"
    error = shown(listing.error) if listing.error else None
    return ListAnswer(listing.zone, listing.listed, ", ".join(codes), words, error, shown(listing.text))
