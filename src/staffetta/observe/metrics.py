"""How often what happened, in this process: fed with every event, read when somebody looks.

Counting is on the path of every message, so it is one addition under a key that is taken from the event as it is;
what a key means, and what it looks like to Prometheus, is worked out by whoever reads (`console.metrics`). Keys come
from our own vocabulary and from what TLS agreed on (listener, stage, rule, outcome, mechanism, cipher), never from a
peer's own words: a set that strangers could make grow without end is no metric.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from staffetta.observe.events import (
    Accept,
    Attempt,
    Bounce,
    Connect,
    Defer,
    Deliver,
    Event,
    Expire,
    Junk,
    Login,
    LoginRefused,
    Notice,
    Refuse,
)

Key = Any
"""What is taken from an event: a text for one field, a tuple for several."""

FIELDS: Final[dict[type[Event], tuple[str, ...]]] = {
    Connect: ("listener", "tls"),
    Login: ("listener", "mechanism"),
    LoginRefused: ("listener", "mechanism"),
    Refuse: ("stage", "rule"),
    Accept: ("listener",),
    Attempt: ("outcome", "tls"),
    Deliver: (),
    Defer: (),
    Bounce: (),
    Expire: (),
    Junk: (),
    Notice: ("kind",),
}
"""What is counted, and by which fields of the event."""


class Counters:
    """The counts of one process. Any thread may look; events come from the loop's."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[type[Event], tuple[Callable[[Any], Key], dict[Key, int]]] = {
            kind: (_key_of(fields), defaultdict(int)) for kind, fields in FIELDS.items()
        }

    def observe(self, event: Event) -> None:
        """Count an event."""
        found = self._counts.get(type(event))
        if found is not None:
            found[1][found[0](event)] += 1

    def counted(self, kind: type[Event]) -> dict[tuple[str, ...], int]:
        """How often events of a kind came, by the fields that are counted. Only what came is there."""
        counts = dict(self._counts[kind][1])
        return {key if isinstance(key, tuple) else (key,): count for key, count in counts.items()}

    def add(self, kind: type[Event], key: tuple[str, ...], count: int) -> None:
        """Events that were counted in another process, by a key of `counted`."""
        counts = self._counts[kind][1]
        counts[key[0] if len(key) == 1 else key] += count

    def total(self, kind: type[Event]) -> int:
        """How often events of a kind came."""
        return sum(self._counts[kind][1].values())


def _key_of(fields: tuple[str, ...]) -> Callable[[Any], Key]:
    return attrgetter(*fields) if fields else _nothing


def _nothing(_: Event) -> Key:
    return ()
