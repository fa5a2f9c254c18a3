"""A door: sockets bound to an address, and streams made from what knocks.

Binding and serving are two steps, because ports below 1024 are bound as root and served as nobody, and because a
supervisor may hand over sockets it has bound. How many clients are let in is the owner's decision, in `accept`.
This module refuses to know protocols.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
import stat
from collections.abc import Callable, Sequence
from typing import Final, cast

from staffetta.net.contract import Endpoint, StreamHandler
from staffetta.net.endpoint import Bind, endpoint_of
from staffetta.net.stream import TcpStream
from staffetta.net.turn import WriteBatch

BACKLOG: Final = 1024
"""Connections that the system keeps while we are busy."""

_ACCEPTS_PER_WAKE: Final = 64
"""asyncio tries so many accepts per event; with no descriptors left it fails and complains as often."""

_BIND_TRIES: Final = 20
"""For port 0 on both families: the port that is free for IPv4 may be taken for IPv6."""

_Address = tuple[str, int] | tuple[str, int, int, int]

Accept = Callable[[TcpStream], StreamHandler | None]


class BindFailed(Exception):
    """The address cannot be bound; the message says why."""


class Listener:
    """One named door over bound sockets."""

    def __init__(self, name: str, sockets: Sequence[socket.socket], accept: Accept) -> None:
        self.name = name
        self.endpoints: tuple[Endpoint, ...] = tuple(_named(sock) for sock in sockets)
        self._sockets = list(sockets)
        self._accept = accept
        self._servers: list[asyncio.AbstractServer] = []

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """What is bound; empty once it has stopped."""
        return tuple(self._sockets)

    async def start(self) -> None:
        """Begin to accept."""
        loop = asyncio.get_running_loop()
        accept = self._accept
        batch = WriteBatch(loop)

        def stream() -> TcpStream:
            return TcpStream(accept, batch)

        for sock in self._sockets:
            if sock.family == socket.AF_UNIX:
                server = await loop.create_unix_server(stream, sock=sock, backlog=_ACCEPTS_PER_WAKE)
            else:
                server = await loop.create_server(stream, sock=sock, backlog=_ACCEPTS_PER_WAKE)
            sock.listen(BACKLOG)
            self._servers.append(server)

    def stop(self) -> None:
        """Accept no more. Streams that were accepted live on: they are the owner's."""
        for server in self._servers:
            server.close()
        for sock in self._sockets:
            sock.close()
        for endpoint in self.endpoints:
            if endpoint.port == 0:
                _unlink_socket(endpoint.address)
        self._servers.clear()
        self._sockets.clear()


def bind(where: Bind) -> list[socket.socket]:
    """Sockets for `where`, not yet listening: two for `*` when the system has IPv6. Raises BindFailed."""
    if where.path:
        return [_bind_unix(where)]
    if where.host != "*":
        return [_bind_tcp(family, address, where) for family, address in _resolve(where)]
    for _ in range(_BIND_TRIES):
        first = _bind_tcp(socket.AF_INET, ("0.0.0.0", where.port), where)
        if not _has_ipv6():
            return [first]
        port: int = first.getsockname()[1]
        try:
            return [first, _bind_tcp(socket.AF_INET6, ("::", port, 0, 0), where)]
        except BindFailed:
            first.close()
            if where.port:
                raise
    raise BindFailed(f"{where}: no port is free for both IPv4 and IPv6")


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one; the limit now in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


def connections_within(descriptors: int, wanted: int) -> int:
    """How many inbound connections may be open so that a third of `descriptors` stays for delivery, disk and DNS."""
    return max(1, min(wanted, descriptors * 2 // 3 - 16))


def _named(sock: socket.socket) -> Endpoint:
    return endpoint_of(sock.getsockname()) or Endpoint("", 0)


def _resolve(where: Bind) -> list[tuple[socket.AddressFamily, _Address]]:
    try:
        found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise BindFailed(f"{where}: {error.strerror or error}") from error
    return list({(family, cast(_Address, address)): None for family, _, _, _, address in found})


def _bind_tcp(family: socket.AddressFamily, address: _Address, where: Bind) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise BindFailed(f"{where}: {_why(error)}") from error
    return sock


def _bind_unix(where: Bind) -> socket.socket:
    if _is_socket(where.path) and not _answers(where.path):
        _unlink_socket(where.path)  # left behind by a process that was killed
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(where.path)
    except OSError as error:
        sock.close()
        raise BindFailed(f"{where}: {_why(error)}") from error
    return sock


def _why(error: OSError) -> str:
    if error.errno == errno.EACCES:
        return "not allowed; ports below 1024 need root or the capability to bind them"
    if error.errno == errno.EADDRINUSE:
        return "another program already listens there"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address"
    return error.strerror or str(error)


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex(path) == 0


def _unlink_socket(path: str) -> None:
    if _is_socket(path):
        with contextlib.suppress(OSError):
            os.unlink(path)
