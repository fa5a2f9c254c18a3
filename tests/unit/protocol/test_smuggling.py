"""S1, generated: every dot form, whole and at each octet, by DATA and by BDAT, kept or thrown away, at both doors.

Each session ends in one message or one clean refusal, in step: what stands behind the smuggled end is never a command.
"""

from __future__ import annotations

from itertools import product

import pytest

from staffetta.protocol import events
from staffetta.protocol.extensions import ServerSettings
from staffetta.testing.core_wire import HOSTNAME, CoreWire

BEFORE = [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\n", b"\n\r", b"\r\n\0", b"\r\n "]
AFTER = [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\0\r\n", b" \r\n", b"\t\r\n"]
LEGAL = {b"\r\n.\r\n", b"\r\r\n.\r\n"}
"""What really ends the message; CRCRLF.CRLF does too, and is refused for its bare CR where that is not made whole."""

FORMS = [before + b"." + after for before, after in product(BEFORE, AFTER) if before + b"." + after not in LEGAL]
SMUGGLED = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nevil\r\n"
PLACES = {
    "first": b"",
    "header": b"Subject: x\r\nTo: y",
    "body": b"Subject: x\r\n\r\nbody",
    "long line": b"x" * 70000,
}
OPENING = b"EHLO c\r\nMAIL FROM:<carol@example.com>\r\nRCPT TO:<anna@example.org>\r\n"
CLOSING = b"NOOP\r\nQUIT\r\n"


def settings(*, normalise: bool, size: int = 1_000_000) -> ServerSettings:
    return ServerSettings(hostname=HOSTNAME, normalise=normalise, message_size=size)


def session(octets: bytes, splits: list[int], given: ServerSettings) -> CoreWire:
    wire = CoreWire(given)
    wire.receive_until_quiet()
    at = 0
    for split in [*splits, len(octets)]:
        wire.send(octets[at:split])
        at = split
    return wire


def judge(wire: CoreWire, *, normalise: bool) -> tuple[object, ...]:
    """Exactly one transaction with one end, then NOOP and QUIT in step; returns what must not depend on splits."""
    kinds = [type(event) for event in wire.said]
    assert kinds == [
        events.Hello,
        events.MailFrom,
        events.RcptTo,
        events.DataStart,
        events.ContentEnd,
        events.Quit,
    ], kinds
    output = wire.receive_until_quiet()
    assert output.endswith(b"250 2.0.0 ok\r\n221 2.0.0 bye\r\n")
    assert len(wire.messages) <= 1
    for message in wire.messages:
        assert message.recipients == ("anna@example.org",)
        content = message.content
        pairs = content.count(b"\r\n")
        assert pairs == content.count(b"\r") == content.count(b"\n")
        assert b"\0" not in content
        assert content.endswith(b"\r\n")
    end = wire.said[4]
    assert isinstance(end, events.ContentEnd)
    return output, end, tuple(wire.messages)


@pytest.mark.parametrize("normalise", [False, True], ids=["mx", "submission"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", FORMS, ids=repr)
def test_data(form: bytes, place: str, normalise: bool) -> None:
    content = PLACES[place] + form + SMUGGLED + b"\r\n.\r\n"
    octets = OPENING + b"DATA\r\n" + content + CLOSING
    start = octets.index(form, len(OPENING) + 6 + len(PLACES[place]) - 1)
    given = settings(normalise=normalise)
    whole = judge(session(octets, [], given), normalise=normalise)
    for split in range(start - 2, start + len(form) + 3):
        assert judge(session(octets, [split], given), normalise=normalise) == whole
    each = list(range(start - 4, start + len(form) + 4))
    assert judge(session(octets, each, given), normalise=normalise) == whole
    has_bare = form.replace(b"\r\n", b"").translate(None, b". \t") != b""
    if not normalise and has_bare:
        assert not whole[2], "a bare line ending was accepted at an mx"


@pytest.mark.parametrize("form", FORMS, ids=repr)
def test_data_while_discarding(form: bytes) -> None:
    octets = OPENING + b"DATA\r\n" + b"x" * 60 + form + SMUGGLED + b"\r\n.\r\n" + CLOSING
    start = octets.index(form, len(OPENING) + 60)
    for normalise in (False, True):
        given = settings(normalise=normalise, size=50)
        for splits in ([], list(range(start - 2, start + len(form) + 3))):
            _, end, messages = judge(session(octets, splits, given), normalise=normalise)
            assert isinstance(end, events.ContentEnd)
            assert end.problem == "too_big"
            assert not messages


@pytest.mark.parametrize("form", [*FORMS, *LEGAL], ids=repr)
def test_bdat(form: bytes) -> None:
    """In one chunk and over two, cut at each octet of the form. Even the legal end of DATA is content here."""
    content = b"a" + form + SMUGGLED
    for normalise in (False, True):
        given = settings(normalise=normalise)
        whole = None
        for cut in range(len(form) + 2):
            first, second = content[:cut], content[cut:]
            octets = OPENING + b"BDAT %d\r\n" % len(first) + first
            octets += b"BDAT %d LAST\r\n" % len(second) + second + CLOSING
            for splits in ([], list(range(len(OPENING), len(octets)))):
                wire = session(octets, splits, given)
                if normalise or wire.messages:
                    _, end, messages = judge(wire, normalise=normalise)
                    assert whole in (None, (end, messages)), cut
                    whole = end, messages
                else:
                    # The first chunk may be refused by itself; then the second has no transaction any more.
                    kinds = [type(event) for event in wire.said]
                    assert kinds.count(events.ContentEnd) == 1
                    assert kinds[-1] is events.Quit
                    assert kinds.count(events.MailFrom) == 1
                    assert wire.receive_until_quiet().endswith(b"250 2.0.0 ok\r\n221 2.0.0 bye\r\n")


@pytest.mark.parametrize("normalise", [False, True], ids=["mx", "submission"])
@pytest.mark.parametrize("end", sorted(LEGAL), ids=repr)
def test_real_ends(end: bytes, normalise: bool) -> None:
    octets = OPENING + b"DATA\r\na" + end + CLOSING
    for splits in ([], *[[at] for at in range(len(octets))]):
        _, _, messages = judge(session(octets, splits, settings(normalise=normalise)), normalise=normalise)
        assert len(messages) == (1 if normalise or end == b"\r\n.\r\n" else 0)


@pytest.mark.parametrize("offset", range(-4, 5))
def test_end_at_the_border_of_a_read(offset: int) -> None:
    """The terminator around the border of two 64 KiB reads."""
    body = b"x" * 70 + b"\r\n"
    content = body * (65536 // len(body) + 2)
    border = 65536
    cut = content[: border - len(OPENING) - 6 + offset].rstrip(b"\r\n")
    octets = OPENING + b"DATA\r\n" + cut + b"\r\n.\r\n" + CLOSING
    wire = session(octets, [border], settings(normalise=False))
    _, _, messages = judge(wire, normalise=False)
    assert wire.messages[0].content == cut + b"\r\n"
    assert len(messages) == 1
