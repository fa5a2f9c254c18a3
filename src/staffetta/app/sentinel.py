"""The relay watches itself: at its start, daily and when it is told to, it asks at its own doors as a stranger would.

Over real connections where a stranger's address can be had (app.sentinel_targets), at a bounded pace and for a bounded
time. What it finds is an alarm in `status`, an `alarm` event, and `Relay.selfcheck` for whoever publishes numbers. It
also keeps watch for strangers behind trusted addresses (app.sentinel_masks).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import msgspec

from staffetta.app.sentinel_alarms import clear_alarm, raise_alarm
from staffetta.app.sentinel_check import Asking, Check, dry_house
from staffetta.app.sentinel_line import Judge, Lines
from staffetta.app.sentinel_machine import Machine, read_machine
from staffetta.app.sentinel_masks import MaskWatch
from staffetta.config.schema import Config
from staffetta.control.check_relay import named_targets
from staffetta.control.selfcheck import SelfCheck, SelfCheckReport, SelfCheckState
from staffetta.intake.probes import Probes
from staffetta.observe.events import moment

if TYPE_CHECKING:
    from staffetta.app.control_socket import ControlSocket
    from staffetta.app.relay import Relay

ALARM: Final = "selfcheck"

_SHOWN_CHARACTERS: Final = 80


class SentinelSettings(msgspec.Struct, frozen=True):
    """A check begins `first_seconds` after the start (or a reload), then every `every_seconds`. `shapes_per_second` is
    its pace, `hurried_per_second` when somebody waits for it. After `total_seconds` it ends where it is. `machine`
    None: look at this one. `pause` waits for so many seconds."""

    first_seconds: float = 10.0
    every_seconds: float = 86_400.0
    shapes_per_second: float = 20.0
    hurried_per_second: float = 250.0
    total_seconds: float = 600.0
    machine: Machine | None = None
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep


class Sentinel:
    """The self check of one relay that has started. `last` is the latest result, None before the first."""

    def __init__(self, relay: Relay, settings: SentinelSettings | None = None) -> None:
        self.last: SelfCheckReport | None = None
        self._relay = relay
        self._settings = settings = settings or SentinelSettings()
        self._machine = settings.machine or read_machine()
        self._turn = int(relay.started_at // 86_400)
        self._due = asyncio.Event()
        self._wait = settings.first_seconds
        self._running = self._hurried = False
        self._done = self._total = 0
        self._task: asyncio.Task[None] | None = None
        house = relay.parts.house
        staff, gateways = relay.staff, self._machine.gateways
        if staff is None:
            self._probes = house.probes = Probes()
            self.masks = house.masks = MaskWatch(relay.parts, relay.config, gateways)
        else:
            self._probes = house.probes = Probes(staff.expect)
            self.masks = house.masks = staff.masks = MaskWatch(relay.parts, relay.config, gateways, staff.withdraw)

    def register(self, control: ControlSocket) -> None:
        """Answer at this socket."""
        control.register(SelfCheck, self.asked)

    def begin(self) -> None:
        """Keep watch from now on."""
        self._task = asyncio.create_task(self._watch(), name="sentinel")

    async def close(self) -> None:
        """No more checks; what runs ends."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def reloaded(self, config: Config) -> None:
        """Another configuration is in force: look at it soon."""
        self.masks.reloaded(config)
        self._wait = self._settings.first_seconds
        self._due.set()

    async def asked(self, request: SelfCheck) -> SelfCheckState:
        """How it stands; with `start`, begin a check now, or hurry the one that runs."""
        if request.start:
            self._hurried = True
            if not self._running:
                self._running, self._wait = True, 0.0
                self._due.set()
        return SelfCheckState(self._running, self._done, self._total, self.last)

    async def check(self) -> SelfCheckReport:
        """One check, now."""
        self._running = True
        try:
            report = self.last = await self._check()
        finally:
            self._running = self._hurried = False
        self._relay.selfcheck = report.passed
        self._conclude(report)
        return report

    async def _check(self) -> SelfCheckReport:
        relay = self._relay
        parts, started = relay.parts, relay.parts.world.monotonic()
        self._turn += 1
        plan = Asking(relay.config, relay.doors, self._machine).plan(self._turn)
        self._done, self._total = 0, sum(len(trials) for _, trials in plan)
        dry = dry_house(parts.house, relay.accounts)
        check = Check(Lines(self._probes, dry), Judge(parts.house, named_targets(relay.config)), self._pace)
        try:
            await check.run(plan, self._settings.total_seconds)
        finally:
            await dry.close()
        failed = sum(door.failed for door in check.doors)
        return SelfCheckReport(
            moment(parts.world.clock()),
            round(parts.world.monotonic() - started, 3),
            not failed,
            check.complete,
            sum(door.tried for door in check.doors),
            failed,
            tuple(check.doors),
            tuple(check.failures),
        )

    async def _pace(self) -> None:
        self._done += 1
        settings = self._settings
        await settings.pause(1.0 / (settings.hurried_per_second if self._hurried else settings.shapes_per_second))

    async def _watch(self) -> None:
        """Check when it is due: waiting may be cut short, and then there may be something left to wait."""
        while True:
            self._due.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait):
                    await self._due.wait()
                    continue
            self._wait = self._settings.every_seconds
            try:
                await self.check()
            except Exception as error:  # our own bug; the relay is none the worse for it
                self._relay.parts.house.report(error)

    def _conclude(self, report: SelfCheckReport) -> None:
        parts = self._relay.parts
        if not report.passed:
            raise_alarm(parts, ALARM, _alarm_text(report))
        elif report.complete:
            clear_alarm(parts, ALARM)


def _alarm_text(report: SelfCheckReport) -> str:
    first = report.failures[0]
    shape, goes_to = first.shape[:_SHOWN_CHARACTERS], ", ".join(first.went_to)[:_SHOWN_CHARACTERS]
    others = f" ({report.failed} shapes in all)" if report.failed > 1 else ""
    return (
        f"THIS IS AN OPEN RELAY: door {first.door} at {first.address} lets strangers send to others, so from"
        f" {first.client}: {shape}, which would go to {goes_to}, let in by {first.rule}{others};"
        " `staffetta check relay --live` shows them all"
    )
