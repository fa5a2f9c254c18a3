"""Addresses that mail from strangers' DNS must never make us connect to.

The registries of special-purpose addresses (RFC 6890 with its updates), our own addresses, and every known way to
write an IPv4 address inside an IPv6 one: mapped and compatible (RFC 4291), NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056),
Teredo (RFC 4380), ISATAP (RFC 5214). Our own list on purpose: what the standard library calls private, global or
loopback differs between versions and misses half of this.
Ask about the very address that is connected to, at the moment it is; a name that was judged earlier proves nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Final

from staffetta.mail.network import NetworkSet, address_number, parse_network

_DENIED: Final = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "shared with the provider",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "protocol assignments",
    "192.0.2.0/24": "documentation",
    "192.31.196.0/24": "anycast of AS112",
    "192.52.193.0/24": "anycast of AMT",
    "192.88.99.0/24": "6to4 relays",
    "192.168.0.0/16": "private",
    "192.175.48.0/24": "anycast of AS112",
    "198.18.0.0/15": "benchmarks",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
    "::/128": "unspecified",
    "::1/128": "loopback",
    "64:ff9b:1::/48": "local NAT64",
    "100::/64": "discard",
    "100:0:0:1::/64": "dummy",
    "2001:2::/48": "benchmarks",
    "2001:10::/28": "ORCHID",
    "2001:20::/28": "ORCHID",
    "2001:db8::/32": "documentation",
    "3fff::/20": "documentation",
    "5f00::/16": "segment routing",
    "fc00::/7": "private",
    "fe80::/10": "link-local",
    "fec0::/10": "site-local",
    "ff00::/8": "multicast",
}
_NETWORKS: Final = tuple((parse_network(text), word) for text, word in _DENIED.items())
_ALL: Final = NetworkSet(network for network, _ in _NETWORKS)

_GLOBAL_IPV6: Final = parse_network("2000::/3")
_LOW_32: Final = 0xFFFFFFFF
_TEREDO: Final = 0x20010000
_NAT64: Final = 0x0064FF9B << 64
_ISATAP: Final = 0x00005EFE
_GROUP_AND_LOCAL_BITS: Final = 0x03000000


def why_denied(address: str, allow: NetworkSet, own_addresses: Collection[str] = frozenset()) -> str | None:
    """Why mail must not go to this address: a few words for the operator; None when it may.

    `allow` is `[outbound] allow` and overrules everything, for the address as it is written: to allow `127.0.0.0/8`
    does not allow what wraps it, but for an IPv4-mapped address, which is the IPv4 address. `own_addresses` are texts
    as `canonical_address` gives them.
    """
    number = address_number(address)
    if number is None:
        return "not an address"
    version, value = number
    inner = None if version == 4 else _inside(value)
    if allow.holds(version, value):
        return None
    if _text(version, value) in own_addresses:
        return "our own address"
    if _ALL.holds(version, value):
        return _word(version, value)
    if version == 4:
        return None
    if inner is not None:
        if _text(4, inner) in own_addresses:
            return "our own address, wrapped in IPv6"
        if _ALL.holds(4, inner):
            return f"{_word(4, inner)}, wrapped in IPv6"
        return None if value >> 96 != 0 else "an IPv4-compatible address"
    # Nothing outside 2000::/3 has been given to anybody (RFC 4291 section 2.4), but for NAT64 above.
    return None if _GLOBAL_IPV6.first <= value <= _GLOBAL_IPV6.last else "not assigned"


def canonical_address(text: str) -> str | None:
    """The one text of an address: IPv4-mapped becomes IPv4; None when it is no address."""
    number = address_number(text)
    return None if number is None else _text(*number)


def _inside(value: int) -> int | None:
    """The IPv4 address inside an IPv6 one."""
    if value >> 32 in (_NAT64, 0):
        return value & _LOW_32
    if value >> 112 == 0x2002:
        return value >> 80 & _LOW_32
    if value >> 96 == _TEREDO:
        return ~value & _LOW_32
    if (value >> 32 & _LOW_32) & ~_GROUP_AND_LOCAL_BITS == _ISATAP:
        return value & _LOW_32
    return None


def _word(version: int, value: int) -> str:
    for network, word in _NETWORKS:
        if network.version == version and network.first <= value <= network.last:
            return word
    raise AssertionError("_ALL and _NETWORKS hold the same")


def _text(version: int, value: int) -> str:
    return str(ipaddress.IPv4Address(value) if version == 4 else ipaddress.IPv6Address(value))
