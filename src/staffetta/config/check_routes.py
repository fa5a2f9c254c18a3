"""Routes: can each of them match, does it lead away from us, and is its password safe on the way?"""

from __future__ import annotations

import ipaddress
from typing import Final

from staffetta.config.check_doors import world_in
from staffetta.config.positions import Path
from staffetta.config.reader import Reader, header, label
from staffetta.config.schema import (
    IMPLICIT_TLS_PORT,
    IMPLIED_ROUTE,
    Config,
    DomainPattern,
    Hop,
    HopTls,
    InnerServer,
    Lmtp,
    Route,
)
from staffetta.config.values import quoted
from staffetta.mail.domain import Domain

_VERIFIED: Final = {HopTls.VERIFY, HopTls.IMPLICIT}
_CLEAR_PORTS: Final = {25, 587}
_ANY_HOSTS: Final = {"*", "0.0.0.0", "::"}


def check_routes(reader: Reader, config: Config) -> None:
    """Report what is wrong with routes, and with the ways of delivery of local domains."""
    routes = [route for route in config.routes if reader.written("route", route.name)]
    for number, route in enumerate(routes):
        if route != IMPLIED_ROUTE or number + 1 < len(routes):  # writing what is implied is no mistake
            _reach(reader, config, route, routes[:number])
        _login(reader, route)
        _levels(reader, route)
        _sources(reader, route)
        for position, hop in enumerate(route.via):
            path: Path = ("route", route.name, "via", position)
            if path not in reader.index.values:
                path = path[:-1]
            if _is_ourselves(config, hop):
                message = f"{label(path)}: {quoted(str(hop))} is this relay itself"
                reader.report("C212", path, message, 'name the next server, or via = "mx"')
    for domain in config.domains:
        inner = domain.deliver.hop if isinstance(domain.deliver, InnerServer | Lmtp) else None
        if inner is not None and _is_ourselves(config, inner):
            path = (*reader.domain_path(domain.domain), "deliver")
            message = f"{label(path)}: {quoted(str(inner))} is this relay itself"
            reader.report("C212", path, message, 'name the inner server, or write "maildir"')
    if world_in(config.outbound.allow):
        message = "[outbound] allow opens every network, loopback and private ones too"
        reader.report("C225", ("outbound", "allow"), message, "name the networks that mail has to reach")


def _covers(earlier: DomainPattern, later: DomainPattern) -> bool:
    """True when everything that `later` takes is taken by `earlier`."""
    if earlier.domain is None:
        return True
    if later.domain is None:
        return False
    if later.subdomains:
        return earlier.subdomains and (later.domain == earlier.domain or later.domain.is_under(earlier.domain))
    return earlier.matches(later.domain)


def _takers(earlier: list[Route], pattern: DomainPattern, senders: tuple[Domain, ...]) -> list[Route]:
    """The routes that together take the pattern from each of `senders` (empty: from anyone); empty when not all is."""
    found: list[Route] = []
    for sender in senders or (None,):
        for route in earlier:
            if route.from_ and sender not in route.from_:
                continue
            if any(_covers(one, pattern) for one in route.to):
                found.append(route)
                break
        else:
            return []
    return found


def _reach(reader: Reader, config: Config, route: Route, earlier: list[Route]) -> None:
    path: Path = ("route", route.name)
    if not reader.sound(*path, "to") or not reader.sound(*path, "from"):
        return
    usable = [r for r in earlier if reader.sound("route", r.name, "to") and reader.sound("route", r.name, "from")]
    local = {domain.domain for domain in config.domains}
    taken = [_takers(usable, pattern, route.from_) for pattern in route.to]
    is_local = [p.domain in local and not p.subdomains for p in route.to]
    if all(is_local):
        message = f"rule {header(path)} can never match: its recipients are local, and those take no route"
        reader.report("C207", path, message, at="line")
    elif all(t or here for t, here in zip(taken, is_local, strict=True)):
        names = list({r.name: header(("route", r.name)) for t in taken for r in t}.values())
        words = "takes" if len(names) == 1 else "take"
        whole = any(p.domain is None and not r.from_ for t in taken for r in t for p in r.to)
        what = "every recipient" if whole else "all its mail" if route.from_ else "its recipients"
        message = f"rule {header(path)} can never match: {' and '.join(names)} above it {words} {what}"
        reader.report("C207", path, message, at="line")
    else:
        for number, (takers, here) in enumerate(zip(taken, is_local, strict=True)):
            shown = quoted(str(route.to[number]))
            if takers:
                message = f"{label((*path, 'to'))}: {shown} is taken by {header(('route', takers[0].name))} above"
                reader.report("C208", (*path, "to", number), message, "remove it here")
            elif here:
                message = f"{label((*path, 'to'))}: {shown} is local, and takes no route"
                reader.report("C208", (*path, "to", number), message, "remove it here")
            elif any(_covers(other, route.to[number]) for i, other in enumerate(route.to) if i < number):
                message = f"{label((*path, 'to'))}: {shown} is in the list already"
                reader.report("C208", (*path, "to", number), message, "remove it here")
    if route.name == IMPLIED_ROUTE.name and (route.from_ or all(p.domain is not None for p in route.to)):
        message = "[route.default] must take every recipient, for it is the last"
        reader.report("C228", path, message, "give a route for some of them another name", at="key")


