"""Ids: their shape, their order, and that none comes twice."""

from __future__ import annotations

import pytest

from staffetta.mail.identity import IdentitySource, is_identity

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
NOW = 1795518522.123


def read(text: str) -> int:
    """What is written there in base 32."""
    number = 0
    for character in text:
        number = number * 32 + ALPHABET.index(character)
    return number


def test_an_id_is_milliseconds_and_a_tail() -> None:
    one = IdentitySource(lambda count: bytes(range(100, 100 + count))).new(NOW)
    assert is_identity(one)
    assert read(one[:10]) == int(NOW * 1000)
    assert read(one[10:]) == (int.from_bytes(range(100, 110), "big") >> 1) + 1


@pytest.mark.parametrize("before", [(1 << 10) - 2, (1 << 20) - 2, (1 << 40) - 2, (1 << 70) - 2, 5 << 20])
def test_the_tail_counts_on_over_all_its_parts(before: int) -> None:
    source = IdentitySource(lambda count: (before << 1).to_bytes(count, "big"))
    made = [source.new(NOW) for _ in range(5)]
    assert [read(one[10:]) for one in made] == [before + 1 + step for step in range(5)]
    assert made == sorted(made)


def test_time_goes_on_and_never_back() -> None:
    source = IdentitySource(bytes)
    clock = (NOW, NOW + 0.001, NOW + 1.5, NOW - 3600, NOW + 1.5004, NOW + 90_000)
    made = [source.new(now) for now in clock]
    assert made == sorted(made)
    late = int((NOW + 1.5) * 1000)
    assert [read(one[:10]) for one in made[2:5]] == [late, late, late]
