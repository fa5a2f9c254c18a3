"""What a TLS client says it wants to speak: the ALPN list of its ClientHello (RFC 9846 section 4.1.2, RFC 7301).

A browser that was lured to a mail port (the ALPACA attacks) offers HTTP and nothing else; Python's ssl can choose a
protocol but cannot refuse a client that offers only others, so this looks at the list before OpenSSL does.
"""

from __future__ import annotations

import struct
from typing import Final

HELLO_OCTETS: Final = 16384
"""Longest ClientHello that is looked at; no browser sends more."""

OURS: Final = frozenset({b"smtp", b"imap", b"pop3"})
"""Names that a mail client might offer. Mail clients of today offer no list at all."""

_HANDSHAKE_RECORD: Final = b"\x16"
_CLIENT_HELLO: Final = 1
_ALPN_EXTENSION: Final = 16
_ALPN_TYPE: Final = _ALPN_EXTENSION.to_bytes(2, "big")

_BEFORE_SESSION: Final = 1 + 3 + 2 + 32
"""Type, length, version and random of a ClientHello."""

_RECORD = struct.Struct(">BHH")
_EXTENSION = struct.Struct(">HH")
_LENGTH = struct.Struct(">H")


class _Short(Exception):
    """The octets end too early."""


def offered_protocols(octets: bytes) -> tuple[bytes, ...] | None:
    """The ALPN names in the ClientHello that `octets` (of the wire) begin with.

    None while it is not whole. Empty when there is no list, or no ClientHello: then OpenSSL has its say.
    """
    try:
        message = _handshake_message(octets)
    except (_Short, struct.error):
        return None
    if _ALPN_TYPE not in message:
        return ()  # as with most mail clients: there is nothing to walk to
    try:
        return _alpn_of(message)
    except (_Short, struct.error, IndexError):
        return ()


def _handshake_message(octets: bytes) -> bytes:
    """The first handshake message, put together from as many records as it takes."""
    message = b""
    at = 0
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        if octets[at : at + 1] not in {b"", _HANDSHAKE_RECORD}:
            return b""
        _, _, length = _RECORD.unpack_from(octets, at)
        at += _RECORD.size + length
        if at > len(octets):
            raise _Short
        message += octets[at - length : at]
    return message


def _alpn_of(hello: bytes) -> tuple[bytes, ...]:
    if hello[0] != _CLIENT_HELLO:
        return ()
    at = _BEFORE_SESSION
    at += 1 + hello[at]  # session
    (length,) = _LENGTH.unpack_from(hello, at)
    at += 2 + length  # cipher suites
    at += 1 + hello[at]  # compression
    (length,) = _LENGTH.unpack_from(hello, at)
    at += 2
    end = at + length
    if end > len(hello):
        raise _Short
    while at < end:
        kind, length = _EXTENSION.unpack_from(hello, at)
        at += _EXTENSION.size + length
        if at > end:
            raise _Short
        if kind == _ALPN_EXTENSION:
            return _names(hello[at - length : at])
    return ()


def _names(extension: bytes) -> tuple[bytes, ...]:
    (length,) = _LENGTH.unpack_from(extension)
    end = 2 + length
    if end > len(extension):
        raise _Short
    found: list[bytes] = []
    at = 2
    while at < end:
        begin = at + 1
        at = begin + extension[at]
        if at > end:
            raise _Short
        found.append(extension[begin:at])
    return tuple(found)
