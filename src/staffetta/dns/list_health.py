"""Which lists are in order: each is tried regularly, visibly switched off if it lists all or nothing, and tried again.

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
    """Seconds. A list is tried every `test_seconds`, every `retest_seconds` while it is off, and before a listing is
    believed when the last trial is older than `confirm_seconds`. `failures` silent answers in a row put it aside for
    `pause_seconds`; those that come faster than `slow_seconds` do not count, since they delay nobody."""

    test_seconds: float = 3600.0
    confirm_seconds: float = 60.0
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
        self._testing: dict[tuple[str, bool], asyncio.Task[None]] = {}
        self._told = told

    def states(self) -> tuple[ListState, ...]:
        """All lists that were asked, for `status`."""
        return tuple(self._states.values())

    def state(self, one: ListSettings) -> ListState:
        """What is known of one list."""
        return self._states.get(_key(one)) or ListState(one.zone, one.of_domains)

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
        await asyncio.shield(self._test(one))
        return self.state(one)

    async def _ask(self, resolver: Resolver, one: ListSettings, name: str, subject: str) -> Listing:
        state = self.state(one)
        now = self._clock()
        test = self._testing.get(_key(one))
        if test is None and (now >= state.again_at or now < state.tested_at):
            test = self._test(one)
        if not state.on and test is None:
            return _off(one, subject, state)
        # The trial runs beside the question, so the message that meets it waits no longer than others.
        listing = await self._timed(resolver, one, name, subject)
        if listing.listed and test is None and now - state.tested_at >= self._settings.confirm_seconds:
            test = self._test(one)
        if test is not None:
            await asyncio.shield(test)
        state = self.state(one)
        return msgspec.structs.replace(listing, action=one.action) if state.on else _off(one, subject, state)

    def _test(self, one: ListSettings) -> asyncio.Task[None]:
        """The trial that is under way, or a new one. A task of its own: whoever gives up waiting does not end it."""
        key = _key(one)
        test = self._testing.get(key)
        if test is None:
            test = self._testing[key] = asyncio.ensure_future(self._try(one))
            test.add_done_callback(lambda _: self._testing.pop(key, None))
        return test

    async def _try(self, one: ListSettings) -> None:
        verdict = await self._verdict(one)
        now = self._clock()
        old = self.state(one)
        settings = self._settings
        if verdict is None:
            # Silence proves nothing: the list is what it was. Failures are counted where mail waits for them.
            wait = settings.pause_seconds if old.on else settings.retest_seconds
            self._set(msgspec.structs.replace(old, tested_at=now, again_at=now + wait))
            return
        on = not verdict
        self._set(
            msgspec.structs.replace(
                old,
                on=on,
                reason=verdict,
                since=old.since if old.on == on and old.since else now,
                tested_at=now,
                again_at=now + (settings.test_seconds if on else settings.retest_seconds),
                failures=0,
            )
        )

    async def _timed(self, resolver: Resolver, one: ListSettings, name: str, subject: str) -> Listing:
        """One look-up; what it took and what came is remembered."""
        time = asyncio.get_running_loop().time
        start = time()
        listing = await look_up_name(resolver, one.zone, name, subject, one.codes)
        state = self.state(one)
        settings = self._settings
        if listing.fault:
            self._switch_off(state, listing.error, settings.retest_seconds)
        elif not listing.error or listing.codes:
            if state.failures:
                self._set(msgspec.structs.replace(state, failures=0))
        elif time() - start >= settings.slow_seconds:
            state = msgspec.structs.replace(state, failures=state.failures + 1)
            self._set(state)
            if state.on and state.failures >= settings.failures:
                self._switch_off(state, f"no answer {state.failures} times in a row", settings.pause_seconds)
        return listing

    def _switch_off(self, state: ListState, reason: str, seconds: float) -> None:
        now = self._clock()
        since = now if state.on else state.since
        self._set(msgspec.structs.replace(state, on=False, reason=reason, since=since, again_at=now + seconds))

    async def _verdict(self, one: ListSettings) -> str | None:
        """Why the list is not in order; "" when it is; None when it keeps silent."""
        present, absent = _points(one)
        names = [*present, absent]
        lookups = await asyncio.gather(*[ask(self._resolver, name, RecordKind.A) for name in names])
        read = [read_answer(one.zone, name, lookup, _ANY_ANSWER) for name, lookup in zip(names, lookups, strict=True)]
        for listing in read:
            if listing.fault:
                return listing.error
        if read[-1].listed:
            return f"it lists {'INVALID' if one.of_domains else '127.0.0.1'}, so everything"
        if any(isinstance(lookup, Unavailable) for lookup in lookups):
            return None
        if not any(listing.listed for listing in read[:-1]):
            return f"it does not list {'TEST' if one.of_domains else '127.0.0.2'}, so nothing"
        return ""

    def _set(self, state: ListState) -> None:
        key = (state.zone, state.of_domains)
        was_on = self._states[key].on if key in self._states else True
        self._states[key] = state
        if self._told is not None and state.on is not was_on:
            self._told(state)


def _key(one: ListSettings) -> tuple[str, bool]:
    return one.zone, one.of_domains


def _off(one: ListSettings, subject: str, state: ListState) -> Listing:
    return Listing(one.zone, subject, action=one.action, error=f"switched off: {state.reason}")


def _points(one: ListSettings) -> tuple[tuple[str, ...], str]:
    """The names of which one must be listed, and the one that must not."""
    if not one.of_domains:
        return (address_name(one.zone, "127.0.0.2"),), address_name(one.zone, "127.0.0.1")
    known = KNOWN_LISTS.get(one.zone)
    points = ["test", known.listed_point] if known is not None and known.listed_point else ["test"]
    return tuple([f"{point}.{one.zone}" for point in points]), f"invalid.{one.zone}"
