"""A mail domain in its one comparable form, and the address literal that may stand in its place.

RFC 5321 section 4.1.2 (Domain, address-literal), RFC 1035 section 2.3.4 (sizes), RFC 5890 (A-labels).
This module refuses to know DNS: a name that parses here may well not exist.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

import idna
import msgspec

DOMAIN_OCTETS = 255
"""Longest domain, RFC 5321 section 4.5.3.1.2."""

LABEL_OCTETS = 63
"""Longest label, RFC 1035 section 2.3.4."""

CONVERTED_LABELS = 8
"""Most labels beyond ASCII, as A-labels or U-labels. Real names have three; each takes a conversion and its reverse."""

_LDH_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_ASCII_UPPER = re.compile(r"[A-Z]")
_HEXADECIMAL = re.compile(r"0x[0-9a-f]*")


class DomainError(ValueError):
    """The text is not a domain or address literal; the message says why, without echoing the text."""


class Domain(msgspec.Struct, frozen=True, order=True, gc=False):
    """A fully qualified domain name: lower-case A-labels, no trailing dot."""

    ascii: str

    def __str__(self) -> str:
        return self.ascii

    @property
    def unicode(self) -> str:
        """The U-label form for people to read (RFC 5890); the A-label form where it does not decode."""
        try:
            return idna.decode(self.ascii)
        except idna.IDNAError:
            return self.ascii

    def is_under(self, parent: Domain) -> bool:
        """True when this is a proper subdomain of `parent`."""
        return self.ascii.endswith("." + parent.ascii)


class AddressLiteral(msgspec.Struct, frozen=True, order=True, gc=False):
    """`[192.0.2.1]` or `[IPv6:2001:db8::1]`, RFC 5321 section 4.1.3. `address` is the canonical text of the IP."""

    address: str

    def __str__(self) -> str:
        return f"[IPv6:{self.address}]" if ":" in self.address else f"[{self.address}]"


Host = Domain | AddressLiteral


@lru_cache(maxsize=8192)
def parse_domain(text: str) -> Domain:
    """The domain that `text` names. U-labels become A-labels (RFC 5891); a trailing dot is refused, as in SMTP.

    Raises DomainError. Names that end in a number, such as `1.2.3.4` or `0x7f000001`, are refused: they are
    unbracketed addresses.
    """
    if len(text) > DOMAIN_OCTETS:  # before anything is converted: the time of that is quadratic
        raise DomainError(f"domain longer than {DOMAIN_OCTETS} octets")
    if text.isascii():
        name = text.lower()
    else:
        _check_count(sum(not label.isascii() for label in text.split(".")))
        try:
            # Strict: only "." separates labels, not the ideographic full stop and others that look like it.
            name = idna.encode(_lower(text), strict=True, uts46=False, std3_rules=True).decode("ascii")
        except (idna.IDNAError, UnicodeError) as error:
            raise DomainError("not a valid internationalised domain name") from error
    if len(name) > DOMAIN_OCTETS:
        raise DomainError(f"domain longer than {DOMAIN_OCTETS} octets")
    if not _LDH_NAME.fullmatch(name):
        raise DomainError("not a domain name: labels of letters, digits and inner hyphens, separated by dots")
    last_label = name.rpartition(".")[2]
    if last_label.isdigit() or _HEXADECIMAL.fullmatch(last_label):
        raise DomainError("an address must stand in brackets")
    if "xn--" in name:
        a_labels = [label for label in name.split(".") if label.startswith("xn--")]
        _check_count(len(a_labels))
        for label in a_labels:
            _check_a_label(label)
    return Domain(name)


def _lower(text: str) -> str:
    """ASCII letters only: `str.lower` would turn the Kelvin sign into a `k`."""
    return _ASCII_UPPER.sub(lambda match: match.group().lower(), text)


def _check_count(labels: int) -> None:
    if labels > CONVERTED_LABELS:
        raise DomainError(f"more than {CONVERTED_LABELS} labels beyond ASCII")


def _check_a_label(label: str) -> None:
    # An A-label that does not survive the round trip is a fake: two spellings would name one domain.
    try:
        if idna.alabel(idna.ulabel(label)).decode("ascii") != label:
            raise DomainError("A-label does not round-trip")
    except idna.IDNAError as error:
        raise DomainError("not a valid A-label") from error


def parse_address_literal(text: str) -> AddressLiteral:
    """The literal that `text`, brackets included, names. Raises DomainError.

    Strict: dotted quads without leading zeros, `IPv6:` tag required, no zone, no other tag.
    """
    if not (text.startswith("[") and text.endswith("]")):
        raise DomainError("an address literal stands in brackets")
    inner = text[1:-1]
    try:
        if inner[:5].upper() == "IPV6:":
            if "%" in inner:
                raise DomainError("an address literal has no zone")
            return AddressLiteral(str(ipaddress.IPv6Address(inner[5:])))
        return AddressLiteral(str(ipaddress.IPv4Address(inner)))
    except ValueError as error:
        raise DomainError("not an IPv4 or IPv6 address literal") from error


def parse_host(text: str) -> Host:
    """A domain or an address literal. Raises DomainError."""
    return parse_address_literal(text) if text[:1] == "[" else parse_domain(text)
