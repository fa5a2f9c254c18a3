"""Delivery status notifications, judged by an independent parser and by their octets."""

from __future__ import annotations

import email
import email.message
import email.policy
from typing import Any

import pytest

from staffetta.mail.address import parse_mailbox
from staffetta.mail.reply import Reply, reply
from staffetta.message.report import (
    ORIGINAL_OCTETS,
    Action,
    Kind,
    Original,
    Report,
    ReportedRecipient,
    ReportInput,
    make_report,
    original_part,
)
from staffetta.message.transfer import LINE_OCTETS, on_one_line, pieces, quoted_printable

ANNA = parse_mailbox("anna@y.example")
BOB = parse_mailbox("bob@x.example")
UTF8 = parse_mailbox("müller@y.example", smtputf8=True)
NO_SUCH_USER = reply(550, "5.1.1", "no such user", "really none")
EVIL = "x\r\nSubject: evil\r\n\r\n--b\0\u2028\u0085y\t\x1b[31m\ud800"


def failed(**change: Any) -> ReportedRecipient:
    facts: dict[str, Any] = {
        "address": ANNA,
        "action": Action.FAILED,
        "reply": NO_SUCH_USER,
        "remote_mta": "mx1.y.example",
        "last_attempt_at": 1795518522.0,
    }
    return ReportedRecipient(**{**facts, **change})


def told(*recipients: ReportedRecipient, **change: Any) -> ReportInput:
    facts: dict[str, Any] = {
        "kind": Kind.FAILED,
        "id": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "hostname": "mx.example.com",
        "to": BOB,
        "now": 1795518522.0,
        "arrived_at": 1795511022.0,
        "recipients": recipients or (failed(),),
        "original": Original(b"From: bob@x.example\r\nSubject: hello\r\n"),
    }
    return ReportInput(**{**facts, **change})


def well_made(report: Report) -> email.message.Message:
    """What holds for every report, however hostile its input."""
    content = report.content
    assert content.count(b"\r\n") == content.count(b"\r") == content.count(b"\n")
    assert b"\0" not in content
    assert max(map(len, content.split(b"\r\n"))) <= LINE_OCTETS
    assert report.eight_bit or content.isascii()
    parsed = email.message_from_bytes(content)
    assert not [part.defects for part in parsed.walk() if part.defects]
    parts = parsed.get_payload()
    assert isinstance(parts, list)
    assert len(parts) == 3
    assert parsed["Auto-Submitted"] == "auto-replied"
    assert parsed["MIME-Version"] == "1.0"
    assert len(parsed.get_all("Subject", [])) == 1
    assert parts[0].get_content_type() == "text/plain"
    return parsed


def status_lines(report: Report) -> str:
    """The machine-readable part as it stands in the octets."""
    start = report.content.index(b"delivery-status\r\n", report.content.index(b"\r\n\r\n"))
    start = report.content.index(b"\r\n\r\n", start) + 4
    return report.content[start : report.content.index(b"\r\n--=_", start)].decode()


def human(parsed: email.message.Message) -> str:
    part = parsed.get_payload(0)
    assert isinstance(part, email.message.Message)
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode()


