"""One resolver we ask: its UDP sockets, and TCP where a datagram does not do.

RFC 5452 (what makes a response hard to forge): sockets are connected, so the kernel drops what others send; ids are
random; every socket has a port of the system's choice, several are used at random, and each only for a while.
RFC 7766 (TCP). This module refuses to know what a response means.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from staffetta.dns.wire import Match, Question, encode, identifier_of, match

SOCKETS: Final = 4
"""How many ports are in use for one server at a time."""

QUESTIONS_PER_SOCKET: Final = 256
"""After that many a socket, and with it its port, is not used for new questions."""

WRONG_PER_SOCKET: Final = 64
"""Datagrams that answer nothing. More than that is somebody guessing: what waits on the socket is asked over TCP."""

CONNECTIONS: Final = 32
"""TCP connections to one server at a time; zones that answer everything with truncation must not cost more."""

CASE_MISSES: Final = 3
"""Responses with letters in another case than asked, after which a server is taken to be unable to keep it."""

_DATAGRAM_OCTETS: Final = 4096
_DATAGRAMS_AT_ONCE: Final = 32
_TCP_RESPONSES: Final = 4


class Asker(Protocol):
    """Who put a question."""

    def received(self, attempt: Attempt, packet: bytes, verdict: int) -> None:
        """`packet` has the id and the question of the attempt; `verdict` is a Match."""

    def failed(self, attempt: Attempt, reason: str) -> None:
        """The server cannot be reached."""

    def doubted(self, attempt: Attempt) -> None:
        """Somebody sends forged responses: ask in another way."""


class Attempt:
    """One datagram under way."""

    __slots__ = ("asker", "edns", "identifier", "port", "question", "server")

    def __init__(self, asker: Asker, server: Server, question: Question, *, edns: bool) -> None:
        self.asker = asker
        self.server = server
        self.question = question
        self.edns = edns
        self.identifier = 0
        self.port: _Port | None = None

    def forget(self) -> None:
        """The answer, if it still comes, is of no use."""
        port, self.port = self.port, None
        if port is not None:
            port.forget(self.identifier)


class _Port:
    """One connected UDP socket and what was asked through it."""

    __slots__ = ("_loop", "_retired", "_socket", "asked", "pending", "wrong")

    def __init__(self, family: int, name: object, loop: asyncio.AbstractEventLoop) -> None:
        self.pending: dict[int, Attempt] = {}
        self.asked = 0
        self.wrong = 0
        self._loop = loop
        self._retired = False
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.connect(name)  # type: ignore[arg-type]  # whatever getaddrinfo said
            loop.add_reader(self._socket.fileno(), self._readable)
        except BaseException:
            self._socket.close()
            raise

    def send(self, attempt: Attempt, identifier: int) -> None:
        while identifier in self.pending:
            identifier = (identifier + 1) & 0xFFFF
        with contextlib.suppress(BlockingIOError):  # as good as lost on the way; it is sent again
            self._socket.send(encode(attempt.question, identifier, edns=attempt.edns))
        attempt.identifier = identifier
        attempt.port = self
        self.pending[identifier] = attempt
        self.asked += 1

    def forget(self, identifier: int) -> None:
        self.pending.pop(identifier, None)
        if self._retired and not self.pending:
            self.close()

    def retire(self) -> None:
        self._retired = True
        if not self.pending:
            self.close()

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _readable(self) -> None:
        for _ in range(_DATAGRAMS_AT_ONCE):
            if self._socket.fileno() < 0:
                return
            try:
                packet = self._socket.recv(_DATAGRAM_OCTETS)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                for attempt in tuple(self.pending.values()):
                    attempt.forget()
                    attempt.asker.failed(attempt, error.strerror or "not reachable")
                return
            self._judge(packet)

    def _judge(self, packet: bytes) -> None:
        attempt = self.pending.get(identifier_of(packet))
        verdict = Match.NO if attempt is None else match(packet, attempt.question)
        if attempt is not None and verdict != Match.NO:
            attempt.forget()
            attempt.asker.received(attempt, packet, verdict)
            return
        self.wrong += 1
        if self.wrong == WRONG_PER_SOCKET:
            self.asked = QUESTIONS_PER_SOCKET
            for doubtful in tuple(self.pending.values()):
                doubtful.forget()
                doubtful.asker.doubted(doubtful)


class Server:
    """One resolver at an address and port. `is_local`: on this machine, so that its AD bit cannot be forged on the way
    (RFC 7672 section 2.1 asks for that)."""

    __slots__ = (
        "_family",
        "_loop",
        "_name",
        "_ports",
        "_tcp",
        "address",
        "case_misses",
        "is_local",
        "port",
        "shunned_until",
    )

    def __init__(self, address: str, port: int, loop: asyncio.AbstractEventLoop) -> None:
        """Raises OSError when the address is of a kind that this machine does not know."""
        self.address = address
        self.port = port
        self.is_local = ipaddress.ip_address(address.partition("%")[0]) in _LOOPBACK[":" in address]
        self.case_misses = 0
        self.shunned_until = 0.0
        self._loop = loop
        self._ports: list[_Port | None] = [None] * SOCKETS
        found = socket.getaddrinfo(
            address, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        )
        self._family: int = found[0][0]
        self._name: object = found[0][4]
        self._tcp = asyncio.Semaphore(CONNECTIONS)

    def __str__(self) -> str:
        return self.address

    @property
    def keeps_case(self) -> bool:
        """True until the server has shown that it does not repeat the letters as they were sent."""
        return self.case_misses < CASE_MISSES

    def send(self, attempt: Attempt, chance: bytes) -> None:
        """Send the question. `chance` is three random octets. Raises OSError."""
        slot = chance[2] % SOCKETS
        port = self._ports[slot]
        if port is not None and port.asked >= QUESTIONS_PER_SOCKET:
            self._ports[slot] = None
            port.retire()
            port = None
        if port is None:
            port = self._ports[slot] = _Port(self._family, self._name, self._loop)
        port.send(attempt, chance[0] << 8 | chance[1])

    async def ask_over_tcp(self, question: Question, identifier: int, seconds: float, *, edns: bool) -> bytes:
        """The response over a connection of its own. Raises OSError (also for time running out) or EOFError."""
        message = encode(question, identifier, edns=edns)
        async with asyncio.timeout(seconds), self._tcp:
            reader, writer = await asyncio.open_connection(self.address, self.port)
            try:
                writer.write(len(message).to_bytes(2, "big") + message)
                for _ in range(_TCP_RESPONSES):
                    length = int.from_bytes(await reader.readexactly(2), "big")
                    packet = await reader.readexactly(length)
                    if identifier_of(packet) == identifier and match(packet, question) != Match.NO:
                        return packet
                raise ConnectionError("answers that were not asked for")
            finally:
                writer.transport.abort()

    def close(self) -> None:
        """Close the sockets; who still waits must have been told before."""
        for port in self._ports:
            if port is not None:
                port.close()
        self._ports = [None] * SOCKETS


_LOOPBACK: Final = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class Ground(msgspec.Struct, frozen=True, gc=False):
    """What all questions of one resolver share."""

    servers: tuple[Server, ...]
    loop: asyncio.AbstractEventLoop
    random_bytes: Callable[[int], bytes]
    timeout_seconds: float
    mixed_case: bool
