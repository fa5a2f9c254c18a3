"""Fetching an MTA-STS policy file as a sender would: HTTPS with the right certificate, no redirect, 64 KiB, 5 seconds.

RFC 8461 section 3.3, RFC 9112 (a response is read as far as needed, with or without chunks). The name and so the
address come from a stranger's DNS: no connection goes where mail may not go either.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Final

import msgspec

from staffetta.dns.denied import why_denied
from staffetta.dns.mx import find_addresses
from staffetta.dns.resolver import Resolver, Unavailable
from staffetta.mail.network import NetworkSet
from staffetta.policy.posture.facts import PolicyFile
from staffetta.tlspolicy.mta_sts import FILE_OCTETS

HEAD_OCTETS: Final = 16 * 1024
"""Longest head of a response."""

ADDRESSES: Final = 2
"""Most addresses that are tried."""

PATH: Final = "/.well-known/mta-sts.txt"

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?")
_LENGTH: Final = re.compile(rb"[0-9]{1,12}")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")


class FetchSettings(msgspec.Struct, frozen=True):
    """`allow` are networks that may be reached although they are not of the open internet. `tls` None: verify by the
    authorities of the system."""

    allow: NetworkSet = NetworkSet()
    port: int = 443
    seconds: float = 5.0
    tls: ssl.SSLContext | None = None


class _Refused(Exception):
    """What came is no policy file; the message says why."""


async def fetch_policy(resolver: Resolver, domain: str, settings: FetchSettings) -> PolicyFile:
    """The policy file of `domain`, or why there is none. Never raises for what the world does."""
    host = f"mta-sts.{domain}"
    url = f"https://{host}{PATH}"
    addresses = await find_addresses(resolver, host)
    if isinstance(addresses, Unavailable):
        return PolicyFile(url, problem=f"the address of {host} is not known: {addresses.reason}")
    if not addresses:
        return PolicyFile(url, problem=f"{host} has no address")
    problem = ""
    for address in addresses[:ADDRESSES]:
        denied = why_denied(address, settings.allow)
        if denied is not None:
            problem = problem or f"{host} has the address {address} ({denied})"
            continue
        try:
            async with asyncio.timeout(settings.seconds):
                return await _fetch(url, host, address, settings)
        except TimeoutError:
            problem = problem or f"no answer from {address} within {settings.seconds:g} s"
        except ssl.SSLCertVerificationError as error:
            problem = problem or f"the certificate is not right: {error.verify_message}"
        except (OSError, EOFError, asyncio.LimitOverrunError, _Refused) as error:
            problem = problem or str(error) or type(error).__name__
    return PolicyFile(url, problem=problem)


async def _fetch(url: str, host: str, address: str, settings: FetchSettings) -> PolicyFile:
    context = settings.tls or ssl.create_default_context()
    reader, writer = await asyncio.open_connection(
        address, settings.port, ssl=context, server_hostname=host, limit=HEAD_OCTETS
    )
    try:
        writer.write(f"GET {PATH} HTTP/1.1\r\nHost: {host}\r\nAccept: text/plain\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        status = _STATUS.fullmatch(first)
        if status is None:
            raise _Refused("the server does not speak HTTP")
        if status.group(1) != b"200":
            ends = ", and redirects are not followed" if status.group(1)[:1] == b"3" else ""
            raise _Refused(f"the server answers with status {status.group(1).decode()}{ends}")
        fields = _fields(lines)
        data = await _body(reader, fields)
        kind = fields.get(b"content-type", b"").decode("latin-1")
        return PolicyFile(url, data, content_type=kind)
    finally:
        writer.transport.abort()


def _fields(lines: list[bytes]) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            fields.setdefault(name.lower(), value.strip(b" \t"))
    return fields


async def _body(reader: asyncio.StreamReader, fields: dict[bytes, bytes]) -> bytes:
    """The content. Raises _Refused when it is too long."""
    if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
        return await _chunks(reader)
    length = fields.get(b"content-length", b"")
    if _LENGTH.fullmatch(length):
        if int(length) > FILE_OCTETS:
            raise _Refused(f"the file is longer than {FILE_OCTETS // 1024} KiB")
        return await reader.readexactly(int(length))
    data = bytearray()
    while part := await reader.read(FILE_OCTETS):
        data += part
        _check_size(data)
    return bytes(data)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    data = bytearray()
    while True:
        match = _CHUNK.fullmatch(await reader.readline())
        if match is None:
            raise _Refused("the server sends malformed chunks")
        size = int(match.group(1), 16)
        if size == 0:
            return bytes(data)
        if size > FILE_OCTETS:
            raise _Refused(f"the file is longer than {FILE_OCTETS // 1024} KiB")
        data += await reader.readexactly(size)
        await reader.readexactly(2)
        _check_size(data)


def _check_size(data: bytearray) -> None:
    if len(data) > FILE_OCTETS:
        raise _Refused(f"the file is longer than {FILE_OCTETS // 1024} KiB")
