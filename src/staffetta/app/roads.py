"""Routes of the configuration as the judges know them, and the road that each destination key stands for."""

from __future__ import annotations

from typing import Final

from staffetta.config.schema import Config, DomainPattern, InnerServer, Lmtp, LocalDomain, Maildir
from staffetta.config.schema import Route as ConfiguredRoute
from staffetta.delivery.road import Road
from staffetta.mail.address import Mailbox, ReversePath
from staffetta.mail.domain import Domain, Host
from staffetta.policy.route import IMPLIED_ROUTE, Hop, Pattern, Route, RouteTable, destination_key, local_key
from staffetta.tlspolicy.levels import TlsLevel

_ANY: Final = Domain("any.invalid")
"""A domain that does not matter."""


class Roads:
    """All destinations of one configuration."""

    def __init__(self, config: Config) -> None:
        self._local = {domain.domain: domain for domain in config.domains}
        self._port = config.outbound.port
        self.table = RouteTable(_route(route) for route in config.routes)

    def destination(self, recipient: Mailbox, sender: ReversePath) -> str:
        """The key of the destination that a recipient belongs to."""
        host = recipient.domain
        if host in self._local:
            return local_key(host)
        return self.table.choose(host, sender.domain if isinstance(sender, Mailbox) else None).destination

    def limits(self, destination: str) -> tuple[int, float]:
        """Connections at most, and transactions a second (0: no limit), of a destination; (0, 0) for the default."""
        way = self.table.way(destination)
        if way is None or way.route is None:
            return 0, 0.0
        return way.route.connections, way.route.rate_per_second

    def road(self, destination: str) -> Road | None:
        """The road to a destination; None when it is a mailbox of ours.

        A key whose route is gone since a reload goes by MX, or by the last route there is.
        """
        way = self.table.way(destination)
        if way is not None and way.route is not None:
            return self._outside(way.route, way.domain)
        if way is None:
            return self._outside(self.table.routes[-1] if self.table.routes else IMPLIED_ROUTE, None)
        domain = self._local.get(way.domain) if isinstance(way.domain, Domain) else None
        if way.held or domain is None or isinstance(domain.deliver, Maildir):
            return None
        return _inner_road(domain, domain.deliver)

    def keys(self) -> tuple[str, ...]:
        """The destinations that stand in the configuration itself: named hosts, and our own domains."""
        named = [destination_key(route, _ANY) for route in self.table.routes if route.via]
        return (*named, *map(local_key, self._local))

    def maildir_of(self, domain: Domain) -> LocalDomain | None:
        """The settings of a local domain."""
        return self._local.get(domain)

    def _outside(self, route: Route, domain: Host | None) -> Road:
        if route.via:
            return Road(
                route.name,
                hops=route.via,
                ca=route.ca,
                login=route.login,
                password=route.password,
                sources=route.sources,
                trusted_target=True,
            )
        return Road(
            route.name,
            domain=domain,
            tls=route.tls,
            port=self._port,
            ca=route.ca,
            sources=route.sources,
        )


def _pattern(pattern: DomainPattern) -> Pattern:
    return Pattern(pattern.domain, pattern.subdomains)


def _route(route: ConfiguredRoute) -> Route:
    return Route(
        route.name,
        tuple(_pattern(pattern) for pattern in route.to),
        tuple(Pattern(domain) for domain in route.from_),
        tuple(Hop(hop.host, hop.port, TlsLevel(route.tls_to(hop))) for hop in route.via),
        TlsLevel(route.tls_to(None)),
        route.ca,
        route.login or "",
        route.password.value if route.password else "",
        route.source,
        route.connections,
        route.rate.per_second if route.rate else 0.0,
    )


def _inner_road(domain: LocalDomain, deliver: InnerServer | Lmtp) -> Road:
    name = f"deliver {domain.domain}"
    if isinstance(deliver, Lmtp) and deliver.hop is None:
        return Road(name, hops=(Hop(str(deliver.path), 0, TlsLevel.OFF),), lmtp=True, trusted_target=True)
    assert deliver.hop is not None  # noqa: S101 - the loader sees to it
    hop = Hop(deliver.hop.host, deliver.hop.port, TlsLevel.OPPORTUNISTIC)
    return Road(name, hops=(hop,), lmtp=isinstance(deliver, Lmtp), trusted_target=True)
