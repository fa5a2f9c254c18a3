"""What age does to waiting messages, and that nothing is forgotten when it cannot be done now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from staffetta.accounts.store import AccountsUnavailable
from staffetta.delivery.bounce import Notifier
from staffetta.delivery.lifetime import Lifetimes, waiting_again
from staffetta.mail.envelope import Notify
from staffetta.mail.identity import IdentitySource
from staffetta.policy.retry import RetrySettings
from staffetta.spool.contract import Claim, SpoolUnavailable, State
from staffetta.testing.office import FailingSpool
from staffetta.testing.spooled import START, Letter, new_message

DAY = 86_400.0
HOUR = 3_600.0


class Desk:
    """Lifetimes over a spool; `offered` are claims that got another attempt, `failures` the destination's bad times."""

    def __init__(self, **retry: Any) -> None:
        self.spool = FailingSpool(lambda: START)
        self.offered: list[Claim] = []
        self.failures = 0
        self.targets: Callable[[Any], Any] = lambda to: [(to, "mx:example.org")]
        settings = RetrySettings(**retry)
        identities = IdentitySource(lambda count: b"r" * count)
        notifier = Notifier(self.spool, "relay.example", identities, lambda to: self.targets(to), settings)  # noqa: PLW0108
        self.lifetimes = Lifetimes(self.spool, notifier, settings, self.offered.append, lambda _: self.failures)

    async def put(self, number: str = "one", *recipients: str, **more: Any) -> None:
        """A waiting message; `more` are fields of its letter or its recipients."""
        letter = {name: more.pop(name) for name in ("sender", "received_at") if name in more}
        new = new_message(Letter(number, recipients or ("ben@example.net",), **letter))
        waiting = tuple(msgspec.structs.replace(one, **more) for one in new.recipients)
        await self.spool.commit(msgspec.structs.replace(new, recipients=waiting))

    async def sweep(self, age: float) -> list[str]:
        """The names of the events of one look."""
        events = await self.lifetimes.sweep(START + age)
        return [type(event).__name__ for event in events]

    def waiting(self, number: str = "one") -> list[Any]:
        stored = self.spool._messages.get(number)
        return [] if stored is None else list(stored.waiting.values())

    def active(self) -> int:
        return sum(len(stored.active) for stored in self.spool._messages.values())


def played(main: Callable[[Desk], Awaitable[None]], **retry: Any) -> None:
    async def whole() -> None:
        await main(Desk(**retry))

    asyncio.run(whole())


@pytest.mark.parametrize(
    ("sender", "age", "attempts", "failures", "events", "offered"),
    [
        ("anna@example.org", 5 * DAY + 1, 3, 0, ["Expire", "Notice"], 0),
        ("anna@example.org", 5 * DAY - 1, 3, 0, ["Notice"], 0),
        ("anna@example.org", 5 * DAY + 1, 2, 0, ["Notice"], 1),
        ("anna@example.org", 5 * DAY + 1, 2, 1, ["Expire", "Notice"], 0),
        ("anna@example.org", 5 * DAY + 1, 0, 3, ["Expire", "Notice"], 0),
        ("", DAY + 1, 3, 0, ["Expire"], 0),
        ("", DAY - 1, 3, 0, [], 0),
        ("", DAY + 1, 1, 0, [], 1),
    ],
)
def test_the_end_of_a_lifetime(
    sender: str, age: float, attempts: int, failures: int, events: list[str], offered: int
) -> None:
    async def play(desk: Desk) -> None:
        desk.failures = failures
        await desk.put(sender=sender, attempts=attempts, delay_noticed=offered > 0)
        expected = events if not offered else []
        assert await desk.sweep(age) == expected
        assert len(desk.offered) == offered

    played(play)


