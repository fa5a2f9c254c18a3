"""`explain reply`: every row of the table is reached, pasted texts are understood, and the rest is told honestly."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from staffetta.cli.main import cli
from staffetta.control.explain_reply import ReplyExplanation, classify, tries_again
from staffetta.control.reply_rows import ACTORS, CLASSES, Row, rows
from staffetta.control.reply_status import by_code, status_meaning
from staffetta.control.reply_text import find_reply
from staffetta.delivery import attempt, bounce, settle
from staffetta.delivery.transports import mailbox
from staffetta.dns import mx
from staffetta.mail.reply import EnhancedStatus, Reply
from staffetta.policy.retry import RetrySettings
from staffetta.protocol import verdict

ROWS = rows()
OURS = (attempt, bounce, settle, mailbox, mx, verdict)


def known(text: str) -> ReplyExplanation:
    found = classify(text)
    assert found is not None
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_every_row_is_reached_by_its_own_example(row: Row) -> None:
    found = known(row.example)
    assert found.matched == row.id
    assert (found.kind, found.actor, found.source) == (row.kind, row.actor, row.source)


def test_the_table_is_large_and_in_order() -> None:
    assert len(ROWS) >= 120
    assert len({row.id for row in ROWS}) == len(ROWS)
    assert {row.kind for row in ROWS} == set(CLASSES)
    assert {row.actor for row in ROWS} == set(ACTORS)
    for row in ROWS:
        assert row.source, row.id
        assert row.advice, row.id
        assert not row.advice.startswith("@"), row.id
        assert row.cause.endswith("."), row.id
        assert row.advice.endswith("."), row.id
        assert row.cause.isascii(), row.id
        assert row.texts or row.statuses or row.codes in {("2",), ("3",)}, f"{row.id} would take everything"
        assert all(part.strip() and part == part.lower() for parts in row.texts for part in parts), row.id
        assert all(first <= last for first, last in row.statuses), row.id


def test_a_second_copy_of_a_row_would_be_noticed() -> None:
    """The test above can fail: a row that stands behind one that takes everything of it is never reached."""
    shadow = next(row for row in ROWS if row.id == "greylist-any")
    specific = next(row for row in ROWS if row.id == "postgrey")
    reply = find_reply(specific.example)
    assert reply is not None
    assert shadow.fits(reply, reply.folded)


PASTED = [
    ("550 5.1.1 no such user", 550, "5.1.1", "no such user"),
    ("550 #5.1.0 Address rejected.", 550, "5.1.0", "Address rejected."),
    ("550-5.7.26 first\r\n550-5.7.26 second\r\n550 5.7.26 third", 550, "5.7.26", "first second third"),
    ("550-5.7.26 first 550-5.7.26 second 550 5.7.26 third", 550, "5.7.26", "first second third"),
    (
        "554-gmx.net (mx) Nemesis\n554-No SMTP service\n554 see there",
        554,
        None,
        "gmx.net (mx) Nemesis No SMTP service see there",
    ),
    ("Diagnostic-Code: smtp; 550 5.1.1 <a@b.example> gone", 550, "5.1.1", "<a@b.example> gone"),
    ("Diagnostic-Code: smtp;550-5.1.1 gone\n    550 5.1.1 for good", 550, "5.1.1", "gone for good"),
    ("Status: 5.1.1\nDiagnostic-Code: smtp; 550 no", 550, None, "no"),
    ("host mx.example[192.0.2.1] said: 451 4.3.0 busy (in reply to end of DATA command)", 451, "4.3.0", "busy"),
    ("host mx.example[192.0.2.1] refused to talk to me: 554 5.7.1 no", 554, "5.7.1", "no"),
    ("SMTP error from remote mail server after RCPT TO:<a@b>: host mx [192.0.2.1]: 550 gone", 550, None, "gone"),
    ("Remote host said: 554 delivery error", 554, None, "delivery error"),
    ("   (reason: 554 5.7.1 blocked)", 554, "5.7.1", "blocked)"),
    (
        "... while talking to mx.example.:\n>>> DATA\n<<< 554 blocked\n554 5.0.0 Service unavailable",
        554,
        None,
        "blocked Service unavailable",
    ),
    ("Sorry, no mailbox here by that name. (#5.1.1)", None, "5.1.1", None),
    ("dsn=4.4.1, status=deferred (connect to mx[192.0.2.1]:25: Connection refused)", None, "4.4.1", None),
    ("554 5.7.1 call 550 for help", 554, "5.7.1", "call 550 for help"),
    ("421", 421, None, ""),
    ("550", 550, None, ""),
    ("250-first\n250 last", 250, None, "first last"),
]


@pytest.mark.parametrize(("text", "code", "status", "words"), PASTED)
def test_pasted(text: str, code: int | None, status: str | None, words: str | None) -> None:
    found = find_reply(text)
    assert found is not None
    assert found.code == code
    assert (str(found.enhanced) if found.enhanced else None) == status
    if words is not None:
        assert found.text == words


NOTHING = [
    "",
    " ",
    "hello world",
    "I paid 450 euros",
    "at 10:23:45 587 things",
    "port=587 x",
    "1550 x",
    "5501 x",
    "600 x",
    "\u0665\u0665\u0660 no",
]


@pytest.mark.parametrize("text", NOTHING)
def test_no_reply(text: str) -> None:
    assert classify(text) is None


LOG = (
    "Nov 24 10:11:12 mail postfix/smtp[123]: 4ABC: to=<x@y.example>, relay=mx.y.example[192.0.2.1]:25, delay=0.5, "
    "delays=0.1/0/0.2/0.2, dsn=5.7.1, status=bounced (host mx.y.example[192.0.2.1] said: {} "
    "(in reply to RCPT TO command))"
)

MET = [
    ("550 5.1.1 The email account that you tried to reach does not exist. Please try", "gmail-no-user"),
    ("554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using b.barracudacentral.org", "barracuda-list"),
    ("550 5.7.618 Access denied, banned sending IP [192.0.2.1]", "ms-banned-ip"),
    ("550 5.7.650 Access denied", None),
    ("451 4.7.850 Access denied, please try again later", "ms-suspicious"),
    (
        "450 4.2.0 <a@b.example>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/b",
        "postgrey",
    ),
    ("452 4.2.2 <a@b.example> Quota exceeded (mailbox for user is full)", "dovecot-quota"),
    ("550 5.2.2 mailbox is over quota", "quota-any"),
    ("421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume", "yahoo-ts"),
]


@pytest.mark.parametrize(("text", "row"), MET)
def test_met_bare_and_in_a_log_line(text: str, row: str | None) -> None:
    assert known(text).matched == row
    assert known(LOG.format(text)).matched == row


UNKNOWN = [
    ("550 5.1.1 wibble", "mailbox", True, "sender", "status 5.1.1"),
    ("450 4.2.2 wibble", "quota", False, "recipient", "status 4.2.2"),
    ("451 4.9.9 wibble", "temporary", False, "nobody", "code 451"),
    ("550 5.0.0 wibble", "mailbox", True, "sender", "code 550"),
    ("535 wibble", "authentication", True, "relay operator", "code 535"),
    ("599 wibble", "policy", True, "sender", "code 599"),
    ("499 wibble", "temporary", False, "nobody", "code 499"),
    ("550 4.2.1 wibble", "mailbox", True, "sender", "contradict"),
]


@pytest.mark.parametrize(("text", "kind", "permanent", "actor", "said"), UNKNOWN)
def test_unknown_replies_say_that_they_are_unknown(
    text: str, kind: str, permanent: bool, actor: str, said: str
) -> None:
    found = known(text)
    assert (found.matched, found.source) == (None, "")
    assert (found.kind, found.permanent, found.actor) == (kind, permanent, actor)
    assert "not in the table" in found.cause
    assert said in found.cause


def test_what_the_relay_does_follows_its_own_rules() -> None:
    retry = RetrySettings((90, 3600), 86400, 3600, None)
    words = "tries again after 90 s, then every 1 h, until the message is 1 d old (a notice 1 h)"
    assert tries_again(retry) == words
    assert known("450 wait").relay_does.startswith("tries again after 1 min, 5 min, 15 min")
    assert known("550 no").relay_does.startswith("returns the message to its sender at once")
    assert known("535 5.7.8 no").relay_does.startswith("at the login of a route waits")
    assert known("552 no").relay_does.startswith("after RCPT takes it for too many recipients")
    assert known("552 5.2.2 no").relay_does.startswith("returns")
    assert known("250 yes").relay_does.startswith("counts the recipient as delivered")


def test_every_code_and_status_has_words() -> None:
    for code in range(200, 600):
        assert by_code(code)[0] in CLASSES
    for subject in range(12):
        for detail in range(40):
            assert status_meaning(EnhancedStatus(5, subject, detail))
            assert known(f"550 5.{subject}.{detail} wibble").kind in CLASSES


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200), st.sampled_from(["", "550 ", "550-5.1.1 ", "said: 4", "smtp; 5", "<<< ", "(#5."]))
def test_any_text_is_survived(text: str, start: str) -> None:
    found = classify(start + text)
    assert found is None or (found.kind in CLASSES and found.actor in ACTORS and len(found.text) <= 4000)


@pytest.mark.parametrize(
    "piece", ["550 ", "550-", "said: ", "(in reply to ", "5.1.1 ", "\n", "<<< ", "550 5.1.1 a\n", "#"]
)
def test_work_is_bounded(piece: str) -> None:
    text = piece * (4_000_000 // len(piece))
    begun = time.process_time()
    classify(text)
    classify("550 " + text)
    assert time.process_time() - begun < 1.0


# The command.


def run(*words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["explain", "reply", *words], input=stdin)


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STAFFETTA_CONFIG", raising=False)


FIELDS = ["schema", "text", "code", "enhanced_status", "permanent", "class", "cause", "actor", "advice"]
FIELDS += ["relay_does", "matched", "source"]


def test_json_is_the_contract() -> None:
    result = run("--json", "550 5.7.1 Relaying denied")
    answer = json.loads(result.stdout)
    assert result.exit_code == 0
    assert list(answer) == FIELDS
    assert (answer["schema"], answer["code"], answer["enhanced_status"], answer["permanent"]) == (1, 550, "5.7.1", True)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["550 relay not permitted"], 0),
        (["550", "relay", "not", "permitted"], 0),
        (["550 wibble"], 3),
        (["wibble"], 2),
        ([], 2),
    ],
)
def test_exit_statuses(words: list[str], status: int) -> None:
    assert run(*words).exit_code == status


def test_standard_input() -> None:
    assert run("-", stdin="550-5.1.1 a\n550 5.1.1 <x@y.example>... User unknown\n").exit_code == 0


def test_the_configuration_s_waits_are_told(tmp_path: Path) -> None:
    file = tmp_path / "staffetta.toml"
    file.write_text(
        'version = 1\nhostname = "mx.example.org"\n[queue]\nretry = ["7m"]\n'
        '[listen.a]\nbind = ["127.0.0.1:0"]\nrole = "mx"\n'
    )
    assert "tries again every 7 min" in run("450 wait").stdout
    file.write_text("version = 2\n")
    result = run("450 wait")
    assert result.exit_code == 3
    assert "not valid" in result.stderr


def test_hostile_replies_do_not_reach_the_terminal() -> None:
    hostile = "550 5.7.1 \x1b]0;owned\x07\x1b[2J \u202egpj.exe\u2066 \u200b\x9b31m next"
    for words in ([hostile], ["--json", hostile]):
        out = run(*words).stdout
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", out)


def test_what_this_relay_says_itself_is_known() -> None:
    """Everything that the queue may show without a server having spoken."""
    ours = [one for module in OURS for one in vars(module).values() if isinstance(one, Reply)]
    assert len(ours) > 30
    assert [str(one) for one in ours if known(str(one)).matched is None] == []


def test_api_is_quiet_about_replies_as_the_queue_keeps_them() -> None:
    found: Any = classify("451 4.7.28 Greylisted")
    assert (found.kind, found.matched) == ("greylist", "greylist-any")
