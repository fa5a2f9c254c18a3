"""The awaited face of a stream, for outgoing connections: one task reads, writes and waits, each wait with a deadline.

Deadlines are absolute times of the loop's clock. A channel has at most one timer, re-armed only when it fires or when
an earlier deadline comes; data that has already arrived is returned without suspending.
This module refuses to know protocols; who is connected to, and how, is `net.connect`.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from staffetta.net.contract import Endpoint, TlsFacts
from staffetta.net.engine import TlsFailed
from staffetta.net.stream import TcpStream

RECEIVED_OCTETS: Final = 65536
"""Unread octets above which the peer has to wait."""

_EARLY_SECONDS: Final = 0.002
"""A timer may fire this much before its time: loops count in milliseconds."""


class ChannelTimeout(Exception):
    """The deadline passed. The channel still stands; the caller decides what becomes of it."""


class ChannelClosed(Exception):
    """The connection is gone; `error` says why, None when it was closed in order."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__(str(error) if error is not None else "the connection is closed")
        self.error = error


class Channel:
    """One outgoing connection. One task at a time waits in `read`, `drain` or `start_tls`."""

    __slots__ = (
        "_blocked",
        "_closed",
        "_deadline",
        "_error",
        "_finished",
        "_loop",
        "_octets",
        "_received",
        "_stream",
        "_timer",
        "_timer_at",
        "_waiter",
    )

    def __init__(self, stream: TcpStream) -> None:
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._received: list[bytes] = []
        self._octets = 0
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._error: Exception | None = None
        self._finished = False
        self._closed = False
        self._blocked = False

    @property
    def peer(self) -> Endpoint:
        """The other end."""
        return self._stream.peer

    @property
    def local(self) -> Endpoint:
        """Our end."""
        return self._stream.local

    @property
    def tls(self) -> TlsFacts | None:
        """The finished handshake, or None."""
        return self._stream.tls

    @property
    def peer_certificate(self) -> bytes | None:
        """The certificate the peer showed, in DER; None without TLS."""
        return self._stream.peer_certificate

    @property
    def usable(self) -> bool:
        """True while both ends are open: what a pool asks before it hands the channel out again."""
        return not (self._closed or self._finished or self._stream.closing)

    def unread(self) -> bool:
        """True when something has arrived that was not read yet."""
        return bool(self._received)

    async def read(self, deadline: float) -> bytes:
        """Whatever has arrived, at least one octet; b"" when the peer has finished.

        Raises ChannelTimeout at `deadline` and ChannelClosed when the connection is lost or was closed by us.
        """
        received = self._received
        while not received:
            if self._closed or self._stream.closing:
                raise ChannelClosed(self._error)
            if self._finished:
                return b""
            await self._wait(deadline)
        data = received[0] if len(received) == 1 else b"".join(received)
        received.clear()
        if self._octets > RECEIVED_OCTETS:
            self._stream.resume_reading()
        self._octets = 0
        return data

    def write(self, data: bytes) -> None:
        """Send; buffered. Dropped when the connection is gone: the next read says so."""
        self._stream.write(data)

    async def drain(self, deadline: float) -> None:
        """Wait until the peer has taken enough of what was written. Raises ChannelTimeout, ChannelClosed."""
        while self._blocked:
            if self._closed or self._stream.closing:
                raise ChannelClosed(self._error)
            await self._wait(deadline)

    async def start_tls(self, context: ssl.SSLContext, *, server_name: str | None, deadline: float) -> TlsFacts:
        """Shake hands as the client. Raises TlsFailed, after which the channel is closed.

        Octets that arrived before and were not read end the channel: they were said in clear (RFC 3207 section 6).
        """
        if self._received:
            self.abort()
            raise TlsFailed("the server said more before the handshake than it should have")
        self._stream.start_tls(context, server_side=False, server_name=server_name)
        try:
            while (facts := self._stream.tls) is None:
                if self._closed or self._finished or self._stream.closing:
                    raise self._handshake_failure()
                await self._wait(deadline)
        except ChannelTimeout:
            self.abort()
            raise TlsFailed("the handshake took too long") from None
        except asyncio.CancelledError:
            self.abort()
            raise
        return facts

    def close(self) -> None:
        """Flush what was written, say goodbye, close."""
        self._stream.close()
        self._wake()

    def abort(self) -> None:
        """Close now, dropping what is unsent."""
        self._stream.abort()
        self._wake()

    # The face towards the stream: net.contract.StreamHandler.

    def bytes_received(self, data: bytes) -> None:
        """Keep it and wake the reader."""
        self._received.append(data)
        self._octets += len(data)
        if self._octets > RECEIVED_OCTETS:
            self._stream.pause_reading()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def peer_finished(self) -> None:
        """The end of the stream, behind what was received."""
        self._finished = True
        self._wake()

    def tls_established(self, facts: TlsFacts) -> None:
        """The handshake is done."""
        self._wake()

    def write_blocked(self, blocked: bool) -> None:
        """Note it for `drain`."""
        self._blocked = blocked
        if not blocked:
            self._wake()

    def stream_closed(self, error: Exception | None) -> None:
        """Gone."""
        self._closed = True
        self._error = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    # Waiting.

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _wait(self, deadline: float) -> asyncio.Future[None]:
        """What to await: done when something happens, ChannelTimeout at `deadline`."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            raise RuntimeError("two tasks wait on one channel")
        loop = self._loop
        self._deadline = deadline
        if self._timer is None:
            self._timer = loop.call_at(deadline, self._time_passed)
            self._timer_at = deadline
        elif deadline < self._timer_at:
            self._timer.cancel()
            self._timer = loop.call_at(deadline, self._time_passed)
            self._timer_at = deadline
        self._waiter = waiter = loop.create_future()
        return waiter

    def _time_passed(self) -> None:
        self._timer = None
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self._deadline - self._loop.time() > _EARLY_SECONDS:
            self._timer = self._loop.call_at(self._deadline, self._time_passed)
            self._timer_at = self._deadline
        else:
            self._waiter = None  # the exception holds the frames that it passed, and they hold the channel
            waiter.set_exception(ChannelTimeout())

    def _handshake_failure(self) -> TlsFailed:
        error = self._error or self._stream.error
        if isinstance(error, TlsFailed):
            return error
        self.abort()
        return TlsFailed(f"the connection broke during the handshake: {error}" if error else "the peer left")


__all__ = ["RECEIVED_OCTETS", "Channel", "ChannelClosed", "ChannelTimeout", "TlsFailed"]
