"""When a batch waits for more, and when nobody is left to wait for."""

from __future__ import annotations

import pytest

from staffetta.spool.sqlite_gather import GATHER_OPERATIONS, Gathering


def gathering(messages: int, ends: int, senders: int | None) -> Gathering:
    """So many new messages and ends of attempts wait, of so many connected clients."""
    one = Gathering()
    if senders is not None:
        one.senders = lambda: senders
    for _ in range(messages):
        one.add(sender_waits=True)
    for _ in range(ends):
        one.add(sender_waits=False)
    return one


@pytest.mark.parametrize(
    ("messages", "ends", "senders", "complete"),
    [
        (1, 0, 1, True),  # the only client waits
        (1, 0, 2, False),  # the other may send yet
        (2, 0, 2, True),
        (2, 5, 2, True),
        (3, 0, 2, True),  # one has gone meanwhile
        (0, 3, 0, False),  # ends of attempts keep no client waiting
        (0, 3, 5, False),
        (8, 8, 20, True),  # enough for one flush
        (8, GATHER_OPERATIONS - 9, 20, False),
        (1, 0, None, False),  # nobody knows how many there are
        (GATHER_OPERATIONS, 0, None, True),
    ],
)
def test_a_batch_is_complete_when_nobody_can_add_to_it(
    messages: int, ends: int, senders: int | None, complete: bool
) -> None:
    assert gathering(messages, ends, senders).complete is complete


def test_what_is_under_way_is_not_waited_with() -> None:
    one = gathering(2, 1, 2)
    one.take(sender_waits=True)
    assert not one.complete
    one.take(sender_waits=True)
    one.take(sender_waits=False)
    assert (one.operations, one.waiting_senders) == (0, 0)
