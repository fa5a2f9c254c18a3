"""Clients that came for another protocol."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from staffetta.net.contract import Endpoint
from staffetta.net.engine import TlsEngine, TlsFailed
from staffetta.net.hello import offered_protocols
from staffetta.net.memory import MemoryNetwork, single_octets, whole
from staffetta.net.tls import ClientContexts
from staffetta.testing.recorder import Recorder

Run = Callable[[Coroutine[Any, Any, None]], None]
DOOR = Endpoint("198.51.100.1", 465)


def context(*protocols: str) -> ssl.SSLContext:
    fresh = ClientContexts().unverified()
    if protocols:
        fresh.set_alpn_protocols(protocols)
    return fresh


def hello(*protocols: str) -> bytes:
    engine = TlsEngine(context(*protocols), server_side=False, server_name="mx.example.org")
    engine.handshake()
    return engine.flush()


def in_records(octets: bytes, size: int) -> bytes:
    """The same handshake message in more and smaller records."""
    message = octets[5:]
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(octets[:3] + len(part).to_bytes(2, "big") + part for part in parts)


@pytest.mark.parametrize("protocols", [(), ("h2",), ("h2", "http/1.1"), ("smtp",), ("x" * 255,)])
def test_offered_protocols(protocols: tuple[str, ...]) -> None:
    octets = hello(*protocols)
    expected = tuple(name.encode() for name in protocols)
    assert offered_protocols(octets) == expected
    assert offered_protocols(octets + b"more") == expected
    for size in (1, 3, 100):
        assert offered_protocols(in_records(octets, size)) == expected
    for end in range(len(octets)):
        assert offered_protocols(octets[:end]) is None


def test_anything_else_is_left_to_openssl() -> None:
    for octets in (b"GET / HTTP/1.1\r\n", b"\x15\x03\x01\x00\x02\x02\x28", b"\x16\x03\x01\x00\x05\x02\0\0\1\0"):
        assert offered_protocols(octets) == ()
    seed = random.Random(3546)
    octets = hello("h2", "http/1.1")
    for _ in range(2000):
        changed = bytearray(octets)
        for _ in range(seed.randint(1, 4)):
            changed[seed.randrange(len(changed))] = seed.randrange(256)
        found = offered_protocols(bytes(changed))
        assert found is None or isinstance(found, tuple)


@pytest.mark.parametrize("shape", [whole, single_octets])
@pytest.mark.parametrize(
    ("protocols", "welcome"), [((), True), (("smtp",), True), (("h2", "smtp"), True), (("h2", "http/1.1"), False)]
)
def test_a_lured_browser_is_turned_away(
    run: Run, server: ssl.SSLContext, shape: Any, protocols: tuple[str, ...], welcome: bool
) -> None:
    async def main() -> None:
        ours = Recorder(greet=lambda recorder: recorder.stream.start_tls(server, server_side=True))
        theirs = Recorder()
        network = MemoryNetwork(shape=shape)
        network.listen(DOOR, ours.accept)
        network.open(DOOR, theirs.accept)
        theirs.stream.start_tls(context(*protocols), server_side=False, server_name="mx.example.org")
        if welcome:
            await ours.until(lambda recorder: recorder.tls)
            theirs.stream.close()
            await ours.until(lambda recorder: "finished" in recorder.happened)
            ours.stream.close()
            await ours.closed()
        else:
            await ours.closed()
            assert isinstance(ours.error, TlsFailed)
            assert "ALPN" in ours.error.reason
            await theirs.closed()
            assert isinstance(theirs.error, TlsFailed)
            assert "no application protocol" in theirs.error.reason
        await asyncio.sleep(0)

    run(main())
