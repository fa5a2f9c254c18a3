"""What senders are told, over the whole relay.

RFC 3461 (what was asked for), RFC 3464 (the report), RFC 5321 section 6.1 (never about a report).
"""

from __future__ import annotations

import asyncio
import email.parser
import email.policy
from email.message import Message
from typing import Any

import pytest

from staffetta.testing.rehearsal import LETTER, Rehearsal
from staffetta.testing.sink_script import EXTENSIONS, Received, Script

VERBATIM = (
    b"550-5.7.1 [192.0.2.9] Our system has detected that this message\r\n"
    b"550-5.7.1 is \xe2\x98\xa0 unwanted <b>here</b>; see\r\n"
    b"550 5.7.1 https://far.example/why?id=1&x=2 - gsmtp\r\n"
)
REFUSING = Script(
    rcpt={b"bad@far.example": VERBATIM, b"slow@far.example": b"450 4.2.1 greylisted for a while\r\n"},
    extensions=tuple(word for word in EXTENSIONS if word != "DSN"),
)
QUEUE = '[queue]\nretry = ["10m"]\ndelay_notice = "20m"\nlifetime = "90m"\n'


def parts(received: Received) -> tuple[Message, Message, list[Message], bytes]:
    """A report as an independent parser sees it: the whole, the text, the status blocks, and the returned octets."""
    whole = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(received.content)
    assert whole.get_content_type() == "multipart/report"
    assert whole.get_param("report-type") == "delivery-status"
    text, status, original = whole.get_payload()  # type: ignore[misc]
    assert isinstance(text, Message)
    assert isinstance(status, Message)
    assert isinstance(original, Message)
    blocks = status.get_payload()
    assert isinstance(blocks, list)
    boundary = str(whole.get_boundary()).encode()
    returned = received.content.split(b"--" + boundary)[3].partition(b"\r\n\r\n")[2]
    return whole, text, blocks, returned  # type: ignore[return-value]


async def told(
    relay: Rehearsal,
    recipients: list[str],
    sender: str = "anna@near.example",
    seconds: float = 0,
    **parameters: Any,
) -> list[Received]:
    """Send a message; what its sender got within `seconds` (or until nothing waits)."""
    await relay.sink("127.0.0.11", REFUSING)
    back = await relay.sink("127.0.0.12")
    await relay.submit(sender, recipients, **parameters)
    if seconds:
        await asyncio.sleep(seconds)
    else:
        await relay.settled(12000)
    return list(back.messages)


@pytest.fixture
def names(mx: Any) -> Any:
    return {**mx("10 127.0.0.11"), **mx("10 127.0.0.12", domain="near.example")}


