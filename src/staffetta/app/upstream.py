"""What `check upstream` is made with: the same roads, contexts, guard and connections that delivery has."""

from __future__ import annotations

from staffetta.app.roads import Roads
from staffetta.app.wiring import World, session_settings
from staffetta.config.schema import Config
from staffetta.control.check_upstream import UpstreamTools
from staffetta.delivery.road import Road
from staffetta.dns.denied import why_denied
from staffetta.dns.mx import OwnIdentity
from staffetta.mail.domain import Host
from staffetta.mail.network import NetworkSet
from staffetta.net.tls import ClientContexts
from staffetta.policy.route import IMPLIED_ROUTE, Route, destination_key


def upstream_tools(config: Config, world: World, *, step_seconds: float) -> UpstreamTools:
    """The tools, over a world."""
    allow = NetworkSet(config.outbound.allow)
    return UpstreamTools(
        world.resolver,
        world.connector,
        lambda address: why_denied(address, allow),
        OwnIdentity(frozenset({config.hostname.ascii})),
        world.random.shuffle,
        session_settings(config, ClientContexts()),
        step_seconds,
    )


def route_named(config: Config, name: str) -> Route | None:
    """The route of that name, the implied one included; None when there is none."""
    routes = {route.name: route for route in Roads(config).table.routes}
    return routes.get(name, IMPLIED_ROUTE if name == IMPLIED_ROUTE.name else None)


def road_by(config: Config, route: Route, domain: Host | None) -> Road | None:
    """The road to a domain by a route; None when the route goes by MX and no domain is named."""
    if domain is None and not route.via:
        return None
    return Roads(config).road(destination_key(route, domain or config.hostname))
