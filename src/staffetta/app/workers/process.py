"""A door worker: the doors of the relay in a process of its own, made by the same wiring as in the main process.

Its store, its delivery and its log are in the main process, behind a wire. It obeys the main process only, and ends
when that ends.
"""

from __future__ import annotations

import asyncio
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from socket import socket
from typing import Any, Final, cast

import msgspec

from staffetta.accounts.store import AccountStore
from staffetta.app import sessions
from staffetta.app.open_doors import DoorChange, OpenDoor, Opening, openings_of
from staffetta.app.wiring import Common, Parts, Plan, Stores, World, live_world, log_settings
from staffetta.app.workers import frames
from staffetta.app.workers.frames import TO_WORKER
from staffetta.app.workers.guests import GivenBack, RemoteMasks
from staffetta.app.workers.remote import RemoteLog, RemoteSpool
from staffetta.app.workers.shared import ConnectionTable, SharedLoginFailures, ToldAlarms, connections_of
from staffetta.app.workers.wire import Wire
from staffetta.config.schema import Config
from staffetta.net.listener import raise_descriptor_limit
from staffetta.net.loop import Complaints, loop_factory
from staffetta.net.tls import HeldCertificate
from staffetta.observe.log import LineMaker
from staffetta.observe.metrics import FIELDS
from staffetta.policy.rate import LoginLimits
from staffetta.spool.contract import Spool

RETIRED_SECONDS: Final = 300.0
"""How long a resolver that was replaced still answers: examinations under way ask it."""


_ANSWERS: Final = (frames.Stored, frames.NotStored)


class _Next(msgspec.Struct, frozen=True):
    """What a configuration comes to here, made and not yet in force. `plan` None: it is the first."""

    generation: int
    config: Config
    certificate: HeldCertificate | None
    world: World
    plan: Plan | None
    change: DoorChange
    doors: dict[int, OpenDoor]
    added: tuple[OpenDoor, ...]


