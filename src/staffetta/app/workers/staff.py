"""The door workers of a relay, seen from its main process: hired, told what to do, replaced when they crash, let go.

A configuration is given to all of them in two steps, so that it is in force at all doors or at none. A worker that
crashes takes its sessions with it and nothing else: what was acknowledged is on disk, what was not is sent again by its
client. RFC 5321 section 4.5.4 (clients retry).
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec

from staffetta.app.open_doors import OpenDoor
from staffetta.app.workers import frames
from staffetta.app.workers.desk import Counter
from staffetta.app.workers.nursery import Nursery, NurseryGone
from staffetta.app.workers.post import Post, WorkerFault
from staffetta.app.workers.shared import ConnectionTable
from staffetta.config.schema import Config
from staffetta.net.contract import Endpoint
from staffetta.net.stream import TcpStream
from staffetta.net.tls import Files
from staffetta.observe.alarms import Alarms
from staffetta.observe.metrics import Counters
from staffetta.policy.rate import LoginFailures

if TYPE_CHECKING:
    from staffetta.app.sentinel_masks import MaskWatch

ANSWER_SECONDS: Final = 20.0
"""How long a worker may take to make everything for a configuration."""

COUNT_SECONDS: Final = 1.0
"""How long somebody waits for the numbers of a worker that is busy."""

FINISH_SECONDS: Final = 30.0
"""How long a worker may take to end: its sessions have 25."""

LOOK_SECONDS: Final = 0.01
"""How often is looked for what others will do in a moment."""

CRASHES: Final = 5
"""More crashes than this within CRASH_SECONDS are an alarm, and the next worker has to wait."""

CRASH_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 5.0
SILENT_SECONDS: Final = 60.0
"""A worker speaks every second. One that says nothing for this long is stuck, and is replaced."""

ALARM: Final = "workers"


class Surroundings(msgspec.Struct, frozen=True):
    """What of the relay workers have to do with. `stop` asks the relay to stop, with a reason."""

    counter: Counter
    alarms: Alarms
    failures: LoginFailures
    counters: Counters
    report: Callable[[Exception], None]
    stop: Callable[[str], None]


class Orders(msgspec.Struct, frozen=True):
    """What all workers are to do. `doors` are in the order of the configuration; `files`: certificate and key."""

    config: Config
    files: Files | None
    doors: tuple[OpenDoor, ...]
    connections: int
    renewed: bool = False
    generation: int = 0


class Staff:
    """All workers."""

    def __init__(self, nursery: Nursery, table: ConnectionTable, around: Surroundings) -> None:
        self._nursery = nursery
        self._table = table
        self._around = around
        self._loop = asyncio.get_running_loop()
        self._posts: dict[int, Post] = {}
        self._orders: Orders | None = None
        self._next: Orders | None = None
        self._generation = 0
        self._numbers: dict[OpenDoor, int] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._crashes: deque[float] = deque(maxlen=CRASHES + 1)
        self._ends: dict[int, int] = {}
        self._stopping = False
        self._probes = 0
        self._withdrawn: frozenset[str] = frozenset()
        self.masks: MaskWatch | None = None
        self._loop.add_reader(nursery.fileno(), self._hear_of_ends)

    @property
    def senders(self) -> int:
        """Clients of all workers, as their last messages say."""
        return sum([post.senders for post in self._posts.values()])

    @property
    def workers(self) -> tuple[tuple[int, int], ...]:
        """Process id and sessions of each."""
        return tuple((post.pid, post.sessions) for _, post in sorted(self._posts.items()) if post.pid)

    async def start(self, orders: Orders) -> None:
        """Hire all, and open the doors. Raises WorkerFault."""
        self._orders = self._numbered(orders)
        posts = [self._hire(place) for place in range(self._table.workers)]
        await asyncio.gather(*[self._settle(post) for post in posts])
        self._spawn(self._watch())

    async def prepare(self, orders: Orders) -> None:
        """Have all of them make everything for another configuration. Raises WorkerFault; then nothing has changed."""
        orders = self._next = self._numbered(orders)
        try:
            await asyncio.gather(*[self._prepare(post, orders) for post in self._settled()])
        except BaseException:
            self.forget()
            raise

    def adopt(self) -> None:
        """Put it in force; `adopted` waits until it is."""
        orders, self._next = self._next, None
        if orders is not None:
            self._orders = orders
            for post in self._posts.values():
                if post.prepared == orders.generation:
                    post.send(frames.Adopt(orders.generation))
                elif not post.settling:  # it was hired while the others prepared
                    self._spawn(self._settle_or_kill(post))

    async def adopted(self) -> None:
        """Return when it is in force at all doors, also of those who were hired meanwhile."""
        orders = self._orders
        if orders is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    while any(post.generation != orders.generation for post in self._posts.values()):  # noqa: ASYNC110
                        await asyncio.sleep(LOOK_SECONDS)
            numbers = {self._numbers[door] for door in orders.doors}
            self._numbers = {door: number for door, number in self._numbers.items() if number in numbers}

    def forget(self) -> None:
        """It will not come into force."""
        orders, self._next = self._next, None
        if orders is not None:
            for post in self._posts.values():
                post.send(frames.Forget(orders.generation))

    def show(self, files: Files) -> None:
        """The files of the certificate have changed."""
        if self._orders is not None:
            self._orders = msgspec.structs.replace(self._orders, files=files)
        for post in self._posts.values():
            post.send(frames.Show(*files))

    def read_keys(self) -> None:
        """Signing keys may have changed."""
        for post in self._posts.values():
            post.send(frames.ReadKeys())

    async def count(self) -> None:
        """Have all of them say now how many clients they have, and what they counted."""
        await asyncio.gather(*[post.count(COUNT_SECONDS) for post in self._posts.values()])

    async def expect(self, near: Endpoint, far: Endpoint) -> None:
        """Return when all know that a probe will come (intake/probes): then it is brought to this process."""
        self._probes += 1
        order = frames.Expect(self._probes, (near.address, near.port), (far.address, far.port))
        await asyncio.gather(*[post.expect(order, COUNT_SECONDS) for post in self._posts.values()])

    def withdraw(self, clients: frozenset[str]) -> None:
        """These are not to be trusted, whatever the file says."""
        self._withdrawn = clients
        for post in self._posts.values():
            post.send(frames.Withdrawn(tuple(clients)))

    async def arrived(self, number: int, sock: socket.socket) -> None:
        """A probe has come to a worker: take it as if it had come here."""
        found = [door for door, its_number in self._numbers.items() if its_number == number]
        if found:
            await self._loop.connect_accepted_socket(lambda: TcpStream(found[0].greet), sock)
        else:
            sock.close()

    async def stop(self) -> None:
        """Let nobody in, let sessions end at a command boundary, and the workers with them."""
        self._stopping = True
        for task in list(self._tasks):
            task.cancel()
        posts = list(self._posts.values())
        for post in posts:
            post.send(frames.Stop())
        await asyncio.gather(*[post.finished(FINISH_SECONDS) for post in posts])
        await asyncio.gather(*[post.close() for post in posts])
        self.end()

    def end(self) -> None:
        """End all processes now."""
        self._stopping = True
        with suppress(ValueError, OSError):
            self._loop.remove_reader(self._nursery.fileno())
        self._nursery.close()
        self._table.close()

    # One worker.

    def _hire(self, place: int) -> Post:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        post = Post(place, ours, self)
        self._posts[place] = post
        try:
            self._nursery.fork(place, theirs)
        except NurseryGone as error:
            self._nursery_is_gone(error)
        finally:
            theirs.close()
        return post

    async def _settle(self, post: Post) -> None:
        """Bring a worker to what is in force now. Raises WorkerFault."""
        post.settling = True
        try:
            if self._withdrawn:
                post.send(frames.Withdrawn(tuple(self._withdrawn)))
            while (orders := self._orders) is not None and post.generation != orders.generation:
                await self._prepare(post, orders)
                post.send(frames.Adopt(orders.generation))
                await post.adopted(orders.generation, ANSWER_SECONDS)
        finally:
            post.settling = False

    async def _settle_or_kill(self, post: Post) -> None:
        try:
            await self._settle(post)
        except WorkerFault as error:
            self._around.report(error)
            post.kill()

    async def _prepare(self, post: Post, orders: Orders) -> None:
        doors = [(self._numbers[door], door) for door in orders.doors]
        new = {number: door.listener.sockets for number, door in doors if number not in post.doors}
        failures = b"" if post.generation else pickle.dumps(self._around.failures)
        certificate, key = orders.files or (b"", b"")
        frame = frames.Prepare(
            orders.generation,
            pickle.dumps(orders.config),
            certificate,
            key,
            tuple([(number, len(new.get(number, ()))) for number, _ in doors]),
            orders.connections,
            orders.renewed,
            failures,
        )
        files = [sock.fileno() for number, _ in doors for sock in new.get(number, ())]
        await post.prepare(frame, files, ANSWER_SECONDS)

    def _settled(self) -> list[Post]:
        return [post for post in self._posts.values() if post.generation and not post.settling]

    def told_login(self, teller: Post, told: frames.LoginTold) -> None:
        """A login failed or succeeded at a worker: all others hear of it."""
        failures = self._around.failures
        judge = failures.succeeded if told.succeeded else failures.failed
        judge(told.client, told.account, told.time)
        for post in self._posts.values():
            if post is not teller:
                post.send(told)

    def told_alarm(self, name: str, text: str) -> None:
        """Something is wrong at a worker, or right again: it is over when no worker says that it is wrong."""
        if text:
            self._around.alarms.sound(name, text)
        elif not any(name in post.alarms for post in self._posts.values()):
            self._around.alarms.clear(name)

    def counted(self) -> None:
        """A worker has told how many clients it has."""
        for door, number in self._numbers.items():
            door.elsewhere = sum(post.clients.get(number, 0) for post in self._posts.values())

    @property
    def around(self) -> Surroundings:
        """What of the relay workers have to do with."""
        return self._around

    # When something goes wrong.

    def lost(self, post: Post) -> None:
        """The wire of a worker has ended."""
        if self._posts.get(post.place) is post:
            del self._posts[post.place]
        if not self._stopping:
            self._table.forget(post.place)
        self.counted()
        for name in post.alarms:
            self.told_alarm(name, "")
        self._spawn(self._clean_up(post))

    async def _clean_up(self, post: Post) -> None:
        await post.close()
        if self._stopping:
            return
        now = time.monotonic()
        self._crashes.append(now)
        often = len(self._crashes) > CRASHES and now - self._crashes[0] < CRASH_SECONDS
        await self._how_it_ended(post.pid)
        if often:
            await asyncio.sleep(PAUSE_SECONDS)
        text = f"door worker {post.pid} ended unexpectedly ({self._end_of(post.pid)}) with {post.sessions} sessions"
        sys.stderr.write(f"staffetta: {text}; another takes its place\n")
        if often:
            self._around.alarms.sound(ALARM, f"door workers crash again and again; the last: {text}")
        await self._settle_or_kill(self._hire(post.place))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            for post in list(self._posts.values()):
                if now - post.heard_at > SILENT_SECONDS:
                    post.kill()
            if self._crashes and now - self._crashes[-1] > CRASH_SECONDS:
                self._crashes.clear()
                self._around.alarms.clear(ALARM)

    def _hear_of_ends(self) -> None:
        try:
            for pid, status in self._nursery.ended():
                self._ends[pid] = status
        except NurseryGone as error:
            self._nursery_is_gone(error)

    def _nursery_is_gone(self, error: Exception) -> None:
        with suppress(ValueError, OSError):
            self._loop.remove_reader(self._nursery.fileno())
        if not self._stopping:
            self._stopping = True
            sys.stderr.write(f"staffetta: the process that makes door workers is gone: {error}\n")
            self._around.stop("no door workers can be made any more")

    async def _how_it_ended(self, pid: int) -> None:
        """Wait a moment for the nursery to say it."""
        for _ in range(int(1.0 / LOOK_SECONDS)):
            if pid in self._ends or not pid:
                return
            await asyncio.sleep(LOOK_SECONDS)

    def _end_of(self, pid: int) -> str:
        status = self._ends.pop(pid, None)
        if status is None:
            return "unknown how"
        if os.WIFSIGNALED(status):
            return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
        return f"exit status {os.waitstatus_to_exitcode(status)}"

    def _numbered(self, orders: Orders) -> Orders:
        self._generation += 1
        for door in orders.doors:
            self._numbers.setdefault(door, max(self._numbers.values(), default=0) + 1)
        return msgspec.structs.replace(orders, generation=self._generation)

    def spawn(self, work: Any) -> None:
        """Do something beside everything else."""
        self._spawn(work)

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
