"""Frames between the main process and a door worker, over one pair of Unix sockets.

A frame is four octets of length (little endian) and one MessagePack array (app/workers/frames). Frames of a
few turns of the loop leave in one system call, since each send wakes the other process, and waking is what costs. Open
files travel with the frame that speaks of them (SCM_RIGHTS of unix(7)).

What the other side does not take waits here; `room` lets those wait who can. This module refuses to know what a frame
means.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

READ_OCTETS: Final = 256 * 1024
"""How much is read at once."""

LONGEST_FRAME_OCTETS: Final = 64 * 1024 * 1024
"""A longer frame is a mistake of ours: the longest holds a chunk of content and a header, or a configuration."""

HIGH_WATER_OCTETS: Final = 1024 * 1024
"""With more than this unsent, who can wait waits."""

LOW_WATER_OCTETS: Final = 256 * 1024
"""With no more than this, it goes on."""

FILES_AT_ONCE: Final = 32
"""Open files that travel with one octet; the system allows 253."""

HAND_OVER_SECONDS: Final = 5.0
"""How long files may take to be handed over to a process that is busy."""

SEND_OCTETS: Final = 1024 * 1024
"""What the system is asked to hold of a direction; it may allow less."""

TURNS: Final = 4
"""For so many turns of the loop frames wait for others, while each turn brings some: a busy process wakes the other one
less often. One that has nothing else to do passes through its turns at once."""

ENOUGH_OCTETS: Final = 64 * 1024
"""So much waits for nothing."""

_LENGTH: Final = struct.Struct("<I")
_NO_LENGTH: Final = bytes(_LENGTH.size)
_LENGTH_OCTETS: Final = _LENGTH.size
_FILES_SPACE: Final = socket.CMSG_SPACE(FILES_AT_ONCE * 4)
"""Room for the numbers of open files that come with what is read."""


class WireBroken(Exception):
    """What came is no frame, or the other side is gone."""


class Wire:
    """One end. `received` gets every frame, `lost` is called once when the other end is gone."""

    def __init__(
        self,
        sock: socket.socket,
        decoder: msgspec.msgpack.Decoder[Any],
        received: Callable[[Any], None],
        lost: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_OCTETS)
        self._socket = sock
        self._decode = decoder.decode
        self._encoder = msgspec.msgpack.Encoder()
        self._received = received
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._out = bytearray()
        self._scheduled = False
        self._turns = 0
        self._had = 0
        self._writing = False
        self._waiters: list[asyncio.Future[None]] = []
        self._in = bytearray(READ_OCTETS)
        self._have = 0
        self._files: deque[int] = deque()
        self.closed = False
        self._loop.add_reader(sock.fileno(), self._readable)

    @property
    def blocked(self) -> bool:
        """True while so much is unsent that who can wait should."""
        return len(self._out) > HIGH_WATER_OCTETS

    @property
    def unsent(self) -> int:
        """Octets that wait here."""
        return len(self._out)

    async def room(self) -> None:
        """Return when less is unsent. Raises WireBroken when the other side is gone."""
        while len(self._out) > HIGH_WATER_OCTETS and not self.closed:
            await self._wait()
        if self.closed:
            raise WireBroken("the other process is gone")

    def send(self, frame: msgspec.Struct) -> None:
        """Send soon: after a turn that brings nothing more, or after TURNS. Dropped when the other side is gone."""
        if self.closed:
            return
        out = self._out
        start = len(out)
        out += _NO_LENGTH
        try:
            self._encoder.encode_into(frame, out, start + 4)
            _LENGTH.pack_into(out, start, len(out) - start - 4)
        except BaseException:
            del out[start:]
            raise
        if not self._scheduled:
            self._scheduled = True
            self._turns = TURNS
            self._had = 0
            self._loop.call_soon(self._turn_ends)

    def send_files(self, frame: msgspec.Struct, files: Sequence[int]) -> None:
        """Send a frame with open files, now. Raises WireBroken."""
        self.send(frame)
        if self.closed:
            raise WireBroken("the other process is gone")
        sock, out = self._socket, self._out
        try:
            sock.settimeout(HAND_OVER_SECONDS)
            for start in range(0, len(files), FILES_AT_ONCE):
                done = socket.send_fds(sock, [out[:1]], list(files[start : start + FILES_AT_ONCE]))
                del out[:done]
        except OSError as error:
            raise WireBroken(f"files could not be handed over: {error}") from error
        finally:
            sock.setblocking(False)

    def take_file(self) -> int:
        """The next open file that came. Raises WireBroken when there is none."""
        if not self._files:
            raise WireBroken("a file was announced and did not come")
        return self._files.popleft()

    async def close(self) -> None:
        """Send what is left, as long as the other side takes it, and let go."""
        self._flush()
        while self._out and not self.closed:
            await self._wait()
        self._end()

    def drop(self) -> None:
        """Let go now."""
        self._end()

    def flush(self) -> None:
        """Send now what would be sent soon."""
        self._flush()

    def _turn_ends(self) -> None:
        have = len(self._out)
        self._turns -= 1
        if self._turns and self._had < have < ENOUGH_OCTETS:
            self._had = have
            self._loop.call_soon(self._turn_ends)
        else:
            self._scheduled = False
            self._flush()

    def _flush(self) -> None:
        if self._writing or self.closed:
            return
        self._write()

    def _write(self) -> None:
        out = self._out
        if not out:  # it went with files
            return
        try:
            done = self._socket.send(out)
        except (BlockingIOError, InterruptedError):
            done = 0
        except OSError:
            self._fail()
            return
        if done == len(out):
            out.clear()
            if self._writing:
                self._writing = False
                self._loop.remove_writer(self._socket.fileno())
        else:
            del out[:done]
            if not self._writing:
                self._writing = True
                self._loop.add_writer(self._socket.fileno(), self._write)
        if self._waiters and len(out) <= LOW_WATER_OCTETS:
            self._wake()

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _readable(self) -> None:
        view = memoryview(self._in)
        try:
            got = self._read(view)
            if got:
                self._cut(view, self._have + got)
                return
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, WireBroken, msgspec.MsgspecError) as error:
            if not isinstance(error, OSError):
                self._report(error)
        self._fail()

    def _read(self, view: memoryview) -> int:
        got, ancillary, flags, _ = self._socket.recvmsg_into([view[self._have :]], _FILES_SPACE)
        if ancillary:
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    self._files.extend(memoryview(data).cast("i"))
            if flags & socket.MSG_CTRUNC:
                raise WireBroken("more files came than were expected")
        return got

    def _cut(self, view: memoryview, have: int) -> None:
        """Give every whole frame on, and keep the rest in front."""
        decode, received, length_at = self._decode, self._received, _LENGTH.unpack_from
        start, needed = 0, 0
        while (body := start + _LENGTH_OCTETS) <= have:
            (length,) = length_at(view, start)
            if length > LONGEST_FRAME_OCTETS:
                raise WireBroken(f"a frame of {length} octets")
            end = body + length
            if end > have:
                needed = end - start
                break
            frame = decode(view[body:end])
            start = end
            try:
                received(frame)
            except Exception as error:  # a bug in what one frame does must not take the others away
                self._report(error)
            if self.closed:
                return
        self._keep(view, start, have, needed)

    def _keep(self, view: memoryview, start: int, have: int, needed: int) -> None:
        left = have - start
        wanted = max(READ_OCTETS, needed)
        if len(view) != wanted:
            fresh = bytearray(wanted)
            fresh[:left] = view[start:have]
            self._in = fresh
        elif start and left:
            view[:left] = bytes(view[start:have])
        self._have = left

    def _report(self, error: Exception) -> None:
        text = "a frame between processes could not be dealt with"
        self._loop.call_exception_handler({"message": text, "exception": error})

    def _fail(self) -> None:
        if not self.closed:
            self._end()
            self._lost()

    def _end(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._socket.fileno())
        if self._writing:
            self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._out.clear()
        while self._files:
            os.close(self._files.popleft())
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
