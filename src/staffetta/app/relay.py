"""A running relay: everything that is made from one configuration, started in order and stopped in order.

Order of starting: sockets are bound (ports below 1024 need root), privileges are given up, the store is locked and
opened, delivery starts, and only then do the doors open. Stopping goes the other way round.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from typing import Final

from staffetta.accounts.store import AccountStore
from staffetta.app.doors import doors_of
from staffetta.app.privileges import account_for, become, private_directory
from staffetta.app.wiring import Parts, Stores, World, certificate_of, live_world, log_settings
from staffetta.config.schema import Config
from staffetta.intake.door import DoorSettings
from staffetta.intake.session import Session
from staffetta.net.activation import Doorway, take_over
from staffetta.net.endpoint import Bind
from staffetta.net.listener import Listener, bind, connections_within, raise_descriptor_limit
from staffetta.net.stream import TcpStream
from staffetta.observe.events import Event, Ready, Stopping, moment
from staffetta.observe.log import EventLog
from staffetta.policy.door import Role
from staffetta.spool.recovery import STORE_NAME, AlreadyRunning, RelayLock
from staffetta.spool.sqlite import SqliteSpool

CLOCK_SECONDS: Final = 1.0
"""How often the deadlines of all sessions are looked at."""

JOURNAL_SECONDS: Final = 60.0
"""How often old rows of the journal are removed, JOURNAL_ROWS at most."""

JOURNAL_HURRY_SECONDS: Final = 1.0
"""The same while more are left than that, or a busy relay would write more than it forgets."""

JOURNAL_ROWS: Final = 5000
DRAIN_SECONDS: Final = 25.0
"""How long sessions may take to reach a command boundary when the relay stops."""

LOCK_TRIES: Final = 20
"""A command may hold the lock for an instant: this many times, 50 ms apart."""


class Relay:
    """One relay from start to stop."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.log: EventLog
        self._listeners: list[Listener] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._parts: Parts
        self._lock: RelayLock
        self._spool: SqliteSpool
        self._accounts: AccountStore
        self._world: World

    def emit(self, event: Event) -> None:
        """Tell the log; after the event is durable, where it belongs to a transition."""
        self.log.emit(event)

    async def start(self) -> None:
        """Open for business; what was opened is closed again when a later step fails.

        Raises BindFailed, CertificateFault, PrivilegeError, AlreadyRunning, StoreError, OSError."""
        async with contextlib.AsyncExitStack() as undo:
            await self._start(undo)
            undo.pop_all()
        self._tasks = [
            asyncio.create_task(self._watch_clock(), name="clock"),
            asyncio.create_task(self._forget_journal(), name="journal"),
        ]
        self.emit(Ready(time=moment(time.time()), listeners=self.addresses()))

    async def _start(self, undo: contextlib.AsyncExitStack) -> None:
        config = self.config
        descriptors = raise_descriptor_limit()
        doors = []
        openings = doors_of(config, certificate_of(config))
        for (where, settings), given in zip(openings, _handed_over(openings), strict=True):
            sockets = given or bind(where)
            undo.callback(_close_all, sockets)
            doors.append((settings, sockets))
        account = account_for(config.user)
        private_directory(config.data_dir, account)
        become(account)
        self._lock = await _locked(config)
        undo.callback(self._lock.release)
        self._spool = await SqliteSpool.open(config.data_dir / STORE_NAME, time.time)
        undo.push_async_callback(self._spool.close)
        self._accounts = AccountStore.open(config.data_dir)
        undo.callback(self._accounts.close)
        self.log = EventLog(log_settings(config, self._accounts.secret))
        undo.callback(self.log.close)
        connections = connections_within(descriptors, config.limits.connections)
        self._world = live_world(config)
        undo.push_async_callback(self._world.close)
        self._parts = Parts(config, self._world, Stores(self._spool, self._accounts), self.emit, connections)
        self._parts.dispatcher.start()
        undo.push_async_callback(self._parts.dispatcher.stop)
        for settings, sockets in doors:
            listener = Listener(settings.name, sockets, self._greeter(settings))
            undo.callback(listener.stop)
            await listener.start()
            self._listeners.append(listener)

    def addresses(self) -> tuple[str, ...]:
        """Every door with its address, `mx 127.0.0.1:25`."""
        return tuple(f"{listener.name} {endpoint}" for listener in self._listeners for endpoint in listener.endpoints)

    async def stop(self, reason: str) -> None:
        """Drain: sessions end at a command boundary, deliveries in flight finish, the store closes, whatever fails."""
        self.emit(Stopping(time=moment(time.time()), reason=reason))
        async with contextlib.AsyncExitStack() as rest:
            rest.callback(self.log.close)
            rest.callback(self._lock.release)
            rest.callback(self._accounts.close)
            rest.push_async_callback(self._spool.close)
            rest.push_async_callback(self._world.close)
            await self._drain()

    async def _drain(self) -> None:
        for listener in self._listeners:
            listener.stop()
        for task in self._tasks:
            task.cancel()
        house = self._parts.house
        for session in list(house.sessions):
            session.stop()
        await asyncio.gather(self._parts.dispatcher.stop(), self._sessions_end())
        await house.refusals.close()
        if house.tasks:
            await asyncio.wait(house.tasks, timeout=5)

    async def _sessions_end(self) -> None:
        sessions = self._parts.house.sessions
        end = time.monotonic() + DRAIN_SECONDS
        while sessions and time.monotonic() < end:  # noqa: ASYNC110 - a set has no event
            await asyncio.sleep(0.05)
        for session in list(sessions):
            session.stream.abort()
        while sessions and time.monotonic() < end + 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    def _greeter(self, settings: DoorSettings) -> Callable[[TcpStream], Session]:
        parts = self._parts

        def greet(stream: TcpStream) -> Session:
            return Session(stream, parts.house, settings)

        return greet

    async def _watch_clock(self) -> None:
        house = self._parts.house
        while True:
            await asyncio.sleep(CLOCK_SECONDS)
            now = house.monotonic()
            for session in list(house.sessions):
                try:
                    session.look_at_clock(now)
                except Exception as error:  # one session's bug must not take the deadlines of all others away
                    house.report(error)

    async def _forget_journal(self) -> None:
        keep = self.config.journal.keep_seconds
        pause = JOURNAL_SECONDS
        while True:
            await asyncio.sleep(pause)
            gone = 0
            with contextlib.suppress(Exception):
                gone = await self._spool.expire_journal(time.time() - keep, JOURNAL_ROWS)
            pause = JOURNAL_SECONDS if gone < JOURNAL_ROWS else JOURNAL_HURRY_SECONDS


def _handed_over(openings: list[tuple[Bind, DoorSettings]]) -> list[list[socket.socket]]:
    """For each door the sockets that the service manager bound for it. Raises BindFailed."""
    doorways = [
        Doorway(settings.name, where, settings.door.role is Role.SUBMISSION, settings.implicit_tls)
        for where, settings in openings
    ]
    return take_over(os.environ, os.getpid(), doorways)


def _close_all(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


async def _locked(config: Config) -> RelayLock:
    for _ in range(LOCK_TRIES):
        try:
            return RelayLock.acquire(config.data_dir)
        except AlreadyRunning as error:
            taken = error
            await asyncio.sleep(0.05)
    raise taken
