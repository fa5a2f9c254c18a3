"""What a mail program has to be told about a domain of ours: servers, ports, protection, and the login.

One answer for everybody who tells it: the autoconfig and autodiscover documents, SRV records (RFC 6186, RFC 8314
section 5.1), and people who type it by hand. Servers for sending are our own doors that take logins. Reading mail is
done by another server, Dovecot say, which reads our Maildirs: the configuration names it, or it is taken to be IMAP at
`hostname`, port 993.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec

from staffetta.config.schema import Config, Discover, DoorTls, Hop, Listen, LocalDomain, Role
from staffetta.control.answer import Answer
from staffetta.mail.domain import Domain
from staffetta.net.endpoint import Bind

IMAP_PORT: Final = 993
"""IMAP with TLS from the first octet, RFC 8314 section 7.1."""

_CLEAR_PORTS: Final = frozenset({110, 143})
"""Where POP3 and IMAP begin in clear and go on with STARTTLS; everywhere else TLS comes first."""


class Security(StrEnum):
    """How a connection is protected: TLS from the first octet, or from STARTTLS on. There is no third."""

    TLS = "tls"
    STARTTLS = "starttls"


class Server(msgspec.Struct, frozen=True, gc=False):
    """One server. `kind` is `submission`, `imap` or `pop3`. The login is the whole address, the password goes in clear
    inside TLS."""

    kind: str
    host: str
    port: int
    security: Security


class Srv(msgspec.Struct, frozen=True, gc=False):
    """One record. The target `.` with port 0 says that there is no such service (RFC 2782)."""

    name: str
    type: str
    value: str


class ClientSettings(Answer, frozen=True, gc=False):
    """`client-settings D`. `discover`: the console's port tells mail programs the same. Best server first."""

    domain: str
    discover: bool
    login: str
    outgoing: tuple[Server, ...]
    incoming: tuple[Server, ...]
    records: tuple[Srv, ...]


class NotOurs(Exception):
    """The domain is not in the configuration; the message says so."""


def find(config: Config, domain: Domain) -> LocalDomain:
    """The domain's table. Raises NotOurs."""
    local = next((one for one in config.domains if one.domain == domain), None)
    if local is None:
        raise NotOurs(f"{domain} is not a domain of this relay: there is no [domain.{domain}] in the configuration")
    return local


def client_settings(config: Config, local: LocalDomain) -> ClientSettings:
    """What mail programs of a domain have to be told."""
    domain, host = local.domain.ascii, config.hostname.ascii
    outgoing = _outgoing(config.listeners, host)
    incoming = _incoming(local.discover, host)
    servers = (*outgoing, *incoming)
    records = tuple(_records(domain, servers, host if local.discover is not None else ""))
    return ClientSettings(domain, local.discover is not None, f"you@{domain}", outgoing, incoming, records)


def _outgoing(listeners: tuple[Listen, ...], host: str) -> tuple[Server, ...]:
    """Doors for submission, else relays that take logins; those that others can reach, else all."""
    doors = [door for door in listeners if door.auth and door.role is Role.SUBMISSION]
    doors = doors or [door for door in listeners if door.auth and door.role is Role.RELAY]
    places = [(door, bind) for door in doors for bind in door.bind if bind.port]
    places = [(door, bind) for door, bind in places if not _is_loopback(bind)] or places
    found = {bind.port: Server("submission", host, bind.port, _security(door, bind)) for door, bind in places}
    return tuple(sorted(found.values(), key=lambda server: (server.security is Security.STARTTLS, server.port)))


def _incoming(discover: Discover | None, host: str) -> tuple[Server, ...]:
    if discover is None:
        return ()
    named = (("imap", discover.imap), ("pop3", discover.pop3))
    found = [_reading(kind, hop) for kind, hop in named if hop is not None]
    return tuple(found) or (Server("imap", host, IMAP_PORT, Security.TLS),)


def _reading(kind: str, hop: Hop) -> Server:
    return Server(kind, hop.host, hop.port, Security.STARTTLS if hop.port in _CLEAR_PORTS else Security.TLS)


def _security(door: Listen, bind: Bind) -> Security:
    return Security.TLS if door.tls_at(bind.port) is DoorTls.IMPLICIT else Security.STARTTLS


def _is_loopback(bind: Bind) -> bool:
    return bind.host == "localhost" or (bind.host != "*" and ipaddress.ip_address(bind.host).is_loopback)


_SERVICES: Final = {
    "_submissions._tcp": ("submission", Security.TLS),
    "_submission._tcp": ("submission", Security.STARTTLS),
    "_imaps._tcp": ("imap", Security.TLS),
    "_imap._tcp": ("imap", Security.STARTTLS),
    "_pop3s._tcp": ("pop3", Security.TLS),
    "_pop3._tcp": ("pop3", Security.STARTTLS),
}
_ALWAYS_TOLD: Final = ("_submissions._tcp", "_submission._tcp", "_imaps._tcp")
"""Services that are denied where they are not: a mail program need not guess."""


def _records(domain: str, servers: tuple[Server, ...], web: str) -> Iterator[Srv]:
    """`web`: the host at whose console's port mail programs ask, empty when they are told nothing there."""
    for service, wanted in _SERVICES.items():
        found = [server for server in servers if (server.kind, server.security) == wanted]
        # An SRV record names a host, never an address (RFC 2782).
        named = [server for server in found if not Hop(server.host, server.port).is_address]
        for place, server in enumerate(named):  # the lowest is tried first
            yield Srv(f"{service}.{domain}", "SRV", f"{place * 10} 1 {server.port} {server.host}.")
        if not named and service in _ALWAYS_TOLD:
            yield Srv(f"{service}.{domain}", "SRV", "0 0 0 .")
    if web:
        yield Srv(f"autoconfig.{domain}", "CNAME", f"{web}.")
        yield Srv(f"autodiscover.{domain}", "CNAME", f"{web}.")
