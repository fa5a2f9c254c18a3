"""Doors: who may pass, under what protection, and whether two stand in one place."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from staffetta.config.positions import Path
from staffetta.config.reader import Reader, header, label
from staffetta.config.schema import IMPLICIT_TLS_PORT, Config, DoorTls, Listen, Role
from staffetta.config.values import quoted
from staffetta.mail.network import Network, parse_network
from staffetta.net.endpoint import Bind

_CLEAR_PORTS: Final = {25, 587}
_ANY: Final = {"*": {4, 6}, "0.0.0.0": {4}, "::": {6}}
_WORLDS: Final = (("1.0.0.0-223.255.255.255", "0.0.0.0/0"), ("2000::/3", "::/0"))
"""All addresses that a stranger can have, and what is said for it."""
_WIDEST: Final = {4: 1 << 24, 6: 1 << 112}


def check_doors(reader: Reader, config: Config) -> None:
    """Report what is wrong with doors, the console's included."""
    for door in config.listeners:
        _role(reader, door)
        _protection(reader, door)
        _ports(reader, door)
        _trust(reader, door)
    _overlaps(reader, config)
    _console(reader, config)
    if not config.listeners and reader.sound("listen"):
        message = "no door: nothing can come in"
        reader.report_file("C229", message, "write a [listen.NAME] with bind and role")
    if not config.domains and reader.sound("domain"):
        for door in config.listeners:
            if door.role is Role.MX:
                message = f"{header(('listen', door.name))} takes no mail: there is no local domain"
                reader.report("C229", ("listen", door.name, "role"), message, 'write a [domain."example.org"]')


def _role(reader: Reader, door: Listen) -> None:
    path: Path = ("listen", door.name)
    role = door.role.value
    if door.role is not Role.RELAY and reader.written(*path, "trust"):
        advice = "anyone may deliver, and nobody may relay" if door.role is Role.MX else "login is always required"
        message = f"{label((*path, 'trust'))} has no place in the role {role}: {advice}"
        reader.report("C204", (*path, "trust"), message, 'remove it, or write role = "relay"', at="key")
    if door.role is Role.MX and door.from_fixed is not None:
        message = f"{label((*path, 'from_fixed'))} has no place in the role mx: mail of strangers is not rewritten"
        reader.report("C204", (*path, "from_fixed"), message, "remove it", at="key")
    if door.role is Role.SUBMISSION and not door.auth and reader.written(*path, "auth"):
        message = f"{label((*path, 'auth'))}: a submission door always asks for a login"
        reader.report("C204", (*path, "auth"), message, 'remove it, or write role = "relay"')
    sound = all(reader.sound(*path, name) for name in ("trust", "auth", "tls"))
    if door.role is Role.RELAY and not door.auth and not door.trust and sound:
        message = f"nobody can pass {header(path)}: it trusts no network and offers no login"
        place = "trust" if reader.written(*path, "trust") else "role"
        reader.report("C206", (*path, place), message, "write trust, or a certificate in [tls] for login")


def _protection(reader: Reader, door: Listen) -> None:
    path: Path = ("listen", door.name)
    written = reader.written(*path, "tls")
    if door.tls is DoorTls.OFF and written:
        if door.role is Role.SUBMISSION:
            message = f"{label((*path, 'tls'))}: a submission door takes passwords, which would travel in clear"
            reader.report("C201", (*path, "tls"), message, 'write "starttls" or "implicit"')
        elif door.auth and reader.written(*path, "auth"):
            message = f"{label((*path, 'auth'))}: login without TLS sends passwords in clear"
            reader.report("C201", (*path, "auth"), message, 'write auth = false, or tls = "starttls"')
        return
    if reader.written("tls") or not reader.sound("tls"):
        return
    cure = "write [tls] with certificate and key"
    if door.role is Role.SUBMISSION:
        message = f"{header(path)} needs TLS for login, and there is no certificate"
        reader.report("C307", (*path, "role"), message, cure)
    elif written:
        message = f"{label((*path, 'tls'))} needs a certificate, and there is none"
        reader.report("C307", (*path, "tls"), message, cure)
    elif door.auth and reader.written(*path, "auth"):
        message = f"{label((*path, 'auth'))}: login needs TLS, and there is no certificate"
        reader.report("C307", (*path, "auth"), message, cure)
    elif door.role is Role.MX:
        message = f"{header(path)} offers no TLS: other servers deliver in clear"
        reader.report("C319", (*path, "role"), message, cure)


