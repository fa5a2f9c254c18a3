"""`queue`: what it lists, what it asks, what it changes, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from staffetta.spool.operator import Filter, open_for_command, waiting

ENTRY_FIELDS = [
    "schema",
    "id",
    "sender",
    "recipient",
    "state",
    "route",
    "destination",
    "size",
    "received_at",
    "attempts",
    "next_attempt_at",
    "last_reply",
    "in_doubt",
]


def test_list_has_one_object_per_waiting_recipient_with_the_fields_of_the_contract(relay: Any) -> None:
    entries = relay.lines("queue", "list")
    assert [list(entry) for entry in entries] == [ENTRY_FIELDS] * 6
    assert {entry["schema"] for entry in entries} == {1}
    tried = next(entry for entry in entries if entry["id"] == relay.TRIED)
    assert tried["sender"] == "anna@example.org"
    assert tried["recipient"] == "cara@partner.example"
    assert (tried["state"], tried["route"], tried["destination"]) == ("deferred", "partner", "route:partner")
    assert (tried["attempts"], tried["in_doubt"], tried["last_reply"]) == (2, True, "451 4.7.28 Greylisted")
    assert tried["received_at"].endswith("Z")
    assert tried["next_attempt_at"] > tried["received_at"]


def test_the_null_path_is_empty_and_what_is_held_has_no_next_time(relay: Any) -> None:
    entries = {entry["id"]: entry for entry in relay.lines("queue", "list")}
    assert entries[relay.NULL]["sender"] == ""
    assert entries[relay.HELD]["next_attempt_at"] is None


ALL = ["FRESH", "FRESH", "TRIED", "HELD", "NULL", "EVIL"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ALL),
        (["state:deferred"], ["TRIED", "EVIL"]),
        (["state:held"], ["HELD"]),
        (["from:<>"], ["NULL"]),
        (["from:eve@other.example"], ["HELD"]),
        (["from:eve@"], ["HELD"]),
        (["from:@OTHER.example"], ["HELD"]),
        (["from:other.example"], ["HELD"]),
        (["to:@x.example"], ["FRESH", "HELD"]),
        (["to:<ben@x.example>"], ["FRESH"]),
        (["to:@x.example", "state:held"], ["HELD"]),
        (["route:partner"], ["TRIED"]),
        (["route:slow"], ["NULL"]),
        (["route:local"], ["FRESH"]),
        (["route:default"], ["FRESH", "HELD", "EVIL"]),
        (["older:1h"], ["FRESH", "FRESH"]),
        (["reply:4.7.28"], ["TRIED"]),
        (["reply:GREYLISTED"], ["TRIED"]),
        (["to:@nowhere.example"], []),
    ],
)
def test_filters_choose(relay: Any, words: list[str], expected: list[str]) -> None:
    assert relay.ids(*words) == [getattr(relay, name) for name in expected]


def test_an_id_is_a_filter_bare_or_named_in_any_case(relay: Any) -> None:
    for word in (relay.TRIED, relay.TRIED.lower(), f"id:{relay.TRIED}"):
        assert relay.ids(word) == [relay.TRIED]


@pytest.mark.parametrize(
    "word",
    ["x", "subject:x", "to:", "to:a b@c", "to:@", "state:lost", "older:2", "older:2y", "older:٣h", "from:a@b@c", "id"],
)
def test_what_is_no_filter_is_a_usage_error(relay: Any, word: str) -> None:
    result = relay.run("queue", "list", word)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_a_filter_twice_is_a_usage_error(relay: Any) -> None:
    assert relay.run("queue", "list", "to:@a.example", "to:@b.example").exit_code == 2


def test_nothing_matched_is_3_and_an_empty_queue_is_0(place: Any, relay: Any) -> None:
    assert relay.run("queue", "list", "state:active").exit_code == 3
    assert relay.run("queue", "drop", "--all", "--yes").exit_code == 0
    result = relay.run("queue", "list")
    assert (result.exit_code, result.stdout) == (0, "")


def test_no_store_yet_is_3_and_makes_none(place: Any) -> None:
    result = place.run("queue", "list")
    assert result.exit_code == 3
    assert "data" in result.stderr
    assert not place.data_dir.exists()
    place.data_dir.mkdir()
    assert place.run("queue", "list").exit_code == 3
    assert list(place.data_dir.iterdir()) == []


def test_show_is_one_object(relay: Any) -> None:
    (shown,) = relay.lines("queue", "show", relay.FRESH)
    assert list(shown) == [
        "schema",
        "id",
        "sender",
        "size",
        "received_at",
        "message_id",
        "session",
        "client",
        "login",
        "recipients",
        "header",
    ]
    assert [one["recipient"] for one in shown["recipients"]] == ["ben@x.example", "anna@example.org"]
    assert shown["header"].endswith("Subject: hello\r\n")


def test_show_finds_by_any_spelling_and_says_3_for_what_is_gone(relay: Any) -> None:
    assert relay.run("queue", "show", f"id:{relay.FRESH.lower()}").exit_code == 0
    assert relay.run("queue", "show", relay.GONE).exit_code == 3
    assert relay.run("queue", "show", "' OR 1=1 --").exit_code == 3


def test_content_is_octet_by_octet(relay: Any) -> None:
    result = relay.run("queue", "show", relay.EVIL, "--content")
    assert result.stdout_bytes.endswith(b"X-Odd: \xff\xfe\xe2\x80\xae\r\n\r\nbody\r\n")


@pytest.mark.parametrize("words", [["queue", "list"], ["queue", "show", "EVIL"], ["queue", "drop", "EVIL"]])
@pytest.mark.parametrize("json_too", [False, True])
def test_hostile_text_never_reaches_the_terminal(relay: Any, words: list[str], json_too: bool) -> None:
    named = [relay.EVIL if word == "EVIL" else word for word in words]
    result = relay.run(*named, *(["--json"] if json_too else []))
    shown = result.stdout + result.stderr
    assert relay.EVIL in shown
    assert [c for c in shown if not c.isprintable() and c not in "\n\t"] == []
    assert "\\u001b" in shown or words[1] == "drop"


def test_json_gives_hostile_text_back_unchanged(relay: Any) -> None:
    (entry,) = relay.lines("queue", "list", relay.EVIL)
    assert entry["last_reply"].startswith("451 4.7.1 \x1b]0;owned\x07")
    assert "\u202e" in entry["last_reply"]


def test_bulk_acts_show_what_they_touch_and_stop_without_a_terminal(relay: Any) -> None:
    result = relay.run("queue", "drop", "to:@x.example")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "2 to drop, the oldest 2 h old" in result.stderr
    assert "anna@example.org -> ben@x.example" in result.stderr
    assert "--yes" in result.stderr
    assert relay.ids() == [getattr(relay, name) for name in ALL]


def test_three_samples_and_a_count(relay: Any) -> None:
    stderr = relay.run("queue", "drop", "--all").stderr
    assert "6 to drop" in stderr
    assert stderr.count(" -> ") == 3
    assert "and 3 more" in stderr


@pytest.mark.parametrize("act", ["drop", "hold"])
def test_no_filter_does_not_mean_all_where_that_would_hurt(relay: Any, act: str) -> None:
    assert relay.run("queue", act, "--yes").exit_code == 2
    assert len(relay.ids()) == 6


def test_drop_asks_even_for_one_message(relay: Any) -> None:
    assert relay.run("queue", "drop", relay.TRIED).exit_code == 2
    assert relay.TRIED in relay.ids()
    assert relay.run("queue", "drop", relay.TRIED, "--yes").exit_code == 0
    assert relay.TRIED not in relay.ids()


def test_hold_and_release_one_message_unasked(relay: Any) -> None:
    assert relay.run("queue", "hold", relay.TRIED, "--reason", "odd").exit_code == 0
    assert relay.ids("state:held") == [relay.TRIED, relay.HELD]
    assert relay.run("queue", "release", relay.TRIED).exit_code == 0
    assert relay.ids("state:held") == [relay.HELD]
    acts = [event for event in relay.lines("trace", relay.TRIED) if event["event"] in {"hold", "release"}]
    assert [(act["event"], act["recipient"], act["reason"]) for act in acts] == [
        ("hold", "cara@partner.example", "odd"),
        ("release", "cara@partner.example", ""),
    ]
    assert all(act["by"] for act in acts)


def test_retry_brings_the_next_time_forward(relay: Any) -> None:
    before = relay.lines("queue", "list", relay.TRIED)[0]["next_attempt_at"]
    assert relay.run("queue", "retry", "state:deferred", "--yes").exit_code == 0
    assert relay.lines("queue", "list", relay.TRIED)[0]["next_attempt_at"] < before


@pytest.mark.parametrize(
    "words",
    [
        ["release", "state:queued", "--yes"],
        ["release", "to:@partner.example"],
        ["retry", "state:held"],
        ["retry", "state:held", "--yes"],
        ["hold", "state:held", "--yes"],
        ["drop", "to:@nowhere.example", "--yes"],
        ["drop", "to:@nowhere.example"],
    ],
)
def test_an_act_with_nothing_to_do_is_3(relay: Any, words: list[str]) -> None:
    assert relay.run("queue", *words).exit_code == 3


def test_an_act_says_what_it_did(relay: Any) -> None:
    (done,) = relay.lines("queue", "drop", "to:@x.example", "--yes")
    assert list(done.items()) == [("schema", 1), ("act", "drop"), ("touched", 2), ("active", 0)]


def test_beside_a_running_relay_its_work_is_seen_and_left_alone(running: Any) -> None:
    assert running.ids("state:active") == [running.FRESH]
    result = running.run("queue", "drop", "to:ben@x.example", "--yes", "--json")
    assert result.exit_code == 6
    assert json.loads(result.stdout) == {"schema": 1, "act": "drop", "touched": 0, "active": 1}
    assert running.run("queue", "hold", "to:@x.example", "--yes").exit_code == 6  # HELD is held, FRESH is active


def test_the_store_of_a_newer_program_is_not_touched(relay: Any) -> None:
    import apsw  # noqa: PLC0415

    path: Path = relay.data_dir / "spool.db"
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA user_version=999")
    connection.close()
    result = relay.run("queue", "list")
    assert result.exit_code == 1
    assert "newer" in result.stderr


def test_a_wrong_configuration_is_8_and_says_all(relay: Any) -> None:
    relay.file.write_text(relay.file.read_text() + "[limit]\nx = 1\n[queue]\nretri = []\n")
    result = relay.run("queue", "drop", "--all", "--yes")
    assert result.exit_code == 8
    assert "C102" in result.stderr
    assert "C103" in result.stderr
    assert result.stdout == ""


def test_files_of_the_relay_need_not_be_there_to_look_at_the_queue(relay: Any) -> None:
    relay.file.write_text(relay.file.read_text() + '[tls]\ncertificate = "no.pem"\nkey = "no.key"\n')
    assert relay.run("queue", "list").exit_code == 0
    assert relay.run("config", "check").exit_code == 8


def on_a_terminal(relay: Any, answer: str, *words: str) -> tuple[int, str]:
    """The command on a pseudo terminal; `answer` is typed when a question ends with `]: `."""
    terminal, its_end = pty.openpty()
    arguments = [sys.executable, "-m", "staffetta", *words, "-c", str(relay.file)]
    environment = {**os.environ, "COLUMNS": "240", "TERM": "xterm"}
    process = subprocess.Popen(arguments, stdin=its_end, stdout=its_end, stderr=its_end, env=environment)
    os.close(its_end)
    shown = b""
    asked = False
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        shown += data
        if not asked and shown.endswith(b"]: "):
            asked = True
            os.write(terminal, answer.encode() + b"\n")
    os.close(terminal)
    return process.wait(30), shown.decode()


def test_a_person_is_asked_and_may_say_no(relay: Any) -> None:
    status, shown = on_a_terminal(relay, "n", "queue", "drop", "to:@x.example")
    assert "Drop 2? [y/N]: " in shown
    assert "Nothing was done." in shown
    assert status == 1
    assert len(relay.ids()) == 6


def test_a_person_is_asked_and_may_say_yes(relay: Any) -> None:
    status, shown = on_a_terminal(relay, "y", "queue", "drop", "to:@x.example")
    assert "2 dropped." in shown
    assert status == 0
    assert len(relay.ids()) == 4


def test_a_person_sees_a_table_and_no_command_of_a_stranger(relay: Any) -> None:
    status, shown = on_a_terminal(relay, "", "queue", "list")
    assert status == 0
    assert "last reply" in shown
    assert "deferred, in doubt" in shown
    assert "\\u001b]0;owned\\u0007" in shown
    own = re.sub(r"\x1b\[[0-9;]*m", "", shown)  # colours of ours
    assert [c for c in own if not c.isprintable() and c not in "\r\n"] == []


def test_a_bounce_is_asked_for_and_says_by_whom_and_why(relay: Any) -> None:
    assert relay.run("queue", "bounce", relay.TRIED).exit_code == 2
    (done,) = relay.lines("queue", "bounce", relay.TRIED, "--yes", "--reason", "they moved")
    assert (done["act"], done["touched"], done["active"]) == ("bounce", 1, 0)
    assert relay.run("queue", "bounce", relay.TRIED, "--yes").exit_code == 3
    assert relay.run("queue", "bounce", relay.TRIED, "--dry-run").exit_code == 3
    with closing(open_for_command(relay.data_dir)) as store:
        asked = [one.bounce_by for one in waiting(store, Filter(id=relay.TRIED), 0)]
    assert len(asked) == 1
    assert asked[0].endswith(": they moved")


def test_a_bounce_beside_a_running_relay_is_noted_for_what_it_works_on(running: Any) -> None:
    (done,) = running.lines("queue", "bounce", running.FRESH, "--yes")
    assert (done["touched"], done["active"]) == (1, 1)


@pytest.mark.parametrize("act", ["drop", "hold", "retry", "release", "bounce"])
def test_a_dry_run_shows_and_touches_nothing(relay: Any, act: str) -> None:
    before = relay.lines("queue", "list")
    chosen = "state:held" if act == "release" else "from:anna@example.org"
    result = relay.run("queue", act, chosen, "--dry-run", "--json")
    assert result.exit_code == 0
    shown = json.loads(result.stdout)
    assert shown["recipients"] == (1 if act == "release" else 4)
    assert len(shown["samples"]) <= 3
    assert "Nothing was done" in result.stderr
    assert relay.lines("queue", "list") == before
    assert relay.run("queue", act, "to:@nowhere.example", "--dry-run").exit_code == 3


def test_ages_are_counted_by_destination(relay: Any) -> None:
    rows = relay.lines("queue", "age")
    assert sum(row["recipients"] for row in rows) == 6
    by_destination = {row["destination"]: row for row in rows}
    counts = {one["up_to_minutes"]: one["recipients"] for one in by_destination["local:example.org"]["ages"]}
    assert list(counts) == [5, 10, 20, 40, 80, 160, 320, 640, 1280, None]
    assert [minutes for minutes, count in counts.items() if count] == [160]
    assert rows[0]["recipients"] == max(row["recipients"] for row in rows)
    for row in rows:
        assert sum(one["recipients"] for one in row["ages"]) == row["recipients"]
    cells = relay.run("queue", "age").stdout.split("\n")[0].split("\t")
    assert len(cells) == 13
