"""Limits hold whichever worker a client comes to."""

from __future__ import annotations

import pickle
from collections import Counter
from random import Random
from typing import Any

import pytest

from staffetta.app.workers.shared import (
    NEWS_SECONDS,
    ConnectionTable,
    SharedConnections,
    SharedLoginFailures,
    ToldAlarms,
    connections_of,
)
from staffetta.policy.rate import (
    FULL_HOUSE,
    NETWORK_FAILED,
    TOO_MANY_CONNECTIONS,
    Connections,
    LoginFailures,
    LoginLimits,
    client_network,
)

LIMITS = LoginLimits(3)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_connections_as_if_there_were_one_process(workers: int) -> None:
    """A random walk, judged by a plain count."""
    table = ConnectionTable(workers, b"k" * 16)
    rooms = [SharedConnections(40, 5, table, place) for place in range(workers)]
    clients = [f"192.0.2.{number}" for number in range(8)] + ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
    random = Random(7)
    there: list[tuple[int, str]] = []
    per_network: Counter[str] = Counter()
    seen = set()
    for _ in range(5000):
        if there and random.random() < 0.45:
            place, client = there.pop(random.randrange(len(there)))
            rooms[place].leave(client)
            per_network[client_network(client)] -= 1
            continue
        place, client = random.randrange(workers), random.choice(clients)
        refusal = rooms[place].enter(client)
        seen.add(refusal)
        if len(there) >= 40:
            assert refusal is FULL_HOUSE
        elif per_network[client_network(client)] >= 5:
            assert refusal is TOO_MANY_CONNECTIONS
        else:
            assert refusal is None
            there.append((place, client))
            per_network[client_network(client)] += 1
    assert seen == {None, FULL_HOUSE, TOO_MANY_CONNECTIONS}
    table.close()


def test_connections_of_a_dead_worker_are_gone() -> None:
    table = ConnectionTable(2, b"k" * 16)
    here, there = (SharedConnections(10, 2, table, place) for place in range(2))
    assert [there.enter("192.0.2.1") for _ in range(3)] == [None, None, TOO_MANY_CONNECTIONS]
    assert here.enter("192.0.2.1") is TOO_MANY_CONNECTIONS
    assert here.enter("192.0.2.2") is None
    table.forget(1)
    assert here.enter("192.0.2.1") is None
    fresh = SharedConnections(10, 2, table, 1)
    assert [fresh.enter("192.0.2.1"), fresh.enter("192.0.2.1")] == [None, TOO_MANY_CONNECTIONS]
    here.leave("192.0.2.1")
    assert fresh.enter("192.0.2.1") is None
    table.close()


def test_nothing_is_remembered_of_clients_that_have_gone() -> None:
    table = ConnectionTable(2, b"k" * 16)
    rooms = [SharedConnections(10, 1, table, place) for place in range(2)]
    clients = ["192.0.2.1", "2001:db8::1"]
    assert [rooms[0].enter(client) for client in clients] == [None, None]
    assert [rooms[0].enter("2001:db8::2"), rooms[1].enter("192.0.2.1")] == [TOO_MANY_CONNECTIONS] * 2
    for client in clients:
        rooms[0].leave(client)
    assert [room._places for room in rooms] == [{}, {}]
    assert rooms[1].enter("192.0.2.1") is None
    table.close()


def test_a_worker_alone_counts_for_itself() -> None:
    for workers, kind in ((1, Connections), (2, SharedConnections)):
        table = ConnectionTable(workers, b"k" * 16)
        room = connections_of(2, 1, table, 0)
        assert type(room) is kind
        assert [room.enter("192.0.2.1"), room.enter("192.0.2.1")] == [None, TOO_MANY_CONNECTIONS]
        table.close()


def test_strangers_hardly_ever_count_for_each_other() -> None:
    """Ten thousand networks at another worker; nobody new is taken for one of them."""
    table = ConnectionTable(2, b"key of a test")
    here, there = (SharedConnections(100_000, 2, table, place) for place in range(2))
    for number in range(10_000):
        assert there.enter(f"10.{number >> 8}.{number & 255}.1") is None
    refused = sum(here.enter(f"172.16.{number >> 8}.{number & 255}") is not None for number in range(10_000))
    assert refused <= 200
    assert {here.enter("10.0.0.1"), here.enter("10.0.0.1")} >= {TOO_MANY_CONNECTIONS}
    table.close()


def told(workers: int) -> list[SharedLoginFailures]:
    """Workers that hear of each other at once."""
    staff: list[SharedLoginFailures] = []

    def teller(place: int) -> Any:
        def tell(*news: Any) -> None:
            for number, other in enumerate(staff):
                if number != place:
                    other.heard(*news)

        return tell

    staff += [SharedLoginFailures(LIMITS, teller(place)) for place in range(workers)]
    return staff


def test_failed_logins_count_at_all_doors() -> None:
    first, second = told(2)
    for worker in (first, second, first):
        assert worker.judge("192.0.2.1", "anna@example.org", 1.0) is None
        worker.failed("192.0.2.1", "anna@example.org", 1.0)
    assert first.judge("192.0.2.1", "", 2.0) is second.judge("192.0.2.1", "", 2.0) is NETWORK_FAILED
    assert second.judge("192.0.2.2", "anna@example.org", 2.0) is None
    second.failed("192.0.2.2", "anna@example.org", 2.0)
    assert first.judge("192.0.2.2", "anna@example.org", 3.0) is not None


def test_an_owner_is_known_at_all_doors() -> None:
    first, second = told(2)
    first.succeeded("198.51.100.1", "anna@example.org", 1.0)
    for number in range(5):
        second.failed(f"192.0.2.{number}", "anna@example.org", 2.0)
    second.failed("198.51.100.1", "anna@example.org", 3.0)
    assert second.judge("198.51.100.1", "anna@example.org", 4.0) is None
    assert first.judge("198.51.100.1", "anna@example.org", 4.0) is None
    assert first.judge("192.0.2.1", "anna@example.org", 4.0) is not None


def test_a_success_that_is_no_news_is_not_told_again() -> None:
    news: list[Any] = []
    worker = SharedLoginFailures(LIMITS, lambda *one: news.append(one))
    for now in (0.0, 1.0, NEWS_SECONDS - 1, NEWS_SECONDS + 1):
        worker.succeeded("192.0.2.1", "anna@example.org", now)
    assert [one[3] for one in news] == [0.0, NEWS_SECONDS + 1]
    worker.failed("192.0.2.1", "anna@example.org", 70.0)
    worker.succeeded("192.0.2.1", "anna@example.org", 71.0)
    worker.heard(False, "192.0.2.1", "anna@example.org", 72.0)
    worker.succeeded("192.0.2.1", "anna@example.org", 73.0)
    assert [one[0] for one in news] == [True, True, False, True, True]


def test_what_is_known_survives_a_worker() -> None:
    known = LoginFailures(LIMITS)
    for _ in range(3):
        known.failed("192.0.2.1", "", 1.0)
    fresh = SharedLoginFailures(LIMITS, lambda *_: None)
    fresh.take_over(pickle.loads(pickle.dumps(known)))
    assert fresh.judge("192.0.2.1", "", 2.0) is NETWORK_FAILED


def test_alarms_are_told() -> None:
    news: list[tuple[str, str]] = []
    alarms = ToldAlarms(lambda: 0.0, lambda name, text: news.append((name, text)))
    assert alarms.sound("list", "is off")
    assert not alarms.sound("list", "is still off")
    assert alarms.clear("list")
    assert not alarms.clear("list")
    assert news == [("list", "is off"), ("list", "is still off"), ("list", "")]
