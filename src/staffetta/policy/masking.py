"""Who hides behind a trusted address? A gateway that rewrites addresses makes all the world come from inside `trust`.

A container engine that publishes a port, a NAT router, a balancer that says no PROXY header: behind each of them every
stranger has one address, and when that address is trusted the relay is open. Nobody can see through it, but it can be
noticed: by many names and senders that have nothing to do with us, or because nobody ever comes from anywhere else.

What follows depends on how the address came to be trusted, since one real server that sends for many domains is a
legitimate client:

| the address | many names, foreign senders | every peer of every door is it |
| --- | --- | --- |
| loopback | nothing: programs of this machine | an alarm |
| named in `trust` by itself | an alarm | an alarm |
| inside a trusted network | an alarm | its trust is withdrawn |
| the gateway of this machine, named or not | its trust is withdrawn | its trust is withdrawn |

Pure; the moment is an argument. Memory is bounded. This module refuses to know sessions, and what withdrawing means.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import StrEnum
from typing import Final

import msgspec

from staffetta.mail.network import Network, address_number

WINDOW_SECONDS: Final = 86_400.0
"""A day: strangers find an open door within hours, while one's own programs are the same ones every day."""

GATEWAY_NAMES: Final = 5
"""EHLO names behind a gateway: more than the programs of one host use (its name, `localhost`, a literal)."""

GATEWAY_SENDERS: Final = 5
"""Foreign sender domains behind a gateway: a host's own programs send as it, or as who runs it."""

MANY: Final = 20
"""The same for other addresses, where nothing but an alarm follows: more than the machines of a small network."""

FOREIGN_SHARE: Final = 0.5
"""Of the recipients asked for, the share that is outside and asked for by foreign senders: less of it is forwarding."""

STRANGERS_NAMES: Final = 10
"""EHLO names at doors that are open to everybody, all from one address: a filter in front of us has one or two."""

NAMES_REMEMBERED: Final = 64
"""Names of each kind that are kept for one address; the judge asks for fewer."""

ADDRESSES_REMEMBERED: Final = 1000
"""Trusted addresses that are watched, the latest."""

PEERS_REMEMBERED: Final = 64
"""Peers that are kept to know whether there is more than one."""

_HALVED_AT: Final = 256
"""Recipients counted before both counts are halved, so that the share is that of late."""

_LONGEST_NAME: Final = 255


class Standing(StrEnum):
    """How an address came to be trusted."""

    LOOPBACK = "loopback"
    GATEWAY = "gateway"
    """By which this machine reaches others, or a container its host."""
    NAMED = "named"
    """By itself: `trust` has this one address."""
    INSIDE = "inside"
    """With others: it lies in a trusted network."""


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What is known of one trusted address in the window. `asked` and `foreign`: recipients that it
    asked for, and those of them outside for senders that are not ours; `names` and `senders`: the EHLO names and the
    sender domains of the latter. `strangers`: names that it said at doors open to everybody; `alone`: no other peer
    came to any door (loopback does not count)."""

    standing: Standing
    names: int = 0
    senders: int = 0
    asked: int = 0
    foreign: int = 0
    strangers: int = 0
    alone: bool = False


class Suspicion(StrEnum):
    """What to do about an address."""

    NONE = "none"
    ALARM = "alarm"
    WITHDRAW = "withdraw"


class Finding(msgspec.Struct, frozen=True, gc=False):
    """The verdict and its reason, for the operator."""

    suspicion: Suspicion
    reason: str = ""


CLEAR: Final = Finding(Suspicion.NONE)


def judge(facts: Facts) -> Finding:
    """Do strangers hide behind this address?"""
    standing = facts.standing
    if facts.alone and facts.strangers >= STRANGERS_NAMES:
        withdraw = standing in {Standing.GATEWAY, Standing.INSIDE}
        reason = f"every client of every door comes from it, under {facts.strangers} names at doors open to everybody"
        return Finding(Suspicion.WITHDRAW if withdraw else Suspicion.ALARM, reason)
    if standing is Standing.LOOPBACK or facts.foreign < facts.asked * FOREIGN_SHARE:
        return CLEAR
    reason = f"it gave {facts.names} names (EHLO) and {facts.senders} sender domains that are not ours"
    if standing is Standing.GATEWAY and facts.senders >= GATEWAY_SENDERS:
        # One name alone may be the host's own mailing list; the operator should look, and the mail should flow.
        return Finding(Suspicion.WITHDRAW if facts.names >= GATEWAY_NAMES else Suspicion.ALARM, reason)
    if facts.names >= MANY and facts.senders >= MANY:
        return Finding(Suspicion.ALARM, reason)
    return CLEAR


def standing_of(address: str, trust: tuple[Network, ...], gateways: frozenset[str]) -> Standing | None:
    """How an address is trusted by these networks; None: not at all."""
    number = address_number(address)
    holding = [network for network in trust if network.contains(address)]
    if number is None or not holding:
        return None
    if (number[0] == 4 and number[1] >> 24 == 127) or number == (6, 1):
        return Standing.LOOPBACK
    if number in {address_number(gateway) for gateway in gateways}:
        return Standing.GATEWAY
    return Standing.NAMED if any(one.first == one.last for one in holding) else Standing.INSIDE


class Ask(msgspec.Struct, frozen=True, gc=False):
    """A trusted address asked for one recipient. `sender` is the envelope's domain where it is not ours, else ""."""

    address: str
    standing: Standing
    name: str
    sender: str
    outside: bool


