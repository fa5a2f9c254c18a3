"""`send`: what is composed, what is queued, and how following it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from staffetta.control.send import End, Following, SendReport, compose
from staffetta.mail.address import NULL_PATH, POSTMASTER, Mailbox, parse_mailbox
from staffetta.message.header import Header
from staffetta.message.phrases import decode_words
from staffetta.observe.events import Bounce, Deliver, encode, moment
from staffetta.spool.contract import JournalEntry

ANNA = parse_mailbox("anna@example.org")


def header_of(message: bytes) -> Header:
    return Header(message.replace(b"\n", b"\r\n").partition(b"\r\n\r\n")[0] + b"\r\n")


def test_a_plain_message() -> None:
    message = compose(ANNA, [parse_mailbox("ben@far.example"), POSTMASTER], "Hello", b"text\n")
    assert message == (
        b"From: anna@example.org\nTo: ben@far.example, postmaster\nSubject: Hello\nMIME-Version: 1.0\n"
        b"Content-Type: text/plain; charset=us-ascii\nContent-Transfer-Encoding: 7bit\n\ntext\n"
    )


@pytest.mark.parametrize(
    "subject",
    ["Gr\u00fc\u00dfe", "x" * 300, "\u65e5\u672c\u8a9e" * 40, "a\r\nBcc: evil@x.example", "\x1b[31m", "\udcff"],
)
def test_a_subject_stays_one_field(subject: str) -> None:
    message = compose(ANNA, [ANNA], subject, b"")
    header = header_of(message)
    assert not header.has(b"bcc")
    assert header.count(b"subject") == 1
    assert all(len(line) <= 78 for line in message.split(b"\n"))
    value = header.first(b"subject").value.decode("ascii").replace("\r\n", "")  # type: ignore[union-attr]
    if subject.isprintable():
        assert decode_words(value) == subject


def test_many_recipients_are_folded() -> None:
    many = [Mailbox(f"user{number}", ANNA.domain) for number in range(100)]
    message = compose(NULL_PATH, many, "", b"")
    assert all(len(line) < 90 for line in message.split(b"\n"))
    assert message.count(b"@example.org") == 100


@pytest.mark.parametrize(
    ("body", "encoding"), [(b"a" * 2000, b"base64"), ("\u00fc".encode(), b"8bit"), (b"a\r\nb\r\n", b"7bit")]
)
def test_the_body_travels(body: bytes, encoding: bytes) -> None:
    message = compose(ANNA, [ANNA], "", body)
    assert b"Content-Transfer-Encoding: " + encoding + b"\n" in message
    assert max(map(len, message.split(b"\n"))) <= 998


def test_it_is_queued_and_says_its_id(relay: Any) -> None:
    result = relay.run("send", "--to", "postmaster@example.org", "--to", "x@far.example", stdin="hello\n")
    assert result.exit_code == 0
    message_id = result.stdout.strip()
    entries = [entry for entry in relay.lines("queue", "list") if entry["id"] == message_id]
    assert [entry["recipient"] for entry in entries] == ["postmaster@example.org", "x@far.example"]
    assert {entry["sender"] for entry in entries} == {"postmaster@example.org"}
    assert "No relay is running" in result.stderr
    (event,) = relay.lines("trace", message_id)
    assert (event["rule"], bool(event["login"])) == ("local_submission", True)


def test_a_whole_message_from_a_file(relay: Any, tmp_path: Path) -> None:
    file = tmp_path / "letter.eml"
    file.write_bytes(b"From: Anna <anna@example.org>\nSubject: whole\n\none\n.\ntwo")
    result = relay.run("send", "--to", "x@far.example", "--from", "<>", "--json", str(file))
    sent = json.loads(result.stdout)
    content = relay.run("queue", "show", sent["id"], "--content").stdout_bytes
    assert content.endswith(b"From: Anna <anna@example.org>\r\nSubject: whole\r\n\r\none\r\n.\r\ntwo\r\n")
    assert sent["sender"] == ""
    assert relay.run("send", "--to", "x@far.example", "--subject", "x", str(file)).exit_code == 2


@pytest.mark.parametrize("words", [["--to", "bad"], [], ["--to", "a@b.example", "--from", "x y"],
    ["--to", "a@b.example", "/nowhere.eml"], ["--to", "a@b.example", "--wait", "soon"]])  # fmt: skip
def test_wrong_usage_is_2_and_queues_nothing(relay: Any, words: list[str]) -> None:
    before = relay.ids()
    assert relay.run("send", *words, stdin="x").exit_code == 2
    assert relay.ids() == before


def test_a_refused_recipient_is_7_and_queues_nothing(relay: Any) -> None:
    before = relay.ids()
    result = relay.run("send", "--to", "nobody@example.org", "--to", "x@far.example", stdin="x")
    assert result.exit_code == 7
    assert "refused: nobody@example.org: 550 5.1.1" in result.stderr
    assert relay.ids() == before


def test_waiting_in_vain_is_6(relay: Any) -> None:
    result = relay.run("send", "--to", "x@far.example", "--wait", "1s", "--json", stdin="x")
    assert result.exit_code == 6
    assert [json.loads(line)["event"] for line in result.stdout.split("\n")[:-1]] == ["accept"]


@pytest.mark.parametrize(
    ("ends", "end"),
    [(["deliver", "deliver"], End.DELIVERED), (["deliver", "bounce"], End.FAILED), (["deliver"], End.WAITING)],
)
def test_it_is_followed_until_every_recipient_has_ended(place: Any, ends: list[str], end: End) -> None:
    sent = SendReport("M", "", ("a@x.example", "b@x.example"))
    now = [0.0]

    async def begin(spool: Any) -> None:
        await spool.append_journal([])

    place.fill(begin)

    def pause(seconds: float) -> None:
        """Time passes, and something happens meanwhile."""
        now[0] += seconds
        if ends:
            word, recipient = ends.pop(0), sent.recipients[len(seen)]

            async def story(spool: Any) -> None:
                more = {"reason": "", "in_doubt": False} if word == "bounce" else {}
                event = {"deliver": Deliver, "bounce": Bounce}[word](
                    time=moment(1), id="M", recipient=recipient, reply="250 ok", **more
                )
                await spool.append_journal([JournalEntry(encode(event), 1.0, "M")])

            place.fill(story)

    seen: list[str] = []
    following = Following(place.data_dir, sent, clock=lambda: now[0], pause=pause)
    for event in following.events(2.0):
        seen.append(event["event"])  # noqa: PERF401 - `pause` looks at it meanwhile
    assert following.end is end
    assert len(seen) == (1 if end is End.WAITING else 2)
