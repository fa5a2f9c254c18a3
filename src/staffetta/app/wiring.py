"""Everything that is made from one configuration, put together. Clock, randomness, resolver and wires are parameters,
so that the same relay runs on sockets and in memory.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from staffetta.accounts.directory import Directory
from staffetta.accounts.login import HASHING_THREADS, Logins
from staffetta.accounts.store import AccountStore
from staffetta.app.couriers import Couriers
from staffetta.app.directory import build_directory
from staffetta.app.forecasting import Forecasts, Means
from staffetta.app.forwarding import Forwarder, forwarding_of
from staffetta.app.mailauth import examining_room, signers_of
from staffetta.app.notices import notice_author
from staffetta.app.roads import Roads
from staffetta.config.schema import CheckMode, Config
from staffetta.delivery.attempt import Tools
from staffetta.delivery.bounce import Notifier
from staffetta.delivery.dispatch import Dispatcher
from staffetta.delivery.road import Families, Road
from staffetta.delivery.rules import Rules
from staffetta.delivery.settings import DeliverySettings
from staffetta.delivery.transports.smtp import SessionSettings
from staffetta.dns.denied import why_denied
from staffetta.dns.live import LiveResolver, ResolverSettings
from staffetta.dns.mx import OwnIdentity
from staffetta.dns.resolver import Resolver
from staffetta.intake.door import House
from staffetta.intake.handover import HandOver, hand_over
from staffetta.intake.refusals import RefusalJournal
from staffetta.intake.signing import SigningRoom
from staffetta.mail.address import NULL_PATH, Mailbox
from staffetta.mail.identity import IdentitySource
from staffetta.mail.network import NetworkSet, address_number
from staffetta.mailauth.dkim.signers import Signers
from staffetta.net.connect import Connector, ConnectSettings, SocketConnector
from staffetta.net.contract import Endpoint
from staffetta.net.tls import ClientContexts, ServerCertificate
from staffetta.observe.alarms import Alarms
from staffetta.observe.events import Event
from staffetta.observe.log import LogSettings
from staffetta.policy.rate import Connections, LoginFailures, LoginLimits
from staffetta.policy.relay import Place
from staffetta.policy.retry import RetrySettings
from staffetta.protocol.client_sasl import Credentials
from staffetta.spool.contract import Spool
from staffetta.tlspolicy.levels import TlsLevel


async def _nothing() -> None:
    """There is nothing to close."""


class World(msgspec.Struct, frozen=True):
    """What is outside of us. `connector` makes connections from given local addresses (empty: the system's choice)."""

    resolver: Resolver
    connector: Callable[[tuple[str, ...]], Connector]
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    random: random.Random = msgspec.field(default_factory=random.SystemRandom)
    random_bytes: Callable[[int], bytes] = os.urandom
    close: Callable[[], Awaitable[None]] = _nothing


def live_world(config: Config) -> World:
    """The real one."""
    servers = tuple((server.address, server.port) for server in config.dns.servers)
    connectors: dict[tuple[str, ...], Connector] = {}

    def connector(sources: tuple[str, ...]) -> Connector:
        found = connectors.get(sources)
        if found is None:
            found = connectors[sources] = SocketConnector(ConnectSettings(sources=sources))
        return found

    resolver = LiveResolver(ResolverSettings(servers, config.dns.timeout_seconds))
    return World(resolver, connector, close=resolver.close)


class Stores(msgspec.Struct, frozen=True):
    """What survives."""

    spool: Spool
    accounts: AccountStore


class Common(msgspec.Struct, frozen=True):
    """What the sessions of a relay have in common, also with those in other processes of it. No reload makes it anew.

    `hashing_threads`: passwords that are hashed at the same time."""

    alarms: Alarms
    connections: Connections
    login_failures: LoginFailures
    hand_over: HandOver = hand_over
    hashing_threads: int = HASHING_THREADS


class Plan(msgspec.Struct, frozen=True):
    """What is made anew from each configuration. Making it may fail; putting it in force (`Parts.adopt`) cannot."""

    config: Config
    world: World
    roads: Roads
    directory: Directory
    rules: Rules
    signers: Signers
    connections: int


class Parts:
    """The parts of one relay: what lives as long as it does, and what a reload makes anew."""

    def __init__(
        self,
        config: Config,
        world: World,
        stores: Stores,
        emit: Callable[[Event], None],
        connections: int,
        *,
        common: Common | None = None,
    ) -> None:
        self.stores = stores
        self.emit = emit
        self.common = common or _alone(config, world, connections, emit)
        self.identities = IdentitySource(world.random_bytes)
        self.alarms = self.common.alarms
        self._families = Families()
        plan = self.plan(config, world, connections)
        self.world, self.roads, self.directory = world, plan.roads, plan.directory
        rules = plan.rules
        settings = DeliverySettings(rules.retry)
        self.dispatcher = Dispatcher(
            stores.spool, settings, rules.couriers, rules.notifier, emit, clock=world.clock, random=world.random
        )
        self.dispatcher.adopt(rules)
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="signing")
        self.house = self._house(plan)

    def plan(self, config: Config, world: World, connections: int) -> Plan:
        """Everything that a configuration decides, made and not yet in force."""
        roads = Roads(config)
        forwarding = forwarding_of(self.stores.accounts.secret)
        directory = build_directory(
            config,
            self.stores.accounts.exists,
            lambda local_part: forwarding.backward(local_part, world.clock()),
        )
        retry = _retry(config)
        spool = self.stores.spool
        signers = signers_of(config, world.clock)
        author = notice_author(config, signers, lambda: self.house.signing)
        notifier = Notifier(spool, config.hostname.ascii, self.identities, self._targets, retry, author=author)
        tools = self._tools(config, world, Forwarder(forwarding, directory, world.clock))
        couriers = Couriers(config, roads, tools, directory.owner, world.clock)
        rules = Rules(retry, couriers.courier, notifier, roads.limits, roads.destination)
        return Plan(config, world, roads, directory, rules, signers, connections)

    def adopt(self, plan: Plan) -> None:
        """Put a plan in force: sessions see it from their next command on, delivery from its next attempt on.

        What lives on lives on: who is connected, failed logins, refusals that are being written, claims at hand."""
        house = self._house(plan, self.house)
        self.world, self.roads, self.directory = plan.world, plan.roads, plan.directory
        for name in House.__struct_fields__:
            setattr(self.house, name, getattr(house, name))
        limits = plan.config.limits
        self.house.connections.adopt(plan.connections, limits.connections_per_client)
        self.house.login_failures.adopt(LoginLimits(limits.login_failures))
        self.dispatcher.adopt(plan.rules)

    def _house(self, plan: Plan, before: House | None = None) -> House:
        """What sessions use; of the house `before` a reload what lives on is taken over."""
        config, world, stores, common = plan.config, plan.world, self.stores, self.common
        return House(
            spool=stores.spool,
            directory=plan.directory,
            logins=before.logins if before else Logins(stores.accounts, threads=common.hashing_threads),
            destination=plan.roads.destination,
            outlet=before.outlet if before else self.dispatcher,
            identities=self.identities,
            refusals=before.refusals if before else RefusalJournal(stores.spool),
            connections=common.connections,
            login_failures=common.login_failures,
            emit=self.emit,
            report=_report,
            clock=world.clock,
            monotonic=world.monotonic,
            random_bytes=world.random_bytes,
            spawn=asyncio.get_running_loop().create_task,
            hostname=config.hostname.ascii,
            sessions=before.sessions if before else set(),
            tasks=before.tasks if before else set(),
            examining=examining_room(config, world, self.alarms, before.examining if before else None),
            signing=SigningRoom(plan.signers, self._threads, asyncio.get_running_loop()) if plan.signers.any else None,
            hand_over=common.hand_over,
            forecaster=self._forecasts(plan),
            probes=before.probes if before else None,
            masks=before.masks if before else None,
        )

    def _forecasts(self, plan: Plan) -> Forecasts | None:
        """Who says what receivers will conclude; nobody, where mail authentication is of no interest at all."""
        checks, world = plan.config.checks, plan.world
        if all(mode is CheckMode.OFF for mode in (checks.spf, checks.dkim, checks.dmarc)):
            return None
        allow = NetworkSet(plan.config.outbound.allow)
        means = Means(
            world.resolver,
            plan.signers,
            plan.roads.road,
            lambda address: why_denied(address, allow),
            plan.config.hostname.ascii,
            world.clock,
            world.monotonic,
            self.emit,
            self.stores.spool,
            self.alarms,
        )
        return Forecasts(means)

    def _targets(self, mailbox: Mailbox) -> Sequence[tuple[Mailbox, str]]:
        """Where a notice to a sender goes."""
        resolution = self.directory.resolve(mailbox)
        if resolution.place is Place.OUTSIDE:
            return [(mailbox, self.roads.destination(mailbox, NULL_PATH))]
        return [
            (target.mailbox, target.destination or self.roads.destination(target.mailbox, NULL_PATH))
            for target in resolution.targets
        ]

    def _tools(self, config: Config, world: World, forwarder: Forwarder) -> Tools:
        allow = NetworkSet(config.outbound.allow)
        contexts = ClientContexts()
        return Tools(
            self.stores.spool,
            world.resolver,
            world.connector,
            lambda address: why_denied(address, allow),
            OwnIdentity(frozenset({config.hostname.ascii})),
            _own_doors(config),
            world.random.shuffle,
            self._families,
            session_settings(config, contexts),
            forwarder.sender,
        )


