"""Reading the configuration again while mail is moving: parse, validate, build, swap.

Whatever may fail is done before anything is swapped: the file is judged, certificates are loaded, new doors are bound
and listen, everything that depends on the file is made. The swap itself is a few assignments in one turn of the loop.
Whatever is wrong, the old configuration goes on and says why. Nothing that is queued, claimed or in a session is
touched: sessions of doors that did not change stay, attempts under way end by the rules they began with.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec

from staffetta.app.open_doors import DoorChange, OpenDoor, bind_added, in_order, openings_of
from staffetta.app.open_doors import compare as compare_doors
from staffetta.app.wiring import Plan, World, certificate_of, live_world, log_settings
from staffetta.config.load import Loaded, Problems
from staffetta.config.problems import Level, Problem, render
from staffetta.config.schema import Config
from staffetta.control.channel import ReloadReport
from staffetta.dns.system import system_servers
from staffetta.net.listener import BindFailed, bind
from staffetta.net.notify import Notify
from staffetta.net.tls import CertificateFault, ServerCertificate
from staffetta.observe.events import Reloaded, ReloadRefused, moment
from staffetta.observe.log import LogSettings

if TYPE_CHECKING:
    from staffetta.app.relay import Relay
    from staffetta.app.roads import Roads

RESTART_ONLY: Final = frozenset({"data_dir", "user", "processes"})
"""What is fixed for the life of a process: the lock and the store are held, and root was given up."""

PROBLEMS_TOLD: Final = 3
"""Mistakes that the reason of a refusal names; the others are counted."""

RETIRED_SECONDS: Final = 300.0
"""How long a resolver that was replaced still answers: attempts under way ask it."""

_PLAIN: Final = (
    "hostname data_dir postmaster user processes tls outbound queue limits checks dns console log journal".split()  # noqa: SIM905
)

Read = Callable[[bool], Loaded | Problems]
"""Read the file again; the argument says whether certificates and keys are looked at too."""


class Refused(Exception):
    """The reload is refused; the message is the reason."""


class Changes(msgspec.Struct, frozen=True):
    """What differs between two configurations: tables and keys as they are called in the file.

    `restart` are those among `names` that only a restart changes; `certificate`, `resolver` and `log` say what has to
    be made anew beside doors, routes, directory and limits, which always are.
    """

    names: tuple[str, ...]
    restart: tuple[str, ...]
    certificate: bool
    resolver: bool
    log: bool


def compare(old: Config, new: Config) -> Changes:
    """The difference."""
    names = [name for name in _PLAIN if getattr(old, name) != getattr(new, name)]
    names += _named("listen", {one.name: one for one in old.listeners}, {one.name: one for one in new.listeners})
    names += _named("domain", {one.domain: one for one in old.domains}, {one.domain: one for one in new.domains})
    names += _named("route", {one.name: one for one in old.routes}, {one.name: one for one in new.routes})
    order = [[route.name for route in config.routes] for config in (old, new)]
    if order[0] != order[1] and sorted(order[0]) == sorted(order[1]):
        names.append("order of routes")
    return Changes(
        tuple(names),
        tuple(name for name in names if name in RESTART_ONLY),
        certificate="tls" in names,
        resolver="dns" in names,
        log="log" in names,
    )


def _named(kind: str, old: dict[Any, Any], new: dict[Any, Any]) -> list[str]:
    every = dict.fromkeys([*old, *new])
    return [f"{kind}.{name}" for name in every if old.get(name) != new.get(name)]


class _Next(msgspec.Struct, frozen=True):
    """Everything that a reload swaps in, made and not yet in force."""

    loaded: Loaded
    certificate: ServerCertificate | None
    world: World
    plan: Plan
    log: LogSettings
    doors: DoorChange
    added: tuple[OpenDoor, ...]


class Reloads:
    """The reloads of one relay, one at a time. `last` is what became of the latest.

    `followers` are told the new configuration when it is in force; they must not fail.
    """

    def __init__(self, relay: Relay, read: Read, notify: Notify | None = None) -> None:
        self.last: ReloadReport | None = None
        self.followers: list[Callable[[Config], None]] = []
        self._relay = relay
        self._read = read
        self._notify = notify
        self._turn = asyncio.Lock()
        self._waiting = False
        self._closed = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._name_servers = system_servers()

    def ask(self, by: str = "SIGHUP") -> None:
        """Reload soon. What was asked and has not begun need not be asked again: it will read the file then."""
        if not self._waiting and not self._closed:
            self._waiting = True
            self._spawn(self.reload(by))

    async def reload(self, by: str) -> ReloadReport:
        """Reload now; what became of it, which the log has been told too. `by` is who asked."""
        self._waiting = True
        async with self._turn:
            self._waiting = False
            if self._notify is not None:
                self._notify.reloading()
            report = await self._reload(by)
            self.last = report
            if self._notify is not None:
                self._notify.ready(f"{'Reloaded' if report.done else 'Reload refused'}: {report.reason}")
            return report

    async def close(self) -> None:
        """No more reloads; wait for the one that runs."""
        self._closed = True
        async with self._turn:
            for task in list(self._tasks):
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _reload(self, by: str) -> ReloadReport:
        relay = self._relay
        found: Loaded | Problems | None = None
        try:
            if self._closed:
                raise Refused("the relay is stopping")
            found = await asyncio.to_thread(self._load)
            if isinstance(found, Problems):
                raise Refused(reason_of(found.problems))
            reason = await self._apply(found)
        except (Refused, BindFailed, CertificateFault, OSError) as error:
            reason, done = str(error), False
        except Exception as error:  # our own bug: the old configuration goes on all the same
            relay.parts.house.report(error)
            reason, done = f"a bug, please report it: {error!r}", False
        else:
            done = True
        problems = () if found is None else found.problems if isinstance(found, Problems) else found.warnings
        if by == "SIGHUP" and problems:
            sys.stderr.write(render(problems, "" if done else "The configuration of before stays in force.") + "\n")
        now = moment(relay.parts.world.clock())
        if done:
            relay.emit(Reloaded(time=now, listeners=relay.addresses(), reason=reason))
        else:
            relay.emit(ReloadRefused(time=now, reason=reason))
        return ReloadReport(now, done, reason, relay.digest, by, tuple(map(str_problem, problems)))

    def _load(self) -> Loaded | Problems:
        """The file. A key that only root can read is no reason to refuse: it was read before root was given up."""
        found = self._read(True)
        if isinstance(found, Problems) and _only_own_key_unreadable(found.problems):
            again = self._read(False)
            if isinstance(again, Loaded) and again.config.tls == self._relay.config.tls:
                return again
        return found

    async def _apply(self, loaded: Loaded) -> str:
        """Build and swap; what changed, in words. Raises Refused, BindFailed, CertificateFault, OSError."""
        relay = self._relay
        changes = compare(relay.config, loaded.config)
        if changes.restart:
            verb = "cannot change" if len(changes.restart) > 1 else "cannot be changed"
            raise Refused(f"{' and '.join(changes.restart)} {verb} while the relay runs: restart it")
        servers = system_servers()
        renewed = changes.resolver or (not loaded.config.dns.servers and servers != self._name_servers)
        self._name_servers = servers
        ready = await self._build(loaded, changes, live_world(loaded.config) if renewed else relay.parts.world)
        before, roads = relay.parts.world, relay.parts.roads
        try:
            self._swap(ready)
        except BaseException:  # a bug of ours; doors that nothing stands behind would be worse than none
            await self._undo(ready.added, ready.world)
            raise
        if relay.staff is not None:
            await relay.staff.adopted()
        self._spawn(relay.parts.dispatcher.reconsider(self._changed_ways(roads, renewed)))
        if renewed:
            self._spawn(self._retire(before))
        return f"configuration {loaded.digest}: {', '.join(changes.names) or 'nothing'} changed"

    async def _build(self, loaded: Loaded, changes: Changes, world: World) -> _Next:
        """All that may fail. What was made is undone when a later step fails."""
        relay, config = self._relay, loaded.config
        added: list[OpenDoor] = []
        try:
            certificate = relay.certificate
            if changes.certificate:
                certificate = certificate_of(config)
            elif certificate is not None:
                certificate.check()
            openings = openings_of(config, certificate)
            plan = relay.parts.plan(config, world, relay.room_for_sessions(config))
            log = log_settings(config, relay.accounts.secret)
            doors = compare_doors(relay.doors, openings)
            added = bind_added(doors, relay.parts.house, bind)
            if relay.staff is None:
                for door in added:
                    await door.listener.start()
            else:
                ordered = in_order(openings, doors, added)
                orders = relay.orders(config, certificate, ordered)
                renewed = world is not relay.parts.world
                await relay.staff.prepare(msgspec.structs.replace(orders, renewed=renewed))
        except BaseException:
            await self._undo(added, world)
            raise
        return _Next(loaded, certificate, world, plan, log, doors, tuple(added))

    async def _undo(self, added: Iterable[OpenDoor], world: World) -> None:
        if self._relay.staff is not None:
            self._relay.staff.forget()
        for door in added:
            door.listener.stop()
            door.end_sessions()
        if world not in self._relay.worlds:
            await world.close()

    def _swap(self, ready: _Next) -> None:
        """Put it in force. Nothing here fails, and nothing waits."""
        relay = self._relay
        relay.parts.adopt(ready.plan)
        if ready.world not in relay.worlds:
            relay.worlds.append(ready.world)
        relay.config, relay.digest = ready.loaded.config, ready.loaded.digest
        relay.certificate = ready.certificate
        relay.log.adopt(ready.log)
        relay.doors = [*(door for door, _ in ready.doors.kept), *ready.added]
        ready.doors.adopt()
        if relay.staff is not None:
            relay.staff.adopt()
        for follower in self.followers:
            try:
                follower(relay.config)
            except Exception as error:
                relay.parts.house.report(error)

    def _changed_ways(self, before: Roads, all_down: bool) -> list[str]:
        """Destinations to which the way is another one now, so that having been down says nothing about them."""
        after = self._relay.parts.roads
        down = [lane.key for lane in self._relay.parts.dispatcher.lanes() if lane.failures]
        known = dict.fromkeys([*down, *after.keys()])
        return [key for key in known if (all_down and key in down) or before.road(key) != after.road(key)]

    async def _retire(self, world: World) -> None:
        await asyncio.sleep(RETIRED_SECONDS)
        with suppress(ValueError):
            self._relay.worlds.remove(world)
        await world.close()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def reason_of(problems: Sequence[Problem]) -> str:
    """The mistakes of a file in one line: place, code and what is wrong."""
    errors = [problem for problem in problems if problem.level is Level.ERROR]
    told = "; ".join(str_problem(problem) for problem in errors[:PROBLEMS_TOLD])
    return f"{told}; and {len(errors) - PROBLEMS_TOLD} more" if len(errors) > PROBLEMS_TOLD else told


def str_problem(problem: Problem) -> str:
    """`staffetta.toml:12 C103 unknown key …`."""
    place = f"{problem.file}:{problem.line}" if problem.line else problem.file
    warning = "warning: " if problem.level is Level.WARNING else ""
    return f"{place} {problem.code} {warning}{problem.message}"


def _only_own_key_unreadable(problems: Iterable[Problem]) -> bool:
    errors = [problem for problem in problems if problem.level is Level.ERROR]
    return all(
        problem.code == "C302" and problem.message.startswith("[tls] ") and "cannot be read" in problem.message
        for problem in errors
    )
