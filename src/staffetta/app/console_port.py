"""The console's port of a running relay: bound while we may still be root, open until the last session has drained.

Mail does not need it. A port that nobody asked for (the default one) and that is taken is an alarm; one that the
configuration names is a door like any other, and the relay does not start without it.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from staffetta.app.console_facts import ConsoleFacts
from staffetta.config.schema import Config
from staffetta.console.names import Names, discovery_names
from staffetta.console.site import Asked, Site
from staffetta.console.wire import Reception
from staffetta.control.client_settings import client_settings
from staffetta.mail.network import address_number
from staffetta.net.contract import StreamHandler
from staffetta.net.endpoint import Bind
from staffetta.net.listener import BindFailed, Listener, bind
from staffetta.net.stream import TcpStream
from staffetta.spool.recovery import LOCK_NAME, AlreadyRunning, relay_pid

if TYPE_CHECKING:
    from staffetta.app.relay import Relay
    from staffetta.app.reload import Reloads

NAME: Final = "console"
"""Its name among the doors that `ready` lists, and of its alarm."""

BACKLOG: Final = 128
"""Connections that the system keeps while we are busy."""


class ConsolePort:
    """See the module. `insist`: the configuration names the port."""

    def __init__(self, relay: Relay, *, insist: bool) -> None:
        self._relay = relay
        self._insist = insist
        self._fault = ""
        self._sockets: list[socket.socket] = []
        self._listener: Listener | None = None
        self._reception: Reception | None = None
        self._facts: ConsoleFacts
        self._wanted: Bind | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def bind(self) -> None:
        """Bind and listen; what comes waits until `open`. Raises BindFailed, AlreadyRunning."""
        config = self._relay.config
        self._wanted = config.console.bind
        try:
            self._sockets = _listening(self._wanted)
        except BindFailed as error:
            if not self._insist:
                self._fault = str(error)
                return
            pid = relay_pid(config.data_dir)
            if pid is not None:
                raise AlreadyRunning(config.data_dir / LOCK_NAME, pid) from None
            raise BindFailed(f"[console] bind: {error}") from error

    def addresses(self) -> tuple[str, ...]:
        """`console 127.0.0.1:8080`, for each socket."""
        if self._listener is not None:
            return tuple(f"{NAME} {endpoint}" for endpoint in self._listener.endpoints)
        return tuple(f"{NAME} {endpoint}" for endpoint in Listener(NAME, self._sockets, self._accept).endpoints)

    async def open(self, reloads: Reloads) -> None:
        """Answer from now on."""
        self._facts = ConsoleFacts(self._relay, reloads)
        self._reception = Reception(self._site(self._relay.config).answer, self._relay.parts.house.report)
        if self._fault:
            self._complain(self._fault)
        await self._serve(self._sockets)
        reloads.followers.append(self.adopt)
        self._spawn(self._facts.lag.watch())

    def adopt(self, config: Config) -> None:
        """Another configuration is in force."""
        self._facts.reloaded()
        if self._reception is not None:
            self._reception.answer = self._site(config).answer
        if config.console.bind != self._wanted or self._fault:
            self._spawn(self._move(config.console.bind))

    async def drain(self) -> None:
        """The relay begins to stop: say so to who asks."""
        self._facts.draining = True

    async def close(self) -> None:
        """The relay has stopped."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.stop()
        if self._reception is not None:
            self._reception.close()
            await self._facts.close()
        _close(self._sockets)

    def _accept(self, stream: TcpStream) -> StreamHandler | None:
        return None if self._reception is None else self._reception.accept(stream)

    def _site(self, config: Config) -> Site:
        settings = {one.domain: client_settings(config, one) for one in config.domains if one.discover is not None}
        own = frozenset({config.hostname.ascii, socket.gethostname().lower().rstrip(".")})
        names = Names(own, discovery_names(domain.ascii for domain in settings), not _is_loopback(config.console.bind))
        return Site(names, settings, Asked(self._facts.readiness, self._facts.metrics))

    async def _move(self, where: Bind | None) -> None:
        """To another address: the new one first, so that a wrong one costs nothing, unless our own is in its way."""
        before, self._wanted = self._wanted, where
        old = self._listener
        if old is not None and before is not None and where is not None and before.port == where.port:
            old.stop()
        try:
            sockets = _listening(where)
        except BindFailed as error:
            self._complain(str(error))
            return
        if old is not None:
            old.stop()
        await self._serve(sockets)
        self._fault = ""
        self._relay.parts.alarms.clear(NAME)

    async def _serve(self, sockets: list[socket.socket]) -> None:
        self._sockets = []
        self._listener = Listener(NAME, sockets, self._accept)
        await self._listener.start()

    def _complain(self, why: str) -> None:
        self._fault = why
        text = f"mail flows, but health, metrics and client settings are not served where they should be: {why}"
        self._relay.parts.alarms.sound(NAME, text)
        sys.stderr.write(f"staffetta: [console] bind: {text}\n")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _listening(where: Bind | None) -> list[socket.socket]:
    """Sockets that listen; none when the port is off. Raises BindFailed."""
    sockets = bind(where) if where is not None else []
    try:
        for sock in sockets:
            sock.listen(BACKLOG)
    except OSError as error:
        _close(sockets)
        raise BindFailed(f"{where}: {error.strerror or error}") from error
    return sockets


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
    sockets.clear()


def _is_loopback(where: Bind | None) -> bool:
    if where is None or where.host == "localhost":
        return True
    number = address_number(where.host)
    return number == (6, 1) or (number is not None and number[0] == 4 and number[1] >> 24 == 127)
