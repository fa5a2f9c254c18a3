"""Forecasts of a running relay: what receivers will say of SPF, DKIM and DMARC before they say it.

One question for each kind of mail (who writes, who signs, by which way) every five minutes, asked behind the dialogue.
What will be refused for sure, because the author's domain wants it so, is an alarm at once: the sender's operator can
mend it before the bounces come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from staffetta.delivery.road import Road
from staffetta.dns.mx import find_addresses
from staffetta.dns.resolver import Resolver, Unavailable
from staffetta.intake.forecasts import Outgoing
from staffetta.mailauth.asking import Asker
from staffetta.mailauth.dkim.signers import Signers
from staffetta.mailauth.forecast import FAIL, Forecast, ForecastQuestion, forecast, key_of
from staffetta.mailauth.results import DmarcPolicy
from staffetta.observe.alarms import Alarms
from staffetta.observe.events import Event, encode, moment
from staffetta.observe.events import Forecast as ForecastEvent
from staffetta.spool.contract import JournalEntry, Spool, SpoolUnavailable

KEPT_SECONDS: Final = 300.0
"""How long an answer stands: as long as records usually do."""

KINDS: Final = 2000
"""Kinds of mail that are remembered; when there are more, all are forgotten and learnt again."""

AT_ONCE: Final = 8
"""Forecasts that are asked for at the same time; more have to wait for their next message."""


class Means(msgspec.Struct, frozen=True):
    """What forecasting needs of the relay. `road` gives the way of a destination, None for a mailbox of ours;
    `guard` says why an address cannot be the one that others see, None when it can."""

    resolver: Resolver
    signers: Signers
    road: Callable[[str], Road | None]
    guard: Callable[[str], str | None]
    hostname: str
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    emit: Callable[[Event], None]
    spool: Spool
    alarms: Alarms


class _Kind(msgspec.Struct, frozen=True, gc=False):
    """What a forecast depends on: many destinations are reached by one way. `via` "": by MX, from `addresses` (empty:
    the system's choice)."""

    author_domain: str
    envelope_domain: str
    signed_as: str
    addresses: tuple[str, ...]
    via: str


class _Known(msgspec.Struct, frozen=True):
    words: str
    until: float


class Forecasts:
    """See intake.forecasts.Forecaster. Belongs to one event loop."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._known: dict[_Kind, _Known] = {}
        self._tasks: dict[_Kind, asyncio.Task[None]] = {}
        self._ways: dict[str, tuple[tuple[str, ...], str] | None] = {}

    def look(self, outgoing: Outgoing, message_id: str) -> str:
        """The words of an answer that still stands; else ask, and say nothing."""
        way = self._way(outgoing.destination)
        if way is None:
            return ""
        kind = _Kind(outgoing.author_domain, outgoing.envelope_domain, outgoing.signed_as, *way)
        known = self._known.get(kind)
        if known is not None and self._means.monotonic() < known.until:
            return known.words
        if kind not in self._tasks and len(self._tasks) < AT_ONCE:
            task = asyncio.ensure_future(self._find_out(kind, message_id))
            self._tasks[kind] = task
            task.add_done_callback(lambda _: self._tasks.pop(kind, None))
        return known.words if known is not None else ""

    async def close(self) -> None:
        """Ask no more."""
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _find_out(self, kind: _Kind, message_id: str) -> None:
        means = self._means
        asker = Asker(means.resolver, means.monotonic)
        found = await forecast(asker, await self._question(asker, kind))
        words = words_of(found)
        before = self._known.get(kind)
        if len(self._known) >= KINDS:
            self._known.clear()
        self._known[kind] = _Known(words, means.monotonic() + KEPT_SECONDS)
        if before is None or before.words != words:
            await self._tell(kind, found, message_id)

    async def _question(self, asker: Asker, kind: _Kind) -> ForecastQuestion:
        means = self._means
        addresses, via = kind.addresses, kind.via
        if not addresses and not via:
            # Mail leaves by an address of the system's choice: most likely one that our own name has.
            own = await find_addresses(asker, means.hostname)
            addresses = () if isinstance(own, Unavailable) else tuple(a for a in own if means.guard(a) is None)
        signer = means.signers.ready(kind.signed_as) if kind.signed_as else None
        keys = tuple(map(key_of, signer.keys)) if signer is not None else ()
        return ForecastQuestion(kind.author_domain, kind.envelope_domain, means.hostname, addresses, keys, via)

    async def _tell(self, kind: _Kind, found: Forecast, message_id: str) -> None:
        means = self._means
        now = means.clock()
        event = ForecastEvent(
            time=moment(now),
            id=message_id,
            author_domain=kind.author_domain,
            envelope_domain=kind.envelope_domain,
            signed_as=kind.signed_as,
            spf=found.spf,
            dkim=found.dkim.value,
            dmarc=found.dmarc.value,
            policy=found.policy.value,
            verdict=found.verdict,
            reason=found.sentence,
        )
        means.emit(event)
        name = f"forecast {kind.author_domain}"
        if found.verdict == FAIL and found.policy is DmarcPolicy.REJECT:
            means.alarms.sound(name, f"receivers will refuse mail from {kind.author_domain}: {found.sentence}")
        else:
            means.alarms.clear(name)
        try:
            await means.spool.append_journal([JournalEntry(encode(event), now, message_id)])
        except SpoolUnavailable:
            return  # an explanation is lost, no message

    def _way(self, destination: str) -> tuple[tuple[str, ...], str] | None:
        """Addresses that a way leaves from, and the host it leads through; None for mailboxes of ours."""
        if destination not in self._ways:
            if len(self._ways) >= KINDS:
                self._ways.clear()
            road = self._means.road(destination)
            via = road.hops[0].host if road is not None and road.hops else ""
            self._ways[destination] = None if road is None or road.lmtp else (() if via else road.sources, via)
        return self._ways[destination]


def words_of(found: Forecast) -> str:
    """A forecast for the `checks` of an event."""
    return (
        f"{found.verdict}: spf {found.spf}, dkim {found.dkim.value}, dmarc {found.dmarc.value} ({found.policy.value})"
    )
