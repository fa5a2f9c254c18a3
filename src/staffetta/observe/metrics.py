"""Counters and gauges of this process, fed from events. What they look like to Prometheus is not known here.

Label values come from our own vocabulary (listener, outcome, mechanism), never from a peer: a set of names that
strangers could make grow without end is no metric.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from staffetta.observe.events import (
    Accept,
    Attempt,
    Bounce,
    Connect,
    Defer,
    Deliver,
    Disconnect,
    Event,
    Expire,
    Junk,
    Login,
    LoginRefused,
    Notice,
    Refuse,
)

Labels = tuple[str, ...]


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One value. `labels` are the values of the labels, in the order that the name's counter defines."""

    name: str
    labels: Labels
    value: float


class Counters:
    """What happened, how often; and what is now. Used from the loop's thread only."""

    __slots__ = ("_counts", "_gauges")

    def __init__(self) -> None:
        self._counts: dict[tuple[str, Labels], float] = {}
        self._gauges: dict[str, Callable[[], float]] = {}

    def add(self, name: str, labels: Labels = (), by: float = 1) -> None:
        """Count."""
        key = (name, labels)
        counts = self._counts
        counts[key] = counts.get(key, 0) + by

    def value(self, name: str, labels: Labels = ()) -> float:
        """The count so far; 0 when nothing was counted."""
        return self._counts.get((name, labels), 0)

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Publish a value that is read when somebody looks."""
        self._gauges[name] = read

    def observe(self, event: Event) -> None:
        """Count an event."""
        rule = _RULES.get(type(event))
        if rule is not None:
            rule(self, event)

    def samples(self) -> list[Sample]:
        """Everything, sorted by name and labels."""
        found = [Sample(name, labels, value) for (name, labels), value in self._counts.items()]
        found += [Sample(name, (), read()) for name, read in self._gauges.items()]
        return sorted(found, key=lambda sample: (sample.name, sample.labels))


def _connect(counters: Counters, event: Connect) -> None:
    counters.add("connections", (event.listener, "tls" if event.tls else "clear"))


def _disconnect(counters: Counters, event: Disconnect) -> None:
    counters.add("disconnections", (event.listener,))
    counters.add("octets_received", (event.listener,), event.bytes)


def _login(counters: Counters, event: Login) -> None:
    counters.add("logins", (event.listener, event.mechanism, "accepted"))


def _login_refused(counters: Counters, event: LoginRefused) -> None:
    counters.add("logins", (event.listener, event.mechanism, "refused"))


def _refuse(counters: Counters, event: Refuse) -> None:
    counters.add("refusals", (event.listener, event.stage, event.rule))


def _accept(counters: Counters, event: Accept) -> None:
    counters.add("messages_accepted", (event.listener,))
    counters.add("recipients_accepted", (event.listener,), len(event.recipients))
    counters.add("octets_accepted", (event.listener,), event.size)


def _attempt(counters: Counters, event: Attempt) -> None:
    tls = "tls" if event.tls else "clear"
    counters.add("attempts", (event.route, event.outcome, tls))
    counters.add("attempt_seconds", (event.route,), event.seconds)


def _outcome(counters: Counters, event: Event) -> None:
    counters.add("recipients", (type(event).__name__.lower(),))


def _notice(counters: Counters, event: Notice) -> None:
    counters.add("notices", (event.kind,))


_RULES: dict[type[Event], Callable[[Counters, Any], None]] = {
    Connect: _connect,
    Disconnect: _disconnect,
    Login: _login,
    LoginRefused: _login_refused,
    Refuse: _refuse,
    Accept: _accept,
    Attempt: _attempt,
    Deliver: _outcome,
    Defer: _outcome,
    Bounce: _outcome,
    Expire: _outcome,
    Junk: _outcome,
    Notice: _notice,
}
