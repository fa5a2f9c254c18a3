"""Limits that hold for all doors, in whichever process they are: connections, failed logins, and what is an alarm.

Connections are counted in memory that all processes see. Every worker writes into a table of its own and reads all of
them, so nothing is locked; two clients that come at the same instant at two workers may both get the last place.
A network has two places in a table, found by a keyed hash, and the smaller count is believed: never too small, and too
large only where strangers meet in both. Failed logins are told to the main process, which tells all others.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable
from typing import Final

from staffetta.observe.alarms import Alarms
from staffetta.policy.rate import (
    FULL_HOUSE,
    TOO_MANY_CONNECTIONS,
    Connections,
    LoginFailures,
    LoginLimits,
    client_network,
)
from staffetta.policy.verdict import Refusal

PLACES: Final = 1 << 15
"""Counters in one half of a table; a worker's table takes 256 KiB, of which only pages that are used exist."""

KEY_OCTETS: Final = 16
_COUNTER_OCTETS: Final = 4
_TABLE: Final = 1 + 2 * PLACES
"""The first counter is that of all connections."""

NEWS_SECONDS: Final = 60.0
"""How often the others are told that an owner logs in from where he logged in before."""

Places = tuple[int, int]


class ConnectionTable:
    """The counters of all workers. Made before they are forked; `key` is random, so that nobody can choose places."""

    def __init__(self, workers: int, key: bytes) -> None:
        self.workers = workers
        self._key = key
        self._memory = mmap.mmap(-1, max(1, workers) * _TABLE * _COUNTER_OCTETS)
        self._counters = memoryview(self._memory).cast("I")

    def places(self, network: str) -> Places:
        """Where a network is counted."""
        text = network.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(text, key=self._key, digest_size=4).digest()
        first, second = int.from_bytes(digest[:2], "big"), int.from_bytes(digest[2:], "big")
        return 1 + first % PLACES, 1 + PLACES + second % PLACES

    def add(self, worker: int, places: Places, number: int) -> None:
        """Count a connection of a worker, or that it is gone."""
        start = worker * _TABLE
        counters = self._counters
        counters[start] += number
        counters[start + places[0]] += number
        counters[start + places[1]] += number

    def open_elsewhere(self, worker: int) -> int:
        """Connections of all other workers."""
        counters = self._counters
        return sum([counters[other * _TABLE] for other in range(self.workers) if other != worker])

    def elsewhere(self, worker: int, places: Places) -> int:
        """Those of one network."""
        counters = self._counters
        first = second = 0
        for other in range(self.workers):
            if other != worker:
                start = other * _TABLE
                first += counters[start + places[0]]
                second += counters[start + places[1]]
        return min(first, second)

    def forget(self, worker: int) -> None:
        """A worker has ended, and its connections with it."""
        start = worker * _TABLE
        self._counters[start : start + _TABLE] = memoryview(bytes(_TABLE * _COUNTER_OCTETS)).cast("I")

    def close(self) -> None:
        """Give the memory back."""
        self._counters.release()
        self._memory.close()


def connections_of(most: int, most_per_client: int, table: ConnectionTable, worker: int) -> Connections:
    """The connections of a worker; where it is the only one there is nobody to share them with."""
    if table.workers == 1:
        return Connections(most, most_per_client)
    return SharedConnections(most, most_per_client, table, worker)


class SharedConnections(Connections):
    """Connections of one worker, judged with those of the others."""

    __slots__ = ("_places", "_table", "_worker")

    def __init__(self, most: int, most_per_client: int, table: ConnectionTable, worker: int) -> None:
        super().__init__(most, most_per_client)
        self._table = table
        self._worker = worker
        self._places: dict[str, Places] = {}  # of the networks that are here

    def enter(self, client: str) -> Refusal | None:
        """See Connections."""
        table, worker = self._table, self._worker
        if self.open + table.open_elsewhere(worker) >= self.most:
            return FULL_HOUSE
        network = client_network(client)
        places = self._places.get(network) or table.places(network)
        if self.of(network) + table.elsewhere(worker, places) >= self.most_per_client:
            return TOO_MANY_CONNECTIONS
        refusal = super().enter(client)
        if refusal is None:
            self._places[network] = places
            table.add(worker, places, 1)
        return refusal

    def leave(self, client: str) -> None:
        """See Connections."""
        super().leave(client)
        network = client_network(client)
        self._table.add(self._worker, self._places[network], -1)
        if not self.of(network):
            del self._places[network]


class SharedLoginFailures(LoginFailures):
    """Failed logins of one worker, which hears of those at the others (`heard`). `tell` is given what happened here."""

    __slots__ = ("_tell", "_told")

    def __init__(self, limits: LoginLimits, tell: Callable[[bool, str, str, float], None]) -> None:
        super().__init__(limits)
        self._tell = tell
        self._told: dict[tuple[str, str], float] = {}

    def failed(self, client: str, account: str, now: float) -> None:
        """See LoginFailures."""
        super().failed(client, account, now)
        self._told.pop((client, account), None)
        self._tell(False, client, account, now)

    def succeeded(self, client: str, account: str, now: float) -> None:
        """See LoginFailures."""
        super().succeeded(client, account, now)
        told_at = self._told.get((client, account), -NEWS_SECONDS)
        if now - told_at < NEWS_SECONDS:
            return
        if len(self._told) >= PLACES:
            self._told.clear()
        self._told[client, account] = now
        self._tell(True, client, account, now)

    def heard(self, succeeded: bool, client: str, account: str, now: float) -> None:
        """It happened at another worker."""
        if succeeded:
            super().succeeded(client, account, now)
        else:
            self._told.pop((client, account), None)
            super().failed(client, account, now)


class ToldAlarms(Alarms):
    """The alarms of a worker: `tell` is given name and text of what is wrong, an empty text when it is over."""

    __slots__ = ("_tell",)

    def __init__(self, clock: Callable[[], float], tell: Callable[[str, str], None]) -> None:
        super().__init__(clock)
        self._tell = tell

    def sound(self, name: str, text: str) -> bool:
        """See Alarms."""
        self._tell(name, text)
        return super().sound(name, text)

    def clear(self, name: str) -> bool:
        """See Alarms."""
        was_on = super().clear(name)
        if was_on:
            self._tell(name, "")
        return was_on
