"""The values that people write, text to type: durations, sizes, rates, names, networks, ends of connections.

Every parser returns a value or raises `Wrong`, whose message names the fault and whose `cure` says what is right.
No file, no DNS, no clock.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from staffetta.config.schema import EVERY_DOMAIN, DomainPattern, Rate, Resolver
from staffetta.mail.address import AddressError, Mailbox, parse_mailbox
from staffetta.mail.domain import Domain, DomainError, parse_domain
from staffetta.mail.network import Network, parse_network
from staffetta.net.endpoint import Bind

SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
OCTETS: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

_NUMBER_AND_UNIT = re.compile(r"([0-9]{1,9})([A-Za-z]+)")
_RATE = re.compile(r"([0-9]{1,9})/([smhd])")
_PORT = re.compile(r"[0-9]{1,5}")
_SHOWN = 60
"""Longest piece of a value that a message repeats."""


class Wrong(ValueError):
    """A value that cannot be taken. `code` is the kind of problem, when it is not simply malformed."""

    def __init__(self, message: str, cure: str, code: str = "C106") -> None:
        super().__init__(message)
        self.cure = cure
        self.code = code


def quoted(text: str) -> str:
    """`text` as it may stand in a message: in quotes, printable, not too long."""
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in shown) + '"'


def parse_duration(text: str) -> int:
    """Seconds of `"30s"`, `"5m"`, `"4h"`, `"5d"`."""
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match is None or match.group(2) not in SECONDS:
        raise Wrong(f"{quoted(text)} is not a duration", 'write a whole number and s, m, h or d, such as "5m"')
    return int(match.group(1)) * SECONDS[match.group(2)]


def parse_size(text: str) -> int:
    """Octets of `"64KiB"`, `"25MiB"`."""
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match is not None and match.group(2) in OCTETS:
        return int(match.group(1)) * OCTETS[match.group(2)]
    cure = 'write a whole number and B, KiB, MiB or GiB, such as "25MiB"'
    loose = re.fullmatch(r"([0-9]{1,9})\s*([KMG])i?B?", text, re.IGNORECASE | re.ASCII)
    if loose is not None:
        cure = f'write "{loose.group(1)}{loose.group(2).upper()}iB"'
    raise Wrong(f"{quoted(text)} is not a size", cure)


def parse_rate(text: str) -> Rate:
    """The rate of `"80/s"`, `"500/h"`."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise Wrong(f"{quoted(text)} is not a rate", 'write a whole number, / and s, m, h or d, such as "80/s"')
    if int(match.group(1)) == 0:
        raise Wrong("a rate of 0 sends nothing", "leave the key out for no limit", "C107")
    return Rate(int(match.group(1)), SECONDS[match.group(2)])


def parse_port(text: str) -> int:
    """A port, 1 to 65535."""
    if not _PORT.fullmatch(text) or not 1 <= int(text) <= 65535:
        raise Wrong(f"{quoted(text)} is not a port", "a port is a number from 1 to 65535", "C107")
    return int(text)


def parse_domain_name(text: str) -> Domain:
    """A domain, any spelling of it."""
    try:
        return parse_domain(text)
    except DomainError as error:
        cure = 'write a name such as "example.org"'
        if "@" in text:
            cure = "write the domain alone, without what stands before the @"
        elif text.endswith("."):
            cure = "leave the dot at the end out"
        elif "://" in text or "/" in text:
            cure = "write the name alone, without scheme and path"
        reason = str(error).removeprefix("not a domain name: ")
        raise Wrong(f"{quoted(text)} is not a domain ({reason})", cure) from None


def parse_address(text: str) -> Mailbox:
    """An address, `local_part@domain`, without brackets or display name."""
    try:
        return parse_mailbox(text, smtputf8=True)
    except AddressError as error:
        cure = 'write an address such as "anna@example.org"'
        if "<" in text:
            cure = "write the address alone, without name and angle brackets"
        raise Wrong(f"{quoted(text)} is not an address ({error})", cure) from None


def parse_local_part(text: str) -> str:
    """The part of an address before the @, ASCII letters in lower case."""
    if "@" in text:
        raise Wrong(f"{quoted(text)} is an address", f"write the part before the @ alone: {quoted(_before_at(text))}")
    try:
        mailbox = parse_mailbox(f"{text}@invalid", smtputf8=True)
    except AddressError as error:
        raise Wrong(f"{quoted(text)} is not a local part ({error})", 'write a name such as "anna"') from None
    return fold_local_part(mailbox.local_part)


def fold_local_part(text: str) -> str:
    """A local part of ours as it is compared: ASCII letters without case."""
    return re.sub("[A-Z]+", lambda match: match.group().lower(), text)


def _before_at(text: str) -> str:
    return text.rpartition("@")[0]


def parse_local_part_or_address(text: str) -> str | Mailbox:
    """The target of an alias."""
    return parse_address(text) if "@" in text else parse_local_part(text)


def parse_sender(text: str) -> Domain | Mailbox:
    """A sender domain or a single sender address."""
    return parse_address(text) if "@" in text else parse_domain_name(text)


