"""The hosts at the end of a road, as `explain route` tells them: found as delivery finds them, without connecting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from staffetta.config.schema import Config
from staffetta.delivery.road import Road
from staffetta.dns.denied import why_denied
from staffetta.dns.mx import OwnIdentity, describe, find_addresses
from staffetta.dns.resolver import Resolver, Unavailable
from staffetta.mail.domain import Host
from staffetta.mail.network import NetworkSet
from staffetta.policy.route import Hop


class RouteHost(msgspec.Struct, frozen=True, gc=False):
    """One host to try. `port` 0: `host` is the path of a socket. `denied`: addresses that are never connected to."""

    host: str
    port: int
    preference: int | None
    addresses: tuple[str, ...]
    denied: tuple[str, ...] = ()


class Found(msgspec.Struct, frozen=True):
    """What was found: hosts in order, `tls` towards them, notes for the operator, and why mail cannot go there."""

    hosts: tuple[RouteHost, ...] = ()
    tls: str = ""
    notes: tuple[str, ...] = ()
    error: str | None = None
    temporary: bool = False


async def hosts_by_name(resolver: Resolver, hops: Sequence[Hop]) -> Found:
    """The hosts that the file names, in its order."""
    answers = await asyncio.gather(*[_addresses(resolver, hop) for hop in hops])
    hosts: list[RouteHost] = []
    notes: list[str] = []
    reasons: list[str] = []
    for hop, addresses in zip(hops, answers, strict=True):
        known = addresses if isinstance(addresses, tuple) else ()
        hosts.append(RouteHost(hop.host, hop.port, None, known))
        where = hop.host if hop.port == 0 else f"{hop.host} port {hop.port}"
        if isinstance(addresses, Unavailable):
            reasons.append(f"the addresses of {hop.host} are not known now: {addresses.reason}")
        elif not known and hop.port:
            reasons.append(f"{hop.host} has no address")
        else:
            notes.append(f"next hop {where}" + (f" at {', '.join(known)}" if known else ""))
    lost = len(reasons) == len(hops)
    level = str(hops[0].tls) if hops else ""
    return Found(tuple(hosts), level, (*notes, *(() if lost else reasons)), reasons[0] if lost else None, lost)


async def hosts_by_mx(resolver: Resolver, domain: Host, road: Road, config: Config) -> Found:
    """The hosts that the DNS names, in order of preference."""
    found = await describe(resolver, domain, OwnIdentity(frozenset({config.hostname.ascii})))
    allow = NetworkSet(config.outbound.allow)
    level = str(road.tls)
    hosts: list[RouteHost] = []
    notes: list[str] = []
    for host in found.hosts:
        denied = tuple(address for address in host.addresses if why_denied(address, allow))
        hosts.append(RouteHost(host.host, road.port, host.preference, host.addresses, denied))
        name = f"{host.host} port {road.port}"
        how = "no MX: the domain's own address" if found.implicit else f"MX {host.preference}"
        notes.append(f"{how}: {name} at {', '.join(host.addresses) or 'no address'}")
        notes += [f"never connects to {address}: {why_denied(address, allow)}" for address in denied]
    error, temporary = found.error, found.temporary
    if error is None and all(len(host.denied) == len(host.addresses) for host in hosts):
        error = "550 5.4.4 the mail server's address is not one that mail may be sent to"
    return Found(tuple(hosts), level, tuple(notes), error, temporary)


async def _addresses(resolver: Resolver, hop: Hop) -> tuple[str, ...] | Unavailable:
    return () if hop.port == 0 else await find_addresses(resolver, hop.host)
