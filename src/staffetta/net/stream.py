"""A TCP or Unix socket as a `Stream`, with STARTTLS that cannot be injected into.

TLS is our own, over `net.engine`, because the loop's start_tls hands plaintext that was pipelined behind STARTTLS to
the session as if it had been encrypted (the class of CVE-2011-0411), loses bytes that arrived behind a PROXY header,
and keeps 256 KiB a connection. Here everything that arrives after `start_tls` is TLS or the end of the stream.
Without TLS, received bytes reach the handler in one direct call.
This module refuses to know what a session says, and how long it may take: deadlines are the owner's, by `abort`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final

from staffetta.net.contract import Endpoint, StreamHandler, TlsFacts
from staffetta.net.endpoint import endpoint_of
from staffetta.net.engine import TlsEngine, TlsFailed
from staffetta.net.nobody import NOBODY
from staffetta.net.turn import WriteBatch

HIGH_WATER_OCTETS: Final = 65536
"""Unsent octets above which `write_blocked(True)` is told. asyncio and uvloop use the same by default."""

LOW_WATER_OCTETS: Final = 16384
"""Unsent octets below which `write_blocked(False)` is told."""

HELD_BACK_OCTETS: Final = 16384
"""What one stream may hold back until the end of a turn; more is content, and goes at once."""

CLOSE_SECONDS: Final = 10.0
"""How long `close` tries to hand the last octets to a peer that does not read."""


_NOWHERE: Final = Endpoint("", 0)


class TcpStream(asyncio.Protocol):
    """One connection; made by a listener, a connector or a wire in memory.

    `accept` is called once with the connected stream and returns its handler, or None to close at once (after
    whatever it wrote). An exception in a handler is our bug: it goes to the loop's exception handler and ends this
    stream only.
    """

    __slots__ = (
        "_accept",
        "_batch",
        "_blocked",
        "_closing",
        "_engine",
        "_eof",
        "_error",
        "_handler",
        "_held_back",
        "_local",
        "_paused",
        "_queued",
        "_server_name",
        "_server_side",
        "_timer",
        "_told",
        "_transport",
        "_transport_blocked",
        "peer",
        "tls",
    )

    def __init__(self, accept: Callable[[TcpStream], StreamHandler | None], batch: WriteBatch | None = None) -> None:
        self._accept: Callable[[TcpStream], StreamHandler | None] | None = accept
        self._batch = batch
        self._held_back: bytes | None = None
        self._handler: StreamHandler = NOBODY
        self._transport: asyncio.Transport
        self.peer = _NOWHERE
        """The other end."""
        self._local: Endpoint | None = None
        self._engine: TlsEngine | None = None
        self.tls: TlsFacts | None = None
        """The finished handshake, or None."""
        self._server_side = False
        self._server_name: str | None = None
        self._queued: list[bytes] | None = None
        self._error: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._blocked = False
        self._transport_blocked = False
        self._closing = False
        self._paused = False
        self._eof = False
        self._told = False

    # The face towards the owner: net.contract.Stream.

    @property
    def local(self) -> Endpoint:
        """Our end."""
        if self._local is None:
            self._local = endpoint_of(self._transport.get_extra_info("sockname")) or _NOWHERE
        return self._local

    @property
    def closing(self) -> bool:
        """True once `close` or `abort` was called or the connection is lost."""
        return self._closing

    @property
    def error(self) -> Exception | None:
        """What ended the stream from our side: TlsFailed, or a bug of the handler."""
        return self._error

    @property
    def unsent(self) -> int:
        """Octets written and not yet taken by the system."""
        queued = sum(map(len, self._queued)) if self._queued else 0
        if self._held_back is not None:
            queued += len(self._held_back)
        return queued + (0 if self._closing else self._transport.get_write_buffer_size())

    @property
    def peer_certificate(self) -> bytes | None:
        """The certificate the peer showed, in DER; None without TLS."""
        return self._engine.peer_certificate() if self._engine is not None and self.tls is not None else None

    def fileno(self) -> int:
        """The system's number of the socket; -1 when there is none."""
        sock = self._transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())

    def after_arrivals(self, call: Callable[[], None]) -> None:
        """Call this when all that the peer has sent by now was received; for a stream that was just accepted."""
        # What is called soon from the turn in which a stream begins is called in the next one, and between two turns
        # the loop reads from everybody who has sent something.
        if self._batch is not None:
            self._batch.next_turn(call)
        else:
            asyncio.get_running_loop().call_soon(call)

    def write(self, data: bytes) -> None:
        """Send; during a handshake kept until it is done; dropped when the stream is closing."""
        if self._closing:
            return
        if self._engine is None:
            self._send(data)
        elif self.tls is not None:
            try:
                self._send(self._engine.write(data))
            except TlsFailed as error:
                self._fail(error)
        else:
            self._queue(data)

    def _send(self, data: bytes) -> None:
        if self._held_back is not None:
            self._held_back += data
            if len(self._held_back) > HELD_BACK_OCTETS:
                self.send_held_back()
        elif self._batch is None or len(data) > HELD_BACK_OCTETS:
            self._transport.write(data)
        else:
            self._held_back = data
            self._batch.add(self)

    def send_held_back(self) -> None:
        """Send now what was to be sent at the end of the turn; nothing when it has gone already."""
        data, self._held_back = self._held_back, None
        if data is not None and not self._transport.is_closing():
            self._transport.write(data)

    def start_tls(
        self, context: ssl.SSLContext, *, server_side: bool, server_name: str | None = None, received: bytes = b""
    ) -> None:
        """Begin a handshake; `tls_established` or `stream_closed` (with TlsFailed) follows.

        `received` are octets that were read before and belong to TLS, such as what followed a PROXY header.
        """
        if self._engine is not None:
            raise RuntimeError("TLS has already begun on this stream")
        if self._closing:
            return
        self._server_side = server_side
        self._server_name = server_name
        try:
            engine = TlsEngine(context, server_side=server_side, server_name=server_name)
        except TlsFailed as error:
            self._error = error
            self.abort()
            return
        self._engine = engine
        if received:
            engine.feed(received)
        if received or not server_side:
            self._pump()

    def pause_reading(self) -> None:
        """Let the peer wait. What has been decrypted is kept back too."""
        if not self._paused and not self._closing:
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Let the peer go on."""
        if self._paused and not self._closing:
            self._paused = False
            if self._engine is not None:
                asyncio.get_running_loop().call_soon(self._pump)
            self._transport.resume_reading()

    def close(self) -> None:
        """Flush what was written, say close_notify, close; cut off after CLOSE_SECONDS if the peer does not read."""
        if self._closing:
            return
        if self._engine is not None and (farewell := self._engine.goodbye()):
            self._held_back = (self._held_back or b"") + farewell  # the last reply and close_notify wake the peer once
        self.send_held_back()
        self._closing = True
        transport = self._transport
        transport.close()
        if transport.get_write_buffer_size():
            self._timer = asyncio.get_running_loop().call_later(CLOSE_SECONDS, transport.abort)

    def abort(self) -> None:
        """Close now, dropping what is unsent."""
        self._closing = True
        self._held_back = None
        self._transport.abort()

    # The face towards the loop: asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop has connected us."""
        both_ways: Any = transport
        self._transport = both_ways
        accept, self._accept = self._accept, None
        peer = endpoint_of(transport.get_extra_info("peername"))
        if peer is None or accept is None:  # gone before we looked
            self.abort()
            return
        self.peer = peer
        try:
            handler = accept(self)
        except Exception as error:
            self._report(error)
            return
        if handler is None:
            self.close()
        else:
            self._handler = handler

    def data_received(self, data: bytes) -> None:
        """Octets from the wire."""
        if self._engine is None:
            try:
                self._handler.bytes_received(data)
            except Exception as error:
                self._report(error)
        elif not self._closing:
            self._engine.feed(data)
            self._pump()

    def eof_received(self) -> bool:
        """The peer sent FIN. Ours to close: the owner may still answer."""
        if self._closing:
            return True
        self._eof = True
        if self._engine is None:
            self._tell_finished()
        elif self.tls is None:
            self._error = TlsFailed("the peer left during the handshake")
            self.abort()
        else:
            self._pump()  # FIN is told behind what is still to be decrypted
        return True

    def pause_writing(self) -> None:
        """More than HIGH_WATER_OCTETS are unsent."""
        self._transport_blocked = True
        self._tell_blocked()

    def resume_writing(self) -> None:
        """Less than LOW_WATER_OCTETS are unsent."""
        self._transport_blocked = False
        self._tell_blocked()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; every reference that could form a circle goes too."""
        self._closing = True
        handler, self._handler = self._handler, NOBODY
        self._engine = None
        self._queued = None
        self._held_back = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        error = self._error or exc
        try:
            handler.stream_closed(error)
        except Exception as bug:
            self._report(bug)

    # TLS.

    def _pump(self) -> None:
        """Decrypt and deliver until the wire is empty, the owner pauses, or the stream ends."""
        engine = self._engine
        if engine is None:
            return
        try:
            if self.tls is None and not self._shake_hands(engine):
                return
            while not (self._closing or self._paused or engine.finished):
                piece = engine.read()
                if not piece:
                    break
                self._handler.bytes_received(piece)
            if self._closing:
                return
            reply = engine.flush()
            if reply:
                self._send(reply)
            if engine.finished or (self._eof and not self._paused):
                self._tell_finished()
        except TlsFailed as error:
            self._fail(error)
        except Exception as error:
            self._report(error)

    def _shake_hands(self, engine: TlsEngine) -> bool:
        done = engine.handshake()
        reply = engine.flush()
        if reply:
            self._send(reply)
        if not done:
            return False
        self.tls = engine.facts(server_side=self._server_side, server_name=self._server_name)
        queued, self._queued = self._queued, None
        if queued:
            self._send(engine.write(b"".join(queued)))
            self._tell_blocked()
        self._handler.tls_established(self.tls)
        return True

    def _queue(self, data: bytes) -> None:
        if self._queued is None:
            self._queued = []
        self._queued.append(data)
        if not self._blocked:
            self._tell_blocked()

    def _fail(self, error: TlsFailed) -> None:
        # OpenSSL has put an alert into its outgoing BIO; it holds nothing that the peer sent.
        if self._error is None:
            self._error = error
        if not self._closing and self._engine is not None:
            alert = self._engine.flush()
            if alert:
                self._send(alert)
        self.close()

    # Telling the owner.

    def _tell_finished(self) -> None:
        if self._told:
            return
        self._told = True
        try:
            self._handler.peer_finished()
        except Exception as error:
            self._report(error)

    def _tell_blocked(self) -> None:
        blocked = self._transport_blocked or (
            self._queued is not None and sum(map(len, self._queued)) > HIGH_WATER_OCTETS
        )
        if blocked is not self._blocked:
            self._blocked = blocked
            try:
                self._handler.write_blocked(blocked)
            except Exception as error:
                self._report(error)

    def _report(self, error: Exception) -> None:
        """Our own bug: count it, end this stream, keep serving the others."""
        if self._error is None:
            self._error = error
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a handler failed; its stream is closed", "exception": error, "protocol": self}
        )
        self.abort()
