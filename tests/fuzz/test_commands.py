"""Octets of any kind at the server core: no exception, well-formed replies, clean events, bounded memory."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from staffetta.protocol import events
from staffetta.protocol.extensions import ServerSettings
from staffetta.testing.core_wire import HOSTNAME, CoreWire

WORDS = [
    *b"EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY EXPN HELP QUIT AUTH XCLIENT".split(),
    *b"FROM:< TO:< > @ SIZE= BODY= RET= ENVID= NOTIFY= ORCPT= SMTPUTF8 AUTH= LAST".split(),
    *b"8BITMIME 7BIT NEVER SUCCESS, FULL HDRS rfc822; utf-8; +0A +41 \\x{41} \\x{D800}".split(),
    *b"PLAIN LOGIN SCRAM-SHA-256 = * QUJD AGEAYg== a b.example 1 5 20 99999999999999999999".split(),
    b"EHLO c\r\n",
    b"MAIL FROM:<carol@example.com>",
    b"RCPT TO:<anna@example.org>",
    b"DATA\r\n",
    b"\r\n.\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b" ",
    b".",
    b'"',
    b"\\",
    b"\0",
    b"\t",
    b"\x7f",
    b"\xff",
    "ü".encode(),
    "\u2028".encode(),
    "\u017f".encode(),
    "\u0661".encode(),
    b"x" * 300,
]
STREAMS = st.one_of(st.lists(st.sampled_from(WORDS), max_size=60).map(b"".join), st.binary(max_size=400))
SETTINGS = [
    ServerSettings(hostname=HOSTNAME, auth=True, errors=1000, message_size=200),
    ServerSettings(hostname=HOSTNAME, auth=True, errors=1000, normalise=True, starttls=True),
]


def strings_in(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, events.Secret):
        return [value.reveal()]
    if isinstance(value, msgspec.Struct):
        return [text for name in value.__struct_fields__ for text in strings_in(getattr(value, name))]
    if isinstance(value, tuple):
        return [text for one in value for text in strings_in(one)]
    return []


@settings(max_examples=1000, deadline=None)
@given(STREAMS, st.sampled_from(SETTINGS), st.booleans())
def test_any_octets(octets: bytes, given_settings: ServerSettings, tls: bool) -> None:
    wire = CoreWire(given_settings, tls=tls)
    wire.send(b"EHLO c\r\n")
    wire.send(octets)
    output = wire.receive_until_quiet()
    assert output.endswith(b"\r\n")
    for line in output[:-2].split(b"\r\n"):
        assert line[:3].isdigit()
        assert line[3:4] in {b" ", b"-"}
        assert len(line) <= 510
        assert line.isascii()
        assert line.decode().isprintable()
    for event in wire.said:
        for text in strings_in(event):
            assert text.isprintable(), event
    for message in wire.messages:
        assert message.recipients
        assert message.content.count(b"\n") == message.content.count(b"\r\n") == message.content.count(b"\r")
    assert wire.core.buffered <= 12288


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(1, 9))
def test_lines_never_hold_a_line_end(octets: bytes, width: int) -> None:
    """Whatever stands between them, a command is executed only if CRLF is before and behind it."""
    wire = CoreWire(SETTINGS[0])
    stream = b"EHLO c\r\n" + octets + b"MAIL FROM:<carol@example.com>\r\n"
    for at in range(0, len(stream), width):
        wire.send(stream[at : at + width])
    executed = any(isinstance(event, events.MailFrom) for event in wire.said)
    if executed:
        assert octets == b"" or octets.endswith(b"\r\n") or b"BDAT" in octets.upper() or b"AUTH" in octets.upper()
