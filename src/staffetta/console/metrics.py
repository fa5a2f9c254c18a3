"""What a relay tells a monitoring system: names, kinds and labels, worked out when somebody looks.

A contract like the events: prefix `staffetta_`, base units, every series that can be there is there from the start, at
zero. Labels are listeners of the configuration, words of our own vocabulary and zones of configured block lists; never
an address, a domain of mail, or a reply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import Final

import msgspec

from staffetta.console.exposition import Family, Labels, counter, gauge
from staffetta.console.process import Process
from staffetta.console.rules import REFUSALS
from staffetta.observe.events import (
    Accept,
    Attempt,
    Connect,
    Defer,
    Expire,
    Junk,
    Login,
    LoginRefused,
    Notice,
    Refuse,
)
from staffetta.observe.metrics import Counters
from staffetta.spool.contract import State
from staffetta.spool.operator import Standing

MECHANISMS: Final = ("PLAIN", "LOGIN", "SCRAM-SHA-256")
OUTCOMES: Final = ("delivered", "deferred", "failed")
NOTICES: Final = ("failed", "delayed", "delivered")
STATES: Final = (State.QUEUED, State.ACTIVE, State.DEFERRED, State.HELD)
ALARMS: Final = tuple("blocklist console control dkim forecast masked selfcheck workers other".split())  # noqa: SIM905
"""Kinds of alarms: the first word of an alarm's name, `other` for what is none of these."""


class Store(msgspec.Struct, frozen=True):
    """What store and disk say."""

    standing: Standing
    free_octets: int
    total_octets: int


class Facts(msgspec.Struct, frozen=True):
    """Everything of one moment. `store` is None when it cannot be read; `selfcheck` while nothing is known; times are
    seconds since the epoch. `expires` maps a certificate's subject to its end, `lists` a zone to whether it is asked;
    `alarms` are names; `missing_log_lines` never reached the log, `missing_refusals` never the journal."""

    version: str
    python: str
    now: float
    listeners: tuple[str, ...]
    sessions: Mapping[str, int]
    counters: Counters
    store: Store | None
    expires: Mapping[str, float]
    lists: Mapping[str, bool]
    alarms: tuple[str, ...]
    selfcheck: bool | None
    reload_success: bool
    loaded_at: float
    lag_seconds: float
    missing_log_lines: int
    missing_refusals: int
    process: Process


def families(facts: Facts) -> Iterator[Family]:
    """All metrics, in the order in which people read them."""
    yield from _doors(facts)
    yield from _intake(facts.counters, facts.listeners)
    yield from _delivery(facts.counters)
    yield from _store(facts.store, facts.now)
    yield from _trust(facts)
    yield from _itself(facts)
    yield from facts.process.families()


def _doors(facts: Facts) -> Iterator[Family]:
    names, counters = facts.listeners, facts.counters
    yield gauge(
        "smtp_connections",
        "Clients that are connected now.",
        {(name,): facts.sessions.get(name, 0) for name in names},
        ("listener",),
    )
    connects = _zeros(names, ("implicit", "clear"))
    _add(connects, counters.counted(Connect), lambda key: (key[0], "implicit" if key[1] else "clear"))
    text = "Connections that came; tls says how they began."
    yield counter("smtp_connections", text, connects, ("listener", "tls"))
    attempts = _zeros(names, MECHANISMS, ("accepted", "refused"))
    _add(attempts, counters.counted(Login), lambda key: (*key, "accepted"))
    _add(attempts, counters.counted(LoginRefused), lambda key: (*key, "refused"))
    yield counter("auth_attempts", "Logins that were tried.", attempts, ("listener", "mechanism", "result"))


def _intake(counters: Counters, listeners: Iterable[str]) -> Iterator[Family]:
    accepted = _zeros(listeners)
    _add(accepted, counters.counted(Accept), lambda key: key)
    yield counter("messages_accepted", "Messages that are on disk and were acknowledged.", accepted, ("listener",))
    refused: dict[Labels, float] = dict.fromkeys(REFUSALS, 0)
    _add(refused, counters.counted(Refuse), lambda key: key)
    text = "Commands and messages that were refused or put off, by the rule that decided."
    yield counter("messages_refused", text, refused, ("stage", "rule"))


