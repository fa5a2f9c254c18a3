"""One transaction: which recipients it leaves, and that content comes out as it went in, however it was cut."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staffetta.accounts.directory import OUTSIDE, Resolution, Target
from staffetta.intake.transaction import Transaction
from staffetta.mail.address import NULL_PATH, POSTMASTER, Mailbox, parse_mailbox
from staffetta.mail.envelope import Notify, Recipient, Sender
from staffetta.message.header import Header
from staffetta.policy.door import Client
from staffetta.policy.relay import Place
from staffetta.spool.contract import CHUNK_OCTETS, Draft, SpoolUnavailable
from staffetta.spool.memory import MemorySpool
from staffetta.testing.spooled import START

ANNA = parse_mailbox("anna@example.org")
DEVICE = parse_mailbox("device@example.org")
STRANGER = Client(trusted=False, logged_in=False)


def transaction(fixed: Mailbox | None = None, sender: Any = ANNA) -> Transaction:
    return Transaction(Sender(sender, envid="env"), STRANGER, fixed)


def local(*targets: str) -> Resolution:
    """Where a local name leads: `address` by a route, or `address key`."""
    found = []
    for text in targets:
        address, _, key = text.partition(" ")
        found.append(Target(parse_mailbox(address), key))
    return Resolution(Place.LOCAL, tuple(found), "alias")


@pytest.mark.parametrize(
    ("sender", "fixed", "leaves"),
    [(ANNA, None, ANNA), (ANNA, DEVICE, DEVICE), (NULL_PATH, None, NULL_PATH), (NULL_PATH, DEVICE, DEVICE)],
)
def test_the_door_may_fix_the_sender_and_what_was_claimed_is_kept(sender: Any, fixed: Any, leaves: Any) -> None:
    one = transaction(fixed, sender)
    assert (one.claimed_sender, one.sender.reverse_path, one.sender.envid) == (sender, leaves, "env")


L = "local:example.org"


@pytest.mark.parametrize(
    ("given_names", "expected"),
    [
        (
            [("ben@far.example", OUTSIDE)],
            [("ben@far.example", "route ben@far.example", None)],
        ),
        (
            [("ben@far.example", OUTSIDE), ("ben@far.example", OUTSIDE)],
            [("ben@far.example", "route ben@far.example", None)],
        ),
        (
            [("anna@example.org", local(f"anna@example.org {L}"))],
            [("anna@example.org", L, None)],
        ),
        (
            [("all@example.org", local(f"anna@example.org {L}", "ben@far.example"))],
            [
                ("anna@example.org", L, "all@example.org"),
                ("ben@far.example", "route ben@far.example", "all@example.org"),
            ],
        ),
        (
            [("all@example.org", local(f"anna@example.org {L}")), ("anna@example.org", local(f"anna@example.org {L}"))],
            [("anna@example.org", L, "all@example.org")],
        ),
        (
            [("ben@far.example", OUTSIDE), ("all@example.org", local("ben@far.example"))],
            [("ben@far.example", "route ben@far.example", None)],
        ),
        (
            [(None, local(f"postmaster@example.org {L}"))],
            [("postmaster@example.org", L, None)],
        ),
    ],
)
def test_recipients(given_names: Any, expected: Any) -> None:
    one = transaction()
    for name, resolution in given_names:
        one.add(Recipient(POSTMASTER if name is None else parse_mailbox(name)), resolution)
    waiting = one.waiting("id", START, lambda mailbox, sender: f"route {mailbox}")
    assert [
        (str(found.address), found.destination, found.original and str(found.original)) for found in waiting
    ] == expected
    assert [found.index for found in waiting] == list(range(len(expected)))
    assert len(one.given) == len(given_names)
    assert {found.next_attempt_at for found in waiting} == {START}


def test_what_was_asked_for_a_recipient_holds_for_all_it_stands_for() -> None:
    one = transaction()
    asked = Recipient(parse_mailbox("all@example.org"), (Notify.SUCCESS,), "rfc822;all@example.org")
    one.add(asked, local(f"anna@example.org {L}", f"dora@example.org {L}"))
    waiting = one.waiting("id", START, lambda *_: "")
    assert [(found.notify, found.orcpt) for found in waiting] == [((Notify.SUCCESS,), "rfc822;all@example.org")] * 2


def test_routes_are_chosen_with_the_sender_that_leaves_us() -> None:
    one = transaction(DEVICE)
    one.add(Recipient(parse_mailbox("ben@far.example")), OUTSIDE)
    assert one.waiting("id", START, lambda _, sender: f"by {sender}")[0].destination == "by device@example.org"


def passed(octets: bytes, cuts: list[int]) -> tuple[bytes, bytes, Transaction]:
    """Header block and the rest, as they come out of a transaction that was given `octets` in pieces."""
    one = transaction()
    draft = Draft([])
    one.begin_content(draft)
    places = sorted({min(cut, len(octets)) for cut in cuts} | {0, len(octets)})
    for start, end in pairwise(places):
        one.content(octets[start:end])
    scan = one.end_content()
    rest = b"".join(draft.pending)
    assert draft.pending_octets == len(rest)
    return scan.header.block, rest, one


FORMS = [
    b"Subject: x\r\n\r\nbody\r\n",
    b"Subject: x\r\n\r\n",
    b"Subject: x\r\n",
    b"\r\nbody without a header\r\n",
    b"\r\n",
    b"\r\n\r\n\r\n",
    b"",
    b"Subject: x\r\nTo: y\r\n\r\n\r\n\r\nbody\r\n\r\n",
    b"A: 1\r\n" * 50 + b"\r\n" + b"line\r\n" * 50,
]


@pytest.mark.parametrize("octets", FORMS)
def test_content_comes_out_as_it_went_in_cut_anywhere(octets: bytes) -> None:
    for first in range(len(octets) + 1):
        header, rest, _ = passed(octets, [first, first + 1, first + 3])
        assert header + rest == octets
        assert header.endswith(b"\r\n") or not header


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([b"\r\n", b"\r\n\r\n", b"A: b\r\n", b"body", b" folded\r\n", b"\xff", b"."]), max_size=12),
    st.lists(st.integers(0, 80), max_size=8),
)
def test_content_comes_out_as_it_went_in(pieces: list[bytes], cuts: list[int]) -> None:
    octets = b"".join(pieces)
    header, rest, one = passed(octets, cuts)
    if one.scan is not None and one.scan.problem is None:
        assert header + rest == octets


def test_a_full_chunk_asks_to_be_stored() -> None:
    one = transaction()
    one.begin_content(Draft([]))
    assert not one.content(b"Subject: x\r\n\r\n" + b"x" * (CHUNK_OCTETS - 3))
    assert one.content(b"y")


def test_nothing_more_is_kept_of_content_that_could_not_be_stored() -> None:
    one = transaction()
    draft = Draft([])
    one.begin_content(draft)
    one.content(b"Subject: x\r\n\r\n")
    before = draft.pending_octets
    one.failed = SpoolUnavailable("full", full=True)
    assert not one.content(b"x" * CHUNK_OCTETS * 2)
    assert draft.pending_octets == before


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"Subject: x\r\n", ""),
        (b"Delivered-To: anna@example.org\r\n", "anna@example.org"),
        (b"Subject: x\r\nDELIVERED-TO:  <ANNA@Example.ORG> \r\n", "anna@example.org"),
        (b"Delivered-To: other@example.org\r\n" * 200 + b"Delivered-To: anna@example.org\r\n", "anna@example.org"),
        (b"Delivered-To: annabel@example.org\r\n", ""),
        (b"Delivered-To: ben@far.example\r\n", ""),
        (b"Delivered-To: \xff\r\n", ""),
        (b"X-Delivered-To: anna@example.org\r\n", ""),
    ],
)
def test_who_had_it_before(header: bytes, expected: str) -> None:
    """Of outside recipients nobody here knows."""
    one = transaction()
    one.add(Recipient(parse_mailbox("ben@far.example")), OUTSIDE)
    one.add(Recipient(parse_mailbox("anna@example.org")), local(f"anna@example.org {L}"))
    assert one.returned(Header(header)) == expected


def test_storing_without_content_is_nothing() -> None:
    asyncio.run(transaction().store(MemorySpool(lambda: START)))
    assert not transaction().content(b"x")


def test_single_octets_are_kept_together() -> None:
    one = transaction()
    one.begin_content(Draft([]))
    one.content(b"Subject: x\r\n\r\n")
    for octet in b"0123456789" * 200:
        one.content(bytes([octet]))
    assert one.draft is not None
    assert b"".join(one.draft.pending) == b"\r\n" + b"0123456789" * 200
    assert len(one.draft.pending) == 2
