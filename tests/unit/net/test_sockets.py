"""Listeners, connectors and streams over real loopback and Unix sockets."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from staffetta.net import listener as listeners
from staffetta.net.channel import ChannelClosed
from staffetta.net.connect import ConnectFailed, ConnectSettings, SocketConnector
from staffetta.net.contract import Endpoint
from staffetta.net.endpoint import Bind, BindError, endpoint_of, parse_bind
from staffetta.net.engine import TlsFailed
from staffetta.net.listener import BindFailed, Listener, bind, connections_within, raise_descriptor_limit
from staffetta.net.stream import HIGH_WATER_OCTETS, TcpStream
from staffetta.testing.recorder import Recorder

Run = Callable[[Coroutine[Any, Any, None]], None]
LOOPBACK = Bind("127.0.0.1", 0)
NAME = "mx.example.org"


def soon(seconds: float = 5) -> float:
    return asyncio.get_running_loop().time() + seconds


async def opened(accept: Any, where: Bind = LOOPBACK) -> Listener:
    door = Listener("mx", bind(where), accept)
    await door.start()
    return door


def echo(recorder: Recorder, data: bytes) -> None:
    recorder.stream.write(data)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*:25", Bind("*", 25)),
        ("127.0.0.1:2525", Bind("127.0.0.1", 2525)),
        ("[::1]:465", Bind("::1", 465)),
        ("localhost:0", Bind("localhost", 0)),
        ("unix:/run/x", Bind("", 0, "/run/x")),
    ],
)
def test_parse_bind(text: str, expected: Bind) -> None:
    assert parse_bind(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text", ["", "25", ":25", "::1:25", "host:", "host:65536", "host:+1", "host:1_0", "unix:", "h:²"]
)
def test_parse_bind_refuses(text: str) -> None:
    with pytest.raises(BindError):
        parse_bind(text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (("192.0.2.1", 25), Endpoint("192.0.2.1", 25)),
        (("::ffff:192.0.2.1", 25, 0, 0), Endpoint("192.0.2.1", 25)),
        (("fe80::1%eth0", 25, 0, 2), Endpoint("fe80::1", 25)),
        ("/run/x", Endpoint("/run/x", 0)),
        ("", Endpoint("unix", 0)),
        (b"\0abstract", Endpoint("\0abstract", 0)),
        (None, None),
    ],
)
def test_endpoint_of(name: Any, expected: Endpoint | None) -> None:
    assert endpoint_of(name) == expected


def test_all_addresses_of_both_families(run: Run) -> None:
    async def main() -> None:
        recorders: list[Recorder] = []

        def accept(stream: TcpStream) -> Recorder:
            recorders.append(Recorder(echo))
            return recorders[-1].accept(stream)

        door = await opened(accept, Bind("*", 0))
        port = door.endpoints[0].port
        assert [endpoint.port for endpoint in door.endpoints] == [port] * len(door.endpoints)
        addresses = ["127.0.0.1", "::1"][: len(door.endpoints)]
        for address in addresses:
            channel = await SocketConnector().connect([Endpoint(address, port)], deadline=soon())
            channel.write(b"hello")
            assert await channel.read(soon()) == b"hello"
            assert recorders[-1].stream.peer.address == address
            assert recorders[-1].stream.peer == channel.local
            assert recorders[-1].stream.local == channel.peer
            channel.close()
            await recorders[-1].until(lambda recorder: "finished" in recorder.happened)
            recorders[-1].stream.close()
            await recorders[-1].closed()
        door.stop()

    run(main())


def test_unix_socket_and_what_a_killed_process_leaves(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "s"
    where = Bind("", 0, str(path))

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(where.path)
        server = Recorder(echo)
        door = await opened(server.accept, where)
        channel = await SocketConnector().connect([Endpoint(where.path, 0)], deadline=soon(), guard=lambda _: "never")
        channel.write(b"hello")
        assert await channel.read(soon()) == b"hello"
        assert channel.peer == Endpoint(where.path, 0)
        channel.close()
        await server.until(lambda recorder: "finished" in recorder.happened)
        server.stream.close()
        await server.closed()
        door.stop()

    run(main())
    assert not path.exists()


def test_a_unix_socket_in_use_is_not_taken_over(tmp_path: Path) -> None:
    where = Bind("", 0, str(tmp_path / "s"))
    (first,) = bind(where)
    first.listen(1)
    with pytest.raises(BindFailed, match="already listens"):
        bind(where)
    first.close()
    bind(where)[0].close()


def test_bind_faults_have_words() -> None:
    (taken,) = bind(LOOPBACK)
    taken.listen(1)
    with pytest.raises(BindFailed, match="already listens"):
        bind(Bind("127.0.0.1", taken.getsockname()[1]))
    taken.close()
    with pytest.raises(BindFailed, match="does not have that address"):
        bind(Bind("192.0.2.1", 0))
    with pytest.raises(BindFailed):
        bind(Bind("name.invalid", 0))


def test_stop_lets_streams_live(run: Run) -> None:
    async def main() -> None:
        server = Recorder(echo)
        door = await opened(server.accept)
        channel = await SocketConnector().connect(door.endpoints, deadline=soon())
        channel.write(b"1")
        assert await channel.read(soon()) == b"1"
        door.stop()
        channel.write(b"2")
        assert await channel.read(soon()) == b"2"
        with pytest.raises(ConnectFailed, match="refused"):
            await SocketConnector().connect(door.endpoints, deadline=soon())
        channel.close()
        await server.until(lambda recorder: "finished" in recorder.happened)
        server.stream.close()
        await server.closed()

    run(main())


def test_tls_with_the_standard_librarys_client(run: Run, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    async def main() -> None:
        def greet(recorder: Recorder) -> None:
            recorder.stream.start_tls(server, server_side=True)
            recorder.stream.write(b"220 hello\r\n")

        ours = Recorder(echo, greet)
        door = await opened(ours.accept)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", door.endpoints[0].port, ssl=client, server_hostname=NAME
        )
        assert await reader.readline() == b"220 hello\r\n"
        payload = os.urandom(1 << 20)
        writer.write(payload)
        assert await reader.readexactly(len(payload)) == payload
        writer.close()
        await ours.until(lambda recorder: "finished" in recorder.happened)
        ours.stream.close()
        await ours.closed()
        assert ours.error is None
        await writer.wait_closed()
        door.stop()

    run(main())


@pytest.mark.parametrize("tls", [False, True])
def test_big_writes_to_a_slow_reader_stay_bounded(
    run: Run, server: ssl.SSLContext, client: ssl.SSLContext, tls: bool
) -> None:
    total, piece = 8 << 20, b"x" * 32768

    async def main() -> None:
        ours = Recorder(greet=lambda recorder: recorder.stream.start_tls(server, server_side=True) if tls else None)
        door = await opened(ours.accept)
        channel = await SocketConnector().connect(door.endpoints, deadline=soon())
        if tls:
            await channel.start_tls(client, server_name=NAME, deadline=soon())
            await ours.until(lambda recorder: recorder.tls)
        else:
            await ours.until(lambda recorder: recorder.happened)
        most = 0

        async def produce() -> None:
            nonlocal most
            for _ in range(total // len(piece)):
                if [entry for entry in ours.happened if entry in ("blocked", "flowing")][-1:] == ["blocked"]:
                    await ours.until(lambda recorder: recorder.happened[-1] == "flowing")
                ours.stream.write(piece)
                most = max(most, ours.stream.unsent)

        task = asyncio.create_task(produce())
        got = 0
        while got < total:
            got += len(await channel.read(soon()))
            await asyncio.sleep(0)
        await task
        assert "blocked" in ours.happened
        assert most <= HIGH_WATER_OCTETS + len(piece) + 4096
        channel.close()
        ours.stream.close()
        await ours.closed()
        door.stop()

    run(main())


def test_close_does_not_wait_for_ever(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that does not read must not keep what was closed."""
    monkeypatch.setattr("staffetta.net.stream.CLOSE_SECONDS", 0.05)

    async def main() -> None:
        ours = Recorder()
        door = await opened(ours.accept)
        channel = await SocketConnector().connect(door.endpoints, deadline=soon())
        channel._stream.pause_reading()
        await ours.until(lambda recorder: recorder.happened)
        ours.stream.write(b"x" * (32 << 20))
        ours.stream.close()
        await ours.closed(2)
        channel.abort()
        door.stop()

    run(main())


