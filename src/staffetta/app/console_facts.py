"""What the console's port tells of a running relay: gathered from memory, from store and disk in a thread.

Counting the queue looks at every recipient, so its answer is kept for a while, longer where it took long, and
nobody starts a second count while one runs: who asks often cannot make the relay work more.
"""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from staffetta import __version__
from staffetta.app.pickup import DOOR_NAME
from staffetta.console.exposition import exposition
from staffetta.console.health import Readiness
from staffetta.console.metrics import Facts, Store, families
from staffetta.console.process import this_process
from staffetta.control.status import certificate_facts
from staffetta.spool.contract import SpoolUnavailable
from staffetta.spool.database import StoreError
from staffetta.spool.operator import open_for_command, standing

if TYPE_CHECKING:
    from staffetta.app.relay import Relay
    from staffetta.app.reload import Reloads

STORE_SECONDS: Final = 1.0
"""How long a count of the queue is told again, at least."""

STORE_SHARE: Final = 20
"""A count is told again for so many times the time that it took: at most this share of one core goes into counting."""

PROBE_SECONDS: Final = 1.0
"""How long an answer about the store's health is told again."""

STORE_PATIENCE_SECONDS: Final = 3.0
"""How long the store may take to say that it could take a message."""

COUNT_PATIENCE_SECONDS: Final = 5.0
"""How long a page waits for a count of the queue; then it tells the one before."""

LAG_SECONDS: Final = 1.0
"""How often the event loop's lateness is looked at."""

LAG_WINDOW: Final = 30
"""Looks of which the worst is told."""

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """An answer that is told again for a while, at least `seconds`. Only one question is asked at a time, and who has
    waited `patience` seconds for it gets `late`, or the answer of before where `late` is None.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[Value]],
        seconds: float,
        patience: float,
        late: Value | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._seconds = seconds
        self._patience = patience
        self._late = late
        self._clock = clock
        self._value: Value | None = None
        self._until = -1.0
        self._task: asyncio.Task[None] | None = None

    async def get(self) -> Value | None:
        """The answer; None when there has never been one."""
        if self._task is None and self._clock() >= self._until:
            self._task = asyncio.create_task(self._renew())
        if self._task is not None:
            try:
                async with asyncio.timeout(self._patience):
                    await asyncio.shield(self._task)
            except TimeoutError:
                return self._value if self._late is None else self._late
        return self._value

    async def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _renew(self) -> None:
        began = self._clock()
        try:
            self._value = await self._ask()
        finally:
            now = self._clock()
            self._until = now + max(self._seconds, STORE_SHARE * (now - began))
            self._task = None


class Lag:
    """How late the event loop is, from a look every second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: list[float] = []

    @property
    def worst(self) -> float:
        """Seconds, of the last looks."""
        return max(self._seen, default=0.0)

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            wanted = self._clock() + LAG_SECONDS  # the loop's own clock has milliseconds only
            await asyncio.sleep(LAG_SECONDS)
            self._seen.append(max(0.0, self._clock() - wanted))
            del self._seen[:-LAG_WINDOW]


class ConsoleFacts:
    """The facts of one relay. `draining` is set when it begins to stop."""

    def __init__(self, relay: Relay, reloads: Reloads) -> None:
        self.draining = False
        self.lag = Lag()
        self._relay = relay
        self._reloads = reloads
        self._store = Kept(self._ask_store, STORE_SECONDS, COUNT_PATIENCE_SECONDS)
        self._fault = Kept(self._probe, PROBE_SECONDS, STORE_PATIENCE_SECONDS, "it does not answer")
        self._certificate: tuple[bytes, dict[str, float]] = (b"", {})
        self._loaded_at = relay.started_at

    async def close(self) -> None:
        """Nobody will ask any more."""
        await self._store.close()
        await self._fault.close()

    def reloaded(self) -> None:
        """Another configuration is in force."""
        self._loaded_at = time.time()

    async def readiness(self) -> Readiness:
        """May the relay be sent clients? The store of one that drains is left alone: it is about to close."""
        relay = self._relay
        wanted = sum(len(listen.bind) for listen in relay.config.listeners)
        fault = "" if self.draining else await self._fault.get() or ""
        return Readiness(self.draining, wanted, 0 if self.draining else len(relay.doors), fault)

    async def metrics(self) -> bytes:
        """The page of metrics."""
        store = await self._store.get()
        if self._relay.staff is not None:
            await self._relay.staff.count()
        return exposition(families(self._facts(store)))

    def _facts(self, store: Store | None) -> Facts:
        relay, last = self._relay, self._reloads.last
        parts = relay.parts
        room = parts.house.examining
        sessions: dict[str, int] = {}
        for door in relay.doors:
            sessions[door.name] = sessions.get(door.name, 0) + door.clients
        return Facts(
            __version__,
            platform.python_version(),
            time.time(),
            (*dict.fromkeys(listen.name for listen in relay.config.listeners), DOOR_NAME),
            sessions,
            relay.counters,
            store,
            self._expires(),
            {one.zone: room.health.state(one).on for one in room.lists} if room is not None else {},
            tuple(alarm.name for alarm in parts.alarms.active()),
            relay.selfcheck,
            last is None or last.done,
            self._loaded_at,
            self.lag.worst,
            relay.log.dropped,
            parts.house.refusals.left_out,
            this_process(),
        )

    def _expires(self) -> dict[str, float]:
        """When the certificate of the doors ends. Read anew only when it is another one."""
        certificate = self._relay.certificate
        if certificate is None:
            return {}
        if certificate.pem != self._certificate[0]:
            facts = certificate_facts(certificate.pem, certificate.certificate, time.time())
            ends = {} if facts.expires_at is None else {facts.subject: facts.expires_at.timestamp()}
            self._certificate = certificate.pem, ends
        return self._certificate[1]

    async def _ask_store(self) -> Store | None:
        try:
            return await asyncio.to_thread(self._count)
        except (StoreError, OSError, ValueError):
            return None

    def _count(self) -> Store:
        """In a thread, on a connection of its own."""
        data_dir = self._relay.config.data_dir
        store = open_for_command(data_dir)
        try:
            stands = standing(store, time.time())
        finally:
            store.close()
        disk = os.statvfs(data_dir)
        return Store(stands, disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)

    async def _probe(self) -> str:
        """Why the store could not take a message now; empty when it could."""
        try:
            await self._relay.spool.probe()
        except SpoolUnavailable as error:
            return "there is too little space on its disk" if error.full else "it cannot be written"
        return ""