def _alone(config: Config, world: World, connections: int, emit: Callable[[Event], None]) -> Common:
    """What sessions have in common where all of them are in this process."""
    limits = config.limits
    return Common(
        Alarms(world.clock, emit),
        Connections(connections, limits.connections_per_client),
        LoginFailures(LoginLimits(limits.login_failures)),
    )


def session_settings(config: Config, contexts: ClientContexts) -> Callable[[Road, TlsLevel, str], SessionSettings]:
    """Settings of sessions with next hops, made once for each road, level and host."""

    def make(road: Road, level: TlsLevel, host: str) -> SessionSettings:
        context = None
        if level.verified:
            context = contexts.verified(road.ca)
        elif level is not TlsLevel.OFF:
            context = contexts.unverified()
        name = None if host.startswith("/") or (address_number(host) is not None and not level.verified) else host
        return SessionSettings(
            config.hostname.ascii,
            level,
            context,
            name,
            Credentials(road.login, road.password) if road.login else None,
            detect_loop=not road.trusted_target,
        )

    return make


def certificate_of(config: Config) -> ServerCertificate | None:
    """The certificate of the doors. Raises CertificateFault."""
    if config.tls is None:
        return None
    return ServerCertificate(config.tls.certificate, config.tls.key, report=_complain)


