"""Which lists are in order: each is tried regularly, switched off visibly when it lists all or nothing, and tried again.

RFC 5782 section 5: a list of addresses has 127.0.0.2 and has not 127.0.0.1; a list of domains has TEST and has not
INVALID. Lists die, and a dead one answers nothing, everything, or slowly. None of that may refuse or delay mail.
The state lives as long as the process; clock and resolver come from outside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from staffetta.dns.blocklist import Listing, ask, domain_query, look_up_name, read_answer
from staffetta.dns.blocklist import address_query as address_name
from staffetta.dns.list_meanings import KNOWN_LISTS
from staffetta.dns.resolver import RecordKind, Resolver, Unavailable
from staffetta.mail.network import NetworkSet, parse_network

_ANY_ANSWER: Final = NetworkSet([parse_network("127.0.0.0/8")])


class ListSettings(msgspec.Struct, frozen=True):
    """One list that is used: `codes` count as listed, `action` is `reject`, `junk` or `record`."""

    zone: str
    codes: NetworkSet
    action: str = "record"
    of_domains: bool = False


class HealthSettings(msgspec.Struct, frozen=True, gc=False):
    """Seconds. `failures` slow or silent answers in a row put a list aside for `pause_seconds`; `slow_seconds` is what
    counts as slow: a failure that comes at once delays nobody."""

    test_seconds: float = 3600.0
    retest_seconds: float = 300.0
    failures: int = 3
    pause_seconds: float = 60.0
    slow_seconds: float = 0.5


class ListState(msgspec.Struct, frozen=True, gc=False):
    """What is known of one list. `on` false: it is not asked, for `reason`, since `since` (seconds since the epoch)."""

    zone: str
    of_domains: bool
    on: bool = True
    reason: str = ""
    since: float = 0.0
    tested_at: float = -1.0
    again_at: float = 0.0
    failures: int = 0


class ListHealth:
    """Asks lists for messages. One for the process; not for threads."""

    __slots__ = ("_clock", "_resolver", "_settings", "_states", "_testing", "_told")

    def __init__(
        self,
        resolver: Resolver,
        clock: Callable[[], float],
        settings: HealthSettings | None = None,
        told: Callable[[ListState], None] | None = None,
    ) -> None:
        """`clock` gives seconds since the epoch; `told` hears of every list that is switched off or on."""
        self._resolver = resolver
        self._clock = clock
        self._settings = settings or HealthSettings()
        self._states: dict[tuple[str, bool], ListState] = {}
        self._testing: set[tuple[str, bool]] = set()
        self._told = told

    def states(self) -> tuple[ListState, ...]:
        """All lists that were asked, for `status`."""
        return tuple(self._states.values())

    def state(self, one: ListSettings) -> ListState:
        """What is known of one list."""
        return self._states.get((one.zone, one.of_domains)) or ListState(one.zone, one.of_domains)

    async def ask_address(self, resolver: Resolver, one: ListSettings, address: str) -> Listing:
        """What the list says of `address`, asked with the resolver of the message. Raises ValueError."""
        return await self._ask(resolver, one, address_name(one.zone, address), address)

    async def ask_domain(self, resolver: Resolver, one: ListSettings, domain: str) -> Listing:
        """What the list says of `domain`; what is no domain name is not asked for."""
        name = domain_query(one.zone, domain)
        if not name:
            return Listing(one.zone, domain, action=one.action, error="not a domain name, so not asked for")
        return await self._ask(resolver, one, name, domain)

    async def test(self, one: ListSettings) -> ListState:
        """Try the list by its test entries, now, whatever is known of it."""
        key = (one.zone, one.of_domains)
        self._testing.add(key)
        try:
            reason, silent = await self._test(one)
        finally:
            self._testing.discard(key)
        now = self._clock()
        old = self.state(one)
        if silent:
            # Silence proves nothing: the list is as it was, and failures are counted where mail waits for them.
            again = now + (self._settings.retest_seconds if not old.on else self._settings.pause_seconds)
            return self._set(key, msgspec.structs.replace(old, tested_at=now, again_at=max(old.again_at, again)))
        wait = self._settings.retest_seconds if reason else self._settings.test_seconds
        return self._set(
            key,
            ListState(
                one.zone,
                one.of_domains,
                on=not reason,
                reason=reason,
                since=old.since if old.on is not bool(reason) and old.tested_at >= 0 else now,
                tested_at=now,
                again_at=now + wait,
            ),
        )

    async def _ask(self, resolver: Resolver, one: ListSettings, name: str, subject: str) -> Listing:
        key = (one.zone, one.of_domains)
        state = self.state(one)
        due = (state.tested_at < 0 or self._clock() >= state.again_at) and key not in self._testing
        if not state.on and not due:
            return Listing(one.zone, subject, action=one.action, error=f"switched off: {state.reason}")
        if due:
            # Beside the question, not before it: the first message waits no longer than others.
            state, listing = await asyncio.gather(self.test(one), self._timed(resolver, one, name, subject))
            if not state.on:
                listing = Listing(one.zone, subject, error=f"switched off: {state.reason}")
        else:
            listing = await self._timed(resolver, one, name, subject)
        return msgspec.structs.replace(listing, action=one.action)

    async def _timed(self, resolver: Resolver, one: ListSettings, name: str, subject: str) -> Listing:
        """One look-up; what it took and what came is remembered."""
        time = asyncio.get_running_loop().time
        start = time()
        listing = await look_up_name(resolver, one.zone, name, subject, one.codes)
        state = self.state(one)
        if listing.fault:
            self._switch_off(one, listing.error, self._settings.retest_seconds)
        elif listing.error and not listing.codes:
            if time() - start >= self._settings.slow_seconds:
                state = self._set(
                    (one.zone, one.of_domains), msgspec.structs.replace(state, failures=state.failures + 1)
                )
                if state.on and state.failures >= self._settings.failures:
                    reason = f"no answer {state.failures} times in a row"
                    self._switch_off(one, reason, self._settings.pause_seconds)
        elif state.failures:
            self._set((one.zone, one.of_domains), msgspec.structs.replace(state, failures=0))
        return listing

    def _switch_off(self, one: ListSettings, reason: str, seconds: float) -> None:
        old = self.state(one)
        now = self._clock()
        self._set(
            (one.zone, one.of_domains),
            msgspec.structs.replace(
                old, on=False, reason=reason, since=now if old.on else old.since, tested_at=now, again_at=now + seconds
            ),
        )

    async def _test(self, one: ListSettings) -> tuple[str, bool]:
        """Why the list is not in order, or ""; and whether it only kept silent."""
        present, absent = _points(one)
        names = [*present, absent]
        lookups = await asyncio.gather(*[ask(self._resolver, name, RecordKind.A) for name in names])
        read = [read_answer(one.zone, name, lookup, _ANY_ANSWER) for name, lookup in zip(names, lookups, strict=True)]
        for listing in read:
            if listing.fault:
                return listing.error, False
        if any(isinstance(lookup, Unavailable) for lookup in lookups):
            return "", True
        if read[-1].listed:
            return f"it lists {'INVALID' if one.of_domains else '127.0.0.1'}, so everything", False
        if not any(listing.listed for listing in read[:-1]):
            return f"it does not list {'TEST' if one.of_domains else '127.0.0.2'}, so nothing", False
        return "", False

    def _set(self, key: tuple[str, bool], state: ListState) -> ListState:
        old = self._states.get(key)
        self._states[key] = state
        if self._told is not None and state.on is not (old.on if old else True):
            self._told(state)
        return state


def _points(one: ListSettings) -> tuple[tuple[str, ...], str]:
    """The names of which one must be listed, and the one that must not."""
    if not one.of_domains:
        return (address_name(one.zone, "127.0.0.2"),), address_name(one.zone, "127.0.0.1")
    known = KNOWN_LISTS.get(one.zone)
    points = ["test", known.listed_point] if known is not None and known.listed_point else ["test"]
    return tuple([f"{point}.{one.zone}" for point in points]), f"invalid.{one.zone}"
