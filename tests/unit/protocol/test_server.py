"""What the owner of a core may rely on: turns, TLS, closing, limits, memory."""

from __future__ import annotations

import tracemalloc

import pytest

from staffetta.mail.reply import Reply, reply
from staffetta.protocol import events, reception
from staffetta.protocol.extensions import ServerSettings
from staffetta.protocol.server import ServerConnection
from staffetta.testing.core_wire import HOSTNAME, CoreWire

OK = reply(250, "2.0.0", "ok")
GO = reply(354, "", "go")
READY = reply(220, "2.0.0", "go")
NO = reply(550, "5.7.1", "no")
SETTINGS = ServerSettings(hostname=HOSTNAME, starttls=True, auth=True)
OPENING = b"EHLO c\r\nMAIL FROM:<carol@example.com>\r\nRCPT TO:<anna@example.org>\r\n"


def core_after(octets: bytes, settings: ServerSettings = SETTINGS, *, answers: Reply = OK) -> ServerConnection:
    """A core that was given these octets, every event answered with 250."""
    core = ServerConnection(settings, tls=False)
    core.receive(octets)
    while (event := core.next_event()) is not None:
        if not isinstance(event, events.Content | events.Violation):
            core.answer(answers)
    core.take_output()
    return core


def test_an_answer_needs_a_question() -> None:
    core = ServerConnection(SETTINGS, tls=False)
    with pytest.raises(RuntimeError):
        core.answer(OK)
    core.receive(b"EHLO c\r\nNOOP\r\n")
    assert isinstance(core.next_event(), events.Hello)
    assert core.next_event() is None, "the core waits for the answer"
    assert core.take_output() == b""
    core.answer(OK)
    with pytest.raises(RuntimeError):
        core.answer(OK)
    assert core.next_event() is None
    assert core.take_output().endswith(b"250 2.0.0 ok\r\n")


def test_greeting_shows_no_version() -> None:
    core = ServerConnection(SETTINGS, tls=False)
    core.greet()
    assert core.take_output() == b"220 mx.example.org ESMTP\r\n"
    assert not core.closing


@pytest.mark.parametrize("code", [421, 554])
def test_refusing_greeting_closes(code: int) -> None:
    core = ServerConnection(SETTINGS, tls=False)
    core.greet(reply(code, "", "no"))
    assert core.take_output() == b"%d no\r\n" % code
    assert core.closing
    core.receive(b"EHLO c\r\n")
    assert core.next_event() is None
    assert core.buffered == 0


def test_421_ends_the_session_before_what_is_pipelined() -> None:
    core = ServerConnection(SETTINGS, tls=False)
    core.receive(b"EHLO c\r\nNOOP\r\n")
    core.next_event()
    core.answer(reply(421, "4.3.2", "stopping"))
    assert core.closing
    assert core.next_event() is None
    assert core.take_output() == b"421 4.3.2 stopping\r\n"
    assert core.buffered == 0


@pytest.mark.parametrize("behind", [b"EHLO evil\r\n", b"E", b"\r\n", b"\x16\x03\x01"])
def test_starttls_with_anything_behind_it(behind: bytes) -> None:
    core = core_after(b"EHLO c\r\n")
    core.receive(b"STARTTLS\r\n" + behind)
    event = core.next_event()
    assert isinstance(event, events.Violation)
    assert event.rule == "starttls_pipelining"
    assert core.take_output() == b"554 5.5.0 nothing may follow STARTTLS before the handshake\r\n"
    assert core.closing
    assert core.next_event() is None


@pytest.mark.parametrize("behind", [b"EHLO evil\r\n", b"E"])
def test_octets_between_starttls_and_its_answer(behind: bytes) -> None:
    core = core_after(b"EHLO c\r\n")
    core.receive(b"STARTTLS\r\n")
    assert isinstance(core.next_event(), events.StartTls)
    core.receive(behind)
    core.answer(READY)
    assert core.take_output().startswith(b"554 ")
    assert core.closing
    assert isinstance(core.next_event(), events.Violation)
    assert core.next_event() is None


def test_octets_in_clear_after_220() -> None:
    core = core_after(b"EHLO c\r\n")
    core.receive(b"STARTTLS\r\n")
    core.next_event()
    core.answer(READY)
    assert core.take_output() == b"220 2.0.0 go\r\n"
    assert core.next_event() is None
    core.receive(b"EHLO evil\r\n")
    assert core.closing
    event = core.next_event()
    assert isinstance(event, events.Violation)
    assert event.reply is None
    assert core.take_output() == b""
    assert core.next_event() is None


