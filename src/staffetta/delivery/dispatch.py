"""Starts what the schedule allows: refills lanes from the spool and runs one worker per outgoing connection.

A worker keeps its courier while there is work, and a little longer. It records the end of an attempt before it takes
the next claim, so that a crash repeats at most what was in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final

from msgspec.structs import replace

from staffetta.delivery.bounce import Notifier
from staffetta.delivery.courier import Courier, CourierFactory, Report
from staffetta.delivery.lifetime import Lifetimes, waiting_again
from staffetta.delivery.schedule import Lane, Schedule
from staffetta.delivery.settings import DeliverySettings
from staffetta.delivery.settle import Moment, Settlement, settle
from staffetta.mail.address import Mailbox, ReversePath
from staffetta.observe.events import Event
from staffetta.policy.route import is_held
from staffetta.spool.contract import Claim, Spool, SpoolUnavailable

POLL_SECONDS: Final = 0.5
"""How often the store is asked whether another process (a command) changed it."""

SWEEP_SECONDS: Final = 30.0
"""How often lifetimes and delay notices are looked at."""

RECORD_RETRY_SECONDS: Final = 1.0
"""Pause before the end of an attempt is recorded again when the store could not take it."""


class Dispatcher:
    """The running half of delivery. `emit` gets every event once, after it is durable."""

    def __init__(
        self,
        spool: Spool,
        settings: DeliverySettings,
        couriers: CourierFactory,
        notifier: Notifier,
        emit: Callable[[Event], None],
        *,
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self._spool = spool
        self._settings = settings
        self._couriers = couriers
        self._notifier = notifier
        self._emit = emit
        self._clock = clock
        self._random = random
        self._schedule = Schedule(settings)
        self._lifetimes = Lifetimes(spool, notifier, settings.retry, self.offer, self._schedule.failures)
        self._workers: set[asyncio.Task[None]] = set()
        self._idle: dict[str, list[asyncio.Future[bool]]] = {}
        self._wake = asyncio.Event()
        self._sleeps_until = 0.0
        self._draining = False
        self._main: asyncio.Task[None] | None = None
        self.limits: Callable[[str], tuple[int, float]] = lambda _: (0, 0.0)
        self.destination: Callable[[Mailbox, ReversePath], str] | None = None

    def start(self) -> None:
        """Begin to deliver."""
        self._main = asyncio.create_task(self._run(), name="dispatch")

    def has_room(self, destination: str) -> bool:
        """True when intake may claim a new message for this destination in the write that accepts it."""
        return not self._draining and self._schedule.has_room(destination, self._clock())

    def offer(self, claim: Claim) -> None:
        """A claim is at hand: from the door, or from the spool. Recipients are split by destination."""
        first = claim.recipients[0].destination
        if len(claim.recipients) == 1 or all(recipient.destination == first for recipient in claim.recipients):
            self._add(first, claim)
            return
        groups: dict[str, list[int]] = {}
        for position, recipient in enumerate(claim.recipients):
            groups.setdefault(recipient.destination, []).append(position)
        for destination, positions in groups.items():
            part = tuple(claim.recipients[position] for position in positions)
            self._add(destination, Claim(claim.message, part, claim.content))

    def wake(self) -> None:
        """Something changed: look at the spool now."""
        self._wake.set()

    async def stop(self) -> None:
        """Take nothing new, let deliveries in flight finish, at most `drain_seconds`."""
        self._draining = True
        if self._main is not None:
            self._main.cancel()
            await asyncio.gather(self._main, return_exceptions=True)
        for waiters in self._idle.values():
            for waiter in waiters:
                _wake(waiter, False)
        if self._workers:
            _, late = await asyncio.wait(self._workers, timeout=self._settings.drain_seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.gather(*late, return_exceptions=True)

    def _add(self, destination: str, claim: Claim) -> None:
        limit = self._settings.recipients_per_transaction
        lane = self._schedule.lane(destination, *self.limits(destination))
        if len(claim.recipients) <= limit:
            self._schedule.add(lane, claim)
        else:
            for start in range(0, len(claim.recipients), limit):
                part = claim.recipients[start : start + limit]
                self._schedule.add(lane, Claim(claim.message, part, claim.content))
        waiters = self._idle.get(destination)
        while waiters:
            if _wake(waiters.pop(), True):
                return
        self._start_workers(lane)

    def _start_workers(self, lane: Lane) -> None:
        while self._schedule.may_start(lane) and lane.workers < len(lane.ready) + lane.workers:
            self._schedule.started(lane)
            task = asyncio.create_task(self._work(lane), name=f"deliver {lane.key}")
            self._workers.add(task)
            task.add_done_callback(self._workers.discard)
            if len(lane.ready) <= lane.workers:
                return

    async def _work(self, lane: Lane) -> None:
        courier: Courier | None = None
        try:
            while not self._draining:
                claim = self._schedule.take(lane)
                if claim is None:
                    if courier is None or not courier.warm or not await self._rest(lane):
                        return
                    continue
                wait = self._schedule.slot(lane, self._clock())
                if wait > 0:
                    await asyncio.sleep(wait)
                if courier is None:
                    courier = self._couriers(lane.key)
                await self._carry(lane, courier, claim)
                if self._schedule.wants_refill(lane):
                    self._wake.set()
        finally:
            self._schedule.stopped(lane)
            if courier is not None:
                await courier.finish()
            if lane.ready and not self._draining:
                self._start_workers(lane)

    async def _rest(self, lane: Lane) -> bool:
        """Wait a little for the lane's next claim; False when none came and the connection should close."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        waiters = self._idle.setdefault(lane.key, [])
        waiters.append(waiter)
        timer = loop.call_later(self._settings.idle_seconds, _wake, waiter, False)
        try:
            return await waiter
        finally:
            timer.cancel()
            if waiter in waiters:
                waiters.remove(waiter)

    async def _carry(self, lane: Lane, courier: Courier, claim: Claim) -> None:
        report = await courier.deliver(claim)
        at = Moment(self._clock(), self._random.random)
        settlement = settle(claim, report, at, self._settings.retry, lane.failures)
        if settlement.destination is not None:
            given_back = self._schedule.failed(lane, settlement.destination)
            await self._record(claim, settlement, report)
            for other in given_back:
                steps = [waiting_again(recipient) for recipient in other.recipients]
                await self._spool.record(other.message.id, steps, ())
            return
        if self._schedule.succeeded(lane):
            await self._spool.destination_up(lane.key)
            self._wake.set()
        if lane.ready:
            self._start_workers(lane)
        await self._record(claim, settlement, report)

    async def _record(self, claim: Claim, settlement: Settlement, report: Report) -> None:
        notices = await self._notifier.after(claim, settlement, report, self._clock())
        while True:
            try:
                await self._spool.record(
                    claim.message.id,
                    settlement.steps,
                    (settlement.journal,),
                    notices.messages,
                    settlement.destination,
                )
                break
            except SpoolUnavailable:
                # The peer has it, or had its say; forgetting that would repeat it. Wait for the store.
                await asyncio.sleep(RECORD_RETRY_SECONDS)
        for event in settlement.events:
            self._emit(event)
        self._expect(settlement)
        for event in notices.events:
            self._emit(event)
        if notices.messages:
            self._wake.set()

    def _expect(self, settlement: Settlement) -> None:
        """Wake up earlier than planned when something becomes due earlier."""
        times = [step.next_attempt_at for step in settlement.steps if step.final is None]
        if settlement.destination is not None:
            times.append(settlement.destination.not_before)
        if times and min(times) < self._sleeps_until:
            self._wake.set()

    async def _run(self) -> None:
        swept_at = 0.0
        while True:
            self._wake.clear()
            try:
                refilled = await self._refill()
                now = self._clock()
                if abs(now - swept_at) >= SWEEP_SECONDS:
                    swept_at = now
                    await self._sweep(now)
                if not refilled:
                    await self._sleep()
            except SpoolUnavailable:
                await asyncio.sleep(RECORD_RETRY_SECONDS)

    async def _refill(self) -> bool:
        """Claim what is due and fits; True when there may be more at once."""
        room = self._schedule.room()
        if room == 0:
            return False
        now = self._clock()
        full = self._schedule.full(now)
        per_destination = self._settings.ready_per_destination
        claims = await self._spool.due(now, full, room, per_destination)
        counts: dict[str, int] = {}
        for claim in claims:
            destination = claim.recipients[0].destination
            counts[destination] = counts.get(destination, 0) + len(claim.recipients)
            self.offer(self._rerouted(claim))
        for lane in self._schedule.lanes():
            if lane.key not in full:
                lane.more = counts.get(lane.key, 0) >= per_destination
        return len(claims) >= room

    def _rerouted(self, claim: Claim) -> Claim:
        """The claim under the routes of today: the configuration may have changed since it was accepted."""
        choose = self.destination
        if choose is None:
            return claim
        sender = claim.message.sender.reverse_path
        keys = [choose(recipient.address, sender) for recipient in claim.recipients]
        if all(key == recipient.destination for key, recipient in zip(keys, claim.recipients, strict=True)):
            return claim
        recipients = tuple(
            recipient if is_held(recipient.destination) else replace(recipient, destination=key)
            for key, recipient in zip(keys, claim.recipients, strict=True)
        )
        return Claim(claim.message, recipients, claim.content)

    async def _sleep(self) -> None:
        now = self._clock()
        due = await self._spool.next_due(now, self._schedule.crowded())
        left = SWEEP_SECONDS if due is None else min(max(due - now, 0.05), SWEEP_SECONDS)
        self._sleeps_until = now + left
        seen = self._spool.changes()
        while left > 0:
            try:
                async with asyncio.timeout(min(left, POLL_SECONDS)):
                    await self._wake.wait()
                return
            except TimeoutError:
                left -= POLL_SECONDS
                if self._spool.changes() != seen:
                    self._schedule.reconsider()
                    return

    async def _sweep(self, now: float) -> None:
        self._schedule.forget_idle(now)
        events = await self._lifetimes.sweep(now)
        for event in events:
            self._emit(event)
        if events:
            self._wake.set()


def _wake(waiter: asyncio.Future[bool], come: bool) -> bool:
    """Wake a worker that rests; False when it is awake already."""
    if waiter.done():
        return False
    waiter.set_result(come)
    return True
