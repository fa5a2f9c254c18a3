"""The awaited face: deadlines, ends, and STARTTLS from the client's side."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from staffetta.net.channel import RECEIVED_OCTETS, Channel, ChannelClosed, ChannelTimeout
from staffetta.net.contract import Endpoint
from staffetta.net.engine import TlsFailed
from staffetta.net.memory import MemoryNetwork
from staffetta.testing.recorder import Recorder

Run = Callable[[Coroutine[Any, Any, None]], None]
DOOR = Endpoint("198.51.100.1", 25)
NAME = "mx.example.org"


async def connected(server: Recorder) -> Channel:
    network = MemoryNetwork()
    network.listen(DOOR, server.accept)
    return await network.connect([DOOR], deadline=soon())


def soon(seconds: float = 5) -> float:
    return asyncio.get_running_loop().time() + seconds


def starttls(context: ssl.SSLContext) -> Callable[[Recorder, bytes], None]:
    def act(recorder: Recorder, data: bytes) -> None:
        if recorder.tls is None:
            recorder.stream.write(b"220 go\r\n")
            recorder.stream.start_tls(context, server_side=True)
        else:
            recorder.stream.write(data)

    return act


def test_what_has_arrived_is_returned_at_once(run: Run) -> None:
    async def main() -> None:
        server = Recorder(greet=lambda recorder: recorder.stream.write(b"220 hello\r\n"))
        channel = await connected(server)
        assert await channel.read(soon()) == b"220 hello\r\n"
        server.stream.write(b"a")
        server.stream.write(b"b")
        await channel_has(channel, b"ab")
        assert channel.unread()
        assert await channel.read(0.0) == b"ab", "no deadline for what is already here"
        assert not channel.unread()
        server.stream.close()
        assert await channel.read(soon()) == b""
        assert not channel.usable
        channel.close()
        await server.closed()
        with pytest.raises(ChannelClosed):
            await channel.read(soon())

    run(main())


async def channel_has(channel: Channel, data: bytes) -> None:
    for _ in range(100):
        if b"".join(channel._received) == data:
            return
        await asyncio.sleep(0)
    raise AssertionError(channel._received)


def test_deadline_and_then_life_goes_on(run: Run) -> None:
    async def main() -> None:
        server = Recorder()
        channel = await connected(server)
        begun = asyncio.get_running_loop().time()
        with pytest.raises(ChannelTimeout):
            await channel.read(soon(0.05))
        assert 0.04 < asyncio.get_running_loop().time() - begun < 1
        server.stream.write(b"late")
        assert await channel.read(soon()) == b"late"
        channel.abort()
        await server.until(lambda recorder: "finished" in recorder.happened)
        server.stream.abort()

    run(main())


@pytest.mark.parametrize(("first", "second"), [(60, 0.05), (0.02, 0.1)])
def test_one_timer_serves_all_deadlines(run: Run, first: float, second: float) -> None:
    """The first wait arms the timer; a later one has an earlier or a later deadline."""

    async def main() -> None:
        server = Recorder(act=lambda recorder, data: recorder.stream.write(data))
        channel = await connected(server)
        deadline = soon(first)
        channel.write(b"x")
        assert await channel.read(deadline) == b"x"
        begun = asyncio.get_running_loop().time()
        with pytest.raises(ChannelTimeout):
            await channel.read(soon(second))
        assert second * 0.8 < asyncio.get_running_loop().time() - begun < second + 1
        channel.abort()
        await asyncio.sleep(0)
        server.stream.abort()

    run(main())


def test_reset_says_why(run: Run) -> None:
    async def main() -> None:
        server = Recorder()
        network = MemoryNetwork()
        network.listen(DOOR, server.accept)
        channel = await network.connect([DOOR], deadline=soon())
        server.stream.write(b"last words")
        await channel_has(channel, b"last words")
        server.stream._transport.cut()  # type: ignore[attr-defined]
        assert await channel.read(soon()) == b"last words"
        with pytest.raises(ChannelClosed) as caught:
            await channel.read(soon())
        assert isinstance(caught.value.error, ConnectionResetError)
        channel.write(b"dropped")
        await channel.drain(soon())

    run(main())


def test_drain_waits_for_a_slow_peer(run: Run) -> None:
    async def main() -> None:
        server = Recorder(greet=lambda recorder: recorder.stream.pause_reading())
        channel = await connected(server)
        await channel.drain(soon())
        channel.write(b"x" * 300_000)
        with pytest.raises(ChannelTimeout):
            await channel.drain(soon(0.02))
        server.stream.resume_reading()
        await channel.drain(soon())
        channel.close()
        await server.until(lambda recorder: "finished" in recorder.happened)
        assert len(server.data) == 300_000
        server.stream.close()
        await server.closed()

    run(main())


def test_a_server_that_never_stops_talking_has_to_wait(run: Run) -> None:
    async def main() -> None:
        server = Recorder()
        channel = await connected(server)
        for _ in range(100):
            server.stream.write(b"250-" + b"x" * 9996)
        await server.until(lambda recorder: "blocked" in recorder.happened)
        for _ in range(50):
            await asyncio.sleep(0)
        assert RECEIVED_OCTETS < channel._octets <= RECEIVED_OCTETS + 10_000
        got = 0
        while got < 1_000_000:
            got += len(await channel.read(soon()))
        channel.abort()
        await asyncio.sleep(0)
        server.stream.abort()

    run(main())


def test_starttls(run: Run, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    async def main() -> None:
        ours = Recorder(starttls(server))
        channel = await connected(ours)
        channel.write(b"STARTTLS\r\n")
        assert await channel.read(soon()) == b"220 go\r\n"
        facts = await channel.start_tls(client, server_name=NAME, deadline=soon())
        assert facts.verified
        assert channel.tls == facts
        channel.write(b"EHLO x\r\n")
        assert await channel.read(soon()) == b"EHLO x\r\n"
        channel.close()
        await ours.until(lambda recorder: "finished" in recorder.happened)
        ours.stream.close()
        await ours.closed()

    run(main())


def test_the_server_said_more_before_the_handshake(run: Run, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """CVE-2021-38371: a response injected before TLS must not be read after it."""

    async def main() -> None:
        ours = Recorder(act=lambda recorder, data: recorder.stream.write(b"220 go\r\n"))
        channel = await connected(ours)
        channel.write(b"STARTTLS\r\n")
        assert await channel.read(soon()) == b"220 go\r\n"
        ours.stream.write(b"250-AUTH PLAIN\r\n")
        ours.stream.start_tls(server, server_side=True)
        await channel_has(channel, b"250-AUTH PLAIN\r\n")
        with pytest.raises(TlsFailed, match="said more"):
            await channel.start_tls(client, server_name=NAME, deadline=soon())
        assert not channel.usable
        ours.stream.abort()

    run(main())


def said(recorder: Recorder, data: bytes) -> None:
    recorder.stream.write(b"250 not tls\r\n")


def left(recorder: Recorder, data: bytes) -> None:
    recorder.stream.close()


def cut(recorder: Recorder, data: bytes) -> None:
    recorder.stream._transport.cut()  # type: ignore[attr-defined]


def silent(recorder: Recorder, data: bytes) -> None:
    pass


@pytest.mark.parametrize("act", [said, left, cut, silent])
def test_handshakes_that_fail(run: Run, client: ssl.SSLContext, act: Callable[[Recorder, bytes], None]) -> None:
    async def main() -> None:
        ours = Recorder(act)
        channel = await connected(ours)
        with pytest.raises(TlsFailed) as caught:
            await channel.start_tls(client, server_name=NAME, deadline=soon(0.1))
        assert caught.value.reason
        assert not channel.usable
        with pytest.raises(ChannelClosed):
            await channel.read(soon())
        ours.stream.abort()
        await ours.closed()

    run(main())


@pytest.mark.parametrize("name", ["other.example.org", "127.0.0.2"])
def test_a_certificate_for_somebody_else(run: Run, server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    async def main() -> None:
        ours = Recorder(greet=lambda recorder: recorder.stream.start_tls(server, server_side=True))
        channel = await connected(ours)
        with pytest.raises(TlsFailed, match="certificate not accepted"):
            await channel.start_tls(client, server_name=name, deadline=soon())
        await ours.closed()
        assert isinstance(ours.error, TlsFailed)
        assert ours.tls is None, "the server knows that the client did not accept it"

    run(main())


def test_cancelled_while_waiting(run: Run) -> None:
    async def main() -> None:
        server = Recorder()
        channel = await connected(server)
        task = asyncio.create_task(channel.read(soon(60)))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="two tasks"):
            await channel.read(soon())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.stream.write(b"still here")
        assert await channel.read(soon()) == b"still here"
        channel.abort()
        await asyncio.sleep(0)
        server.stream.abort()

    run(main())
