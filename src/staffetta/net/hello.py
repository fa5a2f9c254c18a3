"""What a TLS client says it wants to speak: the ALPN list of its ClientHello (RFC 9846 section 4.1.2, RFC 7301).

A browser that was lured to a mail port (the ALPACA attacks) offers HTTP and nothing else; Python's ssl can choose a
protocol but cannot refuse a client that offers only others, so this looks at the list before OpenSSL does.
"""

from __future__ import annotations

from typing import Final

HELLO_OCTETS: Final = 16384
"""Longest ClientHello that is looked at; no browser sends more."""

OURS: Final = frozenset({b"smtp", b"imap", b"pop3"})
"""Names that a mail client might offer. Mail clients of today offer no list at all."""

_HANDSHAKE_RECORD: Final = 22
_CLIENT_HELLO: Final = 1
_ALPN_EXTENSION: Final = 16


class _Short(Exception):
    """The octets end too early."""


class _Reader:
    __slots__ = ("_at", "_octets")

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._octets):
            raise _Short
        taken = self._octets[self._at : end]
        self._at = end
        return taken

    def number(self, octets: int) -> int:
        return int.from_bytes(self.take(octets), "big")

    def vector(self, length_octets: int) -> bytes:
        return self.take(self.number(length_octets))

    def __bool__(self) -> bool:
        return self._at < len(self._octets)


def offered_protocols(octets: bytes) -> tuple[bytes, ...] | None:
    """The ALPN names in the ClientHello that `octets` (of the wire) begin with.

    None while it is not whole. Empty when there is no list, or no ClientHello: then OpenSSL has its say.
    """
    try:
        message = _handshake_message(_Reader(octets))
    except _Short:
        return None
    try:
        return _alpn_of(_Reader(message))
    except _Short:
        return ()


def _handshake_message(records: _Reader) -> bytes:
    """The first handshake message, put together from as many records as it takes."""
    message = b""
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        if records.number(1) != _HANDSHAKE_RECORD:
            return b""
        records.take(2)
        message += records.vector(2)
    return message


def _alpn_of(hello: _Reader) -> tuple[bytes, ...]:
    if hello.number(1) != _CLIENT_HELLO:
        return ()
    hello.take(3 + 2 + 32)  # length, version, random
    hello.vector(1)  # session
    hello.vector(2)  # cipher suites
    hello.vector(1)  # compression
    extensions = _Reader(hello.vector(2))
    while extensions:
        kind = extensions.number(2)
        body = _Reader(extensions.vector(2))
        if kind == _ALPN_EXTENSION:
            names = _Reader(body.vector(2))
            found: list[bytes] = []
            while names:
                found.append(names.vector(1))
            return tuple(found)
    return ()
