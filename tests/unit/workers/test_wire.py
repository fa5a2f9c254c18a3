"""Frames survive every split of the stream, what is not read is bounded, files come with their frame, and garbage ends
the wire."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from staffetta.app.workers import frames, wire
from staffetta.app.workers.frames import FROM_WORKER, Chunk, Hello, LogLines
from staffetta.app.workers.wire import ENOUGH_OCTETS, HIGH_WATER_OCTETS, READ_OCTETS, TURNS, Wire, WireBroken
from staffetta.net.loop import loop_factory

pytestmark = pytest.mark.timeout(60)


async def until(true: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait for something that the other end will do."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def run(main: Any) -> None:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main)


def packed(*some_frames: msgspec.Struct) -> bytes:
    bodies = [msgspec.msgpack.encode(frame) for frame in some_frames]
    return b"".join(len(body).to_bytes(4, "little") + body for body in bodies)


class End:
    """A wire whose other side is a plain socket."""

    def __init__(self) -> None:
        ours, self.far = pair()
        self.received: list[Any] = []
        self.lost = 0
        self.complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.complaints.append(context))
        self.wire = Wire(ours, FROM_WORKER, self.take, self.lose)

    def take(self, frame: Any) -> None:
        self.received.append(frame)

    def lose(self) -> None:
        self.lost += 1

    def has(self, count: int) -> bool:
        return len(self.received) == count

    def close(self) -> None:
        self.wire.drop()
        self.far.close()


def test_two_frames_split_anywhere() -> None:
    sent = [Chunk(7, 1, b"content"), LogLines(b"a line\n", 1)]
    data = packed(*sent)

    async def main() -> None:
        for place in range(1, len(data)):
            end = End()
            end.far.sendall(data[:place])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            end.far.sendall(data[place:])
            await until(partial(end.has, len(sent)))
            assert end.received == sent
            end.close()

    run(main())


@settings(max_examples=40, deadline=None)
@given(
    sizes=some.lists(some.sampled_from([0, 1, 5, 100, 5000, 70_000, READ_OCTETS, 2 * READ_OCTETS + 3]), max_size=8),
    seed=some.integers(0, 2**32),
)
def test_any_frames_in_any_pieces(sizes: list[int], seed: int) -> None:
    randomly = random.Random(seed)
    sent = [Chunk(number, 1, randomly.randbytes(size)) for number, size in enumerate(sizes)]
    data = packed(*sent)

    async def main() -> None:
        end = End()
        end.far.setblocking(False)
        loop = asyncio.get_running_loop()
        start = 0
        while start < len(data):
            size = randomly.choice([1, 3, 4, 17, 1000, 65_536, READ_OCTETS, len(data)])
            await loop.sock_sendall(end.far, data[start : start + size])
            start += size
        await until(lambda: len(end.received) == len(sent))
        assert end.received == sent
        assert len(end.wire._in) == READ_OCTETS, "a long frame must not cost memory for ever"
        end.close()

    run(main())


def test_frames_of_one_turn_leave_together_and_in_order() -> None:
    async def main() -> None:
        end = End()
        end.far.setblocking(False)
        for number in range(100):
            end.wire.send(Hello(number))
        with pytest.raises(BlockingIOError):
            end.far.recv(1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert end.far.recv(1 << 20) == packed(*[Hello(number) for number in range(100)])
        end.close()

    run(main())


def test_frames_wait_for_those_of_the_next_turns_but_for_few() -> None:
    async def main() -> None:
        end = End()
        end.far.setblocking(False)
        for number in range(TURNS):
            end.wire.send(Hello(number))
            with pytest.raises(BlockingIOError):
                end.far.recv(1)
            await asyncio.sleep(0)
        end.wire.send(Hello(TURNS))
        assert end.far.recv(1 << 20) == packed(*[Hello(number) for number in range(TURNS)])
        end.close()

    run(main())


def test_much_waits_for_nothing() -> None:
    async def main() -> None:
        end = End()
        end.far.setblocking(False)
        end.wire.send(LogLines(bytes(ENOUGH_OCTETS), 1))
        await asyncio.sleep(0)
        assert end.far.recv(1)
        end.close()

    run(main())


def test_who_can_wait_waits_for_a_side_that_does_not_read() -> None:
    async def main() -> None:
        end = End()
        end.far.setblocking(False)
        loop = asyncio.get_running_loop()
        count = 0
        while not end.wire.blocked:
            end.wire.send(Chunk(count, 1, bytes(65_536)))
            count += 1
            await asyncio.sleep(0)
        room = asyncio.create_task(end.wire.room())
        await asyncio.sleep(0.01)
        assert not room.done()
        assert end.wire.unsent > HIGH_WATER_OCTETS
        heard = 0
        wanted = len(packed(*[Chunk(number, 1, bytes(65_536)) for number in range(count)]))
        while heard < wanted:
            heard += len(await loop.sock_recv(end.far, 1 << 20))
        await room
        assert heard == wanted
        assert end.wire.unsent == 0
        end.close()

    run(main())


def test_waiting_ends_when_the_other_side_is_gone() -> None:
    async def main() -> None:
        end = End()
        while not end.wire.blocked:
            end.wire.send(Chunk(1, 1, bytes(65_536)))
            await asyncio.sleep(0)
        room = asyncio.create_task(end.wire.room())
        await asyncio.sleep(0)
        end.far.close()
        with pytest.raises(WireBroken):
            await room
        assert end.lost == 1
        end.wire.send(Hello(1))  # dropped, not an error
        assert end.wire.unsent == 0
        end.close()

    run(main())


def test_files_come_with_their_frame() -> None:
    async def main() -> None:
        near, far = pair()
        received: list[tuple[Any, list[bytes]]] = []
        counts = [0, 1, 3, 40]
        held: list[Wire] = []

        def take(frame: Any) -> None:
            contents = []
            for _ in range(counts[frame.pid]):
                file = held[0].take_file()
                contents.append(os.pread(file, 100, 0))
                os.close(file)
            received.append((frame, contents))

        held.append(Wire(near, FROM_WORKER, take, lambda: None))
        other = Wire(far, FROM_WORKER, lambda _: None, lambda: None)
        other.send(LogLines(bytes(READ_OCTETS - 10), 0))
        for number, count in enumerate(counts):
            files = [os.memfd_create("x") for _ in range(count)]
            for place, file in enumerate(files):
                os.write(file, b"%d of %d" % (place, number))
            other.send_files(Hello(number), files)
            for file in files:
                os.close(file)
        counts.append(0)
        held[0]._received = lambda frame: take(frame) if isinstance(frame, Hello) else None
        await until(lambda: len(received) == 4)
        assert received == [
            (Hello(number), [b"%d of %d" % (place, number) for place in range(counts[number])]) for number in range(4)
        ]
        with pytest.raises(WireBroken):
            held[0].take_file()
        held[0].drop()
        other.drop()

    run(main())


@pytest.mark.parametrize(
    "data",
    [
        packed(Hello(1))[:4] + b"\xc1" * 3,
        (wire.LONGEST_FRAME_OCTETS + 1).to_bytes(4, "little"),
        packed(frames.Stored(1)),
        packed(Hello(1))[:-1] + b"\xc1",
    ],
)
def test_what_is_no_frame_ends_the_wire(data: bytes) -> None:
    async def main() -> None:
        end = End()
        end.far.sendall(data + bytes(100))
        await until(lambda: end.lost)
        assert end.wire.closed
        assert len(end.complaints) == 1
        end.close()

    run(main())


def test_a_bug_in_one_frame_takes_no_other_away() -> None:
    async def main() -> None:
        end = End()
        taken: list[int] = []

        def take(frame: Any) -> None:
            taken.append(frame.pid)
            if frame.pid == 2:
                raise KeyError("a bug")

        end.wire._received = take
        end.far.sendall(packed(Hello(1), Hello(2), Hello(3)))
        await until(lambda: len(taken) == 3)
        assert [str(one["exception"]) for one in end.complaints] == ["'a bug'"]
        end.close()

    run(main())


def test_what_cannot_be_encoded_leaves_no_trace() -> None:
    async def main() -> None:
        end = End()
        end.wire.send(Hello(1))
        with pytest.raises(UnicodeEncodeError):
            end.wire.send(frames.AlarmTold("x" * 1000, "\ud800"))
        end.wire.send(Hello(2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert end.far.recv(1000) == packed(Hello(1), Hello(2))
        end.close()

    run(main())


def test_closing_sends_what_is_left() -> None:
    async def main() -> None:
        end = End()
        for number in range(40):
            end.wire.send(Chunk(number, 1, bytes(65_536)))
        closing = asyncio.create_task(end.wire.close())
        end.far.setblocking(False)
        heard = 0
        while piece := await asyncio.get_running_loop().sock_recv(end.far, 1 << 20):
            heard += len(piece)
        await closing
        assert heard == len(packed(*[Chunk(number, 1, bytes(65_536)) for number in range(40)]))
        end.close()

    run(main())