def test_a_failure() -> None:
    report = make_report(told(failed(orcpt="rfc822;Anna+x@y.example"), envid="QQ 314", message_id="abc@x.example"))
    parsed = well_made(report)
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "delivery-status"
    assert parsed["From"] == "Mail Delivery System <MAILER-DAEMON@mx.example.com>"
    assert parsed["To"] == "<bob@x.example>"
    assert parsed["Date"] == "Tue, 24 Nov 2026 11:08:42 +0000"
    assert parsed["Message-ID"] == "<01ARZ3NDEKTSV4RRFFQ69G5FAV@mx.example.com>"
    assert parsed["In-Reply-To"] == parsed["References"] == "<abc@x.example>"
    assert status_lines(report) == (
        "Reporting-MTA: dns; mx.example.com\r\n"
        "Original-Envelope-Id: QQ 314\r\n"
        "Arrival-Date: Tue, 24 Nov 2026 09:03:42 +0000\r\n"
        "\r\n"
        "Original-Recipient: rfc822; Anna+x@y.example\r\n"
        "Final-Recipient: rfc822; anna@y.example\r\n"
        "Action: failed\r\n"
        "Status: 5.1.1\r\n"
        "Remote-MTA: dns; mx1.y.example\r\n"
        "Diagnostic-Code: smtp; 550-5.1.1 no such user\r\n"
        " 550 5.1.1 really none\r\n"
        "Last-Attempt-Date: Tue, 24 Nov 2026 11:08:42 +0000\r\n"
    )
    text = human(parsed)
    assert "could not be delivered" in text
    assert "        550-5.1.1 no such user\r\n        550 5.1.1 really none\r\n" in text
    assert "before the @ for mistakes" in text.replace("\r\n    ", " ")
    assert b"Content-Type: text/rfc822-headers\r\n" in report.content
    assert b"\r\n\r\nFrom: bob@x.example\r\nSubject: hello\r\n\r\n--=_" in report.content
    assert (report.eight_bit, report.smtputf8) == (False, False)


def test_a_delay_promises_when_it_will_end() -> None:
    delayed = failed(
        action=Action.DELAYED, reply=reply(451, "4.7.1", "later"), retry_until=1795918522.0, last_attempt_at=None
    )
    report = make_report(told(delayed, kind=Kind.DELAYED))
    text = human(well_made(report))
    assert "need not send it" in text
    assert "tried again until Sun, 29 Nov 2026" in text.replace("\r\n    ", " ")
    lines = status_lines(report)
    assert "Action: delayed\r\nStatus: 4.7.1\r\n" in lines
    assert "Will-Retry-Until: Sun, 29 Nov 2026 02:15:22 +0000\r\n" in lines
    assert "Last-Attempt-Date" not in lines


@pytest.mark.parametrize(
    ("recipient", "status"),
    [
        (failed(), "5.1.1"),
        (failed(reply=reply(550, "", "no")), "5.0.0"),
        (failed(reply=reply(550, "2.1.5", "odd")), "5.0.0"),
        (failed(reply=None), "5.0.0"),
        (failed(reply=reply(451, "4.2.0", "busy"), expired=True), "4.4.7"),
        (failed(action=Action.DELAYED, reply=reply(421, "", "busy")), "4.0.0"),
        (failed(action=Action.DELIVERED, reply=reply(250, "2.1.5", "ok")), "2.1.5"),
        (failed(action=Action.RELAYED, reply=reply(250, "", "ok")), "2.0.0"),
        (failed(action=Action.EXPANDED, reply=None), "2.0.0"),
    ],
)
def test_status_fits_the_action(recipient: ReportedRecipient, status: str) -> None:
    report = make_report(told(recipient))
    well_made(report)
    assert f"Action: {recipient.action.value}\r\nStatus: {status}\r\n" in status_lines(report)


@pytest.mark.parametrize(
    ("recipient", "words"),
    [
        (failed(expired=True), "no further attempt"),
        (failed(in_doubt=True), "may have arrived"),
        (failed(remote_mta=""), "It could not be delivered. The reason:"),
        (failed(original=parse_mailbox("team@x.example")), "you wrote to team@x.example"),
        (failed(reply=reply(554, "5.7.1", "no")), "by its rules"),
        (failed(reply=reply(554, "", "no")), "whoever runs your mail"),
        (failed(action=Action.RELAYED), "does not promise a report"),
        (failed(action=Action.EXPANDED, reply=None), "several addresses"),
        (failed(action=Action.DELIVERED), "It was delivered."),
    ],
)
def test_words(recipient: ReportedRecipient, words: str) -> None:
    assert words in human(well_made(make_report(told(recipient)))).replace("\r\n    ", " ")


