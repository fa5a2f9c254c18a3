"""The PROXY header at every split, and everything that is none."""

from __future__ import annotations

import ipaddress

import pytest

from staffetta.protocol.proxy import SIGNATURE, ProxyAddress, ProxyHeader, ProxyReader, crc32c

HELLO = b"\x16\x03\x01\x00\x05hello"


def address(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def version_2(command: int, family: int, block: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(block).to_bytes(2, "big") + block


TCP4 = address("192.0.2.1") + address("198.51.100.2") + b"\x30\x39\x00\x19"
TCP6 = address("2001:db8::1") + address("2001:db8::2") + b"\x30\x39\x00\x19"
MAPPED = address("::ffff:192.0.2.1") + address("::ffff:198.51.100.2") + b"\x30\x39\x00\x19"
V4 = (ProxyAddress("192.0.2.1", 12345), ProxyAddress("198.51.100.2", 25))
V6 = (ProxyAddress("2001:db8::1", 12345), ProxyAddress("2001:db8::2", 25))
NOBODY = (None, None)


def with_checksum(block: bytes) -> bytes:
    empty = version_2(0x21, 0x11, block + b"\x03\x00\x04\0\0\0\0")
    return empty[:-4] + crc32c(empty).to_bytes(4, "big")


GOOD = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 25\r\n", V4),
    (b"PROXY TCP6 2001:DB8::1 2001:db8:0::2 12345 25\r\n", V6),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 12345 25\r\n", V4),
    (b"PROXY UNKNOWN\r\n", NOBODY),
    (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", NOBODY),
    (version_2(0x21, 0x11, TCP4), V4),
    (version_2(0x21, 0x21, TCP6), V6),
    (version_2(0x21, 0x21, MAPPED), V4),
    (version_2(0x21, 0x11, TCP4 + b"\x02\x00\x03a.b" + b"\x04\x00\x00"), V4),
    (version_2(0x20, 0x00, b""), NOBODY),
    (version_2(0x20, 0x11, TCP4), NOBODY),
    (version_2(0x21, 0x00, b""), NOBODY),
    (version_2(0x21, 0x31, bytes(216)), NOBODY),
    (version_2(0x21, 0x11, TCP4 + b"\x04" + (2048 - 15).to_bytes(2, "big") + bytes(2048 - 15)), V4),
    (with_checksum(TCP4), V4),
]


@pytest.mark.parametrize("rest", [b"", HELLO, b"EHLO x\r\n", b"PROXY UNKNOWN\r\n"])
@pytest.mark.parametrize(("header", "ends"), GOOD)
def test_good(header: bytes, ends: tuple[ProxyAddress | None, ProxyAddress | None], rest: bytes) -> None:
    expected = ProxyHeader(rest, *ends)
    assert ProxyReader().feed(header + rest) == expected
    for split in range(1, len(header), max(1, len(header) // 100)):
        reader = ProxyReader()
        assert reader.feed(header[:split]) is None
        assert reader.feed(header[split:] + rest) == expected
    reader = ProxyReader()
    for octet in header[:-1]:
        assert reader.feed(bytes([octet])) is None
    assert reader.feed(header[-1:] + rest) == expected


BAD = [
    b"EHLO x\r\n",
    b"\x16\x03\x01",
    b"QUIT\r\n",
    b"proxy TCP4 192.0.2.1 198.51.100.2 12345 25\r\n",
    b"PROXY\r\n",
    b"PROXY \r\n",
    b"PROXY TCP5 192.0.2.1 198.51.100.2 12345 25\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 25 \r\n",
    b"PROXY TCP4  192.0.2.1 198.51.100.2 12345 25\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 65536\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 025\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 25\r\n",
    b"PROXY TCP4 192.0.2.01 198.51.100.2 12345 25\r\n",
    b"PROXY TCP4 192.0.2 198.51.100.2 12345 25\r\n",
    b"PROXY TCP4 2001:db8::1 2001:db8::2 12345 25\r\n",
    b"PROXY TCP6 192.0.2.1 198.51.100.2 12345 25\r\n",
    b"PROXY TCP6 fe80::1%lo fe80::2 12345 25\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 25\n\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 12345\r\n",
    b"PROXY UNKNOWNX\r\n",
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    b"PROXY " + b"x" * 200,
    version_2(0x11, 0x11, TCP4),
    version_2(0x22, 0x11, TCP4),
    version_2(0x21, 0x12, TCP4),
    version_2(0x21, 0x41, TCP4),
    version_2(0x21, 0x11, TCP4[:-1]),
    version_2(0x21, 0x21, TCP4),
    version_2(0x21, 0x11, TCP4 + b"\x04"),
    version_2(0x21, 0x11, TCP4 + b"\x04\x00"),
    version_2(0x21, 0x11, TCP4 + b"\x04\x00\x02x"),
    version_2(0x21, 0x11, TCP4 + b"\x03\x00\x04abcd"),
    version_2(0x21, 0x11, TCP4 + b"\x03\x00\x03abc"),
    version_2(0x21, 0x11, TCP4 + bytes(2048)),
    with_checksum(TCP4)[:-1] + b"\x00",
]


@pytest.mark.parametrize("header", BAD)
def test_bad(header: bytes) -> None:
    found = ProxyReader().feed(header)
    assert found is not None
    assert found.error
    assert found.source is None
    reader = ProxyReader()
    answers = [reader.feed(bytes([octet])) for octet in header]
    assert any(answer is not None and answer.error for answer in answers)
    first = next(answer for answer in answers if answer is not None)
    assert first.error, "octet by octet it passed"


def test_header_without_end_is_bounded() -> None:
    reader = ProxyReader()
    assert reader.feed(b"PROXY UNKNOWN " + b"x" * 92) is None
    found = reader.feed(b"x")
    assert found is not None
    assert found.error


def test_checksum() -> None:
    """RFC 3720 appendix B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
