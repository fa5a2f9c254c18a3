"""An SPF record read into its terms, once: mechanisms in order, and the two modifiers that mean something.

RFC 7208 sections 3, 4.5, 4.6, 5, 6 and 12 (the grammar). A record with a mistake anywhere says nothing at all
(section 4.6), so every mistake is looked for, and named with the term it stands in.
This module refuses to know the DNS and the message.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from typing import Final

import msgspec

from staffetta.mail.network import Network
from staffetta.mailauth.results import SpfWord
from staffetta.mailauth.spf.macros import MacroError, MacroText, parse_domain_spec, parse_macros

RECORD_OCTETS: Final = 16_384
"""Longest record that is read. Honest ones fit 512 octets (section 3.4); flattened ones have reached some 4000."""

TERMS: Final = 1024
"""Most terms of one record; a TXT of 64 KiB could hold thirty thousand."""

SHOWN_OCTETS: Final = 128
"""How much of a wrong term is repeated to the operator."""

PROBLEMS: Final = 8
"""Most mistakes named for one record."""

_CACHED_OCTETS: Final = 1024
_CACHED_TERMS: Final = 64
_CACHED_RECORDS: Final = 1024
"""Only small records are remembered, so that strangers' records cannot fill more than some megabytes."""

_VERSION: Final = b"v=spf1"
_MODIFIER: Final = re.compile(r"([A-Za-z][A-Za-z0-9._-]*)=")
_LENGTH: Final = re.compile(r"0|[1-9][0-9]{0,2}")
_QUALIFIERS: Final = {"+": SpfWord.PASS, "-": SpfWord.FAIL, "~": SpfWord.SOFTFAIL, "?": SpfWord.NEUTRAL}
_ASCII_LETTERS: Final = re.compile(r"[A-Za-z0-9]*")


class Kind(StrEnum):
    """The mechanisms, RFC 7208 section 5."""

    ALL = "all"
    INCLUDE = "include"
    A = "a"
    MX = "mx"
    PTR = "ptr"
    IP4 = "ip4"
    IP6 = "ip6"
    EXISTS = "exists"


class Mechanism(msgspec.Struct, frozen=True, gc=False):
    """One mechanism. `result` is what a match comes to; `text` is the term as written.

    `target` is the domain after the colon, None for the domain of the record; `network` is that of ip4 and ip6.
    `bits4`, `bits6`: how many bits of an address found for `a` or `mx` count.
    """

    kind: Kind
    result: SpfWord
    text: str
    target: MacroText | None = None
    network: Network | None = None
    bits4: int = 32
    bits6: int = 128


class SpfRecord(msgspec.Struct, frozen=True, gc=False):
    """One record. `redirect` and `explanation` are domains (sections 6.1 and 6.2)."""

    text: str
    mechanisms: tuple[Mechanism, ...]
    redirect: MacroText | None = None
    redirect_text: str = ""
    explanation: MacroText | None = None


class TermProblem(msgspec.Struct, frozen=True, gc=False):
    """One mistake: the term as written, cut at SHOWN_OCTETS, and what is wrong with it. `term` may be ""."""

    term: str
    problem: str

    def __str__(self) -> str:
        return f"{self.term}: {self.problem}" if self.term else self.problem


class Malformed(msgspec.Struct, frozen=True, gc=False):
    """The record says nothing, because of these mistakes."""

    text: str
    problems: tuple[TermProblem, ...]


class _Wrong(ValueError):
    pass