@pytest.mark.parametrize(
    ("sender", "age", "notify", "told"),
    [
        ("anna@example.org", 4 * HOUR + 1, (), True),
        ("anna@example.org", 4 * HOUR - 1, (), False),
        ("anna@example.org", 4 * HOUR + 1, (Notify.DELAY,), True),
        ("anna@example.org", 4 * HOUR + 1, (Notify.FAILURE,), False),
        ("anna@example.org", 4 * HOUR + 1, (Notify.NEVER,), False),
        ("", 4 * HOUR + 1, (), False),
    ],
)
def test_the_sender_hears_of_a_delay_once(sender: str, age: float, notify: tuple[Notify, ...], told: bool) -> None:
    async def play(desk: Desk) -> None:
        before = {"state": State.DEFERRED, "attempts": 2, "last_reply": "450 4.2.0 busy"}
        await desk.put(sender=sender, notify=notify, **before)
        assert await desk.sweep(age) == (["Notice"] if told else [])
        assert await desk.sweep(age + 0.5) == []
        [one] = desk.waiting()
        assert (one.state, one.attempts, one.last_reply) == (State.DEFERRED, 2, "450 4.2.0 busy")
        assert desk.active() == 0

    played(play)


def test_delays_may_be_nobodys_business() -> None:
    async def play(desk: Desk) -> None:
        await desk.put()
        assert await desk.sweep(4 * DAY) == []

    played(play, delay_notice_seconds=None)


def test_an_operator_ends_a_message_of_any_age() -> None:
    async def play(desk: Desk) -> None:
        await desk.put(bounce_by="root", state=State.DEFERRED)
        [bounce, notice] = await desk.lifetimes.sweep(START + 1)
        assert (type(bounce).__name__, getattr(bounce, "reason", "")) == ("Bounce", "bounced by root")
        assert type(notice).__name__ == "Notice"
        assert not desk.waiting()

    played(play)


def test_only_those_who_are_over_end_and_the_others_get_another_attempt() -> None:
    async def play(desk: Desk) -> None:
        new = new_message(Letter("one", ("old@example.net", "young@example.net")))
        waiting = (msgspec.structs.replace(new.recipients[0], attempts=5), new.recipients[1])
        await desk.spool.commit(msgspec.structs.replace(new, recipients=waiting))
        assert await desk.sweep(6 * DAY) == ["Expire", "Notice"]
        assert [str(one.address) for claim in desk.offered for one in claim.recipients] == ["young@example.net"]
        assert [str(one.address) for one in desk.waiting()] == ["young@example.net"]

    played(play)


@pytest.mark.parametrize("error", [SpoolUnavailable("locked"), AccountsUnavailable("locked"), KeyError("a bug")])
@pytest.mark.parametrize("age", [6 * DAY, 5 * HOUR])
def test_what_cannot_be_told_now_is_told_later(error: Exception, age: float) -> None:
    async def play(desk: Desk) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)

        def fails(_: object) -> Any:
            raise error

        works, desk.targets = desk.targets, fails
        await desk.put("one", attempts=3)
        await desk.put("two", attempts=3)
        assert await desk.sweep(age) == []
        assert desk.active() == 0
        desk.targets = works
        names = await desk.sweep(age + 60)
        assert names.count("Notice") == 2

    played(play)


def test_a_full_disk_that_takes_no_notice_costs_no_claim() -> None:
    async def play(desk: Desk) -> None:
        desk.spool.broken = {"notice"}
        await desk.put(attempts=3)
        assert await desk.sweep(6 * DAY) == []
        assert (len(desk.waiting()), desk.active()) == (1, 0)
        desk.spool.broken = {"record"}
        with pytest.raises(SpoolUnavailable):
            await desk.sweep(6 * DAY)
        assert desk.active() == 1
        desk.spool.broken = set()
        assert await desk.sweep(6 * DAY) == ["Expire", "Notice"]
        assert not (await desk.spool.ledger()).unaccounted

    played(play)


@pytest.mark.parametrize("attempts", [0, 4])
def test_who_is_given_back_is_as_before(attempts: int) -> None:
    new = new_message(Letter("one"))
    one = msgspec.structs.replace(
        new.recipients[0],
        attempts=attempts,
        next_attempt_at=START + 7,
        last_reply="450 later",
        in_doubt=True,
        delay_noticed=True,
        destination="route:x",
    )
    step = waiting_again(one)
    assert step.final is None
    assert step.state is (State.DEFERRED if attempts else State.QUEUED)
    for name in ("attempts", "next_attempt_at", "last_reply", "in_doubt", "delay_noticed", "destination", "index"):
        assert getattr(step, name) == getattr(one, name)
