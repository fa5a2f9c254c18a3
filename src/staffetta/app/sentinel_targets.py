"""Where the sentinel knocks, and as whom: every address of every door, from an address that the door does not trust.

A door that trusts loopback is asked from another address of this machine. Where all of them are trusted, one asks in
memory instead, as a client from outside; a door that believes our PROXY header is told of such a client. A door that
trusts anybody is asked a few things in memory in any case: addresses of this machine say nothing about those elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from staffetta.app.sentinel_machine import Machine
from staffetta.control.check_relay import OWN_NETWORK, STRANGERS
from staffetta.intake.door import DoorSettings
from staffetta.mail.network import NetworkSet, address_number
from staffetta.net.contract import Endpoint

LOOPBACK: Final = {4: "127.0.0.1", 6: "::1"}
STRANGERS_OF: Final = {4: (STRANGERS[0], "198.51.100.77"), 6: (STRANGERS[1], "2001:db8:feed::77")}
"""Who comes from outside where no address of ours will do, by IP version; the second where the first is trusted."""

_ANY: Final = {"0.0.0.0": 4, "::": 6}

ADDRESSES_OF_ONE_DOOR: Final = 8
"""How many of the machine's addresses a door on all addresses is asked at, in each family."""

TCP: Final = "tcp"
PROXY: Final = "proxy"
MEMORY: Final = "memory"

ALL_TRUSTED: Final = "every address of this machine is trusted there"
NO_ADDRESS: Final = "nobody from outside comes to a Unix socket"
OUTSIDE: Final = "as somebody from elsewhere"


class Target(msgspec.Struct, frozen=True):
    """One address of a door. `source` is ours to come from (`tcp`, `proxy`); `client` is who the door will see.
    `all_shapes`: the first of its door; at the others less is asked, since the same judges sit there. `note` says why
    it is asked in memory."""

    settings: DoorSettings
    to: Endpoint
    way: str
    source: str
    client: str
    all_shapes: bool
    note: str = ""


def targets_of(doors: Iterable[tuple[DoorSettings, Sequence[Endpoint]]], machine: Machine) -> Iterator[Target]:
    """All of them; for each door its settings and the ends that it listens at."""
    for settings, endpoints in doors:
        first = True
        for to in (address for endpoint in endpoints for address in addresses_of(endpoint, machine)):
            target = _target(settings, to, machine, all_shapes=first)
            yield target
            if first and settings.trust is not None and endpoints:
                yield from _from_outside(target)
            first = False


def addresses_of(endpoint: Endpoint, machine: Machine) -> list[Endpoint]:
    """Where a listening end can be reached from this machine."""
    family = _ANY.get(endpoint.address)
    if family is None:
        return [endpoint]
    own = [address for address in machine.addresses if _family(address) == family]
    return [Endpoint(one, endpoint.port) for one in [LOOPBACK[family], *own[: ADDRESSES_OF_ONE_DOOR - 1]]]


def in_memory(target: Target, note: str) -> Target:
    """The same door without a connection, for a client from outside."""
    client = _stranger(target.settings, _family(target.to.address) or 4)
    return msgspec.structs.replace(target, way=MEMORY, source="", client=client, note=note)


def _from_outside(target: Target) -> Iterator[Target]:
    for family in STRANGERS_OF:
        client = _stranger(target.settings, family)
        if client != target.client:
            yield Target(target.settings, target.to, MEMORY, "", client, all_shapes=False, note=OUTSIDE)


def _stranger(settings: DoorSettings, family: int) -> str:
    trusted, strangers = _narrow(settings.trust), STRANGERS_OF[family]
    return next((one for one in strangers if not trusted.contains(one)), strangers[0])


def _target(settings: DoorSettings, to: Endpoint, machine: Machine, *, all_shapes: bool) -> Target:
    family = _family(to.address)
    imagined = in_memory(Target(settings, to, MEMORY, "", "", all_shapes), ALL_TRUSTED)
    if to.port == 0 or family is None:
        return msgspec.structs.replace(imagined, note=NO_ADDRESS)
    trusted = _narrow(settings.trust)
    for source in [to.address, LOOPBACK[family], *(one for one in machine.addresses if _family(one) == family)]:
        if settings.proxies is not None and settings.proxies.contains(source):
            return msgspec.structs.replace(imagined, way=PROXY, source=source, note="")
        if not trusted.contains(source):
            return Target(settings, to, TCP, source, source, all_shapes)
    return imagined


def _narrow(trust: NetworkSet | None) -> NetworkSet:
    """Without what is too large to be anybody's own network: whoever trusts that is told so by being asked from it."""
    some = trust.networks if trust is not None else ()
    return NetworkSet(one for one in some if one.last - one.first < OWN_NETWORK[one.version])


def _family(address: str) -> int | None:
    number = address_number(address)
    return None if number is None else number[0]
