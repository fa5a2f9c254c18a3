"""Networks of IP addresses: `192.0.2.0/24`, `2001:db8::/32`, `192.0.2.10-192.0.2.20`, or one address.

RFC 4632 (IPv4 prefixes), RFC 4291 (IPv6; section 2.5.5.2, IPv4-mapped addresses, which count as the IPv4 address they
carry: a dual-stack socket shows every IPv4 client that way).
This module refuses to know what a network is good for: trusted, denied, listed.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

import msgspec

_WIDTH: Final = {4: 32, 6: 128}
REMEMBERED_ADDRESSES: Final = 4096
"""How many judgements a NetworkSet remembers before it starts afresh."""


class NetworkError(ValueError):
    """The text is not a network; the message says why, without echoing the text."""


class Network(msgspec.Struct, frozen=True, order=True, gc=False):
    """All addresses from `first` to `last`, both included, as numbers of the IP `version` 4 or 6."""

    version: int
    first: int
    last: int

    def __str__(self) -> str:
        size = self.last - self.first + 1
        width = _WIDTH[self.version]
        start = _text(self.version, self.first)
        if size & (size - 1) == 0 and self.first % size == 0:
            return f"{start}/{width - size.bit_length() + 1}"
        return f"{start}-{_text(self.version, self.last)}"

    @property
    def is_everything(self) -> bool:
        """True for `0.0.0.0/0` and `::/0`, and ranges of that size."""
        return self.last - self.first + 1 == 1 << _WIDTH[self.version]

    def contains(self, address: str) -> bool:
        """True when the address that `address` writes is inside; false also for what is no address at all."""
        number = address_number(address)
        return number is not None and number[0] == self.version and self.first <= number[1] <= self.last


def address_number(text: str) -> tuple[int, int] | None:
    """IP version and number of the address; an IPv4-mapped one is the IPv4 address. None when it is no address.

    Strict: no leading zeros, no short forms such as `127.1`, no zone.
    """
    try:
        if ":" not in text:
            return 4, int(ipaddress.IPv4Address(text))
        if "%" in text:
            return None
        number = int(ipaddress.IPv6Address(text))
    except ValueError:
        return None
    if number >> 32 == 0xFFFF:
        return 4, number & 0xFFFFFFFF
    return 6, number


def parse_network(text: str) -> Network:
    """The network that `text` names: `ADDRESS/LENGTH`, `ADDRESS-ADDRESS`, or `ADDRESS`. Raises NetworkError.

    `10.0.0.1/8` is refused, because nobody can tell whether one address or all of them was meant.
    """
    start, dash, end = text.partition("-")
    if dash:
        return _range(start.strip(" "), end.strip(" "))
    address, slash, length = text.partition("/")
    number = address_number(address)
    if number is None:
        raise NetworkError("not an IPv4 or IPv6 address")
    version, first = number
    width = _WIDTH[version]
    if not slash:
        return Network(version, first, first)
    bits = _length(length)
    if version == 4 and ":" in address:
        bits -= 96  # ::ffff:10.0.0.0/104 is 10.0.0.0/8
    if not 0 <= bits <= width:
        raise NetworkError("the prefix length does not fit the address")
    size = 1 << (width - bits)
    if first % size:
        network = Network(version, first - first % size, first - first % size + size - 1)
        raise NetworkError(f"the address has bits beyond its prefix length; the network is {network}")
    return Network(version, first, first + size - 1)


def neighbours(network: Network) -> tuple[str, ...]:
    """The addresses just before and behind a network, where there are any: those that a mistake by one would add."""
    most = (1 << _WIDTH[network.version]) - 1
    outside = [number for number in (network.first - 1, network.last + 1) if 0 <= number <= most]
    return tuple(_text(network.version, number) for number in outside)


def _range(start: str, end: str) -> Network:
    first, last = address_number(start), address_number(end)
    if first is None or last is None:
        raise NetworkError("a range is ADDRESS-ADDRESS")
    if first[0] != last[0]:
        raise NetworkError("a range mixes IPv4 and IPv6")
    if first[1] > last[1]:
        raise NetworkError("a range ends before it starts")
    return Network(first[0], first[1], last[1])


def _length(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 3) or (text[0] == "0" and text != "0"):
        raise NetworkError("a prefix length is a decimal number")
    return int(text)


def _text(version: int, number: int) -> str:
    return str(ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number))


class NetworkSet:
    """Many networks, asked often: merged, searched by bisection, with a small memory of what was asked before."""

    __slots__ = ("_first", "_judged", "_last", "networks")

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self.networks = tuple(networks)
        """As they were given."""
        self._first: dict[int, list[int]] = {4: [], 6: []}
        self._last: dict[int, list[int]] = {4: [], 6: []}
        self._judged: dict[str, bool] = {}
        for network in sorted(self.networks):
            firsts, lasts = self._first[network.version], self._last[network.version]
            if lasts and network.first <= lasts[-1] + 1:
                lasts[-1] = max(lasts[-1], network.last)
            else:
                firsts.append(network.first)
                lasts.append(network.last)

    def __bool__(self) -> bool:
        return bool(self.networks)

    def contains(self, address: str) -> bool:
        """True when the address that `address` writes is in one of the networks; false for what is no address."""
        if not self.networks:
            return False
        judged = self._judged.get(address)
        if judged is None:
            judged = self._contains(address)
            if len(self._judged) >= REMEMBERED_ADDRESSES:
                self._judged.clear()
            self._judged[address] = judged
        return judged

    def _contains(self, address: str) -> bool:
        number = address_number(address)
        return number is not None and self.holds(*number)

    def holds(self, version: int, number: int) -> bool:
        """The same for an address already parsed with `address_number`."""
        position = bisect_right(self._first[version], number) - 1
        return position >= 0 and number <= self._last[version][position]


__all__ = ["Network", "NetworkError", "NetworkSet", "address_number", "neighbours", "parse_network"]
