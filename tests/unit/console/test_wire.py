"""One connection after another over wires in memory: framing, limits, time, and who goes when there is no room."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from staffetta.console import wire
from staffetta.console.request import Request, Response, sentence
from staffetta.console.wire import Reception, http_date
from staffetta.net.channel import Channel, ChannelClosed
from staffetta.net.contract import Endpoint
from staffetta.net.memory import MemoryNetwork, single_octets
from staffetta.testing import clock as virtual

PORT = Endpoint("127.0.0.1", 8080)
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"

Scene = Callable[["Hall"], Awaitable[None]]


class Hall:
    """A reception behind a wire; `asked` are the requests that came through."""

    def __init__(self, answer: Callable[[Request], Awaitable[Response]] | None = None, **shape: Any) -> None:
        self.network = MemoryNetwork(**shape)
        self.asked: list[Request] = []
        self.bugs: list[Exception] = []
        self.reception = Reception(answer or self.ok, self.bugs.append)
        self.network.listen(PORT, self.reception.accept)

    async def ok(self, request: Request) -> Response:
        self.asked.append(request)
        return sentence(200, "ok")

    async def connect(self) -> Channel:
        return await self.network.connect([PORT], deadline=_now() + 60)

    async def say(self, *pieces: bytes) -> bytes:
        """Send, then read until the other side closes, which it must."""
        channel = await self.connect()
        for piece in pieces:
            channel.write(piece)
            await asyncio.sleep(0)
        return await read_all(channel)


def _now() -> float:
    return asyncio.get_running_loop().time()


async def read_all(channel: Channel) -> bytes:
    heard = b""
    try:
        while piece := await channel.read(_now() + 60):
            heard += piece
    except ChannelClosed:
        pass
    finally:
        channel.abort()
    return heard


def play(scene: Scene, hall: Callable[[], Hall] = Hall) -> None:
    async def main() -> None:
        room = hall()
        await scene(room)
        room.reception.close()
        await asyncio.sleep(0.01)
        assert room.reception.connections == {}

    virtual.run(main, virtual.VirtualClock())


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def test_a_request_and_its_answer() -> None:
    async def scene(hall: Hall) -> None:
        answer = await hall.say(GET)
        head, _, body = answer.partition(b"\r\n\r\n")
        fields = head.lower().split(b"\r\n")
        assert fields[0] == b"http/1.1 200 ok"
        assert b"connection: close" in fields
        assert b"x-content-type-options: nosniff" in fields
        assert b"content-length: 3" in fields
        assert not any(field.startswith((b"server:", b"access-control")) for field in fields)
        assert body == b"ok\n"
        assert hall.asked == [Request("GET", "/livez", "localhost")]

    play(scene)


def test_octet_by_octet_is_the_same() -> None:
    async def scene(hall: Hall) -> None:
        assert status(await hall.say(POST)) == 200
        assert hall.asked == [Request("POST", "/a", "localhost", body=b"hello")]

    play(scene, lambda: Hall(shape=single_octets))


def test_head_has_no_body() -> None:
    async def scene(hall: Hall) -> None:
        answer = await hall.say(GET.replace(b"GET", b"HEAD"))
        assert b"content-length: 3" in answer.lower()
        assert answer.endswith(b"\r\n\r\n")

    play(scene)


SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (GET + SMUGGLED, 200),
        (POST + SMUGGLED, 200),
        (POST.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n") + SMUGGLED, 400),
        (POST.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: xchunked\r\n\r\n") + SMUGGLED, 501),
        (POST.replace(b"Length: 5", b"Length: 5\r\nContent-Length: 0") + SMUGGLED, 400),
        (POST.replace(b"Length: 5", b"Length: 5, 5") + SMUGGLED, 200),
        (POST.replace(b"Length: 5", b"Length : 5") + SMUGGLED, 400),
        (POST.replace(b"Host: localhost", b"Host: localhost\r\nHost: evil.example"), 400),
        (GET.replace(b"Host: localhost\r\n", b""), 400),
        (GET.replace(b"Host", b" Host"), 400),
        (GET.replace(b"localhost", b"local\0host"), 400),
        (GET.replace(b" HTTP/1.1", b""), 400),
        (b"GET /livez HTTP/1.0\r\n\r\n", 200),
        (b"GET /livez HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"EHLO evil.example\r\n\r\n", 400),
        (b"\0" * 100, 400),
        (GET.replace(b"\r\n\r\n", b"\r\n" + b"X: " + b"a" * 20_000 + b"\r\n\r\n"), 431),
        (GET.replace(b"\r\n\r\n", b"\r\n" + b"X: a\r\n" * 100 + b"\r\n"), 431),
        (b"GET /" + b"a" * 20_000, 431),
    ],
)
def test_hostile_requests_get_one_answer_at_most(request_: bytes, expected: int) -> None:
    async def scene(hall: Hall) -> None:
        answer = await hall.say(request_)
        assert status(answer) == expected
        assert answer.count(b"\r\nDate: ") == 1
        assert b"evil" not in answer
        assert len(hall.asked) == (expected == 200)
        assert all(request.path != "/metrics" for request in hall.asked)
        assert hall.bugs == []

    play(scene)


def test_slow_requests_are_cut_off() -> None:
    async def scene(hall: Hall) -> None:
        channel = await hall.connect()
        began = _now()
        for _ in range(100):
            channel.write(b"G" if not hall.asked else b"")
            await asyncio.sleep(1)
            if not hall.reception.connections:
                break
        assert wire.REQUEST_SECONDS - 1 <= _now() - began <= wire.REQUEST_SECONDS + 1
        channel.abort()

    play(scene)


def test_silence_after_a_refusal_is_cut_off_too() -> None:
    async def scene(hall: Hall) -> None:
        channel = await hall.connect()
        channel.write(b"nonsense\r\n\r\n")
        assert status(await channel.read(_now() + 5)) == 400
        for _ in range(5):
            channel.write(b"more and more" * 1000)
            await asyncio.sleep(1)
        assert len(hall.reception.connections) == 1
        await asyncio.sleep(wire.TAKE_SECONDS)
        assert hall.reception.connections == {}
        channel.abort()

    play(scene)


def test_slow_clients_shut_nobody_out() -> None:
    async def scene(hall: Hall) -> None:
        slow = [await hall.connect() for _ in range(wire.MOST_CONNECTIONS + 5)]
        await asyncio.sleep(0.1)
        assert len(hall.reception.connections) == wire.MOST_CONNECTIONS
        assert status(await hall.say(GET)) == 200
        for channel in slow:
            channel.abort()
        await asyncio.sleep(0.1)

    play(scene)


def test_a_bug_ends_one_request() -> None:
    async def broken(_: Request) -> Response:
        raise ValueError("secret detail")

    async def scene(hall: Hall) -> None:
        answer = await hall.say(GET)
        assert status(answer) == 500
        assert b"secret" not in answer
        assert [str(bug) for bug in hall.bugs] == ["secret detail"]

    play(scene, lambda: Hall(broken))


def test_an_answer_that_is_never_found_is_given_up() -> None:
    async def never(_: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def scene(hall: Hall) -> None:
        began = _now()
        assert status(await hall.say(GET)) == 503
        assert _now() - began == pytest.approx(wire.ANSWER_SECONDS, abs=1)

    play(scene, lambda: Hall(never))


def test_closing_ends_work_for_who_is_there() -> None:
    ended: list[str] = []

    async def slow(_: Request) -> Response:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return sentence(200, "ok")

    async def scene(hall: Hall) -> None:
        channel = await hall.connect()
        channel.write(GET)
        await asyncio.sleep(1)
        assert len(hall.reception.connections) == 1
        hall.reception.close()
        assert await read_all(channel) == b""

    play(scene, lambda: Hall(slow))
    assert ended == ["cancelled"]


def test_what_follows_is_not_kept_either() -> None:
    async def slow(_: Request) -> Response:
        await asyncio.sleep(5)
        return sentence(200, "ok")

    async def scene(hall: Hall) -> None:
        channel = await hall.connect()
        channel.write(GET)
        await asyncio.sleep(1)
        channel.write(b"a" * (1 << 20))
        await asyncio.sleep(1)
        (connection,) = hall.reception.connections
        assert len(connection._http.trailing_data[0]) == 0
        assert status(await read_all(channel)) == 200

    play(scene, lambda: Hall(slow))


def test_a_body_that_is_awaited_is_asked_for() -> None:
    async def scene(hall: Hall) -> None:
        channel = await hall.connect()
        head, _, body = POST.partition(b"\r\n\r\n")
        channel.write(head + b"\r\nExpect: 100-continue\r\n\r\n")
        assert (await channel.read(_now() + 5)).startswith(b"HTTP/1.1 100 ")
        channel.write(body)
        assert status(await read_all(channel)) == 200
        assert hall.asked[0].body == b"hello"

    play(scene)


def test_dates_are_english_everywhere() -> None:
    assert http_date(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT"
