"""What well-known lists mean by their answers, for `check ip`, and how each is tried.

From what their operators document; a code that is not here is not known, which is no statement about the address.
Data only: whoever uses a list writes its codes into the configuration.
"""

from __future__ import annotations

from typing import Final

import msgspec

from staffetta.mail.network import Network, NetworkSet, address_number, parse_network

FAULTS: Final = {
    "127.255.255.252": "the name of the zone has a typing error",
    "127.255.255.254": "we ask through a public resolver, which the list does not answer",
    "127.255.255.255": "we ask more often than the list allows",
}
"""RFC 5782 leaves it open; the large lists agreed on 127.255.255.0/24 for what is wrong with the question."""


class Meaning(msgspec.Struct, frozen=True, gc=False):
    """One code or range of codes. `counts` is false for answers that say nothing bad of the sender."""

    codes: Network
    text: str
    counts: bool = True


class KnownList(msgspec.Struct, frozen=True, gc=False):
    """One public list. `of_domains`: it lists domains, not addresses. `listed_point` is an entry that must be listed,
    where the list has none by RFC 5782 section 5."""

    zone: str
    name: str
    meanings: tuple[Meaning, ...]
    of_domains: bool = False
    listed_point: str = ""


def _known(zone: str, name: str, codes: dict[str, str], *, domains: bool = False, point: str = "") -> KnownList:
    meanings = [
        Meaning(parse_network(code.removeprefix("~")), text, not code.startswith("~")) for code, text in codes.items()
    ]
    return KnownList(zone, name, tuple(meanings), domains, point)


_SPAMHAUS: Final = {
    "127.0.0.2": "SBL: a source of spam, found by people",
    "127.0.0.3": "CSS: a source of spam, found by machines",
    "127.0.0.4-127.0.0.7": "XBL: an infected or abused machine",
    "127.0.0.9": "DROP: a network that criminals run or took over",
    "127.0.0.10": "PBL: should not send mail directly, says its provider",
    "127.0.0.11": "PBL: should not send mail directly, says the list",
    "127.0.0.30": "BCL: a control server of a botnet",
}

_DBL: Final = {
    "127.0.1.2": "a domain of spammers",
    "127.0.1.4": "a domain used for phishing",
    "127.0.1.5": "a domain used for malware",
    "127.0.1.6": "a control domain of a botnet",
    "127.0.1.102": "a good domain, abused for spam",
    "127.0.1.103": "an abused redirector",
    "127.0.1.104": "a good domain, abused for phishing",
    "127.0.1.105": "a good domain, abused for malware",
    "127.0.1.106": "a good domain, abused to control a botnet",
    "~127.0.1.255": "an address was asked for in a list of domains",
}

_ONE: Final = {"127.0.0.2": "a source of spam"}

KNOWN_LISTS: Final = {
    known.zone: known
    for known in (
        _known("zen.spamhaus.org", "Spamhaus ZEN", _SPAMHAUS),
        _known("sbl.spamhaus.org", "Spamhaus SBL", _SPAMHAUS),
        _known("xbl.spamhaus.org", "Spamhaus XBL", _SPAMHAUS),
        _known("pbl.spamhaus.org", "Spamhaus PBL", _SPAMHAUS),
        _known("dbl.spamhaus.org", "Spamhaus DBL", _DBL, domains=True, point="dbltest.com"),
        _known("bl.spamcop.net", "SpamCop", {"127.0.0.2": "users reported spam from it in the last hours"}),
        _known("b.barracudacentral.org", "Barracuda", {"127.0.0.2": "a source of spam or viruses"}),
        _known("psbl.surriel.com", "PSBL", {"127.0.0.2": "sent mail to spam traps"}),
        _known("dnsbl-1.uceprotect.net", "UCEPROTECT level 1", {"127.0.0.2": "sent mail to spam traps"}),
        _known("dnsbl-2.uceprotect.net", "UCEPROTECT level 2", {"127.0.0.2": "has bad neighbours in its network"}),
        _known("dnsbl-3.uceprotect.net", "UCEPROTECT level 3", {"127.0.0.2": "its provider has bad customers"}),
        _known("all.s5h.net", "s5h", _ONE),
        _known(
            "all.spamrats.com",
            "SpamRATS",
            {
                "127.0.0.36": "its name looks like that of a home connection",
                "127.0.0.37": "it has no proper reverse name",
                "127.0.0.38": "a source of spam",
                "127.0.0.43": "guesses passwords",
            },
        ),
        _known(
            "multi.uribl.com",
            "URIBL",
            {
                "~127.0.0.1": "the list does not answer this resolver",
                "127.0.0.2": "black: a domain of spammers",
                "127.0.0.4": "grey: a domain seen in unwanted mail",
                "127.0.0.8": "red: a young domain, listed by rule",
            },
            domains=True,
            point="test.uribl.com",
        ),
    )
}


def meaning(zone: str, code: str) -> str:
    """What `zone` means by the answer `code`, in words; "" when that is not known."""
    if code in FAULTS:
        return FAULTS[code]
    found = _meaning(zone, code)
    return found.text if found is not None else ""


def counting_codes(zone: str) -> NetworkSet | None:
    """All codes of a well-known list that say something bad; None for other lists."""
    known = KNOWN_LISTS.get(zone)
    return NetworkSet([one.codes for one in known.meanings if one.counts]) if known else None


def says_nothing(zone: str, code: str) -> bool:
    """True for a documented answer that is about the question and not about what was asked for."""
    found = _meaning(zone, code)
    return found is not None and not found.counts


def _meaning(zone: str, code: str) -> Meaning | None:
    known = KNOWN_LISTS.get(zone)
    number = address_number(code)
    if known is None or number is None:
        return None
    return next((one for one in known.meanings if one.codes.first <= number[1] <= one.codes.last), None)
