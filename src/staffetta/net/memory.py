"""A network in memory: the same streams over transports that need no sockets, for tests and deterministic runs.

Octets travel by `call_soon`, so the order of events is a function of the loop alone. Flow control, half-closed
streams and resets behave like TCP's; a `shape` cuts what is written into the segments that arrive.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from staffetta.net.channel import Channel
from staffetta.net.connect import ConnectFailed, Guard, Try
from staffetta.net.contract import Endpoint
from staffetta.net.listener import Accept
from staffetta.net.stream import HIGH_WATER_OCTETS, LOW_WATER_OCTETS, TcpStream

IN_FLIGHT_OCTETS: Final = 65536
"""What the wire itself holds, like the buffers of two kernels."""

Shape = Callable[[bytes], Iterable[bytes]]
"""How one write arrives: the pieces, in order."""


def whole(data: bytes) -> Iterable[bytes]:
    """Each write is one segment."""
    return (data,)


def single_octets(data: bytes) -> Iterable[bytes]:
    """Each octet is a segment of its own."""
    return (data[at : at + 1] for at in range(len(data)))


class MemoryTransport(asyncio.Transport):
    """One end of a wire."""

    def __init__(self, protocol: asyncio.Protocol, local: Endpoint, peer: Endpoint, shape: Shape) -> None:
        super().__init__({"sockname": _name(local), "peername": _name(peer)})
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._shape = shape
        self._inbox: deque[bytes] = deque()
        self._waiting = 0
        self._scheduled = False
        self._reading = True
        self._end: bool | None = None  # the peer's FIN: True arrived, False delivered
        self._write_paused = False
        self._closing = False
        self._lost = False
        self.other: MemoryTransport

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send to the other end."""
        if self._closing or not data:
            return
        other = self.other
        if other._closing:
            self._loop.call_soon(self._reset)
            return
        for piece in self._shape(bytes(data)):
            other._inbox.append(piece)
            other._waiting += len(piece)
        other._schedule()
        if not self._write_paused and self.get_write_buffer_size() > HIGH_WATER_OCTETS:
            self._write_paused = True
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        """Octets that the wire does not hold."""
        return max(0, self.other._waiting - IN_FLIGHT_OCTETS)

    def pause_reading(self) -> None:
        """Deliver nothing."""
        self._reading = False

    def resume_reading(self) -> None:
        """Deliver again."""
        self._reading = True
        self._schedule()

    def is_closing(self) -> bool:
        """True after close or abort."""
        return self._closing

    def close(self) -> None:
        """Send FIN behind what was written; gone when the wire has taken all."""
        if not self._closing:
            self._closing = True
            self._inbox.clear()
            self._waiting = 0
            self.other._arrive_end()
            self._finish()

    def abort(self) -> None:
        """Gone at once; the peer loses what was unsent."""
        self._closing = True
        other = self.other
        while other._waiting > IN_FLIGHT_OCTETS:
            other._waiting -= len(other._inbox.pop())
        other._arrive_end()
        self._loop.call_soon(self._lose, None)

    def cut(self) -> None:
        """Both ends get a reset: a cable was pulled."""
        for end in (self, self.other):
            end._loop.call_soon(end._lose, ConnectionResetError("the wire was cut"))

    def _finish(self) -> None:
        if self._closing and not self.get_write_buffer_size():
            self._loop.call_soon(self._lose, None)

    def _reset(self) -> None:
        if not self._closing:
            self._lose(ConnectionResetError("the peer is gone"))

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._inbox.clear()
        self._waiting = 0
        self.other._relieved()
        self._protocol.connection_lost(error)

    def _arrive_end(self) -> None:
        if self._end is None:
            self._end = True
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        """One segment per turn of the loop, so that many wires share it as sockets do."""
        self._scheduled = False
        if self._closing or not self._reading:
            return
        if self._inbox:
            piece = self._inbox.popleft()
            self._waiting -= len(piece)
            self.other._relieved()
            self._schedule()
            self._protocol.data_received(piece)
        elif self._end:
            self._end = False
            if not self._protocol.eof_received():
                self.close()

    def _relieved(self) -> None:
        """The other end took something."""
        if self._closing:
            if not self._lost:
                self._finish()
        elif self._write_paused and self.get_write_buffer_size() < LOW_WATER_OCTETS:
            self._write_paused = False
            self._protocol.resume_writing()


def memory_pair(
    client: TcpStream, server: TcpStream, *, names: tuple[Endpoint, Endpoint], shape: Shape = whole
) -> MemoryTransport:
    """Join two streams by a wire; `names` are the client's and the server's end. The client's transport."""
    near = MemoryTransport(client, names[0], names[1], shape)
    far = MemoryTransport(server, names[1], names[0], shape)
    near.other = far
    far.other = near
    server.connection_made(far)
    client.connection_made(near)
    return near


class MemoryNetwork:
    """Listeners and connections by endpoint; a `net.connect.Connector`.

    `client` is the address that connections come from; an endpoint in `dead` does not answer and uses up the
    caller's time.
    """

    def __init__(self, *, client: str = "192.0.2.1", shape: Shape = whole) -> None:
        self.client = client
        self.dead: set[Endpoint] = set()
        self._shape = shape
        self._listening: dict[Endpoint, Accept] = {}
        self._ports = itertools.count(49152)

    def listen(self, endpoint: Endpoint, accept: Accept) -> None:
        """Answer at `endpoint`."""
        self._listening[endpoint] = accept

    def open(self, endpoint: Endpoint, accept: Accept, *, client: str | None = None) -> MemoryTransport:
        """Connect a stream of the caller's to a listener. Raises ConnectionRefusedError."""
        serve = self._listening.get(endpoint)
        if serve is None:
            raise ConnectionRefusedError("connection refused")
        near = Endpoint(client or self.client, next(self._ports))
        return memory_pair(TcpStream(accept), TcpStream(serve), names=(near, endpoint), shape=self._shape)

    async def connect(self, candidates: Sequence[Endpoint], *, deadline: float, guard: Guard | None = None) -> Channel:
        """As `SocketConnector.connect`, one candidate after the other."""
        loop = asyncio.get_running_loop()
        tries: list[Try] = []
        for endpoint in candidates:
            denial = guard(endpoint.address) if guard is not None and endpoint.port else None
            if denial is not None:
                tries.append(Try(endpoint, denial, denied=True))
                continue
            if endpoint in self.dead:
                tries.append(Try(endpoint, "no answer in time"))
                await asyncio.sleep(max(0.0, deadline - loop.time()))
                break
            channels: list[Channel] = []

            def own(stream: TcpStream, channels: list[Channel] = channels) -> Channel:
                channels.append(Channel(stream))
                return channels[-1]

            try:
                self.open(endpoint, own)
            except ConnectionRefusedError:
                tries.append(Try(endpoint, "connection refused"))
                continue
            return channels[0]
        raise ConnectFailed(tuple(tries))


def _name(endpoint: Endpoint) -> tuple[str, int] | str:
    return (endpoint.address, endpoint.port) if endpoint.port else endpoint.address
