"""The PROXY header, versions 1 and 2, read at any split: who the client of a trusted load balancer is.

HAProxy's proxy-protocol.txt, sections 2.1, 2.2 and 2.2.3. Octets behind the header are returned untouched: a TLS
ClientHello may follow in the same packet. This module refuses to know whom to believe.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final

import msgspec

VERSION_1_OCTETS: Final = 107
"""Longest header of version 1 with its CRLF, section 2.1."""

VERSION_2_OCTETS: Final = 2048
"""Longest address block with TLVs that is read; the specification allows 65535, nobody sends more than some hundred."""

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_VERSION_1: Final = b"PROXY "
_FIXED_OCTETS: Final = 16
_ADDRESS_OCTETS: Final = {0x00: 0, 0x11: 12, 0x21: 36, 0x31: 216}
_CRC32C_TLV: Final = 3
_LINE = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})")


class ProxyAddress(msgspec.Struct, frozen=True, gc=False):
    """Canonical text of an IP address (an IPv4-mapped one as IPv4) and a port."""

    address: str
    port: int


class ProxyHeader(msgspec.Struct, frozen=True, gc=False):
    """What was found. With `error` the peer is to be cut off; `source` None means that the peer speaks for itself."""

    rest: bytes = b""
    source: ProxyAddress | None = None
    destination: ProxyAddress | None = None
    error: str = ""


class ProxyReader:
    """Give it octets until it returns something."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> ProxyHeader | None:
        """The header, or None when more octets are needed; at most 2064 are kept."""
        self._buffer = buffer = self._buffer + data
        if buffer.startswith(SIGNATURE):
            return _version_2(buffer)
        if buffer.startswith(_VERSION_1):
            return _version_1(buffer)
        if SIGNATURE.startswith(buffer) or _VERSION_1.startswith(buffer):
            return None
        return ProxyHeader(error="no PROXY header")


def _version_1(buffer: bytes) -> ProxyHeader | None:
    end = buffer.find(b"\r\n", 0, VERSION_1_OCTETS)
    if end < 0:
        return ProxyHeader(error="header too long") if len(buffer) >= VERSION_1_OCTETS else None
    line, rest = buffer[:end], buffer[end + 2 :]
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return ProxyHeader(rest)
    match = _LINE.fullmatch(line)
    if match is None:
        return ProxyHeader(error="malformed header")
    version = int(match[1])
    source, destination = _endpoint(version, match[2], match[4]), _endpoint(version, match[3], match[5])
    if source is None or destination is None:
        return ProxyHeader(error="malformed address")
    return ProxyHeader(rest, source, destination)


def _endpoint(version: int, address: bytes, port: bytes) -> ProxyAddress | None:
    try:
        parsed = ipaddress.ip_address(address.decode("ascii"))
    except ValueError:
        return None
    number = int(port)
    return ProxyAddress(_canonical(parsed), number) if parsed.version == version and number <= 65535 else None


def _canonical(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _version_2(buffer: bytes) -> ProxyHeader | None:
    if len(buffer) < _FIXED_OCTETS:
        return None
    command, family = buffer[12], buffer[13]
    size = int.from_bytes(buffer[14:16], "big")
    if command not in {0x20, 0x21}:
        return ProxyHeader(error="unknown version or command")
    address_octets = _ADDRESS_OCTETS.get(family)
    if address_octets is None:
        return ProxyHeader(error="not a stream")
    if size > VERSION_2_OCTETS:
        return ProxyHeader(error="header too long")
    if command == 0x21 and size < address_octets:
        return ProxyHeader(error="malformed header")
    if len(buffer) < _FIXED_OCTETS + size:
        return None
    header, rest = buffer[: _FIXED_OCTETS + size], buffer[_FIXED_OCTETS + size :]
    if command == 0x20:  # LOCAL: whatever the block says about addresses is to be ignored
        address_octets = min(address_octets, size)
    error = _check_tlvs(header, _FIXED_OCTETS + address_octets)
    if error:
        return ProxyHeader(error=error)
    if command == 0x20 or family not in {0x11, 0x21}:
        return ProxyHeader(rest)
    width = 4 if family == 0x11 else 16
    block = header[_FIXED_OCTETS:]
    ports = block[2 * width : 2 * width + 4]
    return ProxyHeader(
        rest,
        ProxyAddress(_packed(block[:width]), int.from_bytes(ports[:2], "big")),
        ProxyAddress(_packed(block[width : 2 * width]), int.from_bytes(ports[2:], "big")),
    )


def _packed(octets: bytes) -> str:
    return _canonical(ipaddress.IPv4Address(octets) if len(octets) == 4 else ipaddress.IPv6Address(octets))


def _check_tlvs(header: bytes, at: int) -> str:
    """What is wrong with the TLVs from `at` on; "" for nothing."""
    while at < len(header):
        value = at + 3
        end = value + int.from_bytes(header[at + 1 : value], "big")
        if end > len(header) or value > len(header):
            return "malformed TLV"
        if header[at] == _CRC32C_TLV:
            expected = int.from_bytes(header[value:end], "big")
            if end - value != 4 or crc32c(header[:value] + b"\0\0\0\0" + header[end:]) != expected:
                return "wrong checksum"
        at = end
    return ""


@lru_cache(maxsize=1)
def _crc32c_table() -> tuple[int, ...]:
    table: list[int] = []
    for number in range(256):
        value = number
        for _ in range(8):
            value = value >> 1 ^ 0x82F63B78 if value & 1 else value >> 1
        table.append(value)
    return tuple(table)


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum, RFC 3720 appendix B.4."""
    table = _crc32c_table()
    value = 0xFFFFFFFF
    for octet in data:
        value = value >> 8 ^ table[(value ^ octet) & 0xFF]
    return value ^ 0xFFFFFFFF