class Worker:
    """One worker at its `place` among the workers."""

    def __init__(self, wire: socket, place: int, table: ConnectionTable) -> None:
        self._place = place
        self._table = table
        self._wire = Wire(wire, TO_WORKER, self._received, _main_process_is_gone)
        self._over = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._orders: asyncio.Queue[Any] = asyncio.Queue()
        self._probes = GivenBack(self._wire)
        self._masks = RemoteMasks(self._wire)
        self._certificate: HeldCertificate | None = None
        self._doors: dict[int, OpenDoor] = {}
        self._next: _Next | None = None
        self._parts: Parts | None = None
        self._accounts: AccountStore
        self._log: RemoteLog
        self._spool: RemoteSpool
        self._failures: SharedLoginFailures

    async def run(self) -> None:
        """Until the main process says stop, and all sessions have ended."""
        self._wire.send(frames.Hello(os.getpid()))
        self._spawn(self._obey())
        await self._over.wait()

    # Orders, one after the other.

    def _received(self, frame: Any) -> None:
        if isinstance(frame, _ANSWERS):
            self._spool.answered(frame)
        elif isinstance(frame, frames.LoginTold):
            if self._parts is not None:
                self._failures.heard(frame.succeeded, frame.client, frame.account, frame.time)
        else:
            self._orders.put_nowait(frame)

    async def _obey(self) -> None:
        while True:
            order = await self._orders.get()
            try:
                await self._carry_out(order)
            except Exception as error:
                text = f"a door worker could not carry out {type(order).__name__}"
                asyncio.get_running_loop().call_exception_handler({"message": text, "exception": error})

    async def _carry_out(self, order: Any) -> None:
        if isinstance(order, frames.Prepare):
            await self._prepare(order)
        elif isinstance(order, frames.Adopt):
            self._adopt(order)
        elif isinstance(order, frames.Forget):
            await self._forget()
        elif isinstance(order, frames.Show):
            if self._certificate is not None:
                self._certificate.take((order.certificate, order.key))
        elif isinstance(order, frames.ReadKeys):
            if self._parts is not None and self._parts.house.signing is not None:
                self._parts.house.signing.signers.refresh()
        elif isinstance(order, frames.Expect):
            self._probes.expect(order)
        elif isinstance(order, frames.Withdrawn):
            self._masks.told(order)
        elif isinstance(order, frames.Count):
            self._tell_count()
        elif isinstance(order, frames.Stop):
            await self._stop()

    async def _prepare(self, order: frames.Prepare) -> None:
        given = [[self._wire.take_file() for _ in range(count)] for _, count in order.doors]
        fault = ""
        try:
            await self._forget()
            self._next = await self._build(order, given)
        except Exception as error:
            fault = f"a door worker cannot do it: {error}" if isinstance(error, OSError) else f"{error!r}"
            for file in (file for files in given for file in files):
                with suppress(OSError):
                    os.close(file)
        self._wire.send(frames.Prepared(order.generation, fault))

    async def _build(self, order: frames.Prepare, given: list[list[int]]) -> _Next:
        config: Config = pickle.loads(order.config)  # noqa: S301 - from our own main process, which made it
        certificate = self._certificate_of(config, order)
        first = self._parts is None
        parts = self._parts or self._begin(config, order)
        world = live_world(config) if order.renewed and not first else parts.world
        plan = None if first else parts.plan(config, world, order.connections)
        doors: dict[int, OpenDoor] = {}
        kept: list[tuple[OpenDoor, Opening]] = []
        added: list[OpenDoor] = []
        try:
            for (number, _), opening, files in zip(order.doors, openings_of(config, certificate), given, strict=True):
                door = self._doors.get(number)
                if door is None:
                    door = OpenDoor(opening, [socket(fileno=files.pop(0)) for _ in list(files)], parts.house)
                    added.append(door)
                    self._probes.watch(door, number)
                    await door.listener.start()
                else:
                    kept.append((door, opening))
                doors[number] = door
        except BaseException:
            for door in added:
                door.listener.stop()
            raise
        gone = tuple(door for number, door in self._doors.items() if number not in doors)
        change = DoorChange(tuple(kept), (), gone)
        return _Next(order.generation, config, certificate, world, plan, change, doors, tuple(added))

    def _certificate_of(self, config: Config, order: frames.Prepare) -> HeldCertificate | None:
        if not order.certificate or config.tls is None:
            return None
        files = (order.certificate, order.key)
        held = self._certificate
        if held is not None and held.files == files:
            return held  # with the keys of its session tickets
        return HeldCertificate(files, f"{config.tls.certificate} with {config.tls.key}")

    def _begin(self, config: Config, order: frames.Prepare) -> Parts:
        """What lives as long as this worker."""
        wire, world, limits = self._wire, live_world(config), config.limits
        self._accounts = AccountStore.open(config.data_dir)
        self._log = RemoteLog(wire, LineMaker(log_settings(config, self._accounts.secret)))
        self._spool = RemoteSpool(wire, self._log)
        self._failures = SharedLoginFailures(
            LoginLimits(limits.login_failures), lambda *told: wire.send(frames.LoginTold(*told))
        )
        if order.failures:
            self._failures.take_over(pickle.loads(order.failures))  # noqa: S301 - as above
        common = Common(
            ToldAlarms(world.clock, lambda name, text: wire.send(frames.AlarmTold(name, text))),
            connections_of(order.connections, limits.connections_per_client, self._table, self._place),
            self._failures,
            self._spool.hand_over,
            hashing_threads=1 if self._table.workers > 1 else 2,
        )
        stores = Stores(cast(Spool, self._spool), self._accounts)
        self._parts = Parts(config, world, stores, self._log.emit, order.connections, common=common)
        self._parts.house.masks = self._masks
        self._spawn(sessions.watch_clock(self._parts.house))
        self._spawn(self._tally())
        return self._parts

    def _adopt(self, order: frames.Adopt) -> None:
        ready, self._next, parts = self._next, None, self._parts
        if ready is None or parts is None or ready.generation != order.generation:
            raise RuntimeError("there is nothing to be put in force")
        before = parts.world
        if ready.plan is not None:
            parts.adopt(ready.plan)
            self._log.adopt(LineMaker(log_settings(ready.config, self._accounts.secret)))
        self._certificate = ready.certificate
        self._doors = ready.doors
        ready.change.adopt()
        if before is not ready.world:
            self._spawn(_retire(before))
        self._wire.send(frames.Adopted(order.generation))

    async def _forget(self) -> None:
        ready, self._next = self._next, None
        if ready is None or self._parts is None:
            return
        for door in ready.added:
            door.listener.stop()
            door.end_sessions()
        if ready.world is not self._parts.world:
            await ready.world.close()

    async def _stop(self) -> None:
        for door in self._doors.values():
            door.listener.stop()
        if self._parts is not None:
            house = self._parts.house
            sessions.ask_to_leave(house)
            await sessions.sessions_end(house)
            await sessions.finish(house)
            house.logins.close()
            self._tell_count()
        self._wire.send(frames.Finished())
        await self._wire.close()
        self._over.set()

    # What the main process wants to know.

    async def _tally(self) -> None:
        while True:
            await asyncio.sleep(sessions.CLOCK_SECONDS)
            self._tell_count()

    def _tell_count(self) -> None:
        if self._parts is not None:
            self._log.flush()
            self._wire.send(self._count())

    def _count(self) -> frames.Tally:
        counters = self._log.counters
        return frames.Tally(
            tuple([(number, door.clients) for number, door in self._doors.items()]),
            tuple([(kind.__name__, key, count) for kind in FIELDS for key, count in counters.counted(kind).items()]),
        )

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def work(table: ConnectionTable) -> Callable[[socket, int], int]:
    """What a child of the nursery does."""
    return partial(_work, table)


def _work(table: ConnectionTable, wire: socket, place: int) -> int:
    with suppress(OSError):
        Path("/proc/self/comm").write_text("staffetta-door")
    raise_descriptor_limit()

    async def main() -> int:
        asyncio.get_running_loop().set_exception_handler(Complaints())
        await Worker(wire, place, table).run()
        # What is left, threads and sockets, ends with the process.
        return 0

    # No signals: the main process is told by them, and tells us.
    return asyncio.Runner(loop_factory=loop_factory()).run(main())


async def _retire(world: World) -> None:
    await asyncio.sleep(RETIRED_SECONDS)
    await world.close()


def _main_process_is_gone() -> None:
    os._exit(1)
