"""One self check: the plan of who asks what where, played and summed up. When one is due is `app.sentinel`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from staffetta.accounts.store import AccountStore
from staffetta.app.open_doors import OpenDoor
from staffetta.app.sentinel_line import Judge, Line, Lines, NotAsked, Played, play
from staffetta.app.sentinel_machine import Machine
from staffetta.app.sentinel_shapes import spoken
from staffetta.app.sentinel_targets import MEMORY, Target, in_memory, targets_of
from staffetta.config.schema import Config
from staffetta.control.check_relay import FAILURES, names_asked
from staffetta.control.dialogue import DialogueOver
from staffetta.control.dry_run import DryRun, DrySpool, Later, PresumedLogin
from staffetta.control.relay_trials import Trial
from staffetta.control.selfcheck import DoorAsked, Taken
from staffetta.intake.door import House
from staffetta.intake.refusals import RefusalJournal
from staffetta.policy.rate import Connections

OUT_OF_TIME: Final = "the time was used up"

_MANY: Final = 1000
"""Sessions in memory: one is talked to, those before it may be about to end."""

Plan = list[tuple[Target, list[Trial]]]


class Check:
    """One check. `pace` is awaited after each shape."""

    def __init__(self, lines: Lines, judge: Judge, pace: Callable[[], Awaitable[None]]) -> None:
        self.doors: list[DoorAsked] = []
        self.failures: list[Taken] = []
        self.complete = True
        self._lines = lines
        self._judge = judge
        self._pace = pace

    async def run(self, plan: Plan, seconds: float) -> None:
        """Ask everything, for at most `seconds`."""
        end = asyncio.get_running_loop().time() + seconds
        for target, trials in plan:
            at = _AtDoor(target)
            try:
                async with asyncio.timeout_at(end):
                    await self._at_door(at, trials)
            except TimeoutError:
                at.note, self.complete = OUT_OF_TIME, False
            finally:
                at.leave()
            self.doors.append(at.summary())

    async def _at_door(self, at: _AtDoor, trials: Sequence[Trial]) -> None:
        try:
            await self._ask(at, trials)
        except NotAsked as error:
            if at.tried or at.target.way == MEMORY:
                at.note, self.complete = str(error), False
                return
            at.target = in_memory(at.target, str(error))
            await self._at_door(at, trials)

    async def _ask(self, at: _AtDoor, trials: Sequence[Trial]) -> None:
        for trial in trials:
            before = at.failed

            def tell(played: Played, trial: Trial = trial) -> None:
                self._tell(at, trial, played)

            while not await self._play(at, trial, tell) and at.failed == before:
                pass
            at.tried += 1
            await self._pace()
        await at.say_goodbye()

    async def _play(self, at: _AtDoor, trial: Trial, tell: Callable[[Played], None]) -> bool:
        """True when the trial was played. A session that had enough of us is replaced, and the trial begins anew."""
        fresh = at.line is None
        if at.line is None:
            at.line = await self._lines.open(at.target)
        try:
            await play(at.line, trial, self._judge, tell)
        except DialogueOver:
            at.leave()
            return fresh
        return True

    def _tell(self, at: _AtDoor, trial: Trial, played: Played) -> None:
        at.failed += 1
        if at.failed <= FAILURES:
            target = at.target
            self.failures.append(
                Taken(
                    target.settings.name,
                    str(target.to),
                    target.client,
                    trial.shape,
                    played.dialogue,
                    played.went_to,
                    played.rule,
                )
            )


class _AtDoor:
    """How far the check is at one address."""

    __slots__ = ("failed", "line", "note", "target", "tried")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.line: Line | None = None
        self.tried = self.failed = 0
        self.note = ""

    def leave(self) -> None:
        """Hang up."""
        line, self.line = self.line, None
        if line is not None:
            line.dialogue.close()

    async def say_goodbye(self) -> None:
        """QUIT."""
        if self.line is not None:
            with contextlib.suppress(DialogueOver):
                await self.line.dialogue.say("QUIT")

    def summary(self) -> DoorAsked:
        """What is reported."""
        target, door = self.target, self.target.settings.door
        note = self.note or target.note
        return DoorAsked(
            door.name, door.role.value, str(target.to), target.way, target.client, self.tried, self.failed, note
        )


class Asking(msgspec.Struct, frozen=True):
    """What a check is made of: the relay's configuration, its open doors, and its machine."""

    config: Config
    doors: Sequence[OpenDoor]
    machine: Machine

    def plan(self, turn: int) -> Plan:
        """Where to ask what; `turn` as in sentinel_shapes."""
        trials = [trial for names in names_asked(self.config) for trial in spoken(names, turn)]
        few = [trial for trial in trials if trial.plain]
        doors = [(door.opening.settings, door.listener.endpoints) for door in self.doors]
        return [(target, trials if target.all_shapes else few) for target in targets_of(doors, self.machine)]


def dry_house(house: House, accounts: AccountStore) -> DryRun:
    """The same house over memory: what a session takes there goes nowhere, and what it says is told to nobody."""
    spool = DrySpool()
    dry = msgspec.structs.replace(
        house,
        spool=spool,
        outlet=Later(),
        logins=PresumedLogin(accounts, None),
        refusals=RefusalJournal(spool),
        connections=Connections(_MANY, _MANY),
        emit=lambda _: None,
        sessions=set(),
        tasks=set(),
        signing=None,
        examining=None,
        probes=None,
        masks=None,
    )
    return DryRun(dry, (), spool, [])
