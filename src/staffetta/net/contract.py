"""What a byte stream is to the rest of the house, whether it is a TCP socket, a Unix socket or a wire in memory.

Two faces. Server sessions are driven by callbacks (`StreamHandler`), because most commands need no waiting and a task
wake-up per command would cost more than the command. Outgoing connections are awaited (`net.channel.Channel`).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Protocol

import msgspec


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One end of a stream: the canonical text of an IP address and a port, or a Unix path and port 0."""

    address: str
    port: int

    def __str__(self) -> str:
        if self.port == 0:
            return self.address
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class TlsFacts(msgspec.Struct, frozen=True, gc=False):
    """What a finished handshake established. `verified` is true when chain and name were checked."""

    version: str
    cipher: str
    server_name: str = ""
    verified: bool = False

    def __str__(self) -> str:
        return f"{self.version} {self.cipher}"


class StreamHandler(Protocol):
    """The owner of one stream. Calls come from the event loop and must not block."""

    def bytes_received(self, data: bytes) -> None:
        """Plaintext from the peer, in order. Never called again after `stream_closed`."""

    def peer_finished(self) -> None:
        """The peer will send no more (FIN, or TLS close_notify)."""

    def tls_established(self, facts: TlsFacts) -> None:
        """The handshake that `start_tls` began is done."""

    def write_blocked(self, blocked: bool) -> None:
        """The peer reads too slowly (true: stop producing) or has caught up (false)."""

    def stream_closed(self, error: Exception | None) -> None:
        """The stream is gone; called exactly once."""


class Stream(Protocol):
    """One connection. `tls` is None until a handshake is done."""

    @property
    def peer(self) -> Endpoint:
        """The other end."""

    @property
    def local(self) -> Endpoint:
        """Our end."""

    @property
    def tls(self) -> TlsFacts | None:
        """The finished handshake."""

    @property
    def closing(self) -> bool:
        """True once it is being closed, or is gone."""

    def after_arrivals(self, call: Callable[[], None]) -> None:
        """Call this when all that the peer has sent by now was received: who has sent something early has by then."""

    def write(self, data: bytes) -> None:
        """Send; buffered, bounded by the handler heeding `write_blocked`."""

    def start_tls(
        self, context: ssl.SSLContext, *, server_side: bool, server_name: str | None = None, received: bytes = b""
    ) -> None:
        """Begin a handshake. All that is received from now on is TLS; `received` was read before and belongs to it."""

    def pause_reading(self) -> None:
        """Let the peer wait."""

    def resume_reading(self) -> None:
        """Let the peer go on."""

    def close(self) -> None:
        """Flush what was written, say goodbye (close_notify), close."""

    def abort(self) -> None:
        """Close now, dropping what is unsent."""
