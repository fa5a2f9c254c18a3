"""Submission: what is added, what goes, and that all else stays as it was."""

from __future__ import annotations

import pytest

from staffetta.mail.address import parse_mailbox
from staffetta.message.fixups import SubmissionFixups, submission_header
from staffetta.message.header import Header

ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
FIXUPS = SubmissionFixups(ID, "mx.example.com", 1795518522.0)
DATE = b"Date: Tue, 24 Nov 2026 11:08:42 +0000\r\n"
MESSAGE_ID = b"Message-ID: <01ARZ3NDEKTSV4RRFFQ69G5FAV@mx.example.com>\r\n"
HAVE = b"date: whenever\r\nMESSAGE-ID:\r\n <x>\r\n"


@pytest.mark.parametrize(
    ("block", "fixed"),
    [
        (b"", DATE + MESSAGE_ID),
        (b"From: a\r\n", DATE + MESSAGE_ID + b"From: a\r\n"),
        (b"Date: x\r\n", MESSAGE_ID + b"Date: x\r\n"),
        (b"Message-ID: x\r\n", DATE + b"Message-ID: x\r\n"),
        (HAVE + b"Bcc: a@x.example,\r\n b@y.example\r\nTo: c\r\n", HAVE + b"To: c\r\n"),
        (b"BCC : a\r\n" + HAVE + b"Resent-Bcc: b\r\n", HAVE),
        (HAVE + b"Bcc\r\n : a\r\n", HAVE),
        (HAVE + b"B\0cc: a\r\n", HAVE),
        (HAVE + b"Return-Path: <a@x.example>\r\n", HAVE),
        (HAVE + b"X-Bcc: a\r\nBcc-Note: b\r\n", HAVE + b"X-Bcc: a\r\nBcc-Note: b\r\n"),
        (HAVE + b"no field\r\nTo : \xff\0\r\n \r\nlast", HAVE + b"no field\r\nTo : \xff\0\r\n \r\nlast"),
    ],
)
def test_table(block: bytes, fixed: bytes) -> None:
    assert submission_header(Header(block), FIXUPS) == fixed


def test_a_complete_header_is_the_same_object() -> None:
    block = HAVE + b"From: a\r\n"
    assert submission_header(Header(block), FIXUPS) is block


def test_from_fixed_replaces_every_from() -> None:
    fixups = SubmissionFixups(ID, "mx.example.com", 0.0, parse_mailbox("scanner@x.example"))
    block = HAVE + b"From: a\r\nfrom : b\r\nFrom\r\n : c\r\nTo: d\r\n"
    assert submission_header(Header(block), fixups) == b"From: <scanner@x.example>\r\n" + HAVE + b"To: d\r\n"