class Masking:
    """What trusted addresses did of late. `greeted` and `asked` tell it; both answer with facts when something new was
    learnt that may change the verdict."""

    __slots__ = ("_peers", "_watched")

    def __init__(self) -> None:
        self._watched: OrderedDict[str, _Watched] = OrderedDict()
        self._peers: OrderedDict[str, float] = OrderedDict()

    def greeted(self, address: str, standing: Standing | None, name: str, now: float) -> Facts | None:
        """Somebody said EHLO; `standing` as in standing_of. `name` is "" at a door that is not open to everybody."""
        if standing is not Standing.LOOPBACK:
            self._peers[address] = now
            self._peers.move_to_end(address)
            if len(self._peers) > PEERS_REMEMBERED:
                self._peers.popitem(last=False)
        if standing is None or not name:
            return None
        watched = self._of(address)
        return self._facts(address, standing, now) if _note(watched.strangers, name, now) else None

    def asked(self, ask: Ask, now: float) -> Facts | None:
        """A recipient was taken from a trusted address."""
        if ask.standing is Standing.LOOPBACK:
            return None  # not judged by what it asks for
        watched = self._of(ask.address)
        watched.asked += 1
        watched.foreign += bool(ask.outside and ask.sender)
        if watched.asked >= _HALVED_AT:
            watched.asked, watched.foreign = watched.asked // 2, watched.foreign // 2
        if not (ask.outside and ask.sender):
            return None
        new_name, new_sender = _note(watched.names, ask.name, now), _note(watched.senders, ask.sender, now)
        return self._facts(ask.address, ask.standing, now) if new_name or new_sender else None

    def forget(self) -> None:
        """Begin anew: who is trusted was thought over."""
        self._watched.clear()
        self._peers.clear()

    def _of(self, address: str) -> _Watched:
        watched = self._watched.get(address)
        if watched is None:
            watched = self._watched[address] = _Watched()
            if len(self._watched) > ADDRESSES_REMEMBERED:
                self._watched.popitem(last=False)
        else:
            self._watched.move_to_end(address)
        return watched

    def _facts(self, address: str, standing: Standing, now: float) -> Facts:
        watched, since = self._of(address), now - WINDOW_SECONDS
        return Facts(
            standing,
            _late(watched.names, since),
            _late(watched.senders, since),
            watched.asked,
            watched.foreign,
            _late(watched.strangers, since),
            all(seen <= since for peer, seen in self._peers.items() if peer != address),
        )


class _Watched:
    """One address."""

    __slots__ = ("asked", "foreign", "names", "senders", "strangers")

    def __init__(self) -> None:
        self.names: dict[str, float] = {}
        self.senders: dict[str, float] = {}
        self.strangers: dict[str, float] = {}
        self.asked = self.foreign = 0


def _note(seen: dict[str, float], name: str, now: float) -> bool:
    """Remember a name; True when it was not known, or not of late."""
    name = name[:_LONGEST_NAME]
    if name.isascii():
        name = name.lower()
    before = seen.get(name)
    if before is None and len(seen) >= NAMES_REMEMBERED:
        del seen[min(seen, key=lambda known: seen[known])]
    seen[name] = now
    return before is None or before <= now - WINDOW_SECONDS


def _late(seen: dict[str, float], since: float) -> int:
    return sum(since < when for when in seen.values())
