"""One TLS connection as bytes in, bytes out: no socket, no clock, no waiting.

Memory is allocated when TLS starts and stays small: both BIOs are filled 16 KiB at a time, so that a connection which
once carried a big message does not keep its size for ever. After the peer's close_notify nothing is delivered any
more, whatever arrives (RFC 9846 section 6.1); renegotiation is off in every context of `net.tls`.
This module refuses to know handlers and transports; `net.stream` joins it to both.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Final

from staffetta.net.contract import TlsFacts
from staffetta.net.hello import HELLO_OCTETS, OURS, offered_protocols

PIECE_OCTETS: Final = 16384
"""Largest plaintext of one TLS record (RFC 9846 section 5.1), and the step in which the BIOs are filled."""


_NO_APPLICATION_PROTOCOL: Final = b"\x15\x03\x03\x00\x02\x02\x78"
"""The fatal alert 120, RFC 7301 section 3.2."""


class TlsFailed(Exception):
    """TLS could not be established or broke; `reason` is a short sentence for the operator."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TlsEngine:
    """The TLS state of one stream. Raises TlsFailed when the peer's bytes or certificate are not acceptable."""

    __slots__ = ("_held", "_held_at", "_hello", "_incoming", "_object", "_outgoing", "established", "finished")

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, server_name: str | None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._held = b""
        self._held_at = 0
        self._hello: bytes | None = b"" if server_side else None
        self.established = False
        self.finished = False
        """The peer said close_notify."""
        try:
            self._object = context.wrap_bio(
                self._incoming, self._outgoing, server_side=server_side, server_hostname=server_name
            )
        except ValueError as error:  # UnicodeError too: a name that no certificate can carry
            raise TlsFailed(f"the server name cannot be used for TLS: {error}") from error

    def feed(self, data: bytes) -> None:
        """Take what came from the wire; dropped when the peer has finished."""
        if self.finished:
            return
        if self._hello is not None:
            self._hello += data
        if not self._held and len(data) <= PIECE_OCTETS:
            self._incoming.write(data)
        else:
            self._held = self._held[self._held_at :] + data
            self._held_at = 0

    def handshake(self) -> bool:
        """Go on with the handshake; true when it is done."""
        if self._hello is not None:
            self._judge_hello(self._hello)
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                if self._refill():
                    continue
                return False
            except (ssl.SSLError, ValueError, OSError) as error:
                raise TlsFailed(_reason(error)) from error
            self.established = True
            return True

    def read(self) -> bytes | None:
        """The next piece of plaintext; None: more must arrive first; b"": close_notify."""
        if not (self._incoming.pending or self._object.pending() or self._refill()):
            # OpenSSL would say the same, with an exception, after each piece of every session.
            return b"" if self.finished else None
        while True:
            try:
                data = self._object.read(PIECE_OCTETS)
            except ssl.SSLWantReadError:
                if self._refill():
                    continue
                return None
            except ssl.SSLZeroReturnError:
                data = b""
            except (ssl.SSLError, OSError) as error:
                raise TlsFailed(_reason(error)) from error
            if not data:
                self.finished = True
                self._held = b""
                self._held_at = 0
            return data

    def write(self, data: bytes) -> bytes:
        """The records that carry `data`."""
        if len(data) <= PIECE_OCTETS:
            return self._seal(data) if data else b""
        view = memoryview(data)
        return b"".join(self._seal(view[at : at + PIECE_OCTETS]) for at in range(0, len(data), PIECE_OCTETS))

    def flush(self) -> bytes:
        """What TLS itself wants to send: handshake, alerts, key updates."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def goodbye(self) -> bytes:
        """Our close_notify."""
        if self.established:
            # The usual answer is "want read": we do not wait for the peer's own goodbye.
            with contextlib.suppress(ssl.SSLError, OSError, ValueError):
                self._object.unwrap()
        return self.flush()

    def facts(self, *, server_side: bool, server_name: str | None) -> TlsFacts:
        """What the finished handshake established."""
        cipher = self._object.cipher()
        context = self._object.context
        if server_side:
            server_name = getattr(self._object, "requested_name", "")
        return TlsFacts(
            version=self._object.version() or "",
            cipher=cipher[0] if cipher else "",
            server_name=server_name or "",
            verified=not server_side and context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED,
        )

    def peer_certificate(self) -> bytes | None:
        """The peer's own certificate in DER, whether it was verified or not."""
        return self._object.getpeercert(binary_form=True)

    def _judge_hello(self, hello: bytes) -> None:
        offered = offered_protocols(hello)
        if offered is None and len(hello) <= HELLO_OCTETS:
            return
        self._hello = None
        if offered and OURS.isdisjoint(offered):
            self._outgoing.write(_NO_APPLICATION_PROTOCOL)
            raise TlsFailed("the client offers only protocols that are not spoken here (ALPN)")

    def _seal(self, data: bytes | memoryview) -> bytes:
        try:
            self._object.write(data)
        except (ssl.SSLError, OSError) as error:
            raise TlsFailed(_reason(error)) from error
        return self._outgoing.read()

    def _refill(self) -> bool:
        if not self._held:
            return False
        end = self._held_at + PIECE_OCTETS
        self._incoming.write(memoryview(self._held)[self._held_at : end])
        if end >= len(self._held):
            self._held = b""
            end = 0
        self._held_at = end
        return True


def _reason(error: Exception) -> str:
    """OpenSSL's words without its source line: `CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return str(error.reason).lower().replace("_", " ")
    return str(error) or type(error).__name__