def _delivery(counters: Counters) -> Iterator[Family]:
    attempts = _zeros(OUTCOMES, ("yes", "no"))
    _add(attempts, counters.counted(Attempt), lambda key: (key[0], "yes" if key[1] else "no"))
    yield counter("delivery_attempts", "Tries for one recipient that ended.", attempts, ("result", "tls"))
    yield counter("recipients_deferred", "Times that a recipient was put off.", counters.total(Defer))
    yield counter("recipients_expired", "Recipients that waited their whole lifetime.", counters.total(Expire))
    yield counter("recipients_junk", "Recipients whose copy went to the junk folder.", counters.total(Junk))
    notices = _zeros(NOTICES)
    _add(notices, counters.counted(Notice), lambda key: key)
    yield counter("notices", "Delivery status notifications that were made.", notices, ("kind",))


def _store(store: Store | None, now: float) -> Iterator[Family]:
    yield gauge("store_up", "1 when the store can be read.", store is not None)
    if store is None:
        return
    standing, books = store.standing, store.standing.ledger
    yield counter("recipients_accepted", "Recipients ever accepted into this store.", books.accepted)
    yield counter(
        "recipients_final",
        "Recipients of this store that came to their end.",
        {("delivered",): books.delivered, ("bounced",): books.bounced, ("dropped",): books.dropped},
        ("outcome",),
    )
    yield gauge("recipients_unaccounted", "Not zero is a bug: please report it.", books.unaccounted)
    counts: dict[Labels, float] = {(state.value,): standing.counts.get(state, 0) for state in STATES}
    yield gauge("queue_recipients", "Recipients that wait.", counts, ("state",))
    oldest = standing.oldest
    ages: dict[Labels, float] = {(state.value,): max(0.0, now - oldest.get(state, now)) for state in STATES}
    yield gauge("queue_oldest_age_seconds", "Age of who waits longest; 0 when nobody does.", ages, ("state",))
    yield gauge("queue_bytes", "Size of all messages that wait.", standing.octets)
    yield gauge("destinations_down", "Destinations that are not tried for a while.", len(standing.down))
    yield gauge("spool_free_bytes", "Free space on the disk of the store.", store.free_octets)
    yield gauge("spool_size_bytes", "Size of that disk.", store.total_octets)


def _trust(facts: Facts) -> Iterator[Family]:
    yield gauge(
        "certificate_expiry_timestamp_seconds",
        "When a certificate of our doors ends.",
        {(name,): at for name, at in facts.expires.items()},
        ("name",),
    )
    yield gauge(
        "dns_list_up",
        "1 while a block list is asked; 0: it is put aside because it answers nonsense or nothing.",
        {(zone,): on for zone, on in facts.lists.items()},
        ("zone",),
    )
    alarms = _zeros(ALARMS)
    for name in facts.alarms:
        kind = name.partition(" ")[0]
        alarms[kind if kind in ALARMS else "other",] += 1
    yield gauge("alarms", "What is wrong now; staffetta status says it in words.", alarms, ("kind",))
    known = facts.selfcheck is not None
    text = "1 when the relay found itself closed to strangers, 0 when open; NaN: not tried yet."
    yield gauge("relay_selfcheck_success", text, float(bool(facts.selfcheck)) if known else math.nan)


def _itself(facts: Facts) -> Iterator[Family]:
    yield gauge("build_info", "What runs.", {(facts.version, facts.python): 1}, ("version", "python"))
    yield gauge("config_last_reload_success", "0 when the last reload was refused.", facts.reload_success)
    yield gauge("config_loaded_timestamp_seconds", "When the configuration in force was read.", facts.loaded_at)
    text = "How late the event loop was, at its worst in the last half minute."
    yield gauge("event_loop_lag_seconds", text, facts.lag_seconds)
    yield counter("log_lines_missing", "Events that never reached the log.", facts.missing_log_lines)
    yield counter("journal_refusals_missing", "Refusals that the journal does not keep.", facts.missing_refusals)


def _zeros(*sets: Iterable[str]) -> dict[Labels, float]:
    return dict.fromkeys(product(*sets), 0)


def _add(into: dict[Labels, float], counts: Mapping[Labels, int], labels: Callable[[Labels], Labels]) -> None:
    for key, count in counts.items():
        place = labels(key)
        into[place] = into.get(place, 0) + count
