"""Rules that change while mail is moving: who is at it ends by the old ones, everything after goes by the new ones."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec.structs import replace

from staffetta.delivery.bounce import Notifier
from staffetta.delivery.courier import Report
from staffetta.delivery.rules import Rules
from staffetta.mail.identity import IdentitySource
from staffetta.mail.outcome import Result, Scope
from staffetta.policy.retry import RetrySettings
from staffetta.spool.contract import Claim
from staffetta.testing.office import RETRY, Couriers, Office, outcome, report


def rules(
    place: Office, couriers: Couriers, retry: RetrySettings = RETRY, limit: tuple[int, float] = (0, 0.0)
) -> Rules:
    identities = IdentitySource(lambda count: b"r" * count)
    notifier = Notifier(place.spool, "new.example", identities, place._targets, retry)
    return Rules(retry, couriers, notifier, lambda _: limit, lambda recipient, _: f"mx:new/{recipient.domain}")


def test_what_is_at_hand_goes_the_new_way_once(office: Any) -> None:
    async def play(place: Office) -> None:
        go_on = asyncio.Event()

        async def slow(destination: str, claim: Claim) -> Report:
            await go_on.wait()
            return report(claim, outcome(Result.DELIVERED))

        place.couriers.deliver = slow
        fresh = Couriers(place.clock)
        for number in range(30):
            await place.accept(f"m{number:02}")
        await asyncio.sleep(1)
        begun = place.couriers.ids()
        assert 0 < len(begun) < 30
        place.dispatcher.adopt(rules(place, fresh))
        go_on.set()
        await asyncio.sleep(10)
        assert place.couriers.ids() == begun, "nothing more goes by the old rules"
        assert {destination for _, destination, _ in fresh.claims} == {"mx:new/example.net"}
        assert sorted(begun + fresh.ids()) == [f"m{number:02}" for number in range(30)]
        assert len(place.told("Deliver")) == 30

    office(play)


def test_a_connection_that_rests_is_not_used_by_new_rules(office: Any) -> None:
    async def play(place: Office) -> None:
        place.couriers.warm = True
        fresh = Couriers(place.clock)
        await place.accept("m1")
        await asyncio.sleep(1)
        same_way = replace(rules(place, fresh), destination=lambda recipient, _: f"mx:{recipient.domain}")
        place.dispatcher.adopt(same_way)
        await place.accept("m2")
        await asyncio.sleep(1)
        assert place.couriers.ids() == ["m1"]
        assert fresh.ids() == ["m2"]

    office(play)


def test_a_connection_in_use_is_not_used_again(office: Any) -> None:
    async def play(place: Office) -> None:
        go_on = asyncio.Event()

        async def slow(destination: str, claim: Claim) -> Report:
            await go_on.wait()
            return report(claim, outcome(Result.DELIVERED))

        place.couriers.warm = True
        place.couriers.deliver = slow
        fresh = Couriers(place.clock)
        same_way = replace(rules(place, place.couriers, limit=(1, 0.0)), destination=lambda to, _: f"mx:{to.domain}")
        place.dispatcher.adopt(same_way)
        await place.accept("m1")
        await place.accept("m2")
        await asyncio.sleep(1)
        place.dispatcher.adopt(replace(same_way, couriers=fresh))
        go_on.set()
        await asyncio.sleep(1)
        assert (place.couriers.ids(), fresh.ids()) == (["m1"], ["m2"])

    office(play)


def test_lifetimes_are_those_of_the_new_rules(office: Any) -> None:
    async def play(place: Office) -> None:
        async def later(destination: str, claim: Claim) -> Report:
            return report(claim, outcome(Result.DEFERRED))

        place.couriers.deliver = later
        await place.accept("m1", sender="")
        await asyncio.sleep(3600)
        place.dispatcher.adopt(rules(place, place.couriers, replace(RETRY, bounce_lifetime_seconds=1800.0)))
        await asyncio.sleep(60)
        assert len(place.told("Expire")) == 1

    office(play)


def test_a_rate_that_is_lifted_lets_go_at_once(office: Any) -> None:
    async def play(place: Office) -> None:
        fresh = Couriers(place.clock)
        slow = replace(rules(place, place.couriers, limit=(1, 0.001)), destination=lambda to, _: f"mx:{to.domain}")
        place.dispatcher.adopt(slow)
        for number in range(20):
            await place.accept(f"m{number:02}")
        await asyncio.sleep(1)
        assert len(place.couriers.claims) == 1
        place.dispatcher.adopt(replace(slow, couriers=fresh, limits=lambda _: (20, 0.0)))
        for number in range(20, 25):
            await place.accept(f"m{number:02}")
        await asyncio.sleep(2)
        assert len(fresh.claims) >= 23, "but for the one that waits for its turn under the old rate"
        await asyncio.sleep(2000)
        assert len(place.told("Deliver")) == 25

    office(play)


def test_waits_are_those_of_the_new_rules(office: Any) -> None:
    async def play(place: Office) -> None:
        async def later(destination: str, claim: Claim) -> Report:
            return report(claim, outcome(Result.DEFERRED))

        place.couriers.deliver = later
        short = RetrySettings((7.0,))
        place.dispatcher.adopt(rules(place, place.couriers, short))
        await place.accept("m1")
        await asyncio.sleep(20)
        times = [at for at, _, _ in place.couriers.claims]
        assert len(times) >= 2
        assert times[1] - times[0] < 10

    office(play)


def test_a_way_that_changed_is_tried_although_it_was_down(office: Any) -> None:
    async def play(place: Office) -> None:
        async def down(destination: str, claim: Claim) -> Report:
            return report(claim, outcome(Result.DEFERRED, Scope.DESTINATION))

        place.couriers.deliver = down
        await place.accept("m1")
        await asyncio.sleep(1)
        for number in range(2, 6):
            await place.accept(f"m{number}", claim=False)
        await asyncio.sleep(5)
        assert len(place.couriers.claims) == 1
        place.couriers.deliver = place.couriers.at_once
        await place.dispatcher.reconsider(["mx:example.net", "mx:nobody.example"])
        await asyncio.sleep(5)
        assert sorted(place.couriers.ids()[1:]) == ["m2", "m3", "m4", "m5"]

    office(play)
