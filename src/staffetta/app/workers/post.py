"""One worker as the main process knows it: its wire, its mail, and what it was told and has answered."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from staffetta.app.workers import frames
from staffetta.app.workers.desk import MailDesk
from staffetta.app.workers.frames import FROM_WORKER
from staffetta.app.workers.wire import Wire, WireBroken
from staffetta.observe.metrics import FIELDS

if TYPE_CHECKING:
    from staffetta.app.workers.staff import Staff

MOST_UNSENT_OCTETS: Final = 64 * 1024 * 1024
"""A worker that leaves so much unread is stuck."""

_KINDS: Final = {kind.__name__: kind for kind in FIELDS}


class WorkerFault(OSError):
    """A worker cannot do what it was told; the message says why."""


class Post:
    """One worker. `generation` is the configuration that is in force there, 0 for none; `doors` are numbers of doors
    that it has; `prepared` is the configuration that it is ready for."""

    def __init__(self, place: int, sock: socket.socket, staff: Staff) -> None:
        self.place = place
        self.pid = 0
        self.generation = 0
        self.prepared = 0
        self.doors: frozenset[int] = frozenset()
        self.clients: dict[int, int] = {}
        self.alarms: set[str] = set()
        self.heard_at = time.monotonic()
        self.settling = False
        self._staff = staff
        self._loop = asyncio.get_running_loop()
        self._counted: dict[tuple[str, tuple[str, ...]], int] = {}
        self._offered: dict[int, frozenset[int]] = {}
        self._waiting: dict[tuple[type, int], asyncio.Future[str]] = {}
        self._ended = self._loop.create_future()
        self._wire = Wire(sock, FROM_WORKER, self._received, self._lost)
        self._mail = MailDesk(staff.around.counter, self._wire)
        self._does: dict[type, Any] = {
            frames.Arrival: self._mail.arrival,
            frames.LogLines: self._mail.lines,
            frames.Chunk: self._mail.chunk,
            frames.Discard: self._mail.discard,
            frames.Append: self._mail.append,
            frames.Tally: self._tally,
            frames.LoginTold: self._login,
            frames.AlarmTold: self._alarm,
            frames.Hello: self._hello,
            frames.Prepared: self._prepared,
            frames.Adopted: self._adopted,
            frames.Expected: self._expected,
            frames.Arrived: self._arrived,
            frames.Greeted: self._greeted,
            frames.Asked: self._asked,
            frames.Finished: self._finished,
        }

    @property
    def senders(self) -> int:
        """Clients, as the last message from it says."""
        return self._mail.senders

    @property
    def sessions(self) -> int:
        """Clients that are there now."""
        return sum(self.clients.values())

    def send(self, frame: frames.Frame) -> None:
        """Tell it something."""
        self._wire.send(frame)
        if self._wire.unsent > MOST_UNSENT_OCTETS:
            self.kill()

    async def prepare(self, order: frames.Prepare, files: Sequence[int], seconds: float) -> None:
        """Have everything made for a configuration. Raises WorkerFault."""
        try:
            self._wire.send_files(order, files)
        except WireBroken as error:
            raise WorkerFault(str(error)) from error
        self._offered[order.generation] = frozenset(number for number, _ in order.doors)
        fault = await self._answer(frames.Prepared, order.generation, seconds)
        if fault:
            raise WorkerFault(fault)

    async def adopted(self, generation: int, seconds: float) -> None:
        """Wait until a configuration is in force there. Raises WorkerFault."""
        if self.generation != generation and self.prepared == generation:
            await self._answer(frames.Adopted, generation, seconds)

    async def count(self, seconds: float) -> None:
        """Have it say how it is; give up after so many seconds."""
        self.send(frames.Count())
        with suppress(WorkerFault):
            await self._answer(frames.Tally, 0, seconds)

    async def expect(self, order: frames.Expect, seconds: float) -> None:
        """Have it know a probe; give up after so many seconds."""
        self.send(order)
        with suppress(WorkerFault):
            await self._answer(frames.Expected, order.number, seconds)

    async def finished(self, seconds: float) -> None:
        """Wait until it has ended, or should have."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.shield(self._ended)

    async def close(self) -> None:
        """Let go of it, and throw away what it left half done."""
        self._wire.drop()
        await self._mail.close()

    def kill(self) -> None:
        """End it now; `Staff.lost` follows."""
        if self.pid:
            with suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)
        else:
            self._wire.drop()
            self._lost()

    async def _answer(self, kind: type, generation: int, seconds: float) -> str:
        answer: asyncio.Future[str] = self._loop.create_future()
        self._waiting[kind, generation] = answer
        try:
            async with asyncio.timeout(seconds):
                await answer
                return answer.result()
        except TimeoutError as error:
            raise WorkerFault(f"door worker {self.pid} did not answer in {seconds:.0f} s") from error
        finally:
            self._waiting.pop((kind, generation), None)

    def _received(self, frame: Any) -> None:
        self._does[type(frame)](frame)

    def _lost(self) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(WorkerFault(f"door worker {self.pid} has ended"))
        if not self._ended.done():
            self._ended.set_result(None)
        self._staff.lost(self)

    def _hello(self, frame: frames.Hello) -> None:
        self.pid = frame.pid

    def _prepared(self, frame: frames.Prepared) -> None:
        if not frame.fault:
            self.prepared = frame.generation
        self._tell(frames.Prepared, frame.generation, frame.fault)

    def _adopted(self, frame: frames.Adopted) -> None:
        self.generation = frame.generation
        self.doors = self._offered.get(frame.generation, frozenset())
        self._offered.clear()
        self._tell(frames.Adopted, frame.generation, "")

    def _tell(self, kind: type, generation: int, text: str) -> None:
        answer = self._waiting.get((kind, generation))
        if answer is not None and not answer.done():
            answer.set_result(text)

    def _finished(self, _: frames.Finished) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _tally(self, frame: frames.Tally) -> None:
        self.heard_at = time.monotonic()
        self.clients = dict(frame.clients)
        counters = self._staff.around.counters
        for name, key, count in frame.counts:
            more = count - self._counted.get((name, key), 0)
            if more:
                self._counted[name, key] = count
                counters.add(_KINDS[name], key, more)
        self._staff.counted()
        self._tell(frames.Tally, 0, "")

    def _expected(self, frame: frames.Expected) -> None:
        self._tell(frames.Expected, frame.number, "")

    def _arrived(self, frame: frames.Arrived) -> None:
        self._staff.spawn(self._staff.arrived(frame.door, socket.socket(fileno=self._wire.take_file())))

    def _greeted(self, frame: frames.Greeted) -> None:
        if self._staff.masks is not None:
            self._staff.masks.note_greeting(frame.client, frame.name)

    def _asked(self, frame: frames.Asked) -> None:
        if self._staff.masks is not None:
            self._staff.masks.note_asking(frame.client, frame.name, frame.sender, outside=frame.outside)

    def _login(self, frame: frames.LoginTold) -> None:
        self._staff.told_login(self, frame)

    def _alarm(self, frame: frames.AlarmTold) -> None:
        if frame.text:
            self.alarms.add(frame.name)
        else:
            self.alarms.discard(frame.name)
        self._staff.told_alarm(frame.name, frame.text)
