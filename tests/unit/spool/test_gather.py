"""When the next batch waits, and when it does not: played with batches of so many operations."""

from __future__ import annotations

import pytest

from staffetta.spool.sqlite_gather import BATCHES_AT_ONCE, VAIN_WAITS, WORTH_OPERATIONS, Gathering

FEW, MANY = WORTH_OPERATIONS - 1, WORTH_OPERATIONS


def waits(gathering: Gathering, operations: int, batches: int) -> int:
    """How many of so many batches, all of the same size, make the next one wait."""
    return sum(gathering.pays(operations) for _ in range(batches))


def test_who_writes_alone_waits_for_nothing() -> None:
    assert waits(Gathering(), 1, 1000) == 0


def test_under_load_every_batch_waits() -> None:
    assert waits(Gathering(), MANY, 1000) == 1000


@pytest.mark.parametrize("operations", [2, FEW])
def test_a_few_clients_wait_hardly_ever(operations: int) -> None:
    gathering = Gathering()
    assert waits(gathering, operations, VAIN_WAITS) == VAIN_WAITS
    assert waits(gathering, operations, BATCHES_AT_ONCE) == 0
    assert waits(gathering, operations, 10 * (BATCHES_AT_ONCE + 1)) == 10


def test_one_lull_changes_nothing() -> None:
    gathering = Gathering()
    for _ in range(100):
        assert waits(gathering, MANY, 3) == 3
        assert waits(gathering, FEW, VAIN_WAITS - 1) == VAIN_WAITS - 1


def test_a_burst_after_a_lull_is_seen_at_once() -> None:
    gathering = Gathering()
    waits(gathering, FEW, 10)
    assert not gathering.pays(FEW)
    assert gathering.pays(MANY)
    assert gathering.pays(FEW)
