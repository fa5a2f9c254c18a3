"""A running relay: everything that is made from one configuration, started in order and stopped in order.

Order of starting: sockets are bound (ports below 1024 need root), privileges are given up, the store is locked and
opened, delivery starts, and only then do the doors open. Stopping goes the other way round.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from staffetta.accounts.store import AccountStore
from staffetta.app.key_care import care_for_keys
from staffetta.app.open_doors import OpenDoor, Opening, openings_of
from staffetta.app.pickup_folder import prepare
from staffetta.app.pickup_start import watch_drop
from staffetta.app.privileges import DEFAULT_USER, account_for, become, private_directory
from staffetta.app.sessions import ask_to_leave, finish, sessions_end, watch_clock
from staffetta.app.wiring import Parts, Stores, World, certificate_of, live_world, log_settings
from staffetta.app.workers.crew import Crew
from staffetta.app.workers.desk import Counter
from staffetta.app.workers.staff import Orders, Staff, Surroundings
from staffetta.config.schema import Config
from staffetta.net.activation import Doorway, take_over
from staffetta.net.listener import BindFailed, bind, connections_within, raise_descriptor_limit
from staffetta.net.tls import CHECK_SECONDS, HeldCertificate, ServerCertificate
from staffetta.observe.events import Event, Ready, Stopping, moment
from staffetta.observe.log import EventLog
from staffetta.observe.metrics import Counters
from staffetta.policy.door import Role
from staffetta.spool.recovery import LOCK_NAME, STORE_NAME, AlreadyRunning, RelayLock, relay_pid
from staffetta.spool.sqlite import SqliteSpool

if TYPE_CHECKING:
    from staffetta.app.console_port import ConsolePort

JOURNAL_SECONDS: Final = 60.0
"""How often old rows of the journal are removed, JOURNAL_ROWS at most."""

JOURNAL_HURRY_SECONDS: Final = 1.0
"""The same while more are left than that, or a busy relay would write more than it forgets."""

JOURNAL_ROWS: Final = 5000
_AS_ROOT: Final = (
    f"there is no account {DEFAULT_USER!r} to become, so a mistake in this program would be root's; make that account,"
    " or name another as user"
)

LOCK_TRIES: Final = 20
"""A command may hold the lock for an instant: this many times, 50 ms apart."""


class Relay:
    """One relay from start to stop. What is public here is for `app.reload` and `app.standing`.

    `digest` names the text of the file in force. `closing` is called when it stops, before the doors close. With a
    `crew` the doors are in other processes, by `staff`. `on_failure` is told when it cannot go on (`failed`).
    `selfcheck`: did it find itself closed to strangers? None while nothing is known.
    """

    def __init__(self, config: Config, digest: str = "", crew: Crew | None = None) -> None:
        self.config = config
        self.digest = digest
        self.crew = crew
        self.staff: Staff | None = None
        self.failed = False
        self.on_failure: Callable[[str], None] | None = None
        self.started_at = 0.0
        self.log: EventLog
        self.parts: Parts
        self.spool: SqliteSpool
        self.accounts: AccountStore
        self.certificate: ServerCertificate | None = None
        self.doors: list[OpenDoor] = []
        self.descriptors = 0
        self.closing: list[Callable[[], Awaitable[None]]] = []
        self.worlds: list[World] = []
        self.counters = Counters()
        self.console: ConsolePort | None = None
        self.selfcheck: bool | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._lock: RelayLock
        self._drop_fault = ""

    def emit(self, event: Event) -> None:
        """Tell the log; after the event is durable, where it belongs to a transition."""
        self.counters.observe(event)
        self.log.emit(event)

    async def start(self) -> None:
        """Open for business; what was opened is closed again when a later step fails.

        Raises BindFailed, CertificateFault, PrivilegeError, AlreadyRunning, StoreError, WorkerFault, OSError."""
        async with contextlib.AsyncExitStack() as undo:
            await self._start(undo)
            undo.pop_all()
        self.started_at = time.time()
        self._tasks = [
            asyncio.create_task(watch_clock(self.parts.house), name="clock"),
            asyncio.create_task(self._forget_journal(), name="journal"),
            asyncio.create_task(care_for_keys(self), name="keys"),
            asyncio.create_task(self._watch_certificate(), name="certificate"),
        ]
        watch_drop(self, self._drop_fault)
        self.emit(Ready(time=moment(time.time()), listeners=self.addresses()))

    async def _start(self, undo: contextlib.AsyncExitStack) -> None:
        config = self.config
        self.descriptors = raise_descriptor_limit()
        self.certificate = certificate_of(config)
        openings = openings_of(config, self.certificate)
        doors = []
        for opening, given in zip(openings, _handed_over(openings), strict=True):
            sockets = given or _bind(opening, config)
            undo.callback(_close_all, sockets)
            doors.append((opening, sockets))
        account = account_for(config.user)
        if account is None and os.geteuid() == 0:
            sys.stderr.write(f"staffetta: running as root: {_AS_ROOT}\n")
        private_directory(config.data_dir, account)
        self._drop_fault = prepare(config.data_dir, account)
        become(account)
        self._lock = await _locked(config)
        undo.callback(self._lock.release)
        self.spool = await SqliteSpool.open(config.data_dir / STORE_NAME, time.time)
        undo.push_async_callback(self.spool.close)
        self.accounts = AccountStore.open(config.data_dir)
        undo.callback(self.accounts.close)
        self.log = EventLog(log_settings(config, self.accounts.secret))
        undo.callback(self.log.close)
        self.worlds = [live_world(config)]
        undo.push_async_callback(self.worlds[0].close)
        stores = Stores(self.spool, self.accounts)
        self.parts = Parts(config, self.worlds[0], stores, self.emit, self.room_for_sessions(config))
        self.spool.expect_from(self._senders)
        self.parts.dispatcher.start()
        undo.push_async_callback(self.parts.dispatcher.stop)
        self.doors = [OpenDoor(opening, sockets, self.parts.house) for opening, sockets in doors]
        for door in self.doors:
            undo.callback(door.listener.stop)
        if self.crew is None:
            for door in self.doors:
                await door.listener.start()
        else:
            await self._hire(self.crew, undo)

    async def _hire(self, crew: Crew, undo: contextlib.AsyncExitStack) -> None:
        """Let workers open the doors."""
        counter = Counter(self.spool, self.parts.dispatcher, self.log)
        house = self.parts.house
        around = Surroundings(
            counter, self.parts.alarms, house.login_failures, self.counters, house.report, self._cannot_go_on
        )
        staff = self.staff = Staff(crew.nursery, crew.table, around)
        undo.callback(staff.end)
        await staff.start(self.orders(self.config, self.certificate, self.doors))

    def orders(self, config: Config, certificate: HeldCertificate | None, doors: Sequence[OpenDoor]) -> Orders:
        """What workers are to do by a configuration; `doors` in its order."""
        files = None if certificate is None else certificate.files
        return Orders(config, files, tuple(doors), self.room_for_sessions(config))

    def _senders(self) -> int:
        """Clients of all doors, wherever they are."""
        here = len(self.parts.house.sessions)
        return here if self.staff is None else here + self.staff.senders

    def _cannot_go_on(self, reason: str) -> None:
        self.failed = True
        if self.on_failure is not None:
            self.on_failure(reason)

    async def _watch_certificate(self) -> None:
        """Workers look at no files: what changes there is told to them."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            certificate, staff = self.certificate, self.staff
            if certificate is not None and staff is not None and certificate.check():
                staff.show(certificate.files)

    def room_for_sessions(self, config: Config) -> int:
        """Sessions at most, so that descriptors are left for delivery."""
        return connections_within(self.descriptors, config.limits.connections)

    def addresses(self) -> tuple[str, ...]:
        """Every door with its address, `mx 127.0.0.1:25`."""
        doors = tuple(address for door in self.doors for address in door.addresses())
        return doors if self.console is None else (*doors, *self.console.addresses())

    async def stop(self, reason: str) -> None:
        """Drain: sessions end at a command boundary, deliveries in flight finish, the store closes, whatever fails."""
        self.emit(Stopping(time=moment(time.time()), reason=reason))
        for close in self.closing:
            await close()
        async with contextlib.AsyncExitStack() as rest:
            rest.callback(self.log.close)
            rest.callback(self._lock.release)
            rest.callback(self.accounts.close)
            rest.push_async_callback(self.spool.close)
            for world in self.worlds:
                rest.push_async_callback(world.close)
            await self._drain()

    async def _drain(self) -> None:
        for door in self.doors:
            door.listener.stop()
        for task in self._tasks:
            task.cancel()
        house = self.parts.house
        ask_to_leave(house)
        elsewhere = [self.staff.stop()] if self.staff is not None else []
        await asyncio.gather(self.parts.dispatcher.stop(), sessions_end(house), *elsewhere)
        await finish(house)

    async def _forget_journal(self) -> None:
        pause = JOURNAL_SECONDS
        while True:
            await asyncio.sleep(pause)
            gone = 0
            with contextlib.suppress(Exception):
                gone = await self.spool.expire_journal(time.time() - self.config.journal.keep_seconds, JOURNAL_ROWS)
            pause = JOURNAL_SECONDS if gone < JOURNAL_ROWS else JOURNAL_HURRY_SECONDS


def _handed_over(openings: list[Opening]) -> list[list[socket.socket]]:
    """For each door the sockets that the service manager bound for it. Raises BindFailed."""
    doorways = [
        Doorway(
            opening.settings.name,
            opening.where,
            opening.settings.door.role is Role.SUBMISSION,
            opening.settings.implicit_tls,
        )
        for opening in openings
    ]
    return take_over(os.environ, os.getpid(), doorways)


def _bind(opening: Opening, config: Config) -> list[socket.socket]:
    """Raises BindFailed, or AlreadyRunning where it is a relay on the same store that has the port."""
    try:
        return bind(opening.where)
    except BindFailed:
        pid = relay_pid(config.data_dir)
        if pid is not None:
            raise AlreadyRunning(config.data_dir / LOCK_NAME, pid) from None
        raise


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
