"""Offices: see staffetta.testing.office."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from staffetta.delivery.settings import DeliverySettings
from staffetta.testing.clock import VirtualClock, run
from staffetta.testing.office import RETRY, Office


@pytest.fixture
def office() -> Callable[..., None]:
    """Plays a coroutine with an office; at the end the books balance and nobody complained (unless expected)."""

    def play(main: Callable[[Office], Awaitable[None]], *, complains: bool = False, **settings: Any) -> None:
        clock = VirtualClock()

        async def whole() -> None:
            place = Office(clock, DeliverySettings(**{"retry": RETRY, **settings}))
            asyncio.get_running_loop().set_exception_handler(lambda _, context: place.complaints.append(context))
            place.dispatcher.start()
            await main(place)
            await place.dispatcher.stop()
            await asyncio.sleep(0)
            assert bool(place.complaints) == complains, place.complaints
            assert not (await place.spool.ledger()).unaccounted

        run(whole, clock)

    return play