def test_a_refused_starttls_goes_on_in_clear() -> None:
    core = core_after(b"EHLO c\r\n")
    core.receive(b"STARTTLS\r\n")
    core.next_event()
    core.answer(reply(454, "4.7.0", "no certificate"))
    core.receive(b"NOOP\r\n")
    assert core.next_event() is None
    assert core.take_output() == b"454 4.7.0 no certificate\r\n250 2.0.0 ok\r\n"


def test_refused_data_ends_the_transaction() -> None:
    core = core_after(OPENING)
    core.receive(b"DATA\r\nDATA\r\n")
    assert core.next_event() == events.DataStart(chunked=False)
    core.answer(reply(451, "4.3.0", "later"))
    assert isinstance(core.next_event(), events.Violation)
    assert core.take_output() == b"451 4.3.0 later\r\n503 5.5.1 MAIL first\r\n"


def test_refused_first_chunk_is_read_first() -> None:
    core = core_after(OPENING)
    core.receive(b"BDAT 6\r\nQUI")
    assert core.next_event() == events.DataStart(chunked=True)
    core.answer(reply(451, "4.3.0", "later"))
    assert core.next_event() is None
    assert core.take_output() == b""
    core.receive(b"T\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
    event = core.next_event()
    assert isinstance(event, events.Violation)
    assert not event.ends_transaction, "the owner ended it by its refusal"
    assert core.next_event() is None
    assert core.take_output() == b"451 4.3.0 later\r\n503 5.5.1 MAIL first\r\n250 2.0.0 ok\r\n"


def test_violation_says_that_the_transaction_ended() -> None:
    core = ServerConnection(SETTINGS, tls=False)
    core.receive(b"EHLO c\r\nMAIL FROM:<carol@example.com>\r\nBDAT 2 LAST\r\n\r\n")
    said = []
    while (event := core.next_event()) is not None:
        said.append(event)
        if not isinstance(event, events.Violation):
            core.answer(OK)
    assert isinstance(said[-1], events.Violation)
    assert said[-1].ends_transaction


def test_hello_again_after_a_refused_one() -> None:
    core = core_after(OPENING)
    core.receive(b"EHLO other\r\n")
    core.next_event()
    core.answer(NO)
    core.receive(b"RCPT TO:<anna@example.org>\r\nMAIL FROM:<>\r\n")
    assert isinstance(core.next_event(), events.Violation), "a hello ends the transaction even when it is refused"
    assert isinstance(core.next_event(), events.MailFrom), "the old hello still stands"


def test_content_without_an_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "DISCARDED_OCTETS", 1000)
    settings = ServerSettings(hostname=HOSTNAME, message_size=100)
    for octets in (b"DATA\r\n" + b"x\r\n" * 1000, b"BDAT 1200\r\n" + b"x" * 1200):
        wire = CoreWire(settings)
        wire.send(OPENING)
        wire.receive_until_quiet()
        for at in range(0, len(octets), 50):
            wire.send(octets[at : at + 50])
        assert wire.receive_until_quiet().endswith(b"552 5.3.4 too big\r\n")
        assert wire.is_closed()
        assert not wire.messages


def test_a_refused_chunk_without_an_end_is_cut_off() -> None:
    core = ServerConnection(SETTINGS, tls=False)
    core.receive(b"BDAT 9223372036854775808\r\nNOOP\r\n")
    assert isinstance(core.next_event(), events.Violation)
    assert core.closing
    assert core.take_output().startswith(b"552 ")


def test_content_comes_in_pieces_as_it_was_received() -> None:
    core = core_after(OPENING)
    core.receive(b"DATA\r\n")
    core.next_event()
    core.answer(GO)
    line = b"x" * 70 + b"\r\n"
    piece = line * 900
    octets = 0
    for _ in range(50):
        core.receive(piece)
        while (event := core.next_event()) is not None:
            assert isinstance(event, events.Content)
            assert len(event.data) <= len(piece)
            octets += len(event.data)
        assert core.buffered <= 2
    core.receive(b".\r\n")
    assert core.next_event() == events.ContentEnd(octets, None)
    assert octets == 50 * len(piece)


def test_idle_connections_are_small() -> None:
    opened = [core_after(b"EHLO c\r\n") for _ in range(10)]
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    opened += [core_after(b"EHLO c\r\n") for _ in range(1000)]
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / 1000 < 1500, "octets for one idle connection"
    assert opened
