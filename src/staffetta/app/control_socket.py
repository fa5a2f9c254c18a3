"""The relay's end of `control.sock`: one request line, one answer line, and the client is gone.

Root and the relay's own account are let in; everybody else, and whatever is no request, is closed upon, and nobody else
notices (threats of local sockets: garbage, silence, floods). What may be asked is a registry: a request type and its
handler. This module refuses to know what any request means.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar, Union

import msgspec

from staffetta.control.channel import LONGEST_REQUEST_OCTETS, SOCKET_NAME, Done, Failed, Reply, Request, short_path

MOST_CLIENTS: Final = 16
"""Clients at a time; one more is closed upon."""

REQUEST_SECONDS: Final = 5.0
"""How long a client may take to say its line."""

ANSWER_SECONDS: Final = 60.0
"""How long carrying out a request may take."""

WRITE_SECONDS: Final = 5.0
"""How long a client may take to read its answer."""

_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred: process, user, group."""

Asked = TypeVar("Asked", bound=Request)
Handler = Callable[[Any], Awaitable[Any]]


class ControlSocketError(Exception):
    """The socket cannot be made; the message says why."""


class ControlSocket:
    """The server. `report` gets what is our own bug. Register before or after `open`, from the loop's thread."""

    def __init__(self, data_dir: Path, report: Callable[[Exception], None]) -> None:
        self._data_dir = data_dir
        self._report = report
        self._handlers: dict[type[Request], Handler] = {}
        self._decoder: msgspec.json.Decoder[Any] | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._server: asyncio.AbstractServer | None = None

    def register(self, kind: type[Asked], handler: Callable[[Asked], Awaitable[Any]]) -> None:
        """Let `handler` answer requests of a kind: what it returns is encoded as JSON. Raises ValueError for a tag that
        is taken."""
        tags = {known.__struct_config__.tag for known in self._handlers}
        if kind.__struct_config__.tag in tags:
            raise ValueError(f"two requests are called {kind.__struct_config__.tag!r}")
        self._handlers[kind] = handler
        self._decoder = None

    async def open(self) -> None:
        """Listen; what a dead relay left behind is replaced: the caller holds the lock of the store.

        Raises ControlSocketError."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with short_path(self._data_dir) as path:
                _remove(path)
                sock.bind(path)
                os.chmod(path, 0o600)
            sock.setblocking(False)
            self._server = await asyncio.start_unix_server(self._arrived, sock=sock, limit=LONGEST_REQUEST_OCTETS)
        except OSError as error:
            sock.close()
            raise ControlSocketError(f"{SOCKET_NAME}: {error.strerror or error}") from error

    async def close(self) -> None:
        """Nobody is let in any more, and who is there goes."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        with contextlib.suppress(OSError), short_path(self._data_dir) as path:
            _remove(path)
        for task in list(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def _arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= MOST_CLIENTS or not _is_allowed(writer):
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                line = await reader.readuntil(b"\n")
            reply = await self._reply(line)
            async with asyncio.timeout(WRITE_SECONDS):
                writer.write(msgspec.json.encode(reply) + b"\n")
                await writer.drain()
        except (OSError, TimeoutError, EOFError, asyncio.LimitOverrunError):
            writer.transport.abort()  # silence, too much, or gone: there is nobody to tell
        except Exception as error:
            self._report(error)
        finally:
            writer.close()

    async def _reply(self, line: bytes) -> Reply:
        try:
            request = self._decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return Failed("malformed", str(error)[:200])
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return Done(msgspec.Raw(msgspec.json.encode(await self._handlers[type(request)](request))))
        except Exception as error:
            self._report(error)
            return Failed("internal", f"{type(error).__name__}: {error}"[:200])

    def _decode(self, line: bytes) -> Request:
        if self._decoder is None:
            if not self._handlers:
                raise msgspec.ValidationError("nothing can be asked")
            self._decoder = msgspec.json.Decoder(Union[tuple(self._handlers)])  # noqa: UP007 - made at run time
        found: Request = self._decoder.decode(line)
        return found


def _is_allowed(writer: asyncio.StreamWriter) -> bool:
    """Root or ourselves, as the system knows it (SO_PEERCRED of unix(7))."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # then the permissions of the folder have to do
    try:
        with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as sock:
            data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return False
    return _CREDENTIALS.unpack(data)[1] in {0, os.geteuid()}


def _remove(path: str) -> None:
    """Remove a socket; anything else of that name is not ours to remove, and binding says so."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