def test_our_own_reply_is_not_called_smtp() -> None:
    lines = status_lines(make_report(told(failed(remote_mta="", reply=reply(550, "5.4.6", "loop")))))
    assert "Remote-MTA" not in lines
    assert "Diagnostic-Code: x-staffetta; 550 5.4.6 loop\r\n" in lines


@pytest.mark.parametrize(
    "change",
    [
        {"recipients": (failed(reply=Reply(550, None, (EVIL, EVIL))),)},
        {"recipients": (failed(reply=Reply(550, None, ("", " ", "\t"))),)},
        {"recipients": (failed(reply=Reply(550, None, ("é" * 5000, "x" * 5000))),)},
        {"recipients": (failed(reply=Reply(550, None, ("word " * 3000,) * 500)),)},
        {"recipients": (failed(remote_mta=EVIL),)},
        {"recipients": (failed(orcpt=EVIL),)},
        {"recipients": (failed(orcpt="x\r\ny;" + EVIL),)},
        {"recipients": (failed(orcpt="é;" + "é" * 5000),)},
        {"recipients": (failed(address=UTF8, reply=Reply(550, None, ("é" * 5000, EVIL))),)},
        {"recipients": tuple(failed() for _ in range(300))},
        {"envid": EVIL},
        {"message_id": EVIL},
        {"message_id": "a> <b"},
        {"original": Original(EVIL.encode("utf-8", "replace"))},
        {"original": Original(b"Subject: " + b"x" * 5000 + b" \r\n")},
        {"original": Original(b"Subject: \xff\xfe\0\n--=_\r\n")},
        {"original": Original(b"A: b\r\n" * 20000)},
        {"original": Original(b"A" * 200000)},
        {"original": Original(b"A: b\r\n", b"\r\nbare\nline\r.\r\n")},
        {"original": Original(b"A: b\r\n", b"\r\n" + b"x" * 5000 + b"\r\n")},
        {"original": Original(b"A: b\r\n", b"\r\n\0\r\n")},
        {"original": Original(b"A: b\r\n", b"\r\n\xff\xfe\r\n")},
        {"original": Original(b"", b"\r\n--=_01ARZ3NDEKTSV4RRFFQ69G5FAV_0--\r\n--=_01ARZ3NDEKTSV4RRFFQ69G5FAV_1\r\n")},
        {"original": Original(b"")},
        {"to": UTF8},
    ],
)
def test_nothing_gets_a_line_of_its_own(change: dict[str, Any]) -> None:
    report = make_report(told(**change))
    parsed = well_made(report)
    assert len(report.content) < 400_000
    lines = status_lines(report)
    names = {line.partition(":")[0] for line in lines.split("\r\n") if line[:1] not in {"", " "}}
    assert names <= {
        "Reporting-MTA",
        "Original-Envelope-Id",
        "Arrival-Date",
        "Original-Recipient",
        "Final-Recipient",
        "Action",
        "Status",
        "Remote-MTA",
        "Diagnostic-Code",
        "Last-Attempt-Date",
    }
    assert not any(line.isspace() for line in lines.split("\r\n"))
    assert [line for line in human(parsed).split("\r\n") if line.startswith(("Subject", "--"))] == []


def test_addresses_that_are_not_ascii() -> None:
    report = make_report(told(failed(address=UTF8, orcpt="utf-8;müller@y.example")))
    parsed = well_made(report)
    assert parsed.get_param("report-type") == "global-delivery-status"
    assert b"Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n" in report.content
    lines = status_lines(report)
    assert "Original-Recipient: utf-8; müller@y.example\r\nFinal-Recipient: utf-8; müller@y.example\r\n" in lines
    assert (report.eight_bit, report.smtputf8) == (True, False)
    assert make_report(told(to=UTF8)).smtputf8


def test_ascii_reports_stay_ascii() -> None:
    report = make_report(told(failed(reply=reply(550, "", "später"))))
    assert report.content.isascii()
    assert "Diagnostic-Code: smtp; 550 sp?ter\r\n" in status_lines(report)
    assert "550 später" in human(well_made(report))


