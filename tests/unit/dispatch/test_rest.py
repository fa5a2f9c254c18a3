"""Workers at rest: who is woken, who ends, and that one timer keeps everybody's time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from staffetta.delivery.rest import Rests
from staffetta.testing.clock import VirtualClock, run


def play(main: Callable[[Rests], Awaitable[None]]) -> None:
    async def whole() -> None:
        await main(Rests(asyncio.get_running_loop(), 5.0))

    run(whole, VirtualClock())


def at_rest(rests: Rests, *lanes: str) -> list[asyncio.Task[bool]]:
    return [asyncio.ensure_future(rests.rest(lane)) for lane in lanes]


def test_the_last_to_rest_is_woken_first() -> None:
    async def main(rests: Rests) -> None:
        first, second, other = at_rest(rests, "a", "a", "b")
        await asyncio.sleep(0)
        assert rests.wake("a")
        assert await second
        assert not first.done()
        assert not rests.wake("c")
        assert len(rests) == 2
        assert rests.wake("a")
        assert not rests.wake("a")
        assert await first
        assert rests.wake("b")
        assert await other
        assert not rests

    play(main)


def test_everybody_rests_equally_long() -> None:
    async def main(rests: Rests) -> None:
        time = asyncio.get_running_loop().time
        begun = time()
        ends: list[float] = []

        async def one(wait: float) -> None:
            await asyncio.sleep(wait)
            assert not await rests.rest("a")
            ends.append(time() - begun)

        woken = at_rest(rests, "b")[0]
        waits = [0.0, 1.0, 2.5, 2.5, 9.0]
        resting = [asyncio.ensure_future(one(wait)) for wait in waits]
        await asyncio.sleep(0.5)
        assert rests.wake("b")  # the one whose time the timer was set for
        assert await woken
        await asyncio.gather(*resting)
        assert all(abs(end - wait - 5.0) < 0.01 for end, wait in zip(ends, waits, strict=True)), ends

    play(main)


def test_a_worker_that_is_cancelled_rests_no_more() -> None:
    async def main(rests: Rests) -> None:
        first, second = at_rest(rests, "a", "a")
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        assert len(rests) == 1
        first.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert not rests.wake("a")
        assert not rests

    play(main)


def test_who_is_being_cancelled_takes_no_claim() -> None:
    async def main(rests: Rests) -> None:
        first, second = at_rest(rests, "a", "a")
        await asyncio.sleep(0)
        second.cancel()
        assert rests.wake("a")
        assert await first
        await asyncio.gather(second, return_exceptions=True)
        assert second.cancelled()
        assert not rests

    play(main)


def test_one_or_all_make_place() -> None:
    async def main(rests: Rests) -> None:
        first, second, third = at_rest(rests, "a", "b", "a")
        await asyncio.sleep(0)
        rests.end_one()
        assert not await first
        rests.end_all()
        assert not await second
        assert not await third
        rests.end_one()
        assert not rests

    play(main)
