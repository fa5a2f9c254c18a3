"""Fetching an MTA-STS policy from servers on loopback that answer well, badly, slowly, and as somebody else."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from good_domain import POLICY

from staffetta.control.check_domain_policy import FetchSettings, fetch_policy
from staffetta.dns.resolver import Unavailable
from staffetta.dns.table import TableResolver
from staffetta.mail.network import NetworkSet, parse_network
from staffetta.policy.posture.facts import PolicyFile
from staffetta.testing.authority import Authority
from staffetta.tlspolicy.mta_sts import FILE_OCTETS

LOOPBACK = NetworkSet([parse_network("127.0.0.0/8")])
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
BODY = POLICY.encode()
HOST = "mta-sts.good.example"

GOOD = {
    "with a length": HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY + b"and more",
    "until the end": HEAD + b"\r\n" + BODY,
    "in chunks": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + b"5\r\n%b\r\n%x;x=y\r\n%b\r\n0\r\n\r\n" % (BODY[:5], len(BODY) - 5, BODY[5:]),
    "HTTP/1.0": HEAD.replace(b"/1.1", b"/1.0") + b"\r\n" + BODY,
    "no reason phrase": HEAD.replace(b" OK", b"") + b"\r\n" + BODY,
}
BAD = {
    "a redirect": (b"HTTP/1.1 301 Moved\r\nLocation: https://elsewhere.example/\r\n\r\n", "redirects are not followed"),
    "not found": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status 404"),
    "too long by its word": (HEAD + b"Content-Length: 99999999\r\n\r\n", "longer than 64 KiB"),
    "too long": (HEAD + b"\r\n" + b"x" * (FILE_OCTETS + 1), "longer than 64 KiB"),
    "too long a chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n", "longer than 64 KiB"),
    "too many chunks": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n") * 2,
        "longer than 64 KiB",
    ),
    "malformed chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n", "malformed chunks"),
    "cut off": (HEAD + b"Content-Length: 500\r\n\r\nversion", "bytes read on a total"),
    "an endless head": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000, "limit"),
    "no HTTP": (b"220 mx.example ESMTP\r\n\r\n", "does not speak HTTP"),
    "nothing": (b"", "bytes read"),
}


class Servers:
    """A server that says one thing to whoever asks."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)

    async def fetch(self, answer: bytes | None, name: str = HOST, *, trusted: bool = True) -> PolicyFile:
        issued = self.authority.issue(name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(issued.certificate, issued.key)
        client = ssl.create_default_context(cafile=str(self.authority.ca) if trusted else None)
        asked: list[bytes] = []
        done = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                asked.append(await reader.readuntil(b"\r\n\r\n"))
                if answer is None:
                    await done.wait()
                    return
                writer.write(answer)
                await writer.drain()
                writer.write_eof() if writer.can_write_eof() else writer.close()
                await writer.wait_closed()
            except (OSError, EOFError):
                return
            finally:
                writer.transport.abort()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        settings = FetchSettings(LOOPBACK, port, 5.0 if answer is not None else 0.2, client)
        try:
            found = await fetch_policy(TableResolver({HOST: {"A": ["127.0.0.1"]}}), "good.example", settings)
        finally:
            done.set()
            server.close()
            await server.wait_closed()
        if asked:
            assert asked[0].startswith(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.good.example\r\n")
        return found


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Servers:
    return Servers(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("answer", GOOD.values(), ids=GOOD)
def test_policy_arrives(servers: Servers, answer: bytes) -> None:
    found = asyncio.run(servers.fetch(answer))
    assert (found.problem, found.data) == ("", BODY)
    assert found.content_type == "text/plain; charset=utf-8"
    assert found.url == f"https://{HOST}/.well-known/mta-sts.txt"


@pytest.mark.parametrize(("answer", "problem"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_named(servers: Servers, answer: bytes, problem: str) -> None:
    found = asyncio.run(servers.fetch(answer))
    assert problem in found.problem
    assert found.data == b""


def test_silence_ends(servers: Servers) -> None:
    assert asyncio.run(servers.fetch(None)).problem == "no answer from 127.0.0.1 within 0.2 s"


def test_certificate_must_be_right(servers: Servers) -> None:
    answer = GOOD["with a length"]
    wrong = asyncio.run(servers.fetch(answer, "mail.good.example"))
    assert wrong.problem.startswith("the certificate is not right: Hostname mismatch")
    unknown = asyncio.run(servers.fetch(answer, trusted=False))
    assert "unable to get local issuer" in unknown.problem


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"A": ["127.0.0.1"]}, "mta-sts.good.example has the address 127.0.0.1 (loopback)"),
        ({"A": ["169.254.169.254"]}, "mta-sts.good.example has the address 169.254.169.254 (link-local)"),
        ({"TXT": ["x"]}, "mta-sts.good.example has no address"),
        (Unavailable("SERVFAIL"), "the address of mta-sts.good.example is not known: SERVFAIL"),
    ],
)
def test_dns_of_strangers_leads_nowhere_inside(entry: object, problem: str) -> None:
    resolver = TableResolver({HOST: entry})  # type: ignore[dict-item]
    assert asyncio.run(fetch_policy(resolver, "good.example", FetchSettings())).problem == problem
