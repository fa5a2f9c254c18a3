"""Starts what the schedule allows: refills lanes from the spool and runs one worker per outgoing connection.

A worker keeps its courier while there is work, and a little longer. It records the end of an attempt before it takes
the next claim, so that a crash repeats at most what was in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import Final

from msgspec.structs import replace

from staffetta.accounts.store import AccountsUnavailable
from staffetta.delivery.bounce import NOTHING, Notifier
from staffetta.delivery.courier import Courier, CourierFactory, Report
from staffetta.delivery.insist import RECORD_RETRY_SECONDS, complain, give_back, insist
from staffetta.delivery.lifetime import Lifetimes
from staffetta.delivery.rest import Rests
from staffetta.delivery.rules import Choose, Limits, Rules, rerouted
from staffetta.delivery.schedule import Lane, Schedule
from staffetta.delivery.settings import DeliverySettings
from staffetta.delivery.settle import Moment, Settlement, held_back, put_off, settle
from staffetta.observe.events import Event
from staffetta.spool.contract import Claim, ClaimLost, Spool, SpoolUnavailable

POLL_SECONDS: Final = 0.5
"""How often the store is asked whether another process (a command) changed it."""

SWEEP_SECONDS: Final = 30.0
"""How often lifetimes and delay notices are looked at."""


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
        self._wake = asyncio.Event()
        self._sleeps_until = 0.0
        self._loop = asyncio.get_running_loop()
        self._idle = Rests(self._loop, settings.idle_seconds)
        self._draining = False
        self._seen = spool.changes()
        self._main: asyncio.Task[None] | None = None
        self._generation = 0
        self.limits: Limits = lambda _: (0, 0.0)
        self.destination: Choose | None = None

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

    def adopt(self, rules: Rules) -> None:
        """Go by these rules from the next attempt on; an attempt under way ends by the old ones. Cannot fail.

        Open connections are closed when they are free. Claims at hand are filed anew when a worker takes them."""
        self._settings = replace(self._settings, retry=rules.retry)
        self._couriers, self._notifier = rules.couriers, rules.notifier
        self.limits, self.destination = rules.limits, rules.destination
        self._lifetimes.adopt(rules.notifier, rules.retry)
        self._schedule.adopt(rules.limits)
        self._generation += 1
        self._idle.end_all()
        self._wake.set()

    async def reconsider(self, destinations: Iterable[str]) -> None:
        """Try these again now although they were found down: the way to them has changed."""
        for destination in destinations:
            await insist(partial(self._spool.destination_up, destination))
            self._schedule.forgive(destination)
        self._wake.set()

    def lanes(self) -> list[Lane]:
        """What is at hand, for status."""
        return self._schedule.lanes()

    def wake(self) -> None:
        """Something changed: look at the spool now."""
        self._wake.set()

    async def stop(self) -> None:
        """Take nothing new, let deliveries in flight finish, at most `drain_seconds`."""
        self._draining = True
        if self._main is not None:
            self._main.cancel()
            await asyncio.gather(self._main, return_exceptions=True)
        self._idle.end_all()
        if self._workers:
            _, late = await asyncio.wait(self._workers, timeout=self._settings.drain_seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.gather(*late, return_exceptions=True)

    def _add(self, destination: str, claim: Claim) -> None:
        limit = self._settings.recipients_per_transaction
        lane = self._schedule.known(destination)
        if lane is None:
            lane = self._schedule.lane(destination, *self.limits(destination))
        if len(claim.recipients) <= limit:
            self._schedule.add(lane, claim)
        else:
            for start in range(0, len(claim.recipients), limit):
                part = claim.recipients[start : start + limit]
                self._schedule.add(lane, Claim(claim.message, part, claim.content))
        if not self._idle.wake(destination):
            self._start_workers(lane)

    def _start_workers(self, lane: Lane) -> None:
        while self._schedule.may_start(lane):
            self._schedule.started(lane)
            task = self._loop.create_task(self._work(lane), name=f"deliver {lane.key}")
            self._workers.add(task)
            task.add_done_callback(self._workers.discard)
            if len(lane.ready) <= lane.workers:
                return
        if self._schedule.starving:
            self._idle.end_one()  # a lane has no worker because there are too many in all: one that rests makes place

    async def _work(self, lane: Lane) -> None:
        courier: Courier | None = None
        generation = self._generation
        try:
            while not self._draining:
                claim = self._schedule.take(lane)
                if claim is None:
                    if courier is None or not courier.warm or not await self._idle.rest(lane.key):
                        return
                    continue
                if lane.rate and (wait := self._schedule.slot(lane, self._loop.time())) > 0:
                    await asyncio.sleep(wait)
                if generation != self._generation:  # made by the rules of yesterday
                    await _close(courier)
                    courier, generation = None, self._generation
                courier = await self._carry(lane, courier, claim)
                if self._schedule.wants_refill(lane):
                    self._wake.set()
                if self._schedule.starving and lane.workers > 1:
                    return
        finally:
            await self._leave(lane, courier)

    async def _leave(self, lane: Lane, courier: Courier | None) -> None:
        """The end of a worker: its connection is closed, and then its place is given to whom it is due."""
        try:
            await _close(courier)
        finally:
            self._schedule.stopped(lane)
            if not self._draining:
                for other in (*self._schedule.starved(), lane):
                    self._start_workers(other)

    async def _carry(self, lane: Lane, courier: Courier | None, claim: Claim) -> Courier | None:
        """One claim, to its recorded end, whatever happens; the courier for the next one."""
        try:
            report = None
            moved = rerouted(claim, self.destination)
            if moved is not None:  # the routes changed after it was filed
                await give_back(self._spool, moved)
                self._wake.set()
                return courier
            try:
                courier = courier or self._couriers(lane.key)
                report = await courier.deliver(claim)
            except Exception as error:
                complain(f"delivery of {claim.message.id} broke off", error)
            await self._settle(lane, claim, put_off(claim) if report is None else report)
        except ClaimLost as error:
            complain(f"{claim.message.id} is not ours any more", error)
        except Exception as error:
            complain(f"{claim.message.id} is held: the end of its attempt could not be recorded", error)
            await self._hold(claim)
        return courier

    async def _settle(self, lane: Lane, claim: Claim, report: Report) -> None:
        now = self._clock()
        # Attempts that were under way when the destination was found down are one bad time, not as many.
        failures = lane.failures - 1 if now < lane.not_before and lane.failures else lane.failures
        settlement = settle(claim, report, Moment(now, self._random.random), self._settings.retry, failures)
        if settlement.destination is not None:
            given_back = self._schedule.failed(lane, settlement.destination)
            await self._record(claim, settlement, report)
            for other in given_back:
                await give_back(self._spool, other)
            return
        was_down = self._schedule.succeeded(lane) if report.spoke else False
        if lane.ready:
            self._start_workers(lane)
        await self._record(claim, settlement, report)
        if was_down:
            await insist(lambda: self._spool.destination_up(lane.key))
            self._wake.set()

    async def _record(self, claim: Claim, settlement: Settlement, report: Report) -> None:
        while True:
            try:
                notices = NOTHING
                if self._notifier.concerned(settlement):
                    notices = await self._notifier.after(claim, settlement, report, self._clock())
                await self._spool.record(
                    claim.message.id, settlement.steps, (settlement.journal,), notices.messages, settlement.destination
                )
                break
            except (SpoolUnavailable, AccountsUnavailable):
                # The peer has it, or had its say; forgetting that would repeat it. Wait for the store.
                await asyncio.sleep(RECORD_RETRY_SECONDS)
        for event in settlement.events:
            self._emit(event)
        self._expect(settlement)
        for event in notices.events:
            self._emit(event)
        if notices.messages:
            self._wake.set()

    async def _hold(self, claim: Claim) -> None:
        """Our own bug: nobody knows what became of it, so it is neither repeated nor lost, but shown."""
        held = held_back(claim, self._clock())
        try:
            await insist(lambda: self._spool.record(claim.message.id, held.steps, (held.journal,)))
        except Exception as error:
            complain(f"{claim.message.id} could not be held", error)
            return
        for event in held.events:
            self._emit(event)

    def _expect(self, settlement: Settlement) -> None:
        """Wake up earlier than planned when something becomes due earlier."""
        if len(settlement.delivered) == len(settlement.steps):
            return
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
                self._notice_changes()
                refilled = await self._refill()
                now = self._clock()
                if abs(now - swept_at) >= SWEEP_SECONDS:
                    swept_at = now
                    await self._sweep(now)
                if not refilled:
                    await self._sleep()
            except (SpoolUnavailable, AccountsUnavailable):
                await asyncio.sleep(RECORD_RETRY_SECONDS)
            except Exception as error:
                complain("dispatch broke off, and goes on", error)
                await asyncio.sleep(RECORD_RETRY_SECONDS)

    def _notice_changes(self) -> bool:
        """True when another process wrote since this was asked last: then destinations that are down get a chance."""
        seen, self._seen = self._seen, self._spool.changes()
        if seen == self._seen:
            return False
        self._schedule.reconsider()
        return True

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
        moved: list[Claim] = []
        for claim in claims:
            destination = claim.recipients[0].destination
            counts[destination] = counts.get(destination, 0) + len(claim.recipients)
            elsewhere = rerouted(claim, self.destination)
            if elsewhere is None:
                self.offer(claim)
            else:
                moved.append(elsewhere)
        for claim in moved:
            await give_back(self._spool, claim)
        for lane in self._schedule.lanes():
            # Of those that were not asked about because they have enough, nobody knows: they are asked about later.
            lane.more = lane.crowded if lane.key in full else counts.get(lane.key, 0) >= per_destination
        return bool(moved) or len(claims) >= room

    async def _sleep(self) -> None:
        now = self._clock()
        due = await self._spool.next_due(now, self._schedule.crowded())
        left = SWEEP_SECONDS if due is None else min(max(due - now, 0.05), SWEEP_SECONDS)
        self._sleeps_until = now + left
        while left > 0:
            try:
                async with asyncio.timeout(min(left, POLL_SECONDS)):
                    await self._wake.wait()
                return
            except TimeoutError:
                left -= POLL_SECONDS
                if self._notice_changes():
                    return

    async def _sweep(self, now: float) -> None:
        self._schedule.forget_idle(now)
        events = await self._lifetimes.sweep(now)
        for event in events:
            self._emit(event)
        if events:
            self._wake.set()


async def _close(courier: Courier | None) -> None:
    try:
        if courier is not None:
            await courier.finish()
    except Exception as error:
        complain("a connection could not be closed", error)