def spf_records(texts: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Those of the TXT records that are SPF records, RFC 7208 section 4.5; there should be one at most."""
    return tuple([text for text in texts if text[:6].lower() == _VERSION and text[6:7] in (b"", b" ")])


def read_spf_record(text: bytes) -> SpfRecord | Malformed:
    """The terms of a record, which `spf_records` gave."""
    return _read_and_remember(text) if is_small(text) else _read(text)


def is_small(text: bytes) -> bool:
    """Whether a record is read in no time. Others take some milliseconds, each time: let others go first."""
    return len(text) <= _CACHED_OCTETS and text.count(b" ") <= _CACHED_TERMS


def _read(text: bytes) -> SpfRecord | Malformed:
    # Latin-1 keeps every octet, for whoever has to show what is wrong.
    written = text[:RECORD_OCTETS].decode("latin-1")
    if len(text) > RECORD_OCTETS:
        return Malformed(written, (TermProblem("", f"the record is longer than {RECORD_OCTETS} octets"),))
    terms = [term for term in written[len(_VERSION) :].split(" ") if term]
    if len(terms) > TERMS:
        return Malformed(written, (TermProblem("", f"the record has more than {TERMS} terms"),))
    reading = _Reading()
    for term in terms:
        try:
            reading.take(term)
        except (_Wrong, MacroError) as error:
            reading.problems.append(TermProblem(term[:SHOWN_OCTETS], str(error)))
            if len(reading.problems) == PROBLEMS:
                break
    if reading.problems:
        return Malformed(written, tuple(reading.problems))
    redirect = reading.modifiers.get("redirect")
    return SpfRecord(
        written,
        tuple(reading.mechanisms),
        None if redirect is None else redirect[1],
        "" if redirect is None else redirect[0],
        None if "exp" not in reading.modifiers else reading.modifiers["exp"][1],
    )


_read_and_remember: Final[Callable[[bytes], SpfRecord | Malformed]] = lru_cache(maxsize=_CACHED_RECORDS)(_read)


class _Reading:
    """A record while it is read."""

    __slots__ = ("mechanisms", "modifiers", "problems")

    def __init__(self) -> None:
        self.mechanisms: list[Mechanism] = []
        self.modifiers: dict[str, tuple[str, MacroText]] = {}
        self.problems: list[TermProblem] = []

    def take(self, term: str) -> None:
        if not term.isascii() or not term.isprintable():
            raise _Wrong("only printable ASCII may stand in a record")
        modifier = _MODIFIER.match(term)
        if modifier is None:
            self.mechanisms.append(_mechanism(term))
            return
        name, value = modifier.group(1).lower(), term[modifier.end() :]
        if name not in ("redirect", "exp"):
            parse_macros(value, explains=True)
            return
        if name in self.modifiers:
            raise _Wrong(f"{name}= may stand in a record once")
        self.modifiers[name] = value, parse_domain_spec(value)


def _mechanism(term: str) -> Mechanism:
    result = _QUALIFIERS.get(term[0])
    bare = term if result is None else term[1:]
    result = result or SpfWord.PASS
    name = bare[: len(_ASCII_LETTERS.match(bare).group())]  # type: ignore[union-attr]
    rest = bare[len(name) :]
    try:
        kind = Kind(name.lower())
    except ValueError:
        raise _Wrong("no mechanism has that name") from None
    match kind:
        case Kind.ALL:
            if rest:
                raise _Wrong("'all' takes no argument")
            return Mechanism(kind, result, term)
        case Kind.IP4 | Kind.IP6:
            return Mechanism(kind, result, term, network=_network(kind, _argument(rest)))
        case Kind.INCLUDE | Kind.EXISTS:
            return Mechanism(kind, result, term, parse_domain_spec(_argument(rest)))
        case Kind.PTR:
            return Mechanism(kind, result, term, parse_domain_spec(_argument(rest)) if rest else None)
        case Kind.A | Kind.MX:
            domain, bits4, bits6 = _dual_length(rest)
            return Mechanism(
                kind, result, term, parse_domain_spec(_argument(domain)) if domain else None, None, bits4, bits6
            )


def _argument(rest: str) -> str:
    if rest[:1] != ":" or len(rest) == 1:
        raise _Wrong("a ':' and its argument must follow")
    return rest[1:]


def _dual_length(rest: str) -> tuple[str, int, int]:
    """`rest` without its prefix lengths, and those: `/24//64`, `/24`, `//64` or nothing. A domain may hold slashes."""
    bits4, bits6 = 32, 128
    before, slashes, last = rest.rpartition("//")
    if slashes and _is_number(last):
        rest, bits6 = before, _length(last, 128)
    before, slash, last = rest.rpartition("/")
    if slash and _is_number(last):
        rest, bits4 = before, _length(last, 32)
    return rest, bits4, bits6


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _length(text: str, most: int) -> int:
    if not _LENGTH.fullmatch(text) or int(text) > most:
        raise _Wrong(f"the prefix length must be 0 to {most}")
    return int(text)


def _network(kind: Kind, text: str) -> Network:
    """Bits of the address beyond the prefix do not count (section 5.6). A mapped address stays IPv6 here: an IPv4
    client never matches ip6 (section 5)."""
    version, width = (4, 32) if kind is Kind.IP4 else (6, 128)
    written, slash, length = text.partition("/")
    bits = _length(length, width) if slash else width
    try:
        if version == 4:
            number = int(ipaddress.IPv4Address(written))
        elif "%" in written:
            raise _Wrong("not an IPv6 address")
        else:
            number = int(ipaddress.IPv6Address(written))
    except ipaddress.AddressValueError:
        raise _Wrong(f"not an IPv{version} address") from None
    spare = width - bits
    first = number >> spare << spare
    return Network(version, first, first | (1 << spare) - 1)