def test_the_whole_message_comes_back_to_the_octet() -> None:
    message = b"From: bob@x.example\r\n\r\n.\r\n..dots\r\n--=_01ARZ3NDEKTSV4RRFFQ69G5FAV_0\r\nend"
    report = make_report(told(original=original_part(message, len(message), full=True)))
    well_made(report)
    assert b"Content-Type: message/rfc822\r\nContent-Description: Your message\r\n\r\n" + message in report.content


def test_eight_bit_content_is_declared() -> None:
    message = b"From: bob@x.example\r\n\r\ncaf\xc3\xa9\r\n"
    report = make_report(told(original=original_part(message, len(message), full=True)))
    assert report.eight_bit
    assert b"message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n" in report.content


def test_a_header_of_odd_octets_comes_back_encoded() -> None:
    header = b"Subject: caf\xe9 \0 x\ny =\r\nTo: " + b"z" * 1200 + b" \r\n"
    report = make_report(told(original=Original(header)))
    part = well_made(report).get_payload(2)
    assert isinstance(part, email.message.Message)
    assert part.get_content_type() == "text/rfc822-headers"
    assert part["Content-Transfer-Encoding"] == "quoted-printable"
    assert part.get_payload(decode=True) == header


@pytest.mark.parametrize(
    ("beginning", "size", "full", "part"),
    [
        (b"A: b\r\n\r\nbody", 12, False, Original(b"A: b\r\n")),
        (b"A: b\r\n\r\nbody", 12, True, Original(b"A: b\r\n", b"\r\nbody")),
        (b"A: b\r\n\r\nbo", 12, True, Original(b"A: b\r\n")),
        (b"\r\nbody", 6, True, Original(b"", b"\r\nbody")),
        (b"A: b\r\n", 6, True, Original(b"A: b\r\n", b"")),
        (b"A: b", 4, False, Original(b"A: b")),
    ],
)
def test_original_part(beginning: bytes, size: int, full: bool, part: Original) -> None:
    assert original_part(beginning, size, full=full) == part


def test_big_originals_come_back_as_headers() -> None:
    message = b"A: b\r\n\r\n" + b"x" * ORIGINAL_OCTETS
    assert original_part(message, len(message), full=True) == Original(b"A: b\r\n")
    endless = b"A: b\r\n" * 100_000
    report = make_report(told(original=original_part(endless, len(endless), full=True)))
    well_made(report)
    assert len(report.content) < ORIGINAL_OCTETS + 3000


@pytest.mark.parametrize(
    "data",
    [b"", b"plain\r\n", b"tail \r\ntail\t", b"x" * 76, b"x" * 77, b"=" * 30, b"a\xff" * 100, b"\r\n\r\n", b"a\nb\rc\0"],
)
def test_quoted_printable_round_trip(data: bytes) -> None:
    encoded = quoted_printable(data)
    assert max(map(len, encoded.split(b"\r\n"))) <= 76
    assert not [line for line in encoded.split(b"\r\n") if line[-1:] in {b" ", b"\t"}]
    message = email.message_from_bytes(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + encoded)
    assert message.get_payload(decode=True) == data


def test_pieces_lose_no_word() -> None:
    assert pieces("", 10) == []
    assert pieces("   ", 10) == []
    assert pieces("one two three", 8) == ["one two", "three"]
    assert pieces("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]
    assert pieces("ü" * 11, 10) == ["ü" * 5, "ü" * 5, "ü"]


def test_one_line() -> None:
    assert on_one_line("a\tb\r\nc\x85ü\ud800\u2028\u2029", utf8=True, limit=99) == "a b??c?ü???"
    assert on_one_line("aü\x7f", utf8=False, limit=99) == "a??"
    assert on_one_line("abc", utf8=False, limit=2) == "ab"