def log_settings(config: Config, secret: bytes) -> LogSettings:
    """`[log]`. Hashed addresses are the same after a restart: their key is made of the installation's `secret`."""
    log = config.log
    return LogSettings(log.format.value, log.level.value, log.privacy.value, hmac.digest(secret, b"log", "sha256"))


def _retry(config: Config) -> RetrySettings:
    queue = config.queue
    return RetrySettings(
        tuple(float(seconds) for seconds in queue.retry_seconds),
        queue.lifetime_seconds,
        queue.bounce_lifetime_seconds,
        queue.delay_notice_seconds,
    )


def _own_doors(config: Config) -> Callable[[Endpoint, Endpoint], bool]:
    """Is this end one of our own doors? Known by address, or by port alone where a door listens on all addresses."""
    everywhere = {where.port for listen in config.listeners for where in listen.bind if where.host == "*"}
    exactly = {(where.host, where.port) for listen in config.listeners for where in listen.bind}

    def is_ours(peer: Endpoint, local: Endpoint) -> bool:
        if (peer.address, peer.port) in exactly:
            return True
        # A connection to an address of this machine comes from that same address.
        return peer.port in everywhere and peer.address == local.address

    return is_ours


def _report(error: Exception) -> None:
    context = {"message": "a session failed; it is closed", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)


def _complain(fault: str) -> None:
    sys.stderr.write(f"staffetta: certificate: {fault}\n")