def _ports(reader: Reader, door: Listen) -> None:
    path: Path = ("listen", door.name, "bind")
    for number, bind in enumerate(door.bind):
        tls = door.tls_at(bind.port)
        if bind.port == IMPLICIT_TLS_PORT and tls is DoorTls.STARTTLS:
            message = f"{label(path)}: on port 465 clients begin with TLS and wait for it"
            reader.report("C209", (*path, number), message, 'write tls = "implicit", or use port 587')
        elif bind.port in _CLEAR_PORTS and tls is DoorTls.IMPLICIT:
            message = f"{label(path)}: on port {bind.port} clients begin in clear, and wait for a greeting"
            reader.report("C209", (*path, number), message, 'write tls = "starttls", or use port 465')


def _trust(reader: Reader, door: Listen) -> None:
    path: Path = ("listen", door.name, "trust")
    if door.role is Role.RELAY and reader.written(*path):
        world = world_in(door.trust)
        if world:
            message = f"{label(path)} has {world}: an open relay, everybody may send anywhere"
            reader.report(
                "C202", (*path, _widest(door.trust, world)), message, "name the networks of your own machines"
            )
        else:
            for number, network in enumerate(door.trust):
                if network.last - network.first + 1 > _WIDEST[network.version]:
                    message = f"{label(path)}: {network} is very wide, and every machine in it may send anywhere"
                    reader.report("C203", (*path, number), message, "name the networks of your own machines")
    path = ("listen", door.name, "proxy_protocol")
    world = world_in(door.proxy_protocol)
    if world:
        message = f"{label(path)} has {world}: everybody may claim any client address"
        place = (*path, _widest(door.proxy_protocol, world))
        reader.report("C223", place, message, "name the addresses of the load balancer")


def world_in(networks: Iterable[Network]) -> str:
    """`0.0.0.0/0` or `::/0` when the networks together hold all that a stranger can have; else empty."""
    ordered = sorted(networks)
    for text, said in _WORLDS:
        world = parse_network(text)
        reached = world.first
        for network in ordered:
            if network.version == world.version and network.first <= reached:
                reached = max(reached, network.last + 1)
        if reached > world.last:
            return said
    return ""


def _widest(networks: tuple[Network, ...], world: str) -> int:
    version = 6 if ":" in world else 4
    sizes = [n.last - n.first if n.version == version else -1 for n in networks]
    return sizes.index(max(sizes))


def _families(host: str) -> set[int]:
    if host in _ANY:
        return _ANY[host]
    if host == "localhost":
        return {4, 6}
    return {6 if ":" in host else 4}


def _same_place(one: Bind, other: Bind) -> bool:
    if one.port != other.port or one.port == 0:
        return False
    if one.host == other.host:
        return True
    if "localhost" in {one.host, other.host} and {one.host, other.host} & {"127.0.0.1", "::1"}:
        return True
    return bool({one.host, other.host} & set(_ANY)) and bool(_families(one.host) & _families(other.host))


def _overlaps(reader: Reader, config: Config) -> None:
    places: list[tuple[Path, Bind]] = [
        (("listen", door.name, "bind", number), bind)
        for door in config.listeners
        for number, bind in enumerate(door.bind)
    ]
    console = config.console.bind
    if console is not None and reader.sound("console", "bind"):
        places.append((("console", "bind"), console))
    for number, (path, bind) in enumerate(places):
        for earlier, other in places[:number]:
            if _same_place(bind, other):
                at = path if reader.written(*path[:3]) or path[0] == "listen" else earlier
                there = earlier if at is path else path
                line = reader.line_of(there[:3] if there[0] == "listen" else there)
                where = f" in line {line}" if line else ", its default"
                message = f"{label(at)}: {quoted(str(bind if at is path else other))} is taken by {label(there)}{where}"
                reader.report("C205", at, message, "one address and port has one door; * is every address")
                break


def _console(reader: Reader, config: Config) -> None:
    bind = config.console.bind
    if bind is None or not reader.written("console", "bind") or bind.host == "localhost":
        return
    if bind.host == "*" or not ipaddress.ip_address(bind.host).is_loopback:
        message = f"[console] bind: {quoted(str(bind))} can be reached from outside this machine"
        reader.report("C224", ("console", "bind"), message, f'write "127.0.0.1:{bind.port}" and use a tunnel')