def test_idle_streams_end_without_a_sound(run: Run, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """asyncio's streams log a traceback for each idle connection when they are cancelled."""

    async def main() -> None:
        recorders: list[Recorder] = []

        all_came = asyncio.Event()

        def accept(stream: TcpStream) -> Recorder:
            recorder = Recorder()
            recorders.append(recorder)
            if len(recorders) % 4 == 0:
                stream.start_tls(server, server_side=True)
            if len(recorders) == 200:
                all_came.set()
            return recorder.accept(stream)

        door = await opened(accept)
        raw = [socket.create_connection(("127.0.0.1", door.endpoints[0].port)) for _ in range(200)]
        await all_came.wait()
        door.stop()
        for recorder in recorders:
            (recorder.stream.close if recorder.stream.tls else recorder.stream.abort)()
        for recorder in recorders:
            await recorder.closed()
        for sock in raw:
            sock.close()

    run(main())


def test_connect_judges_the_very_address(run: Run) -> None:
    seen: list[str] = []

    def guard(address: str) -> str | None:
        seen.append(address)
        return "loopback is forbidden" if address.startswith("127.") or address == "::1" else None

    async def main() -> None:
        server = Recorder()
        door = await opened(server.accept)
        port = door.endpoints[0].port
        candidates = [Endpoint("127.0.0.1", port), Endpoint("localhost", port), Endpoint("0:0:0:0:0:0:0:1", port)]
        with pytest.raises(ConnectFailed) as caught:
            await SocketConnector().connect(candidates, deadline=soon(), guard=guard)
        assert [(entry.denied, entry.reason) for entry in caught.value.tries] == [
            (True, "loopback is forbidden"),
            (False, "not an IP address"),
            (True, "loopback is forbidden"),
        ]
        assert [entry.endpoint for entry in caught.value.tries] == candidates
        assert seen == ["127.0.0.1", "::1"], "names are never looked up"
        await asyncio.sleep(0.01)
        assert server.happened == [], "nothing was sent"
        door.stop()

    run(main())


class Scripted(SocketConnector):
    """Addresses that answer after a time, or refuse; the real ones do not wait for tests."""

    def __init__(self, answers: dict[str, float | OSError], target: Endpoint) -> None:
        super().__init__(ConnectSettings(stagger_seconds=0.02))
        self.answers = answers
        self.target = target
        self.started: list[str] = []

    async def attempt(self, endpoint: Endpoint) -> Any:
        self.started.append(endpoint.address)
        answer = self.answers[endpoint.address]
        if isinstance(answer, OSError):
            raise answer
        await asyncio.sleep(answer)
        return await super().attempt(self.target)


@pytest.mark.parametrize(
    ("answers", "started"),
    [
        ({"192.0.2.1": 0.0, "192.0.2.2": 0.0}, ["192.0.2.1"]),
        ({"192.0.2.1": 9.0, "192.0.2.2": 0.0}, ["192.0.2.1", "192.0.2.2"]),
        ({"192.0.2.1": OSError(111, ""), "2001:db8::1": OSError(101, ""), "192.0.2.3": 0.0}, None),
        (
            {"192.0.2.1": 9.0, "2001:db8::1": 9.0, "192.0.2.3": 0.0, "192.0.2.4": 0.0},
            ["192.0.2.1", "2001:db8::1", "192.0.2.3"],
        ),
    ],
)
def test_the_first_that_answers(run: Run, answers: dict[str, Any], started: list[str] | None) -> None:
    async def main() -> None:
        server = Recorder()
        door = await opened(server.accept)
        connector = Scripted(answers, door.endpoints[0])
        begun = asyncio.get_running_loop().time()
        channel = await connector.connect([Endpoint(address, 25) for address in answers], deadline=soon())
        assert asyncio.get_running_loop().time() - begun < 1
        assert connector.started == (started or list(answers))
        channel.close()
        await server.until(lambda recorder: "finished" in recorder.happened)
        server.stream.close()
        await server.closed()
        door.stop()

    run(main())


def test_nobody_answers_in_time(run: Run) -> None:
    async def main() -> None:
        connector = Scripted(
            {"192.0.2.1": OSError(111, ""), "192.0.2.2": 9.0, "2001:db8::2": 9.0}, Endpoint("192.0.2.1", 25)
        )
        candidates = [Endpoint(address, 25) for address in connector.answers]
        with pytest.raises(ConnectFailed) as caught:
            await connector.connect(candidates, deadline=soon(0.06))
        assert [entry.endpoint for entry in caught.value.tries] == candidates
        assert [entry.reason for entry in caught.value.tries] == [
            "connection refused",
            "no answer in time",
            "no answer in time",
        ]
        with pytest.raises(ConnectFailed, match="no address"):
            await connector.connect([], deadline=soon())

    run(main())


def test_cancelled_connects_leave_nothing(run: Run) -> None:
    async def main() -> None:
        connector = Scripted({"192.0.2.1": 9.0}, Endpoint("192.0.2.1", 25))
        task = asyncio.create_task(connector.connect([Endpoint("192.0.2.1", 25)], deadline=soon(60)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    run(main())


def test_source_addresses(run: Run) -> None:
    async def main() -> None:
        server = Recorder()
        door = await opened(server.accept)
        connector = SocketConnector(ConnectSettings(sources=("127.0.0.2", "127.0.0.3")))
        for expected in ("127.0.0.2", "127.0.0.3", "127.0.0.2"):
            channel = await connector.connect(door.endpoints, deadline=soon())
            assert channel.local.address == expected
            channel.close()
            await server.until(lambda recorder: "finished" in recorder.happened)
            server.stream.close()
            await server.closed()
            server.happened.clear()
        with pytest.raises(ConnectFailed, match="no local IPv6 address"):
            await connector.connect([Endpoint("::1", 25)], deadline=soon())
        door.stop()

    run(main())


def test_gone_before_we_looked(run: Run) -> None:
    """A client that resets at once has no name any more."""

    async def main() -> None:
        recorders: list[Recorder] = []

        def accept(stream: TcpStream) -> Recorder:
            recorders.append(Recorder())
            return recorders[-1].accept(stream)

        door = await opened(accept)
        for _ in range(20):
            sock = socket.create_connection(("127.0.0.1", door.endpoints[0].port))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
        await asyncio.sleep(0.05)
        for recorder in recorders:
            assert recorder.stream.peer.address == "127.0.0.1"
            recorder.stream.abort()
            await recorder.closed()
        channel = await SocketConnector().connect(door.endpoints, deadline=soon())
        channel.abort()
        with pytest.raises(ChannelClosed):
            await channel.read(soon())
        await asyncio.sleep(0.01)
        door.stop()
        for recorder in recorders:
            recorder.stream.abort()
            await recorder.closed()

    run(main())


def test_a_server_without_tls(run: Run, client: ssl.SSLContext) -> None:
    async def main() -> None:
        server = Recorder(greet=lambda recorder: recorder.stream.write(b"220 hello\r\n"))
        door = await opened(server.accept)
        channel = await SocketConnector().connect(door.endpoints, deadline=soon())
        with pytest.raises(TlsFailed):
            await channel.start_tls(client, server_name=NAME, deadline=soon())
        server.stream.abort()
        await server.closed()
        door.stop()

    run(main())


def test_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connections_within(20_000, 10_000) == 10_000
    assert connections_within(1024, 10_000) == 666
    assert connections_within(10, 10_000) == 1
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(listeners.resource, "getrlimit", lambda _: (1024, 20_000))
    monkeypatch.setattr(listeners.resource, "setrlimit", lambda _, limits: asked.append(limits))
    assert raise_descriptor_limit() == 20_000
    assert asked == [(20_000, 20_000)]
    monkeypatch.setattr(listeners.resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert raise_descriptor_limit() == 1 << 20
