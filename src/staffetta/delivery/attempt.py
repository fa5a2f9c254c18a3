"""The courier that goes over the network: finds the hosts of its road, connects, and drives an SMTP or LMTP session.

One connection is kept between claims. A host that fails hands over to the next one; when none is left, the outcome
speaks about the destination, so that nobody else tries it in vain. RFC 5321 section 5.1; addresses are judged at the
moment of connecting (no second look-up between the check and the connection).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from staffetta.delivery.courier import Report, Try
from staffetta.delivery.road import Families, Road
from staffetta.delivery.transports.lmtp import LmtpSession
from staffetta.delivery.transports.smtp import Outbound, SessionRefused, SessionSettings, SessionStale, SmtpSession
from staffetta.dns.mx import LOOKUP_FAILED, LOOP, Nowhere, OwnIdentity, Shuffle, find_addresses, find_hosts
from staffetta.dns.resolver import Resolver, Unavailable
from staffetta.mail.address import ReversePath
from staffetta.mail.outcome import Outcome, Result, Scope
from staffetta.mail.reply import Reply, reply
from staffetta.net.connect import ConnectFailed, Connector
from staffetta.net.contract import Endpoint
from staffetta.policy.route import Hop
from staffetta.spool.contract import Claim, Spool
from staffetta.tlspolicy.levels import TlsLevel

CONNECT_SECONDS: Final = 30.0
"""How long all addresses of one host together may take to answer."""

HOSTS_PER_ATTEMPT: Final = 5
"""Hosts that one attempt tries; the next attempt begins anew."""

NO_CONNECTION: Final = reply(450, "4.4.1", "no connection to the mail server")
FORBIDDEN: Final = reply(550, "5.4.4", "the mail server's address is not one that mail may be sent to")
ROUTE_GONE: Final = reply(451, "4.3.5", "the route of this message is not configured any more")
NO_ADDRESS: Final = reply(450, "4.4.4", "the mail server has no address")


class Tools(msgspec.Struct, frozen=True):
    """What every courier uses. `is_own_door` tells, of the peer's and our end, that we have connected to ourselves."""

    spool: Spool
    resolver: Resolver
    connector: Callable[[tuple[str, ...]], Connector]
    guard: Callable[[str], str | None]
    own: OwnIdentity
    is_own_door: Callable[[Endpoint, Endpoint], bool]
    shuffle: Shuffle
    families: Families
    session_settings: Callable[[Road, TlsLevel, str], SessionSettings]
    sender: Callable[[Claim], ReversePath] = lambda claim: claim.message.sender.reverse_path
    """The envelope sender at the next hop: mail that an alias sends on goes in the alias's name."""


