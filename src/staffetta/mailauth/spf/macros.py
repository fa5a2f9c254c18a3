"""Macros of SPF: `%{ir}.%{v}._spf.%{d2}` read once, then expanded for each message.

RFC 7208 section 7; RFC 8616 section 4 (local parts beyond ASCII match nothing).
Whatever a sender writes into its name ends up in these texts, so every expansion has a bound: a name is made from its
right end and only as far as a name can be long, and a text ends at its limit.
This module refuses to know the DNS: `%{p}` is found out by whoever calls.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

import msgspec

from staffetta.dns.resolver import NAME_OCTETS

VALUE_OCTETS: Final = 512
"""Longest value a macro stands for (a path has 256 octets, RFC 5321 section 4.5.3.1.3). A longer one matches nothing:
the peer of a mail session cannot write it, so the number only bounds work."""

TEXT_OCTETS: Final = 480
"""Longest explanation: with status and enhanced status it fits a reply line (RFC 5321 section 4.5.3.1.5)."""

_ENOUGH: Final = 2 * NAME_OCTETS
"""A name of this many octets is cut on its left whatever else would be put there."""

_ALL_PARTS: Final = 999
"""Stands for any larger number of parts: no value has as many."""

_MACRO: Final = re.compile(r"%\{([slodipvhcrt])([0-9]*)(r?)([.\-+,/_=]*)\}", re.IGNORECASE | re.ASCII)
_TEXT_ONLY: Final = frozenset("crt")
_LITERALS: Final = {"%": "%", "_": " ", "-": "%20"}
_UNRESERVED: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
_ESCAPED: Final = tuple([chr(octet) if octet in _UNRESERVED else f"%{octet:02X}" for octet in range(256)])
_TOP_LABEL: Final = re.compile(r"(?![0-9]+\Z)[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")


class MacroError(ValueError):
    """The text is malformed; the message says why, without echoing the text."""


class Macro(msgspec.Struct, frozen=True, gc=False):
    """One macro: `letter` in lower case, how many parts on the right are kept (0: all), whether they are reversed,
    what separates them, and whether the result is escaped for a URL (RFC 7208 section 7.3)."""

    letter: str
    parts: int = 0
    reverse: bool = False
    delimiters: str = "."
    escape: bool = False


MacroText = tuple[str | Macro, ...]
"""Literal pieces and macros, in order."""


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What the letters stand for. `validated_name` is `%{p}`; `version` and `address` are the client's, as a number."""

    local_part: str
    sender_domain: str
    domain: str
    version: int
    address: int
    helo: str
    receiver: str = ""
    now: float = 0.0
    validated_name: str = "unknown"


def parse_macros(text: str, *, explains: bool = False) -> MacroText:
    """The pieces of a macro-string. Raises MacroError. `text` is printable ASCII.

    `explains`: it is for people, so `c`, `r` and `t` may be used (RFC 7208 section 7.2).
    """
    pieces: list[str | Macro] = []
    start = 0
    while (percent := text.find("%", start)) >= 0:
        if percent > start:
            pieces.append(text[start:percent])
        literal = _LITERALS.get(text[percent + 1 : percent + 2])
        if literal is not None:
            pieces.append(literal)
            start = percent + 2
            continue
        found = _MACRO.match(text, percent)
        if found is None:
            raise MacroError("'%' must start a macro: %{...}, or be %%, %_ or %-")
        pieces.append(_macro(found, explains=explains))
        start = found.end()
    if start < len(text):
        pieces.append(text[start:])
    return tuple(pieces)


def _macro(found: re.Match[str], *, explains: bool) -> Macro:
    letter, digits, reverse, delimiters = found.groups()
    small = letter.lower()
    if small in _TEXT_ONLY and not explains:
        raise MacroError(f"the macro %{{{letter}}} may stand in explanations only")
    parts = 0
    if digits:
        significant = digits.lstrip("0")
        if not significant:
            raise MacroError("a macro that keeps no part")
        parts = int(significant) if len(significant) < 3 else _ALL_PARTS
    return Macro(small, parts, bool(reverse), delimiters or ".", letter != small)


