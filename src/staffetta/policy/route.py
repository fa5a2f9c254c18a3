"""Which way mail to a domain goes: the first route in file order that takes recipient and sender domain.

Interface section 2, `[route.NAME]`. Recipients of local domains never take a route; their destination key is made here
too, so that keys have one home. This module refuses to know MX records, addresses and connections.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from staffetta.mail.domain import Domain, DomainError, Host, parse_host
from staffetta.tlspolicy.levels import TlsLevel

REMEMBERED_CHOICES: Final = 16_384
"""Domain pairs whose route is remembered before the memory starts afresh."""

DEFAULT_ROUTE_NAME: Final = "default"
"""The route that is last without being written."""


class Pattern(msgspec.Struct, frozen=True, gc=False):
    """`"d"`, `".d"` (every subdomain, not `d` itself), or `"*"` (then `domain` is None)."""

    domain: Domain | None = None
    subdomains: bool = False

    def matches(self, host: Host) -> bool:
        """True when `host` is meant. An address literal is meant only by `"*"`."""
        if self.domain is None:
            return True
        if not isinstance(host, Domain):
            return False
        return host.is_under(self.domain) if self.subdomains else host == self.domain


EVERYTHING: Final = Pattern()


class Hop(msgspec.Struct, frozen=True, gc=False):
    """A named next hop and what TLS must look like there."""

    host: str
    port: int
    tls: TlsLevel


class Route(msgspec.Struct, frozen=True):
    """One way out. `via` empty: by MX with the level `tls`. `connections` and `rate` are per destination."""

    name: str
    to: tuple[Pattern, ...] = (EVERYTHING,)
    senders: tuple[Pattern, ...] = ()
    via: tuple[Hop, ...] = ()
    tls: TlsLevel = TlsLevel.OPPORTUNISTIC
    ca: Path | None = None
    login: str = ""
    password: str = ""
    sources: tuple[str, ...] = ()
    connections: int = 20
    rate_per_second: float = 0.0

    def __repr__(self) -> str:
        # A password must not reach a log or traceback.
        return f"Route(name={self.name!r}, to={self.to!r}, via={self.via!r}, login={self.login!r})"

    def takes(self, recipient: Host, sender: Host | None) -> bool:
        """True when mail to `recipient` from `sender` (None: the null path) goes this way."""
        if not any(pattern.matches(recipient) for pattern in self.to):
            return False
        if not self.senders:
            return True
        return sender is not None and any(pattern.matches(sender) for pattern in self.senders)


class Choice(msgspec.Struct, frozen=True):
    """A route and the key of the destination behind it: what shares a key shares connections, rate and bad times."""

    route: Route
    destination: str


class Way(msgspec.Struct, frozen=True):
    """What a destination key says: a route (and the domain whose MX to ask), a local domain, or a box of our own.

    `held`: the mailbox lies under the data directory whatever the domain's `deliver` says (postmaster without a home).
    """

    route: Route | None = None
    domain: Host | None = None
    held: bool = False

    @property
    def local(self) -> bool:
        """True for our own domains."""
        return self.route is None


def destination_key(route: Route, domain: Host) -> str:
    """`mx:DOMAIN` by the implied route, `mx:NAME/DOMAIN` by another MX route, `route:NAME` for named hosts.

    The route is part of the key because two MX routes may differ in TLS, source or rate towards the same domain.
    """
    if route.via:
        return f"route:{route.name}"
    if route.name == DEFAULT_ROUTE_NAME and route == IMPLIED_ROUTE:
        return f"mx:{domain}"
    return f"mx:{route.name}/{domain}"


def local_key(domain: Host) -> str:
    """The destination of a local domain, delivered as its `deliver` says."""
    return f"local:{domain}"


def is_local_key(destination: str) -> bool:
    """True for what a local domain's `deliver` takes, be it a mailbox or a server behind us."""
    return destination.startswith("local:")


def held_key(domain: Host) -> str:
    """The destination of a mailbox under the data directory, whatever the domain's `deliver` says."""
    return f"held:{domain}"


def is_held(destination: str) -> bool:
    """True for a mailbox under the data directory, which no route and no `deliver` moves."""
    return destination.startswith("held:")


class RouteTable:
    """Routes in file order, with the implied default behind them. Immutable but for its memory; a reload makes a new
    one."""

    __slots__ = ("_by_name", "_by_sender", "_chosen", "routes")

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        given = tuple(routes)
        names = [route.name for route in given]
        if len(set(names)) != len(names):
            raise ValueError("two routes have one name")
        self.routes = given
        """As they were given; the implied route stands behind them, also behind a written `default`."""
        self._by_name = {route.name: route for route in self.routes}
        self._by_sender = any(route.senders for route in self.routes)
        self._chosen: dict[Host | tuple[Host, Host | None], Choice] = {}

    def choose(self, recipient: Host, sender: Host | None = None) -> Choice:
        """The first route that takes mail to `recipient` from `sender` (None: the null path), and its destination."""
        asked = (recipient, sender) if self._by_sender else recipient
        choice = self._chosen.get(asked)
        if choice is None:
            choice = self._choose(recipient, sender)
            if len(self._chosen) >= REMEMBERED_CHOICES:
                self._chosen.clear()
            self._chosen[asked] = choice
        return choice

    def _choose(self, recipient: Host, sender: Host | None) -> Choice:
        for route in self.routes:
            if route.takes(recipient, sender):
                return Choice(route, destination_key(route, recipient))
        return Choice(IMPLIED_ROUTE, destination_key(IMPLIED_ROUTE, recipient))

    def way(self, destination: str) -> Way | None:
        """What a destination key means now; None when its route is gone (a reload), so that it must be chosen anew."""
        kind, _, rest = destination.partition(":")
        if kind == "route":
            route = self._by_name.get(rest)
            return Way(route) if route is not None and route.via else None
        name, slash, domain_text = rest.rpartition("/")
        try:
            domain = parse_host(domain_text)
        except DomainError:
            return None
        if kind == "mx":
            route = self._by_name.get(name) if slash else IMPLIED_ROUTE
            return Way(route, domain) if route is not None and not route.via else None
        if kind in {"local", "held"} and not slash:
            return Way(None, domain, kind == "held")
        return None


IMPLIED_ROUTE: Final = Route(DEFAULT_ROUTE_NAME)
"""`[route.default] via = "mx"`, which stands behind every table."""
