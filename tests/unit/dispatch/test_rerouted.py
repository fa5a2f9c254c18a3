"""Messages that wait under a destination of yesterday's routes are filed anew before anybody tries them."""

from __future__ import annotations

import asyncio
from typing import Any

from staffetta.delivery.courier import Report
from staffetta.mail.outcome import Result, Scope
from staffetta.spool.contract import Claim
from staffetta.testing.office import Office, outcome, report


def test_what_is_known_of_the_new_destination_holds_for_them(office: Any) -> None:
    """A dead host behind a renamed route is tried once, not once for every message that waits for it."""

    async def play(place: Office) -> None:
        async def down(destination: str, claim: Claim) -> Report:
            return report(claim, outcome(Result.DEFERRED, Scope.DESTINATION))

        place.couriers.deliver = down
        place.dispatcher.destination = lambda recipient, sender: f"mx:renamed/{recipient.domain}"
        for number in range(300):
            await place.accept(f"m{number}", claim=False)
        await asyncio.sleep(50)
        assert {destination for _, destination, _ in place.couriers.claims} == {"mx:renamed/example.net"}
        assert len(place.couriers.claims) <= 2
        place.couriers.deliver = place.couriers.at_once
        await asyncio.sleep(200)
        assert len(place.told("Deliver")) == 300

    office(play, ready_per_destination=10)


def test_an_outcome_without_a_peer_does_not_call_the_destination_well(office: Any) -> None:
    async def play(place: Office) -> None:
        answers = [
            outcome(Result.DEFERRED, Scope.DESTINATION),
            outcome(Result.DEFERRED, Scope.SESSION, remote=False),
            outcome(Result.DEFERRED, Scope.DESTINATION),
        ]

        async def next_one(destination: str, claim: Claim) -> Report:
            return report(claim, answers.pop(0) if answers else outcome(Result.DELIVERED))

        place.couriers.deliver = next_one
        await place.accept("one")
        await asyncio.sleep(80)
        assert place.dispatcher._schedule.failures("mx:example.net") == 1
        await asyncio.sleep(400)
        assert place.dispatcher._schedule.failures("mx:example.net") == 2

    office(play)
