"""Connecting to the first of several addresses that answers (RFC 8305, Happy Eyeballs).

The caller says which addresses, in which order (it remembers which family worked), and judges each with its guard.
The guard sees the very address that is connected to: names never reach this module, so nothing can be looked up
twice with two answers.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from staffetta.net.channel import Channel
from staffetta.net.contract import Endpoint
from staffetta.net.stream import TcpStream
from staffetta.net.turn import WriteBatch

STAGGER_SECONDS: Final = 0.25
"""Lead that an address has over the next one, RFC 8305 section 8."""

_IP_BIND_ADDRESS_NO_PORT: Final = 24
"""Linux: choose the local port when connecting, so that ports are not exhausted per address but per destination."""

Guard = Callable[[str], str | None]
"""Given the text of an IP address, why it must not be connected to; None when it may."""


class ConnectSettings(msgspec.Struct, frozen=True, gc=False):
    """How to connect. `sources` are local addresses to send from, used in turn within each family."""

    stagger_seconds: float = STAGGER_SECONDS
    sources: tuple[str, ...] = ()


class Try(msgspec.Struct, frozen=True, gc=False):
    """One address that did not answer. `denied`: the guard forbade it, and nothing was sent."""

    endpoint: Endpoint
    reason: str
    denied: bool = False


class ConnectFailed(Exception):
    """No address answered; `tries` has one entry for each, in order."""

    def __init__(self, tries: tuple[Try, ...]) -> None:
        super().__init__("; ".join(f"{entry.endpoint}: {entry.reason}" for entry in tries) or "no address to try")
        self.tries = tries


class Connector(Protocol):
    """What delivery needs: the network, or a network in memory."""

    async def connect(self, candidates: Sequence[Endpoint], *, deadline: float, guard: Guard | None = None) -> Channel:
        """A channel to the first candidate that answers. Raises ConnectFailed."""


class SocketConnector:
    """Connects over TCP and Unix sockets (an endpoint with port 0 is a path; the guard does not judge paths)."""

    def __init__(self, settings: ConnectSettings | None = None) -> None:
        self._settings = settings or ConnectSettings()
        self._batch: WriteBatch | None = None
        sources = [ipaddress.ip_address(source) for source in self._settings.sources]
        self._sources = {
            version: itertools.cycle([str(source) for source in sources if source.version == version])
            for version in {source.version for source in sources}
        }

    async def connect(self, candidates: Sequence[Endpoint], *, deadline: float, guard: Guard | None = None) -> Channel:
        """A channel to the first candidate that answers; `deadline` is a time of the loop's clock.

        A candidate starts when the one before has failed, or has had its lead and not answered. Raises ConnectFailed.
        """
        race = _Race(self, candidates, guard)
        try:
            return await race.run(deadline, self._settings.stagger_seconds)
        finally:
            race.leave()

    async def attempt(self, endpoint: Endpoint) -> Channel:
        """Connect to one address. Raises OSError."""
        loop = asyncio.get_running_loop()
        if self._batch is None:
            self._batch = WriteBatch(loop)
        batch = self._batch
        channel: Channel | None = None

        def own(stream: TcpStream) -> Channel:
            nonlocal channel
            channel = Channel(stream)
            return channel

        if endpoint.port == 0:
            await loop.create_unix_connection(lambda: TcpStream(own, batch), endpoint.address)
        elif not self._sources:
            await loop.create_connection(lambda: TcpStream(own, batch), endpoint.address, endpoint.port)
        else:
            sock = await self._from_source(loop, endpoint)
            await loop.create_connection(lambda: TcpStream(own, batch), sock=sock)
        if channel is None:
            raise ConnectionResetError("the connection was lost at once")
        return channel

    async def _from_source(self, loop: asyncio.AbstractEventLoop, endpoint: Endpoint) -> socket.socket:
        version = 6 if ":" in endpoint.address else 4
        if version not in self._sources:
            raise OSError(f"no local IPv{version} address to send from")
        sock = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if sys.platform == "linux":
                sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((next(self._sources[version]), 0))
            await loop.sock_connect(sock, (endpoint.address, endpoint.port))
        except BaseException:
            sock.close()
            raise
        return sock


class _Race:
    """One call of `connect`: who runs, who has failed."""

    __slots__ = ("_candidates", "_connector", "_failed", "_guard", "_running")

    def __init__(self, connector: SocketConnector, candidates: Sequence[Endpoint], guard: Guard | None) -> None:
        self._connector = connector
        self._guard = guard
        self._candidates = list(enumerate(candidates))
        self._candidates.reverse()
        self._failed: dict[int, Try] = {}
        self._running: dict[asyncio.Task[Channel], tuple[int, Endpoint]] = {}

    async def run(self, deadline: float, stagger: float) -> Channel:
        loop = asyncio.get_running_loop()
        while True:
            self._start_next()
            if not self._running:
                raise self._failure()
            left = deadline - loop.time()
            wait = min(stagger, left) if self._candidates else left
            done, _ = await asyncio.wait(self._running, timeout=max(wait, 0), return_when=asyncio.FIRST_COMPLETED)
            winner = self._settle(done)
            if winner is not None:
                return winner
            if loop.time() >= deadline:
                self._out_of_time()
                raise self._failure()

    def leave(self) -> None:
        """Give up those that still run; one that connects in this moment is closed."""
        for task in self._running:
            task.add_done_callback(_discard)
            task.cancel()

    def _start_next(self) -> None:
        """Start the next candidate that the guard allows, if there is one."""
        while self._candidates:
            number, endpoint = self._candidates.pop()
            try:
                literal = endpoint if endpoint.port == 0 else Endpoint(_canonical(endpoint.address), endpoint.port)
            except ValueError:
                self._failed[number] = Try(endpoint, "not an IP address")
                continue
            denial = self._guard(literal.address) if self._guard is not None and literal.port else None
            if denial is not None:
                self._failed[number] = Try(endpoint, denial, denied=True)
                continue
            task = asyncio.get_running_loop().create_task(self._connector.attempt(literal))
            self._running[task] = (number, endpoint)
            return

    def _settle(self, done: set[asyncio.Task[Channel]]) -> Channel | None:
        winner: Channel | None = None
        for task in sorted(done, key=lambda task: self._running[task][0]):
            number, endpoint = self._running.pop(task)
            error = task.exception()
            if error is None:
                if winner is None:
                    winner = task.result()
                else:
                    task.result().abort()
            elif isinstance(error, OSError):
                self._failed[number] = Try(endpoint, _words(error))
            else:
                raise error
        return winner

    def _out_of_time(self) -> None:
        for number, endpoint in [*self._running.values(), *self._candidates]:
            self._failed[number] = Try(endpoint, "no answer in time")

    def _failure(self) -> ConnectFailed:
        return ConnectFailed(tuple(self._failed[number] for number in sorted(self._failed)))


def _canonical(address: str) -> str:
    return str(ipaddress.ip_address(address))


def _discard(task: asyncio.Task[Channel]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().abort()


def _words(error: OSError) -> str:
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__
