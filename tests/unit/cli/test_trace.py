"""`trace`: the journey, for people and for programs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from staffetta.cli.timeline import timeline
from staffetta.observe.events import Refuse, encode, moment
from staffetta.spool.contract import JournalEntry


@pytest.mark.parametrize("name", ["GONE", "lower", "gone@x", "<gone@x>"])
def test_events_oldest_first_as_they_were_written(relay: Any, name: str) -> None:
    named = {"GONE": relay.GONE, "lower": relay.GONE.lower()}.get(name, name)
    events = relay.lines("trace", named)
    assert [event["event"] for event in events] == ["refuse", "accept", "deliver"]
    assert list(events[2]) == ["schema", "event", "time", "id", "recipient", "reply"]
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)


def test_the_timeline_says_it_in_words(relay: Any) -> None:
    lines = relay.run("trace", relay.GONE).stdout.split("\n")
    text = "\n".join(lines)
    assert lines[0].endswith(" UTC")
    assert "accept         <> -> ben@x.example, 2.0 KiB, client 192.0.2.1, Message-ID gone@x" in text
    assert "checks: spf pass" in text
    assert "because: unknown recipient - no such\\u202e account" in text
    assert f"message {relay.GONE}" in lines


@pytest.mark.parametrize("json_too", [False, True])
def test_hostile_text_never_reaches_the_terminal(relay: Any, json_too: bool) -> None:
    result = relay.run("trace", relay.GONE, *(["--json"] if json_too else []))
    assert "\\u202e" in result.stdout
    assert [c for c in result.stdout if not c.isprintable() and c != "\n"] == []


@pytest.mark.parametrize("name", ["nobody@x", "x" * 26, "0" * 26, "", "\udcff", "' OR 1=1 --", "\x1b[31m"])
def test_nothing_found_is_3(relay: Any, name: str) -> None:
    result = relay.run("trace", name)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "\x1b" not in result.stderr


def test_no_store_is_3(place: Any) -> None:
    assert place.run("trace", "x").exit_code == 3


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"event": "unreadable", "line": "\x1b"},
        {"event": None, "time": None},
        {"event": ["x"], "time": 7},
        {"event": "accept", "time": "soon", "recipients": 5, "size": "large", "checks": ["x"]},
        {"event": "attempt", "seconds": "1", "recipient": None},
        {"event": "defer", "next_attempt_at": 7, "in_doubt": "yes"},
        {"event": "refuse", "sender": {"a": "\u202e"}},
        {"event": "accept", "time": "2026-01-01T00:00:00", "recipients": [None, 1]},
        {"event": "future", "time": "2026-01-01T00:00:00+05:00", "new\x1b": "field"},
    ],
)
def test_whatever_stands_in_the_journal_becomes_safe_lines(event: dict[str, Any]) -> None:
    lines = list(timeline([event, event]))
    assert lines
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["from:mal@x.example"], ["refuse"]),
        (["from:MAL@X.example", "to:who@example.org"], ["refuse"]),
        (["to:@example.org"], ["refuse"]),
        (["from:<>"], ["accept"]),
        (["to:ben@x.example"], ["accept"]),
        (["from:mal@x.example", "to:ben@x.example"], []),
        (["to:en@x.example"], []),
    ],
)
def test_refused_mail_is_found_by_its_addresses(relay: Any, words: list[str], found: list[str]) -> None:
    result = relay.run("trace", *words, "--json")
    assert result.exit_code == (0 if found else 3)
    events = [json.loads(line) for line in result.stdout.split("\n")[:-1]]
    assert [event["event"] for event in events] == found
    for event in events:
        assert relay.lines("trace", event.get("id") or event["session"])


@pytest.mark.parametrize("words", [["from:"], ["from:a@b", "state:held"], ["from:a b@c"], ["x", "y"]])
def test_a_search_takes_addresses_only(relay: Any, words: list[str]) -> None:
    assert relay.run("trace", *words).exit_code == 2


def test_a_search_gives_the_newest_of_many(place: Any) -> None:
    async def story(spool: Any) -> None:
        for number in range(130):
            refuse = Refuse(
                time=moment(number),
                session="S",
                stage="mail",
                client="192.0.2.1",
                sender=f"u{number}@x.example",
                recipient="",
                reply="550 no",
                rule="r",
                reason="",
            )
            await spool.append_journal([JournalEntry(encode(refuse), number, session="S")])

    place.fill(story)
    senders = [event["sender"] for event in place.lines("trace", "from:@x.example")]
    assert senders == [f"u{number}@x.example" for number in range(80, 130)]


def test_a_refusal_that_was_written_late_stands_where_it_happened(place: Any) -> None:
    def refuse(number: float) -> JournalEntry:
        event = Refuse(
            time=moment(number),
            session="01J00000000000000000000000",
            stage="rcpt",
            client="192.0.2.1",
            sender="mal@x.example",
            recipient="ben@y.example",
            reply="550 no",
            rule="r",
            reason="",
        )
        return JournalEntry(encode(event), number, session="01J00000000000000000000000")

    async def story(spool: Any) -> None:
        await spool.append_journal([refuse(number) for number in (7.0, 5.5, 6, 5)])

    place.fill(story)
    for words in (["from:mal@x.example"], ["01J00000000000000000000000"]):
        seconds = [event["time"][17:] for event in place.lines("trace", *words)]
        assert seconds == ["05Z", "05.500000Z", "06Z", "07Z"]
