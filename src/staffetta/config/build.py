"""From raw tables to `Config`: defaults that depend on other keys are worked out here, and noted for `explain`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from staffetta.config import keys, schema
from staffetta.config.positions import Path
from staffetta.config.reader import Reader, header
from staffetta.config.schema import (
    IMPLICIT_TLS_PORT,
    IMPLIED_ROUTE,
    BlockList,
    Config,
    DoorTls,
    Hop,
    HopTls,
    Listen,
    LocalDomain,
    Role,
    Route,
)
from staffetta.config.tables import named, read_many, read_plain, read_table
from staffetta.config.toml import toml_text
from staffetta.config.values import Wrong, parse_domain_name, quoted
from staffetta.mail.domain import Domain, DomainError, parse_domain
from staffetta.mail.network import parse_network

_INNER = tuple({table.path[0]: None for table in keys.TABLES if table.path})
_LOOPBACK = ("127.0.0.0/8", "::1/128")
_NO_NAME = Domain("invalid")
_MESSAGE_PORT = 587
"""Where logins are taken, RFC 6409."""


def build(reader: Reader, document: dict[str, Any], machine_name: str) -> Config:
    """The configuration in `document`. What is broken is reported and stands as its default."""
    _version(reader, document)
    top = read_plain(reader, keys.TOP, document, *_INNER)
    top.pop("version", None)
    hostname = top.pop("hostname", None) or _hostname(reader, machine_name)
    tls = read_plain(reader, keys.TLS, document)
    default_directory = Config(hostname).data_dir
    return Config(
        hostname=hostname,
        data_dir=top.pop("data_dir", default_directory),
        **top,
        tls=schema.Tls(**tls) if len(tls) == 2 else None,
        listeners=_listeners(reader, document),
        domains=_domains(reader, document),
        routes=_routes(reader, document),
        outbound=schema.Outbound(**read_plain(reader, keys.OUTBOUND, document)),
        queue=schema.Queue(**read_plain(reader, keys.QUEUE, document)),
        limits=schema.Limits(**read_plain(reader, keys.LIMITS, document)),
        checks=_checks(reader, document),
        dns=schema.Dns(**read_plain(reader, keys.DNS, document)),
        console=schema.Console(**read_plain(reader, keys.CONSOLE, document)),
        log=schema.Log(**read_plain(reader, keys.LOG, document)),
        journal=schema.Journal(**read_plain(reader, keys.JOURNAL, document)),
    )


def _version(reader: Reader, document: dict[str, Any]) -> None:
    version = document.get("version")
    if version is None:
        reader.report("C109", ("version",), "the file does not say its version", "write version = 1 at the top")
    elif isinstance(version, int) and not isinstance(version, bool) and version != 1:
        newer = "a newer Staffetta wrote it, or the number is wrong" if version > 1 else "no Staffetta reads that"
        reader.report("C109", ("version",), f"this is version {version} of the file, not 1", f"{newer}: version = 1")


def _hostname(reader: Reader, machine_name: str) -> Domain:
    if not reader.sound("hostname"):
        return _NO_NAME
    try:
        name = parse_domain(machine_name.rstrip("."))
    except DomainError:
        message = f"hostname is not written, and this machine calls itself {quoted(machine_name)}"
        reader.report("C211", ("hostname",), message, 'write hostname = "mail.example.org" at the top')
        reader.broken.add(("hostname",))
        return _NO_NAME
    reader.set(("hostname",), toml_text(name.ascii), "the machine's name")
    return name


def _listeners(reader: Reader, document: dict[str, Any]) -> tuple[Listen, ...]:
    certificate = "tls" in document
    found = []
    for name, raw in named(reader, keys.LISTEN, document):
        fields = read_table(reader, keys.LISTEN, ("listen", name), raw, frozenset())
        if "role" in fields and "bind" in fields:
            found.append(_listener(reader, name, fields, certificate))
        else:
            reader.broken.add(("listen",))
    return tuple(found)


def _listener(reader: Reader, name: str, fields: dict[str, Any], certificate: bool) -> Listen:
    path = ("listen", name)
    role = fields["role"]
    if "tls" not in fields and not certificate and role is not Role.SUBMISSION:
        fields["tls"] = DoorTls.OFF
        reader.set((*path, "tls"), '"off"', "no certificate")
    if "auth" not in fields:
        fields["auth"] = role is not Role.MX and fields.get("tls") is not DoorTls.OFF
        why = f"role {role.value}" if fields.get("tls") is not DoorTls.OFF else "no TLS"
        reader.set((*path, "auth"), toml_text(fields["auth"]), why)
    if "trust" not in fields and role is Role.RELAY and reader.sound(*path, "trust"):
        fields["trust"] = tuple(map(parse_network, _LOOPBACK))
        reader.set((*path, "trust"), toml_text(_LOOPBACK), "role relay")
    elif "trust" not in fields:
        reader.set((*path, "trust"), "", f"role {role.value}: nobody")
    door = Listen(name, **fields)
    if door.tls is None and reader.sound(*path, "tls"):
        _effective_tls(
            reader, path, [(f"port {bind.port}", door.tls_at(bind.port)) for bind in door.bind if not bind.path]
        )
    return door


def _domains(reader: Reader, document: dict[str, Any]) -> tuple[LocalDomain, ...]:
    found: list[LocalDomain] = []
    first = reader.spelling
    for name, raw in named(reader, keys.DOMAIN_TABLE, document):
        path = ("domain", name)
        fields = read_table(reader, keys.DOMAIN_TABLE, path, raw, frozenset())
        try:
            domain = parse_domain_name(name)
        except Wrong as wrong:
            reader.report("C113", path, f"{header(path)}: {wrong}", wrong.cure, at="key")
            reader.broken.add(("domain",))
            continue
        if domain in first:
            line = reader.line_of(("domain", first[domain]))
            message = f"{quoted(name)} is the same domain as {quoted(first[domain])} in line {line}"
            reader.report("C216", path, message, "make them one table", at="key")
            continue
        first[domain] = name
        found.append(LocalDomain(domain, **fields))
    return tuple(found)


def _routes(reader: Reader, document: dict[str, Any]) -> tuple[Route, ...]:
    found = [
        _route(reader, name, read_table(reader, keys.ROUTE, ("route", name), raw, frozenset()))
        for name, raw in named(reader, keys.ROUTE, document)
    ]
    if all(route.name != IMPLIED_ROUTE.name for route in found):
        found.append(IMPLIED_ROUTE)
        for name, key in keys.ROUTE.keys.items():
            reader.set(("route", IMPLIED_ROUTE.name, name), key.default, "implied")
        reader.set(("route", IMPLIED_ROUTE.name, "tls"), "", f"implied: {IMPLIED_ROUTE.tls_to(None).value}")
    return tuple(found)


def _route(reader: Reader, name: str, fields: dict[str, Any]) -> Route:
    port = 25
    if fields.get("tls") is HopTls.IMPLICIT:
        port = IMPLICIT_TLS_PORT
    elif "login" in fields:
        port = _MESSAGE_PORT
    written = fields.pop("via", ())
    hops = tuple(Hop(host, port if given is None else given) for host, given in written)
    if any(given is None for _, given in written):
        reader.set(("route", name, "via"), toml_text([str(hop) for hop in hops]), f"port {port} where none is written")
    route = Route(name, via=hops, **fields)
    if route.tls is None and reader.sound("route", name, "tls"):
        _effective_tls(reader, ("route", name), [(str(hop), route.tls_to(hop)) for hop in hops] or [_by_mx(route)])
    return route


def _by_mx(route: Route) -> tuple[str, StrEnum]:
    return "mx", route.tls_to(None)


def _effective_tls(reader: Reader, table: Path, levels: Sequence[tuple[str, StrEnum]]) -> None:
    """Say which level holds where none is written; where it is not the same at all places, say it of each."""
    told = ", ".join(f"{level} at {place}" for place, level in levels)
    words = {level.value for _, level in levels}
    if len(words) == 1:
        reader.set((*table, "tls"), toml_text(words.pop()), ", ".join(place for place, _ in levels))
    elif words:
        reader.set((*table, "tls"), "", told)


def _checks(reader: Reader, document: dict[str, Any]) -> schema.Checks:
    fields = read_plain(reader, keys.CHECKS, document, "blocklist", "domain_blocklist")
    for table in (keys.BLOCKLIST, keys.DOMAIN_BLOCKLIST):
        default = tuple(parse_network(text) for text in _default_codes(table))
        fields[table.path[1]] = tuple(
            BlockList(**{"codes": default, **values}) for values in read_many(reader, table, document)
        )
    return schema.Checks(**fields)


def _default_codes(table: keys.Table) -> list[str]:
    return table.keys["codes"].default.strip('[]"').split('", "')
