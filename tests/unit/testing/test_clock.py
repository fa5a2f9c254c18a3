"""The virtual clock: exact, in order, and no slower than the work that is done."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from staffetta.testing import clock as virtual
from staffetta.testing.clock import START, Stuck, VirtualClock, run


def test_five_days_take_no_time() -> None:
    clock = VirtualClock()

    async def main() -> float:
        loop = asyncio.get_running_loop()
        before = loop.time()
        for _ in range(120):
            await asyncio.sleep(3600)
        return loop.time() - before

    started = time.monotonic()
    assert run(main, clock) == pytest.approx(5 * 86400, abs=1e-6)
    assert time.monotonic() - started < 5
    assert clock.wall() == pytest.approx(START + 5 * 86400, abs=1e-6)


def test_timers_fire_in_order_and_at_their_time() -> None:
    async def main() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        seen: list[tuple[str, float]] = []

        async def sleeper(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            seen.append((name, round(loop.time() - begin, 6)))

        await asyncio.gather(sleeper("c", 90000), sleeper("a", 0.001), sleeper("b", 60))
        return seen

    assert run(main) == [("a", 0.001), ("b", 60.0), ("c", 90000.0)]


def test_a_deadline_comes_before_a_longer_wait() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(300):
                await asyncio.sleep(301)
        return loop.time() - begin

    assert run(main) == pytest.approx(300)


def test_setting_the_wall_clock_moves_no_timer() -> None:
    clock = VirtualClock()

    async def main() -> float:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        loop.call_later(10, clock.set_wall, 0.0)
        await asyncio.sleep(60)
        return loop.time() - begin

    assert run(main, clock) == pytest.approx(60)
    assert clock.wall() == pytest.approx(50)


def test_time_stands_still_while_a_thread_works() -> None:
    async def main() -> tuple[float, bool]:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        go = threading.Event()
        timer = loop.call_later(0.5, go.set)
        await asyncio.to_thread(go.wait, 0.05)
        timer.cancel()
        return loop.time() - begin, go.is_set()

    assert run(main) == (0.0, False)


def test_a_socket_is_heard_before_time_jumps() -> None:
    async def main() -> tuple[bytes, float]:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            begin = loop.time()
            answer = threading.Timer(0.02, theirs.send, (b"late",))
            answer.start()
            async with asyncio.timeout(300):
                data = await loop.sock_recv(ours, 10)
            answer.join()
            return data, loop.time() - begin

    assert run(main, grace_seconds=5.0) == (b"late", 0.0)


def test_a_loop_that_waits_for_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "STUCK_SECONDS", 0.01)

    async def main() -> None:
        await asyncio.Event().wait()

    # The runner cancels what is left; that takes no timer.
    with pytest.raises(Stuck):
        run(main)


def test_however_large_the_clock_a_timer_comes() -> None:
    clock = VirtualClock()
    clock.advance(1e9)

    async def main() -> bool:
        for _ in range(50):
            await asyncio.sleep(1e-9)
        await asyncio.sleep(0.1)
        return True

    assert run(main, clock)
    before = clock.monotonic()
    clock.advance(1e-12)
    assert clock.monotonic() > before


def test_time_does_not_run_backwards() -> None:
    with pytest.raises(ValueError, match="backwards"):
        VirtualClock().advance(-1)
