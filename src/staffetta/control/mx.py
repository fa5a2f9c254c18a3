"""What the DNS says of mail to a domain, and what the relay would do with it. Asks; sends nothing."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from staffetta.config.schema import Config, LocalDomain, Route
from staffetta.control.answer import Answer
from staffetta.dns.denied import why_denied
from staffetta.dns.live import LiveResolver, ResolverSettings
from staffetta.dns.mx import Description, OwnIdentity, describe
from staffetta.dns.resolver import Resolver
from staffetta.mail.domain import Domain, DomainError, parse_domain
from staffetta.mail.network import NetworkSet


class Verdict(IntEnum):
    """Whether mail can go there."""

    TAKES_MAIL = 0
    TAKES_NONE = 1
    UNKNOWN = 2


class MxHostAnswer(msgspec.Struct, frozen=True, gc=False):
    """One host, in order of preference."""

    preference: int
    host: str
    addresses: tuple[str, ...]


class MxAnswer(Answer, frozen=True, gc=False):
    """`lookup mx`. `error` is None when mail can go there."""

    domain: str
    null_mx: bool
    implicit: bool
    hosts: tuple[MxHostAnswer, ...]
    error: str | None


class MxReport(msgspec.Struct, frozen=True):
    """The answer, what it means, and what the relay would do, in sentences."""

    answer: MxAnswer
    verdict: Verdict
    would: tuple[str, ...]


def parse_asked(text: str) -> Domain:
    """The domain of a question; one dot at the end, as DNS people write it, is allowed. Raises DomainError."""
    try:
        return parse_domain(text.removesuffix("."))
    except UnicodeError as error:
        raise DomainError("not text") from error


def resolver_settings(config: Config | None) -> ResolverSettings:
    """Whom to ask: the servers of the configuration, else the system's."""
    if config is None:
        return ResolverSettings()
    servers = tuple((server.address, server.port) for server in config.dns.servers)
    return ResolverSettings(servers, float(config.dns.timeout_seconds))


async def ask(domain: Domain, config: Config | None) -> MxReport:
    """Ask the DNS as the relay would."""
    resolver = LiveResolver(resolver_settings(config))
    try:
        return await report(resolver, domain, config)
    finally:
        await resolver.close()


async def report(resolver: Resolver, domain: Domain, config: Config | None) -> MxReport:
    """The same with a given resolver. Our own names are not left out: the question is what the DNS says."""
    found = await describe(resolver, domain)
    hosts = tuple(MxHostAnswer(host.preference, host.host, host.addresses) for host in found.hosts)
    answer = MxAnswer(found.domain, found.null_mx, found.implicit, hosts, found.error)
    verdict = Verdict.TAKES_MAIL
    if found.error is not None:
        verdict = Verdict.UNKNOWN if found.temporary else Verdict.TAKES_NONE
    return MxReport(answer, verdict, tuple(await _would(resolver, domain, found, config)))


async def _would(resolver: Resolver, domain: Domain, found: Description, config: Config | None) -> list[str]:
    local = next((one for one in config.domains if one.domain == domain), None) if config else None
    if local is not None:
        return [_local_words(local)]
    said: list[str] = []
    for route in config.routes if config else ():
        if not any(pattern.matches(domain) for pattern in route.to):
            continue
        senders = f" from {', '.join(map(str, route.from_))}" if route.from_ else ""
        if route.via:
            via = ", then ".join(map(str, route.via))
            said.append(f"mail{senders} takes route {route.name} to {via}, whatever its MX says")
        else:
            said += [f"mail{senders} takes route {route.name}: {words}" for words in _by_mx(found, config, route)]
            said += await _loop(resolver, domain, found, config)
        if not route.from_:
            return said
    return said + list(_by_mx(found, config, None))


def _local_words(local: LocalDomain) -> str:
    kind = type(local.deliver).__name__
    ways = {"Maildir": "into mailboxes here", "Lmtp": "by LMTP", "InnerServer": "to the inner server"}
    return f"{local.domain} is ours: mail is delivered {ways[kind]}, and the DNS is not asked"


def _by_mx(found: Description, config: Config | None, route: Route | None) -> list[str]:
    if found.error is not None:
        return ["wait and try again" if found.temporary else f"return it to the sender at once: {found.error}"]
    allow = NetworkSet(config.outbound.allow if config else ())
    port = config.outbound.port if config else 25
    tls = str(route.tls_to(None)) if route else "opportunistic"
    said = [f"try the hosts in this order, equals by lot, on port {port}, TLS {tls}"]
    if found.implicit:
        said = [f"no MX, so the domain's own address, on port {port}, TLS {tls}"]
    reachable = False
    for host in found.hosts:
        for address in host.addresses:
            reason = why_denied(address, allow)
            reachable |= reason is None
            if reason is not None:
                said.append(f"never connect to {host.host} at {address}: {reason}")
        if host.error:
            said.append(f"the addresses of {host.host} are not known now: {host.error}")
    if not reachable:
        said.append("so no address is left, and mail is returned to the sender")
    return said


async def _loop(resolver: Resolver, domain: Domain, found: Description, config: Config | None) -> list[str]:
    """What changes because one of the hosts is ourselves."""
    if config is None or found.error is not None:
        return []
    ours = await describe(resolver, domain, OwnIdentity(frozenset({config.hostname.ascii})))
    if ours.error is not None:
        return [f"but {config.hostname} is this relay itself: {ours.error}"]
    left_out = [host.host for host in found.hosts if host not in ours.hosts]
    if not left_out:
        return []
    return [f"leave out {', '.join(left_out)}: {config.hostname} is this relay itself"]