def parse_pattern(text: str) -> DomainPattern:
    """`"d"`, `".d"` or `"*"`."""
    if text == "*":
        return EVERY_DOMAIN
    if text.startswith("*."):
        raise Wrong(f"{quoted(text)} is not a domain", f"write {quoted(text[1:])} for every subdomain")
    subdomains = text.startswith(".")
    return DomainPattern(parse_domain_name(text[1:] if subdomains else text), subdomains)


def parse_ip(text: str) -> str:
    """The canonical text of an IP address."""
    try:
        if "%" not in text:
            return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    raise Wrong(f"{quoted(text)} is not an IP address", 'write one such as "192.0.2.1" or "2001:db8::1"')


def parse_network_of(text: str) -> Network:
    """A network: one address, CIDR, or `A-B`."""
    try:
        return parse_network(text)
    except ValueError as error:
        cure = 'write CIDR such as "192.0.2.0/24", a range such as "192.0.2.10-192.0.2.20" or one address'
        strict = _host_bits(text)
        if strict:
            cure = f'did you mean "{strict}"?'
        raise Wrong(f"{quoted(text)} is not a network ({str(error).partition(';')[0]})", cure) from None


def _host_bits(text: str) -> str:
    try:
        network = str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return ""
    return network if network != text and "/" in text else ""


def _split_port(text: str) -> tuple[str, str | None]:
    """Host without brackets, and port text or None."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise Wrong(f"{quoted(text)} has a bracket too few or too many", 'write "[2001:db8::1]:25"')
        return host, rest[1:] if rest else None
    if text.count(":") > 1:
        raise Wrong(f"{quoted(text)}: an IPv6 address stands in brackets", f"write {quoted(_bracketed(text))}")
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _bracketed(text: str) -> str:
    # "::1:25" is an address too, but whoever wrote it where a port is due meant the last number as the port.
    host, _, port = text.rpartition(":")
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return f"[{text}]"
    return f"[{host}]:{port}"


def parse_bind_of(text: str) -> Bind:
    """Where to listen: `ADDRESS:PORT`, `[IPV6]:PORT` or `*:PORT`. Port 0: the system chooses."""
    host, port = _split_port(text)
    if port is None:
        cure = f'write "*:{text}"' if _PORT.fullmatch(text) else f"write {quoted(text + ':25')}"
        raise Wrong(f"{quoted(text)} has no port", cure)
    number = 0 if port == "0" else parse_port(port)
    if host in {"*", "localhost"}:
        return Bind(host, number)
    if not host:
        raise Wrong(f"{quoted(text)} has no address", f'write "*:{port}" for all addresses')
    try:
        return Bind(parse_ip(host), number)
    except Wrong:
        cure = f'write an IP address, or "*:{port}" for all addresses'
        raise Wrong(f"{quoted(text)}: {quoted(host)} is not an address of this machine", cure) from None


def parse_hop(text: str) -> tuple[str, int | None]:
    """A next hop: host and port, None where no port is written."""
    if "://" in text:
        raise Wrong(f"{quoted(text)} is not HOST or HOST:PORT", f"leave {quoted(text.partition('://')[0] + '://')} out")
    host, port = _split_port(text)
    number = None if port is None else parse_port(port)
    try:
        return parse_ip(host), number
    except Wrong:
        if ":" in host or not host:
            raise
    if text.startswith("["):
        plain = host if port is None else f"{host}:{port}"
        raise Wrong(f"{quoted(text)}: a name stands without brackets", f"write {quoted(plain)}; its MX is never asked")
    return parse_domain_name(host).ascii, number


def parse_resolver(text: str) -> Resolver:
    """A DNS server: `ADDRESS`, `ADDRESS:PORT`, `[IPV6]:PORT`."""
    try:
        return Resolver(parse_ip(text))
    except Wrong:
        host, port = _split_port(text)
    try:
        return Resolver(parse_ip(host), 53 if port is None else parse_port(port))
    except Wrong as wrong:
        if wrong.code == "C107":
            raise
        cure = "write its IP address: a resolver cannot be looked up"
        raise Wrong(f"{quoted(text)} is not an address of a resolver", cure) from None


def parse_separator(text: str) -> str:
    """The character of sub-addressing, or nothing for none."""
    if text and (len(text) > 1 or text not in "+-_=#~!"):
        raise Wrong(f"{quoted(text)} cannot separate", 'write one of + - _ = # ~ ! or "" for no sub-addressing')
    return text


def parse_folder(text: str) -> str:
    """The name of a mail folder: no path, no leading dot."""
    if not text or text.startswith(".") or "/" in text or "\\" in text or len(text) > 64:
        raise Wrong(f"{quoted(text)} is not a folder name", 'write a name such as "Junk", without dots in front and /')
    return text


def parse_selector(text: str) -> str:
    """A DKIM selector, RFC 6376 section 3.1."""
    try:
        # A selector is a domain's beginning, never its end: `20230601` is one, though no domain ends so.
        return parse_domain(f"{text}.example").ascii.removesuffix(".example")
    except DomainError:
        raise Wrong(f"{quoted(text)} is not a selector", 'write a name such as "s2025"') from None
