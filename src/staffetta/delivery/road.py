"""The road to a destination: which hosts, found how, under which conditions. Values, and the families that worked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from staffetta.mail.domain import Host
from staffetta.net.contract import Endpoint
from staffetta.policy.route import Hop
from staffetta.tlspolicy.levels import TlsLevel

REMEMBERED_FAMILIES: Final = 4096
"""Hosts whose working address family is remembered."""


class Road(msgspec.Struct, frozen=True):
    """How to reach one destination. By MX when `domain` is set, else by `hops` in order; a hop with port 0 is a path.

    `trusted_target`: the operator named the hops himself, so private addresses are meant. `lmtp`: RFC 2033.
    """

    route: str
    domain: Host | None = None
    hops: tuple[Hop, ...] = ()
    tls: TlsLevel = TlsLevel.OPPORTUNISTIC
    port: int = 25
    ca: Path | None = None
    login: str = ""
    password: str = ""
    sources: tuple[str, ...] = ()
    lmtp: bool = False
    trusted_target: bool = False

    def __repr__(self) -> str:
        # A password must not reach a traceback.
        return f"Road(route={self.route!r}, domain={self.domain!r}, hops={self.hops!r})"


class Families:
    """Which address family worked last for a host, so that a broken one is not tried first again and again."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: OrderedDict[str, bool] = OrderedDict()

    def worked(self, host: str, address: str) -> None:
        """Remember it."""
        self._known[host] = ":" in address
        self._known.move_to_end(host)
        if len(self._known) > REMEMBERED_FAMILIES:
            self._known.popitem(last=False)

    def order(self, host: str, addresses: Sequence[str], port: int) -> list[Endpoint]:
        """The addresses of a host, the family that worked first."""
        known = self._known.get(host)
        if known is not None:
            addresses = sorted(addresses, key=lambda address: (":" in address) is not known)
        return [Endpoint(address, port) for address in addresses]
