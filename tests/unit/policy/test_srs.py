"""Forwarded mail: rewritten senders lead back, and nobody can make one of their own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staffetta.mail.address import Mailbox, parse_mailbox
from staffetta.mail.domain import Domain, parse_domain
from staffetta.policy.srs import DAY_SECONDS, LIFETIME_DAYS, Forwarding, looks_rewritten

OURS = parse_domain("fwd.example")
NOW = 1_790_000_000.0
FORWARDING = Forwarding(b"k" * 32)


@pytest.mark.parametrize(
    "sender",
    [
        "anna@firm.example",
        "Anna.Rossi+news@firm.example",
        "a=b@firm.example",
        '"odd one"@firm.example',
        "x@xn--bcher-kva.example",
    ],
)
def test_a_bounce_finds_its_way_back(sender: str) -> None:
    mailbox = parse_mailbox(sender)
    rewritten = FORWARDING.forward(mailbox, OURS, NOW)
    assert rewritten.domain == OURS
    assert rewritten.local_part.startswith("SRS0=")
    assert looks_rewritten(rewritten.local_part)
    assert parse_mailbox(str(rewritten)) == rewritten
    assert FORWARDING.backward(rewritten.local_part, NOW) == mailbox


def test_the_case_of_the_tag_need_not_survive() -> None:
    rewritten = FORWARDING.forward(parse_mailbox("anna@firm.example"), OURS, NOW)
    assert FORWARDING.backward(rewritten.local_part.lower(), NOW) == parse_mailbox("anna@firm.example")
    assert FORWARDING.backward(rewritten.local_part.upper(), NOW) is not None


@pytest.mark.parametrize(
    ("days", "accepted"), [(0, True), (LIFETIME_DAYS, True), (LIFETIME_DAYS + 1, False), (400, False), (-2, False)]
)
def test_it_ends(days: int, accepted: bool) -> None:
    rewritten = FORWARDING.forward(parse_mailbox("anna@firm.example"), OURS, NOW)
    found = FORWARDING.backward(rewritten.local_part, NOW + days * DAY_SECONDS)
    assert (found is not None) is accepted


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("firm.example", "victim.example"),
        lambda text: text.replace("anna", "ben"),
        lambda text: text.replace("SRS0=", "SRS0=aaaaaaaa=", 1),
        lambda text: "SRS0=aaaaaaaa=aa=firm.example=anna",
        lambda text: text[:5] + "a" * 8 + text[13:],
        lambda text: "SRS0=",
        lambda text: "SRS0=\u017f\u017f\u017f\u017f\u017f\u017f\u017f\u017f=aa=firm.example=anna",
        lambda text: "SRS1=\u017f\u017f\u017f\u017f\u017f\u017f\u017f\u017f=firm.example==x",
        lambda text: text.replace("SRS", "\u017frs"),
        lambda text: "SRS1=aaaaaaaa=victim.example==aaaa=aa=x=y",
    ],
)
def test_nobody_makes_one_of_their_own(change) -> None:
    text = FORWARDING.forward(parse_mailbox("anna@firm.example"), OURS, NOW).local_part
    assert FORWARDING.backward(change(text), NOW) is None
    assert Forwarding(b"other" * 8).backward(text, NOW) is None


def test_a_second_forwarder_sends_bounces_to_the_first() -> None:
    first = FORWARDING.forward(parse_mailbox("anna@firm.example"), OURS, NOW)
    other = Forwarding(b"o" * 32)
    second = other.forward(first, parse_domain("two.example"), NOW)
    assert second.local_part.startswith("SRS1=")
    assert other.backward(second.local_part, NOW) == first
    third = Forwarding(b"t" * 32).forward(second, parse_domain("three.example"), NOW)
    assert Forwarding(b"t" * 32).backward(third.local_part, NOW) == first


@pytest.mark.parametrize("sender", ["anna@[192.0.2.1]", "x" * 60 + "@firm.example", "anna@" + "d" * 50 + ".example"])
def test_what_cannot_be_rewritten_stays(sender: str) -> None:
    mailbox = parse_mailbox(sender)
    assert FORWARDING.forward(mailbox, OURS, NOW) == mailbox


@given(st.text(max_size=70))
def test_any_local_part_may_come(local: str) -> None:
    found = FORWARDING.backward(local, NOW)
    assert found is None
    FORWARDING.forward(Mailbox(local, Domain("firm.example")), OURS, NOW)


@given(st.text('sS0rR1=+-.\u017f\u212aab2@"\u0130', max_size=24))
def test_letters_that_only_look_alike_are_none(local: str) -> None:
    for text in (local, f"SRS0={local}", f"SRS1={local}"):
        assert FORWARDING.backward(text, NOW) is None
        assert not looks_rewritten(text) or text[:3].isascii()
