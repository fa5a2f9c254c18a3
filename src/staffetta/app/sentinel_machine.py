"""What the sentinel knows of this machine: its own addresses, and the gateways by which it reaches others.

Read from Linux's /proc/net, which needs no rights; where it is missing, nothing is known, and the sentinel does with
less. proc_net(5): addresses of IPv4 routes are hexadecimal numbers in the machine's byte order.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

PROC: Final = Path("/proc")
CONTAINER_SIGNS: Final = (Path("/.dockerenv"), Path("/run/.containerenv"))
"""Files by which container engines tell a program where it is."""

MOST_OCTETS: Final = 1 << 20
"""How much of a table is read: a router with a full table is no mail relay."""

_GATEWAY_FLAG: Final = 0x2
_WHOLE_INTERNET: Final = "00000000"
_BRIDGE_BITS: Final = range(8, 31)
"""Prefix lengths of networks that have a first address beside their own."""


class Machine(msgspec.Struct, frozen=True, gc=False):
    """`addresses`: our own but loopback and link-local, IPv4 before IPv6. `gateways`: of all routes; in a container
    also the first address of each network, where a bridge of the host usually is."""

    addresses: tuple[str, ...] = ()
    gateways: frozenset[str] = frozenset()


def read_machine(proc: Path = PROC, signs: tuple[Path, ...] = CONTAINER_SIGNS) -> Machine:
    """Look now."""
    try:
        return _read(proc / "net", signs)
    except ValueError:  # a table of another shape than proc_net(5) says
        return Machine()


def _read(net: Path, signs: tuple[Path, ...]) -> Machine:
    route = _text(net / "route")
    own = [*own_ipv4(_text(net / "fib_trie")), *own_ipv6(_text(net / "if_inet6"))]
    gateways = {*gateways_ipv4(route), *gateways_ipv6(_text(net / "ipv6_route"))}
    if any(sign.exists() for sign in signs):
        gateways.update(bridges_ipv4(route))
    return Machine(tuple(dict.fromkeys(own)), frozenset(gateways - set(own)))


def own_ipv4(fib_trie: str) -> Iterator[str]:
    """Local addresses: the line before `/32 host LOCAL` has the address."""
    address = ""
    for line in fib_trie.split("\n"):
        words = line.split()
        if words[:1] == ["|--"] and len(words) == 2:
            address = words[1]
        elif words == ["/32", "host", "LOCAL"] and address and not address.startswith("127."):
            yield address


def own_ipv6(if_inet6: str) -> Iterator[str]:
    """Addresses of global scope (00) that are not tentative or deprecated."""
    for line in if_inet6.split("\n"):
        words = line.split()
        if len(words) == 6 and words[3] == "00" and not _number(words[4]) & 0x60:
            yield _ipv6(words[0])


def gateways_ipv4(route: str) -> Iterator[str]:
    """The gateways of all routes."""
    for words in _rows(route):
        if _number(words[3]) & _GATEWAY_FLAG:
            yield _ipv4(words[2])


def bridges_ipv4(route: str) -> Iterator[str]:
    """The first address of each network that is reached without a gateway."""
    for words in _rows(route):
        network, mask = _swapped(words[1]), _swapped(words[7])
        direct = not _number(words[3]) & _GATEWAY_FLAG
        if direct and words[1] != _WHOLE_INTERNET and mask.bit_count() in _BRIDGE_BITS:
            yield str(ipaddress.IPv4Address((network & mask) + 1))


def gateways_ipv6(ipv6_route: str) -> Iterator[str]:
    """The next hops of all routes."""
    for line in ipv6_route.split("\n"):
        words = line.split()
        if len(words) == 10 and _number(words[8]) & _GATEWAY_FLAG and words[4].strip("0"):
            yield _ipv6(words[4])


def _rows(route: str) -> Iterator[list[str]]:
    for line in route.split("\n")[1:]:
        words = line.split()
        if len(words) >= 8:
            yield words


def _swapped(text: str) -> int:
    return int.from_bytes(_number(text).to_bytes(4, sys.byteorder), "big")


def _ipv4(text: str) -> str:
    return str(ipaddress.IPv4Address(_swapped(text)))


def _ipv6(text: str) -> str:
    return str(ipaddress.IPv6Address(_number(text)))


def _number(text: str) -> int:
    return int(text, 16)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MOST_OCTETS).decode("ascii", "replace")
    except OSError:
        return ""