class NetworkCourier:
    """See delivery.courier.Courier."""

    __slots__ = ("_endpoint", "_host", "_road", "_session", "_time", "_tools")

    def __init__(self, road: Road, tools: Tools) -> None:
        self._road = road
        self._tools = tools
        self._session: SmtpSession | None = None
        self._time = asyncio.get_running_loop().time
        self._host = ""
        self._endpoint = Endpoint("", 0)

    @property
    def warm(self) -> bool:
        """True while a usable connection is open."""
        return self._session is not None and self._session.reusable

    async def finish(self) -> None:
        """QUIT, where there is somebody to say it to."""
        session, self._session = self._session, None
        if session is not None:
            await session.quit()

    async def deliver(self, claim: Claim) -> Report:
        """Try the open connection, then the hosts in order."""
        tries: list[Try] = []
        session = self._session
        if session is not None and session.reusable:
            begun = self._time()
            try:
                outcomes = await session.send(self._outbound(claim), claim.recipients)
            except SessionStale:
                self._session = None  # it had died unnoticed: nothing happened, so nothing is counted
            else:
                tries.append(self._tried(session, outcomes, begun))
                if not _may_go_elsewhere(tries[0]):
                    return Report(tuple(tries), self._road.route)
        await self.finish()
        targets = await self._targets()
        if isinstance(targets, Outcome):
            return self._report(claim, tries, targets)
        for target in targets[:HOSTS_PER_ATTEMPT]:
            tries.append(await self._try_host(claim, target))
            if not _may_go_elsewhere(tries[-1]):
                return Report(tuple(tries), self._road.route)
        return Report(tuple(_concluded(tries)), self._road.route)

    def _report(self, claim: Claim, tries: list[Try], outcome: Outcome) -> Report:
        outcomes = (outcome,) * len(claim.recipients)
        return Report((*tries, Try(outcomes)), self._road.route)

    async def _targets(self) -> list[Hop] | Outcome:
        road = self._road
        if road.hops:
            return list(road.hops)
        if road.domain is None:
            return _local(Result.DEFERRED, Scope.SESSION, ROUTE_GONE, "route")
        found = await find_hosts(self._tools.resolver, road.domain, self._tools.own, self._tools.shuffle)
        if isinstance(found, Unavailable):
            return _local(Result.DEFERRED, Scope.DESTINATION, _because(LOOKUP_FAILED, found.reason), "dns")
        if isinstance(found, Nowhere):
            return _local(Result.FAILED, Scope.DESTINATION, found.reply, "dns")
        return [Hop(host.host, road.port, road.tls) for host in found.hosts]

    async def _try_host(self, claim: Claim, target: Hop) -> Try:
        """One host, for all recipients of the claim; without TLS a second time where that is allowed."""
        begun = self._time()
        try:
            try:
                session = await self._open(target, begun)
            except SessionRefused as refused:
                if not refused.clear_may_do:
                    raise
                # RFC 7435: encryption that does not work must not stop mail that would have gone in clear.
                session = await self._open(msgspec.structs.replace(target, tls=TlsLevel.OFF), begun)
            return self._tried(session, await session.send(self._outbound(claim), claim.recipients), begun)
        except SessionRefused as refused:
            return self._failed(claim, target, refused.outcome, begun)
        except SessionStale:
            self._session = None
            return self._failed(claim, target, _local(Result.DEFERRED, Scope.HOST, NO_CONNECTION, "mail"), begun)

    async def _open(self, target: Hop, begun: float) -> SmtpSession:
        """Connect and open a session. Raises SessionRefused, also for what happens before there is one."""
        self._endpoint = Endpoint("", 0)
        endpoints = await self._endpoints(target)
        road, tools = self._road, self._tools
        guard = None if road.trusted_target else tools.guard
        connector = tools.connector(road.sources)
        try:
            channel = await connector.connect(endpoints, deadline=begun + CONNECT_SECONDS, guard=guard)
        except ConnectFailed as failure:
            raise SessionRefused(_connect_outcome(failure)) from failure
        if tools.is_own_door(channel.peer, channel.local):
            channel.abort()
            raise SessionRefused(_local(Result.FAILED, Scope.HOST, LOOP, "connect"))
        self._endpoint = channel.peer
        self._host = target.host
        tools.families.worked(target.host, channel.peer.address)
        kind = LmtpSession if road.lmtp else SmtpSession
        self._session = await kind.open(channel, tools.session_settings(road, target.tls, target.host))
        return self._session

    async def _endpoints(self, target: Hop) -> list[Endpoint]:
        if target.port == 0:
            return [Endpoint(target.host, 0)]
        addresses = await find_addresses(self._tools.resolver, target.host)
        if isinstance(addresses, Unavailable):
            answer = _because(LOOKUP_FAILED, addresses.reason)
            raise SessionRefused(_local(Result.DEFERRED, Scope.HOST, answer, "dns"))
        if not addresses:
            raise SessionRefused(_local(Result.DEFERRED, Scope.HOST, NO_ADDRESS, "dns"))
        return self._tools.families.order(target.host, addresses, target.port)

    def _outbound(self, claim: Claim) -> Outbound:
        """The message as it goes out, in the name that it goes out in."""
        message = claim.message
        message_id = message.id
        reverse_path = self._tools.sender(claim)
        if reverse_path is not message.sender.reverse_path:
            sender = msgspec.structs.replace(message.sender, reverse_path=reverse_path)
            message = msgspec.structs.replace(message, sender=sender)
        return Outbound(message, claim.content, lambda: self._tools.spool.content(message_id))

    def _tried(self, session: SmtpSession, outcomes: list[Outcome], begun: float) -> Try:
        tls = session.tls
        seconds = self._time() - begun
        dsn = session.capabilities.dsn
        return Try(tuple(outcomes), self._host, self._endpoint.address, str(tls) if tls else "", seconds, dsn)

    def _failed(self, claim: Claim, target: Hop, outcome: Outcome, begun: float) -> Try:
        seconds = self._time() - begun
        return Try((outcome,) * len(claim.recipients), target.host, self._endpoint.address, "", seconds)


def _connect_outcome(failure: ConnectFailed) -> Outcome:
    if failure.tries and all(one.denied for one in failure.tries):
        return _local(Result.FAILED, Scope.HOST, _because(FORBIDDEN, failure.tries[0].reason), "connect")
    return _local(Result.DEFERRED, Scope.HOST, _because(NO_CONNECTION, str(failure)), "connect")


def _may_go_elsewhere(done: Try) -> bool:
    """True when nobody has taken or judged the message, so that another connection or host may."""
    judged = [
        outcome
        for outcome in done.outcomes
        if outcome.scope is not Scope.HOST
        and (outcome.scope is not Scope.SESSION or outcome.result is not Result.DEFERRED or outcome.in_doubt)
    ]
    return not judged


def _concluded(tries: list[Try]) -> list[Try]:
    """No further host. The last one speaks for the destination, unless another may do later: then that one does."""
    hopeful = [one for one in tries if one.outcomes[0].result is Result.DEFERRED]
    last = (hopeful or tries)[-1]
    tries.remove(last)
    if not any(one.outcomes[0].scope is Scope.SESSION for one in (*tries, last)):
        outcomes = tuple(msgspec.structs.replace(outcome, scope=Scope.DESTINATION) for outcome in last.outcomes)
        last = msgspec.structs.replace(last, outcomes=outcomes)
    return [*tries, last]


def _local(result: Result, scope: Scope, answer: Reply, stage: str) -> Outcome:
    return Outcome(result, scope, answer, stage, remote=False)


def _because(answer: Reply, reason: str) -> Reply:
    return Reply(answer.code, answer.enhanced, (f"{answer.lines[0]}: {reason}",)) if reason else answer
