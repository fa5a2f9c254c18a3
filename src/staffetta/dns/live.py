"""The resolver of the running relay: asks recursive resolvers, remembers, and asks each question once at a time.

RFC 1035, RFC 2308, RFC 5452. It is a stub: following delegations and validating DNSSEC is the recursive resolver's
work, and one that validates belongs on this machine if DANE is wanted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from staffetta.dns.asking import Asking
from staffetta.dns.cache import Cache, CacheSettings, Key
from staffetta.dns.resolver import Lookup, NoSuchName, RecordKind, Unavailable, normal_name
from staffetta.dns.server import Ground, Server
from staffetta.dns.system import system_servers

QUESTIONS_AT_ONCE: Final = 4096
"""Different questions under way. One more is Unavailable at once: a flood must not cost sockets without end."""

_IMPOSSIBLE: Final = NoSuchName()


class ResolverSettings(msgspec.Struct, frozen=True, gc=False):
    """Whom to ask. `servers` empty: the system's. `timeout_seconds` is for a question with all its repetitions.

    `mixed_case`: send names in random case and want them back so (draft-vixie-dnsext-dns0x20); a server that cannot do
    that is asked over TCP, and after three times without.
    """

    servers: tuple[tuple[str, int], ...] = ()
    timeout_seconds: float = 5.0
    mixed_case: bool = True
    cache: CacheSettings = CacheSettings()


class LiveResolver:
    """Use it from one event loop, and close it there."""

    __slots__ = ("_asking", "_cache", "_closed", "_ground", "_random_bytes", "_settings", "_tasks")

    def __init__(
        self,
        settings: ResolverSettings,
        clock: Callable[[], float] = time.monotonic,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._settings = settings
        self._random_bytes = random_bytes
        self._cache = Cache(settings.cache, clock)
        self._asking: dict[Key, Asking] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ground: Ground | None = None
        self._closed = False

    def cached(self, name: str, kind: RecordKind) -> Lookup | None:
        """What is known without asking."""
        lookup = self._cache.get((name, kind))
        if lookup is not None:
            return lookup
        normal = normal_name(name)
        if not normal:
            return _IMPOSSIBLE
        return None if normal == name else self._cache.get((normal, kind))

    async def query(self, name: str, kind: RecordKind) -> Lookup:
        """The records of `name`. Returns without suspending when they are known."""
        lookup = self._cache.get((name, kind))
        if lookup is not None:
            return lookup
        key = (normal_name(name), kind)
        if not key[0]:
            return _IMPOSSIBLE
        if key[0] != name and (lookup := self._cache.get(key)) is not None:
            return lookup
        asking = self._asking.get(key)
        if asking is None:
            if self._closed or len(self._asking) >= QUESTIONS_AT_ONCE:
                return Unavailable("the resolver is closed" if self._closed else "too many questions at once")
            asking = self._asking[key] = Asking(self._prepared(), key, self._done, self._spawn)
            asking.start()
        if asking.lookup is not None:
            return asking.lookup
        waiter: asyncio.Future[Lookup] = asyncio.get_running_loop().create_future()
        asking.waiters.append(waiter)
        return await waiter

    def forget(self) -> None:
        """Empty the cache."""
        self._cache.clear()

    async def close(self) -> None:
        """End what is under way as Unavailable, and close the sockets."""
        self._closed = True
        for asking in tuple(self._asking.values()):
            asking.give_up("the resolver is closed")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._ground is not None:
            for server in self._ground.servers:
                server.close()

    def _prepared(self) -> Ground:
        if self._ground is None:
            loop = asyncio.get_running_loop()
            servers = self._settings.servers or system_servers()
            known: list[Server] = []
            for address, port in servers:
                with contextlib.suppress(OSError):
                    known.append(Server(address, port, loop))
            self._ground = Ground(
                tuple(known),
                loop,
                self._random_bytes,
                self._settings.timeout_seconds,
                self._settings.mixed_case,
            )
        return self._ground

    def _done(self, asking: Asking, octets: int) -> None:
        del self._asking[asking.key]
        if asking.lookup is not None and not self._closed:
            self._cache.put(asking.key, asking.lookup, octets)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