def parse_domain_spec(text: str) -> MacroText:
    """The pieces of a domain-spec: a macro-string that ends in a macro or in a top label. Raises MacroError."""
    if not text:
        raise MacroError("the domain is missing")
    pieces = parse_macros(text)
    last = pieces[-1]
    if isinstance(last, Macro) or last in _LITERALS.values():
        return pieces
    _, dot, top = last.removesuffix(".").rpartition(".")
    if not dot:
        raise MacroError("a domain needs at least two labels")
    if not _TOP_LABEL.fullmatch(top):
        raise MacroError("the domain's last label is not one: an address is written with ip4: or ip6:")
    return pieces


def letters(pieces: MacroText) -> frozenset[str]:
    """Which macros are used."""
    return frozenset([piece.letter for piece in pieces if isinstance(piece, Macro)])


def expand_name(pieces: MacroText, facts: Facts) -> str | None:
    """The domain to ask for, at most 253 octets: labels are taken off its left until it fits (section 7.3).

    None when a value in it is not ASCII or too long to be one: then nothing matches.
    """
    if len(pieces) == 1 and isinstance(pieces[0], str):
        return _fitting(pieces[0])
    name = ""
    for piece in reversed(pieces):
        if isinstance(piece, str):
            name = piece + name
        else:
            value = _value(piece, facts)
            if len(value) > VALUE_OCTETS or not value.isascii():
                return None
            name = _transformed(piece, value) + name
        if len(name) > _ENOUGH:
            break
    return _fitting(name)


def expand_text(pieces: MacroText, facts: Facts) -> str:
    """The text for people: printable ASCII, anything else in a value is shown as `?`; cut at TEXT_OCTETS."""
    text = ""
    for piece in pieces:
        if isinstance(piece, str):
            text += piece
        else:
            value = _value(piece, facts)[:VALUE_OCTETS]
            text += _transformed(piece, value)
        if len(text) >= TEXT_OCTETS:
            break
    return "".join([character if " " <= character <= "~" else "?" for character in text[:TEXT_OCTETS]])


def _fitting(name: str) -> str:
    name = name.removesuffix(".")
    if len(name) <= NAME_OCTETS:
        return name
    dot = name.find(".", len(name) - NAME_OCTETS - 1)
    return name[dot + 1 :] if dot >= 0 else ""


def _transformed(macro: Macro, value: str) -> str:
    if macro.parts or macro.reverse or macro.delimiters != ".":
        first = macro.delimiters[0]
        for other in macro.delimiters[1:]:
            value = value.replace(other, first)
        parts = value.split(first)
        if macro.reverse:
            parts.reverse()
        value = ".".join(parts[-macro.parts :])
    if macro.escape:
        value = "".join([_ESCAPED[octet] for octet in value.encode("utf-8", "replace")])
    return value


def _value(macro: Macro, facts: Facts) -> str:
    match macro.letter:
        case "d":
            return facts.domain
        case "i":
            return _dotted(facts)
        case "s":
            return f"{facts.local_part}@{facts.sender_domain}"
        case "l":
            return facts.local_part
        case "o":
            return facts.sender_domain
        case "h":
            return facts.helo
        case "v":
            return "in-addr" if facts.version == 4 else "ip6"
        case "p":
            return facts.validated_name
        case "c":
            return address_text(facts.version, facts.address)
        case "r":
            return facts.receiver or "unknown"
        case _:
            return str(int(facts.now))


def address_text(version: int, number: int) -> str:
    """The address as people read it."""
    return str(ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number))


def _dotted(facts: Facts) -> str:
    if facts.version == 4:
        return address_text(4, facts.address)
    return ".".join(f"{facts.address:032X}")