def test_a_failure_comes_back_with_the_words_of_the_peer(stage: Any, names: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        (report,) = await told(relay, ["bad@far.example", "good@far.example"])
        whole, text, (about, recipient), returned = parts(report)
        assert report.mail.startswith(b"FROM:<>")
        assert report.rcpts == [b"TO:<anna@near.example>"]
        assert whole["Auto-Submitted"].startswith("auto-")
        assert about["Reporting-MTA"] == "dns; relay.example"
        assert recipient["Final-Recipient"] == "rfc822; bad@far.example"
        assert (recipient["Action"], recipient["Status"]) == ("failed", "5.7.1")
        assert recipient["Remote-MTA"] == "dns; mx-127-0-0-11.far.example"
        said = " ".join(recipient["Diagnostic-Code"].split())
        assert said.startswith("smtp; 550-5.7.1 [192.0.2.9] Our system has detected that this message 550-5.7.1 is")
        assert said.endswith("550 5.7.1 https://far.example/why?id=1&x=2 - gsmtp")
        assert b"bad@far.example" in text.as_bytes()
        assert b"Subject: hello\r\n" in returned
        assert b"Hello." not in returned, "without RET=FULL only the header comes back"
        assert [(event.kind, event.recipient) for event in relay.told("notice")] == [("failed", "anna@near.example")]

    stage(play, names)


def test_nobody_is_told_about_mail_from_nobody(stage: Any, names: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        assert await told(relay, ["bad@far.example"], sender="") == []
        assert (await relay.spool.ledger()).accepted == 1

    stage(play, names)


def test_a_report_that_fails_makes_no_report(stage: Any, names: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        back = await told(relay, ["bad@far.example"], sender="bad@far.example")
        assert back == []
        assert len(relay.told("notice")) == 1
        assert len(relay.told("bounce")) == 2
        assert (await relay.spool.ledger()).bounced == 2

    stage(play, names)


def kinds(messages: list[Received]) -> list[str]:
    return [parts(received)[2][1]["Action"] for received in messages]


@pytest.mark.parametrize(
    ("notify", "recipient", "expected"),
    [
        ("", "bad@far.example", ["failed"]),
        ("", "good@far.example", []),
        ("", "slow@far.example", ["delayed", "failed"]),
        ("NOTIFY=NEVER", "bad@far.example", []),
        ("NOTIFY=NEVER", "slow@far.example", []),
        ("NOTIFY=FAILURE", "slow@far.example", ["failed"]),
        ("NOTIFY=DELAY", "slow@far.example", ["delayed"]),
        ("NOTIFY=DELAY", "bad@far.example", []),
        ("NOTIFY=SUCCESS", "good@far.example", ["relayed"]),
        ("NOTIFY=SUCCESS", "bad@far.example", []),
        ("NOTIFY=SUCCESS,FAILURE,DELAY", "slow@far.example", ["delayed", "failed"]),
    ],
)
def test_what_was_asked_for_is_told(stage: Any, names: Any, notify: str, recipient: str, expected: list[str]) -> None:
    async def play(relay: Rehearsal) -> None:
        assert kinds(await told(relay, [recipient], rcpt=notify)) == expected

    stage(play, names, QUEUE)


def test_recipients_of_one_message_are_told_as_each_asked(stage: Any, names: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        recipients = ["bad@far.example", "bad@far.example".replace("bad", "good"), "also@nowhere.example"]
        back = await told(relay, recipients, rcpt=["NOTIFY=NEVER", "NOTIFY=SUCCESS", "NOTIFY=FAILURE"])
        assert sorted(kinds(back)) == ["failed", "relayed"]

    stage(play, names, QUEUE)


def test_a_delay_is_told_once(stage: Any, names: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        back = await told(relay, ["slow@far.example", "slow@far.example"], seconds=4000)
        (delayed,) = [received for received in back if b"Action: delayed" in received.content]
        _, _, (_, block), _ = parts(delayed)
        assert block["Status"].startswith("4.")
        assert block["Will-Retry-Until"]
        assert "450 4.2.1 greylisted" in block["Diagnostic-Code"]

    stage(play, names, QUEUE)


@pytest.mark.parametrize(("ret", "full"), [("RET=FULL", True), ("RET=HDRS", False), ("", False)])
def test_as_much_comes_back_as_was_asked_for(stage: Any, names: Any, ret: str, full: bool) -> None:
    async def play(relay: Rehearsal) -> None:
        (report,) = await told(relay, ["bad@far.example"], mail=ret)
        _, _, _, returned = parts(report)
        assert (b"Hello." in returned) is full
        assert LETTER.partition(b"\r\n\r\n")[0] in returned

    stage(play, names)


def test_names_that_the_sender_gave_come_back(stage: Any, names: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        rcpt = "NOTIFY=FAILURE ORCPT=rfc822;List+2BMember@old.example"
        (report,) = await told(relay, ["bad@far.example"], mail="RET=HDRS ENVID=QQ+2B314159", rcpt=rcpt)
        _, _, (about, recipient), _ = parts(report)
        assert about["Original-Envelope-Id"] == "QQ+314159"
        assert recipient["Original-Recipient"] == "rfc822; List+Member@old.example"

    stage(play, names)


def test_what_was_asked_for_is_passed_on_to_a_server_that_knows_how(stage: Any, mx: Any) -> None:
    """Then that server tells the sender, and we do not."""

    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11")
        await relay.submit(
            "anna@near.example",
            ["good@far.example"],
            mail="RET=HDRS ENVID=QQ+2B314159",
            rcpt="NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+2By@old.example",
        )
        await relay.settled()
        assert b"RET=HDRS" in sink.messages[0].mail
        assert b"ENVID=QQ+2B314159" in sink.messages[0].mail
        assert b"NOTIFY=SUCCESS,DELAY" in sink.messages[0].rcpts[0]
        assert b"ORCPT=rfc822;x+2By@old.example" in sink.messages[0].rcpts[0]
        assert not relay.told("notice")

    stage(play, mx("10 127.0.0.11"))


def test_a_message_of_many_failures_makes_one_report(stage: Any, names: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        recipients = [f"u{n}@nowhere.example" for n in range(30)]
        (report,) = await told(relay, recipients)
        _, _, blocks, _ = parts(report)
        assert len(blocks) == 31
        assert len(report.content) < 50 * 1024

    stage(play, names)


def test_a_large_message_comes_back_small(stage: Any, names: Any) -> None:
    body = b"Subject: large\r\n\r\n" + (b"z" * 76 + b"\r\n") * 13_000

    async def play(relay: Rehearsal) -> None:
        await relay.sink("127.0.0.11", REFUSING)
        back = await relay.sink("127.0.0.12")
        await relay.submit("anna@near.example", ["bad@far.example"], body, mail="RET=FULL")
        await relay.settled(600)
        assert len(back.messages[0].content) < 60 * 1024
        assert b"Subject: large" in back.messages[0].content

    stage(play, names)