def _login(reader: Reader, route: Route) -> None:
    path: Path = ("route", route.name)
    written = {name: reader.written(*path, name) for name in ("login", "password")}
    if written["login"] != written["password"]:
        there, missing = ("login", "password") if written["login"] else ("password", "login")
        message = f"{header(path)} has {there} without {missing}"
        reader.report("C213", (*path, there), message, f"write {missing} too, or leave both out", at="key")
    if not written["login"] or not reader.sound(*path, "tls"):
        return
    if not route.via:
        if reader.sound(*path, "via"):
            message = f"{label((*path, 'login'))}: a login is for a host of via, not for whoever MX names"
            reader.report("C214", (*path, "login"), message, 'write via = "HOST:PORT"')
        return
    for number, hop in enumerate(route.via):
        level = route.tls_to(hop)
        place = (*path, "tls") if reader.written(*path, "tls") else (*path, "via", number)
        if level in {HopTls.OFF, HopTls.OPPORTUNISTIC}:
            message = f"{header(path)}: with tls {quoted(level.value)} the password travels where anybody can take it"
            reader.report("C214", place, message, 'write tls = "verify", or "implicit" for port 465')
        elif level is HopTls.REQUIRE:
            message = f'{header(path)}: with tls "require" the password is given to whoever answers'
            reader.report("C231", place, message, 'write tls = "verify"')


def _levels(reader: Reader, route: Route) -> None:
    path: Path = ("route", route.name)
    if not route.via and route.tls is HopTls.IMPLICIT and reader.sound(*path, "via"):
        message = f"{label((*path, 'tls'))}: servers found by MX listen on port 25, which has no implicit TLS"
        reader.report("C215", (*path, "tls"), message, 'write "verify" or "require"')
    for number, hop in enumerate(route.via):
        place = (*path, "via", number) if (*path, "via", number) in reader.index.values else (*path, "via")
        if hop.port == IMPLICIT_TLS_PORT and route.tls not in {None, HopTls.IMPLICIT}:
            message = f"{label((*path, 'via'))}: port 465 begins with TLS, and waits for it"
            reader.report("C209", place, message, 'write tls = "implicit", or use port 587')
        elif hop.port in _CLEAR_PORTS and route.tls is HopTls.IMPLICIT:
            message = f"{label((*path, 'via'))}: port {hop.port} begins in clear"
            reader.report("C209", place, message, 'write tls = "verify", or use port 465')
    levels = {route.tls_to(hop) for hop in route.via} or {route.tls_to(None)}
    if route.ca is not None and not levels & _VERIFIED and reader.sound(*path, "tls"):
        message = f"{label((*path, 'ca'))} has no effect: no certificate is verified here"
        reader.report("C219", (*path, "ca"), message, 'write tls = "verify"')


def _sources(reader: Reader, route: Route) -> None:
    path: Path = ("route", route.name)
    families = {":" in source for source in route.source}
    for number, source in enumerate(route.source):
        if ipaddress.ip_address(source).is_unspecified:
            message = f"{label((*path, 'source'))}: {quoted(source)} is no address to send from"
            reader.report("C107", (*path, "source", number), message, "leave the key out for the system's choice")
    for number, hop in enumerate(route.via):
        if families and hop.is_address and (":" in hop.host) not in families:
            other = "IPv6" if ":" in hop.host else "IPv4"
            message = f"{label((*path, 'source'))}: no {other} address to reach {quoted(route.via[number].host)} from"
            reader.report("C226", (*path, "source"), message, f"add an {other} address")


def _is_ourselves(config: Config, hop: Hop) -> bool:
    for door in config.listeners:
        for bind in door.bind:
            if bind.port != hop.port:
                continue
            if hop.host in {bind.host, config.hostname.ascii}:
                return True
            if bind.host in _ANY_HOSTS and _is_loopback(hop.host):
                return True
            if "localhost" in {bind.host, hop.host} and _is_loopback(bind.host) and _is_loopback(hop.host):
                return True
    return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
