"""Answers that are kept: who asks often, or waits for what takes long, makes the relay work no more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from staffetta.app.console_facts import LAG_WINDOW, Kept, Lag
from staffetta.testing import clock as virtual

CLOCK = virtual.VirtualClock()


def play(scene: Callable[[], Awaitable[None]]) -> None:
    virtual.run(scene, CLOCK)


class Question:
    """Takes `seconds`, and counts how often it is asked."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.asked = self.open = self.most = 0

    async def __call__(self) -> int:
        self.asked += 1
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.open -= 1
        return self.asked


def test_many_askers_share_one_question() -> None:
    async def scene() -> None:
        question = Question(0.01)
        kept = Kept(question, 1.0, 5.0, clock=CLOCK.monotonic)
        assert await asyncio.gather(*(kept.get() for _ in range(50))) == [1] * 50
        await asyncio.sleep(0.9)
        assert await kept.get() == 1
        await asyncio.sleep(0.2)
        assert await kept.get() == 2

    play(scene)


def test_what_takes_long_is_kept_long() -> None:
    async def scene() -> None:
        question = Question(3.0)
        kept = Kept(question, 1.0, 5.0, clock=CLOCK.monotonic)
        assert await kept.get() == 1
        for _ in range(50):
            await asyncio.sleep(1)
            assert await kept.get() == 1
        await asyncio.sleep(11)
        assert await kept.get() == 2

    play(scene)


def test_impatience_starts_no_second_question() -> None:
    async def scene() -> None:
        question = Question(60.0)
        kept = Kept(question, 1.0, 5.0, clock=CLOCK.monotonic)
        assert [await kept.get() for _ in range(10)] == [None] * 10
        assert (question.asked, question.most) == (1, 1)
        await asyncio.sleep(11)
        assert await kept.get() == 1
        question.seconds = 1e6
        await asyncio.sleep(1300)
        assert await kept.get() == 1  # the old answer, while the new one is being found
        assert question.open == 1
        await kept.close()
        assert question.open == 0

    play(scene)


def test_who_is_late_is_called_so() -> None:
    async def scene() -> None:
        question = Question(0.0)
        kept = Kept(question, 1.0, 3.0, -1, CLOCK.monotonic)
        assert await kept.get() == 1
        question.seconds = 10.0
        await asyncio.sleep(1.1)
        assert await kept.get() == -1
        await kept.close()

    play(scene)


def test_a_question_that_fails_is_asked_again() -> None:
    calls: list[int] = []

    async def fails_once() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("a bug")
        return "fine"

    async def scene() -> None:
        kept = Kept(fails_once, 1.0, 3.0, clock=CLOCK.monotonic)
        with pytest.raises(ValueError, match="a bug"):
            await kept.get()
        await asyncio.sleep(1.1)
        assert await kept.get() == "fine"

    play(scene)


def test_lag_is_the_worst_of_late() -> None:
    held_up = 0.0

    async def scene() -> None:
        nonlocal held_up
        lag = Lag(lambda: CLOCK.monotonic() + held_up)
        task = asyncio.create_task(lag.watch())
        await asyncio.sleep(5.5)
        assert lag.worst == pytest.approx(0.0, abs=1e-6)
        held_up = 2.0
        await asyncio.sleep(5.0)
        assert lag.worst == pytest.approx(2.0, abs=1e-6)
        await asyncio.sleep(LAG_WINDOW)
        assert lag.worst == pytest.approx(0.0, abs=1e-6)
        task.cancel()

    play(scene)
