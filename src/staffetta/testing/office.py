"""A dispatcher on a virtual clock, over a spool in memory, with couriers that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from random import Random
from typing import Any

from staffetta.delivery.bounce import Notifier
from staffetta.delivery.courier import Report, Try
from staffetta.delivery.dispatch import Dispatcher
from staffetta.delivery.settings import DeliverySettings
from staffetta.mail.address import Mailbox
from staffetta.mail.identity import IdentitySource
from staffetta.mail.outcome import Outcome, Result, Scope
from staffetta.mail.reply import reply
from staffetta.observe.events import Event
from staffetta.policy.retry import RetrySettings
from staffetta.spool.contract import Claim, SpoolUnavailable
from staffetta.spool.memory import MemorySpool
from staffetta.testing.clock import VirtualClock
from staffetta.testing.spooled import Letter, new_message

RETRY = RetrySettings()


def outcome(result: Result, scope: Scope = Scope.RECIPIENT, text: str = "said the test", **more: Any) -> Outcome:
    code = {Result.DELIVERED: 250, Result.DEFERRED: 450, Result.FAILED: 550}[result]
    return Outcome(result, scope, reply(code, f"{code // 100}.0.0", text), "dot", **more)


def report(claim: Claim, *outcomes: Outcome) -> Report:
    """One outcome for all recipients, or one for each."""
    all_of_them = outcomes if len(outcomes) > 1 else outcomes * len(claim.recipients)
    return Report((Try(tuple(all_of_them), "mx.example.net", "192.0.2.1"),), "default")


class FailingSpool(MemorySpool):
    """Fails when told so: `broken` holds names of methods, `errors` what they raise once, `works_before` how often they
    work before they fail once."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.broken: set[str] = set()
        self.errors: dict[str, Exception] = {}
        self.works_before: dict[str, int] = {}

    def _maybe(self, name: str) -> None:
        if name in self.errors:
            raise self.errors.pop(name)
        left = self.works_before.get(name)
        if left is not None:
            self.works_before[name] = left - 1
            if not left:
                del self.works_before[name]
                raise SpoolUnavailable(f"{name} does not work this time")
        if name in self.broken:
            raise SpoolUnavailable(f"{name} does not work")

    async def record(self, *args: Any, **more: Any) -> None:
        self._maybe("record")
        if len(args) > 3 and args[3]:
            self._maybe("notice")
        await super().record(*args, **more)

    async def due(self, *args: Any) -> list[Claim]:
        self._maybe("due")
        return await super().due(*args)

    async def destination_up(self, destination: str) -> None:
        self._maybe("destination_up")
        await super().destination_up(destination)

    def content(self, message_id: str) -> AsyncIterator[bytes]:
        self._maybe("content")
        return super().content(message_id)


class Couriers:
    """Makes couriers; `deliver` is what they do. `claims` are those that were brought, `open` who is at it now."""

    def __init__(self, clock: VirtualClock) -> None:
        self.claims: list[tuple[float, str, Claim]] = []
        self.open = self.most = 0
        self.warm = False
        self.clock = clock
        self.deliver: Callable[[str, Claim], Awaitable[Report]] = self.at_once

    async def at_once(self, destination: str, claim: Claim) -> Report:
        return report(claim, outcome(Result.DELIVERED))

    def __call__(self, destination: str) -> Any:
        return _Courier(self, destination)

    def ids(self) -> list[str]:
        return [claim.message.id for _, _, claim in self.claims]


class _Courier:
    def __init__(self, couriers: Couriers, destination: str) -> None:
        self._couriers = couriers
        self._destination = destination
        self.warm = couriers.warm

    async def deliver(self, claim: Claim) -> Report:
        couriers = self._couriers
        couriers.claims.append((couriers.clock.wall(), self._destination, claim))
        couriers.open += 1
        couriers.most = max(couriers.most, couriers.open)
        try:
            return await couriers.deliver(self._destination, claim)
        finally:
            couriers.open -= 1

    async def finish(self) -> None:
        await asyncio.sleep(0)


class Office:
    """A dispatcher and what it stands on."""

    def __init__(self, clock: VirtualClock, settings: DeliverySettings) -> None:
        self.clock = clock
        self.spool = FailingSpool(clock.wall)
        self.couriers = Couriers(clock)
        self.events: list[Event] = []
        self.complaints: list[Any] = []
        identities = IdentitySource(lambda count: b"r" * count)
        self.targets: Callable[[Mailbox], Sequence[tuple[Mailbox, str]]] = lambda to: [(to, f"mx:{to.domain}")]
        notifier = Notifier(self.spool, "relay.example", identities, self._targets, settings.retry)
        seeded = Random(1)  # noqa: S311 - the same every run is the point
        self.dispatcher = Dispatcher(
            self.spool, settings, self.couriers, notifier, self.events.append, clock=clock.wall, random=seeded
        )

    def _targets(self, sender: Mailbox) -> Sequence[tuple[Mailbox, str]]:
        return self.targets(sender)

    async def accept(self, number: str, *recipients: str, claim: bool | None = None, **more: Any) -> None:
        """As intake does: claimed in the write when there is room, else left to the dispatcher."""
        letter = Letter(number, recipients or ("ben@example.net",), received_at=self.clock.wall(), **more)
        new = new_message(letter)
        dispatcher = self.dispatcher
        if claim is None:
            claim = all(dispatcher.has_room(one.destination) for one in new.recipients)
        new = new_message(Letter(**{**_fields(letter), "claim": claim}))
        await self.spool.commit(new)
        if claim:
            dispatcher.offer(Claim(new.message, new.recipients, new.head + letter.body))
        else:
            dispatcher.wake()

    def told(self, name: str) -> list[Any]:
        return [event for event in self.events if type(event).__name__ == name]

    async def queued(self) -> int:
        return (await self.spool.ledger()).queued


def _fields(letter: Letter) -> dict[str, Any]:
    return {name: getattr(letter, name) for name in Letter.__struct_fields__}
