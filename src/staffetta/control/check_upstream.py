"""`check upstream`: can mail go out by a route? Every step of a delivery, told as it happens, up to the recipient; then
RSET and QUIT. No message is sent.

The dialogue is driven by the same core as delivery's (protocol/client), with the same settings and the same contexts,
so a step that passes here passes there. RFC 5321 section 4.3, RFC 3207, RFC 4954, RFC 8314.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import msgspec

from staffetta.control.answer import Answer
from staffetta.control.upstream_advice import Seen, advice
from staffetta.control.upstream_wire import AskConnector, StepFailed, Upstream, Wire, look_again, would_verify
from staffetta.delivery.road import Road
from staffetta.delivery.transports.smtp import SessionSettings
from staffetta.dns.mx import Hosts, OwnIdentity, Shuffle, find_addresses, find_hosts
from staffetta.dns.resolver import Resolver, Unavailable
from staffetta.mail.address import AddressError, ForwardPath, Postmaster, ReversePath, parse_mailbox
from staffetta.net.connect import Guard
from staffetta.net.contract import Endpoint
from staffetta.policy.route import Hop
from staffetta.protocol.client import HANDSHAKE, READY, Opening, Refused
from staffetta.tlspolicy.levels import TlsLevel

HOSTS: Final = 5
"""Hosts that are tried, as in one attempt of delivery."""

STEP_SECONDS: Final = 15.0
"""How long one step may take; delivery is more patient (RFC 5321 section 4.5.3.2), a person is not."""


class UpstreamStep(Answer, frozen=True):
    """One step, as it ends. `stage` is `resolve`, `connect`, `greeting`, `ehlo`, `tls`, `auth`, `mail`, `rcpt`, `quit`
    or, at last, `end`. `text` is what happened or the cause of the failure, `seconds` how long it took. `permanent`:
    trying again will not help. `details` are facts by name: features, mechanisms, the certificate."""

    stage: str
    ok: bool
    host: str
    address: str
    text: str
    seconds: float
    permanent: bool = False
    advice: str = ""
    details: dict[str, str] = msgspec.field(default_factory=dict)


class UpstreamTools(msgspec.Struct, frozen=True):
    """What the steps are made with: those of delivery.attempt.Tools that a walk without a message needs."""

    resolver: Resolver
    connector: AskConnector
    guard: Guard
    own: OwnIdentity
    shuffle: Shuffle
    session_settings: Callable[[Road, TlsLevel, str], SessionSettings]
    step_seconds: float = STEP_SECONDS


class Errand(msgspec.Struct, frozen=True):
    """What to ask for: the sender, and the recipient if any."""

    sender: ReversePath
    recipient: ForwardPath | None = None


async def check_upstream(road: Road, tools: UpstreamTools, errand: Errand) -> AsyncIterator[UpstreamStep]:
    """The steps, each as soon as it is over; the last one is `end`. A host that fails hands over to the next."""
    begun = time.monotonic()
    failed: list[UpstreamStep] = []
    targets, found = await _targets(road, tools)
    if found is not None:
        yield found
        failed += [] if found.ok else [found]
    for target in targets[:HOSTS]:
        last: UpstreamStep | None = None
        async for step in _host(road, tools, target, errand):
            yield step
            last = step
        if last is not None and last.ok:
            text = f"{target.host} takes mail from us"
            yield UpstreamStep("end", True, target.host, last.address, text, _since(begun))
            return
        failed += [last] if last is not None else []
    permanent = bool(failed) and all(step.permanent for step in failed)
    yield UpstreamStep("end", False, "", "", f"no mail can go by {road.route} now", _since(begun), permanent)


async def _targets(road: Road, tools: UpstreamTools) -> tuple[list[Hop], UpstreamStep | None]:
    """The hosts of a road, and the step in which they were found; None where the file names them."""
    if road.hops or road.domain is None:
        return list(road.hops), None
    begun = time.monotonic()
    domain = str(road.domain)
    found = await find_hosts(tools.resolver, road.domain, tools.own, tools.shuffle)
    if isinstance(found, Hosts):
        names = ", ".join(f"{host.preference} {host.host}" for host in found.hosts)
        text = f"no MX: {domain} itself" if found.implicit else f"MX of {domain}: {names}"
        targets = [Hop(host.host, road.port, road.tls) for host in found.hosts]
        return targets, UpstreamStep("resolve", True, domain, "", text, _since(begun))
    if isinstance(found, Unavailable):
        told = advice(Seen("resolve", domain, 0, found.reason))
        return [], UpstreamStep("resolve", False, domain, "", found.reason, _since(begun), False, told)
    return [], UpstreamStep("resolve", False, domain, "", str(found.reply), _since(begun), True)


async def _host(road: Road, tools: UpstreamTools, target: Hop, errand: Errand) -> AsyncIterator[UpstreamStep]:
    """All steps with one host, up to the first that fails."""
    endpoints = [Endpoint(target.host, 0)]
    if target.port:
        begun = time.monotonic()
        found = await find_addresses(tools.resolver, target.host)
        known = found if isinstance(found, tuple) else ()
        text = f"{target.host} is at {', '.join(known)}" if known else f"{target.host} has no address"
        text = found.reason if isinstance(found, Unavailable) else text
        told = "" if known else advice(Seen("resolve", target.host, target.port, text))
        yield UpstreamStep("resolve", bool(known), target.host, "", text, _since(begun), False, told)
        if not known:
            return
        endpoints = [Endpoint(address, target.port) for address in known]
    upstream = Upstream(
        road,
        target,
        tuple(endpoints),
        tools.session_settings(road, target.tls, target.host),
        tools.connector(road.sources),
        None if road.trusted_target else tools.guard,
        tools.step_seconds,
    )
    clear_may_do = False
    async for step in _session(upstream, errand):
        yield step
        clear_may_do = not step.ok and step.stage == "tls" and target.tls.may_go_clear
    if clear_may_do:
        # As delivery does: encryption that does not work must not stop mail that would have gone in clear (RFC 7435).
        off = msgspec.structs.replace(target, tls=TlsLevel.OFF)
        settings = tools.session_settings(road, off.tls, off.host)
        async for step in _session(msgspec.structs.replace(upstream, target=off, settings=settings), errand):
            yield step


async def _session(upstream: Upstream, errand: Errand) -> AsyncIterator[UpstreamStep]:
    """One connection, up to the first step that fails."""
    talk = _Talk(upstream)
    try:
        async for step in talk.steps(errand):
            yield step
    except StepFailed as failure:
        yield await talk.failed(failure)
    except Refused as refused:
        outcome = refused.outcome
        stage = "tls" if outcome.stage == "starttls" else outcome.stage
        reply = outcome.reply if outcome.remote else None
        yield await talk.failed(StepFailed(stage, str(outcome.reply), reply, permanent=outcome.reply.is_permanent))
    finally:
        talk.leave()


class _Talk:
    """One connection, from the first packet to QUIT."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._wire: Wire | None = None
        self._mark = time.monotonic()

    def leave(self) -> None:
        """Hang up."""
        if self._wire is not None:
            self._wire.close()

    async def steps(self, errand: Errand) -> AsyncIterator[UpstreamStep]:
        """Each as it passes. Raises StepFailed, Refused."""
        upstream = self._upstream
        wire = self._wire = await upstream.connect()
        yield self._passed("connect", f"connected from {wire.channel.local.address}")
        opening = upstream.opening()
        if opening.secure:
            yield await self._handshake(wire)
        async for step in self._open(wire, opening):
            yield step
        for stage, line in _commands(errand):
            reply = await wire.say(line, stage)
            if not reply.is_positive:
                raise StepFailed(stage, str(reply), reply)
            yield self._passed(stage, f"{line}: {reply}")

    async def _open(self, wire: Wire, opening: Opening) -> AsyncIterator[UpstreamStep]:
        """Greeting, EHLO, STARTTLS and login, driven by the core."""
        mechanism = ""
        while opening.phase != READY:
            if opening.phase == HANDSHAKE:
                yield await self._handshake(wire)
                wire.write(opening.secured())
                continue
            stage = opening.stage
            reply = await wire.hear("tls" if stage == "starttls" else stage)
            data = await asyncio.to_thread(opening.receive, reply) if opening.heavy else opening.receive(reply)
            if data[:5] == b"AUTH ":
                mechanism = data.split(b" ")[1].strip().decode("ascii", "replace")
            if stage == "greeting":
                yield self._passed(stage, str(reply))
            elif stage == "ehlo" and (opening.stage != "ehlo" or opening.phase == READY):
                offered = " ".join(line.partition(" ")[0] for line in reply.lines[1:])
                yield self._passed(stage, f"offers {offered or 'nothing'}", {"features": ", ".join(reply.lines[1:])})
            elif stage == "auth" and opening.phase == READY:
                details = {"offered": " ".join(opening.capabilities.auth), "chosen": mechanism}
                text = f"logged in as {self._upstream.road.login} by {mechanism}, of {details['offered']}"
                yield self._passed(stage, text, details)
            wire.write(data)

    async def _handshake(self, wire: Wire) -> UpstreamStep:
        upstream = self._upstream
        facts, certificate = await wire.start_tls(upstream.settings)
        verdict = "verified" if facts.verified else await would_verify(upstream)
        details = {"version": facts.version, "cipher": facts.cipher, **certificate.details, "verified": verdict}
        text = str(facts)
        if certificate.details:
            shown = certificate.details
            text += f"; {shown['subject']}, issued by {shown['issuer']}, {shown['days_left']} days left"
        return self._passed("tls", f"{text}; {verdict}", details)

    def _passed(self, stage: str, text: str, details: dict[str, str] | None = None) -> UpstreamStep:
        return self._step(stage, True, text, details=details or {})

    async def failed(self, failure: StepFailed) -> UpstreamStep:
        """The last step, with what a second look adds."""
        seconds = self._seconds()
        look = await look_again(self._upstream, failure)
        target = self._upstream.target
        told = advice(
            Seen(
                failure.stage,
                target.host,
                target.port,
                failure.text,
                failure.reply,
                look.certificate.names,
                look.speaks_tls_at_once,
                look.greets_in_clear,
                self._upstream.road.login,
            )
        )
        step = self._step(
            failure.stage, False, failure.text, permanent=failure.permanent, told=told, details=look.certificate.details
        )
        return msgspec.structs.replace(step, seconds=seconds)

    def _step(
        self,
        stage: str,
        ok: bool,
        text: str,
        *,
        permanent: bool = False,
        told: str = "",
        details: dict[str, str],
    ) -> UpstreamStep:
        address = str(self._wire.channel.peer) if self._wire is not None else ""
        host = self._upstream.target.host
        return UpstreamStep(stage, ok, host, address, text, self._seconds(), permanent, told, details)

    def _seconds(self) -> float:
        before, self._mark = self._mark, time.monotonic()
        return round(self._mark - before, 3)


def _commands(errand: Errand) -> Iterator[tuple[str, str]]:
    paths = [errand.sender, errand.recipient]
    utf8 = "" if all(path is None or isinstance(path, Postmaster) or path.is_ascii for path in paths) else " SMTPUTF8"
    yield "mail", f"MAIL FROM:<{errand.sender}>{utf8}"
    if errand.recipient is not None:
        yield "rcpt", f"RCPT TO:<{errand.recipient}>"
    yield "rset", "RSET"
    yield "quit", "QUIT"


def default_sender(road: Road, hostname: str) -> ReversePath:
    """Who a check says it is: the login where it is an address, because many servers take no other."""
    try:
        return parse_mailbox(road.login)
    except AddressError:
        return parse_mailbox(f"postmaster@{hostname}")


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 3)


__all__ = ["Errand", "UpstreamStep", "UpstreamTools", "check_upstream", "default_sender"]
