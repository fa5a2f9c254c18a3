"""Replies are explained where people meet them, once each, and only where something is to be explained."""

from __future__ import annotations

import pytest

from staffetta.cli.meaning import Meanings
from staffetta.cli.timeline import timeline

FULL = "452 4.2.2 The email account that you tried to reach is over quota"


def test_a_reply_is_explained_once() -> None:
    meanings = Meanings()
    first = list(meanings.lines(FULL))
    assert first[0].startswith("means: ")
    assert first[1].startswith("to do: ")
    assert list(meanings.lines(FULL)) == []


@pytest.mark.parametrize("reply", ["", "250 2.0.0 ok", "nonsense", "4"])
def test_nothing_is_said_where_nothing_is_wrong(reply: str) -> None:
    assert not any(line.startswith("means") for line in Meanings().lines(reply))


def test_the_journey_says_why_it_waits_and_what_to_do() -> None:
    event = {"event": "defer", "time": "2026-11-24T10:00:00Z", "id": "01X", "recipient": "a@b.example", "reply": FULL}
    lines = [line.strip() for line in timeline([event, {**event, "event": "deliver"}], Meanings())]
    assert sum(line.startswith("means: ") for line in lines) == 1
    assert not any(line.startswith("means: ") for line in timeline([event]))


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            {"event": "junk", "recipient": "a@b.example", "rule": "dmarc_quarantine", "reason": "x\x1b[2J"},
            "dmarc_quarantine - x",
        ),
        (
            {"event": "forecast", "spf": "fail", "dkim": "none", "dmarc": "fail", "policy": "reject", "reason": "why"},
            "policy reject",
        ),
    ],
)
def test_verdicts_are_sentences(event: dict[str, str], expected: str) -> None:
    text = "\n".join(timeline([event]))
    assert expected in text
    assert "\x1b" not in text
