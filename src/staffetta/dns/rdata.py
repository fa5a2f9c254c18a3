"""The data of the record types this house asks for, and names with their compression, decoded without trust.

RFC 1035 section 3.3 and 4.1.4, RFC 3596 (AAAA), RFC 2782 (SRV), RFC 6698 (TLSA).
A name counts only when every octet of it is printable and no label holds a dot: then its text means one thing.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from staffetta.dns.resolver import (
    LABEL_OCTETS,
    NAME_OCTETS,
    MailExchanger,
    Record,
    RecordKind,
    Service,
    StartOfAuthority,
    TlsAssociation,
    is_host_name,
)

Names = dict[int, tuple[bytes | None, int]]
"""Names already decoded: from the position where one starts, its text and the position after it."""

_LABEL_OCTETS: Final = bytes(octet for octet in range(0x21, 0x7F) if octet != ord("."))
_SERVICE: Final = struct.Struct("!HHH")
_TIMES: Final = struct.Struct("!IIIII")
_POINTER: Final = 0xC0
_POINTERS: Final = 127
"""Most pointers in one name: there is no use for more than there can be labels."""


class WireError(ValueError):
    """The message is malformed."""


def read_name(packet: bytes, start: int, names: Names) -> tuple[bytes | None, int]:
    """The name at `start` in lower case, without the last dot, and the position after it.

    None for a name that is well-formed but holds octets no host name has. Raises WireError for a malformed one.
    A pointer must point before the place where its name began, so that no chain of them can be a circle.
    """
    known = names.get(start)
    if known is not None:
        return known
    labels: list[bytes] = []
    position, end, earliest, size, pointers = start, -1, start, 0, 0
    rest: bytes | None = b""
    try:
        while (length := packet[position]) != 0:
            if length > LABEL_OCTETS:
                if length < _POINTER:
                    raise WireError("a label of unknown kind")
                target = (length & 0x3F) << 8 | packet[position + 1]
                if end < 0:
                    end = position + 2
                pointers += 1
                if target >= earliest or pointers > _POINTERS:
                    raise WireError("a name points forward, to itself, or in too many steps")
                if target in names:
                    rest = names[target][0]
                    break
                earliest = position = target
                continue
            position += 1
            label = packet[position : position + length]
            position += length
            size += length + 1
            if size > NAME_OCTETS + 1:
                raise WireError("a name is too long")
            labels.append(label)
        else:
            position += 1
    except IndexError:
        raise WireError("a name is cut off") from None
    name = _join(labels, rest)
    known = (name, position if end < 0 else end)
    names[start] = known
    return known


def _join(labels: list[bytes], rest: bytes | None) -> bytes | None:
    if rest is None:
        return None
    for label in labels:
        if label.translate(None, _LABEL_OCTETS):
            return None
    if rest:
        labels.append(rest)
    name = b".".join(labels).lower()
    if len(name) > NAME_OCTETS:
        raise WireError("a name is too long")
    return name


def read_record(packet: bytes, start: int, length: int, kind: RecordKind, names: Names) -> Record | None:
    """The record whose data are `length` octets at `start`; None when it is malformed or of no use to anybody."""
    end = start + length
    if kind == RecordKind.A:
        return socket.inet_ntop(socket.AF_INET, packet[start:end]) if length == 4 else None
    if kind == RecordKind.AAAA:
        return socket.inet_ntop(socket.AF_INET6, packet[start:end]) if length == 16 else None
    if kind == RecordKind.TXT:
        return _text(packet[start:end])
    if kind == RecordKind.TLSA:
        if length < 3:
            return None
        return TlsAssociation(packet[start], packet[start + 1], packet[start + 2], packet[start + 3 : end])
    try:
        if kind == RecordKind.MX:
            return _exchanger(packet, start, end, names)
        if kind == RecordKind.SRV:
            return _service(packet, start, end, names)
        if kind == RecordKind.SOA:
            return _authority(packet, start, end, names)
        return _host(packet, start, end, names)
    except WireError:
        return None


def _text(data: bytes) -> bytes | None:
    position = 0
    parts: list[bytes] = []
    while position < len(data):
        stop = position + 1 + data[position]
        parts.append(data[position + 1 : stop])
        position = stop
    return b"".join(parts) if parts and position == len(data) else None


def _host(packet: bytes, start: int, end: int, names: Names, *, root: bool = False) -> str | None:
    if start >= end:
        return None
    name, stop = read_name(packet, start, names)
    if stop != end or name is None or not (is_host_name(name) or (root and not name)):
        return None
    return name.decode("ascii")


def _exchanger(packet: bytes, start: int, end: int, names: Names) -> MailExchanger | None:
    host = _host(packet, start + 2, end, names, root=True)
    return None if host is None else MailExchanger(packet[start] << 8 | packet[start + 1], host)


def _service(packet: bytes, start: int, end: int, names: Names) -> Service | None:
    target = _host(packet, start + _SERVICE.size, end, names, root=True)
    if target is None:
        return None
    priority, weight, port = _SERVICE.unpack_from(packet, start)
    return Service(priority, weight, port, target)


def _authority(packet: bytes, start: int, end: int, names: Names) -> StartOfAuthority | None:
    primary, position = read_name(packet, start, names)
    mailbox, position = read_name(packet, position, names)
    if position + _TIMES.size != end:
        return None
    serial, refresh, retry, expire, minimum = _TIMES.unpack_from(packet, position)
    return StartOfAuthority(_shown(primary), _shown(mailbox), serial, refresh, retry, expire, minimum)


def _shown(name: bytes | None) -> str:
    return name.decode("ascii") if name and is_host_name(name) else ""
