"""One event, one line; and no output can stop mail."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from staffetta.observe import log
from staffetta.observe.events import (
    Accept,
    Attempt,
    Bounce,
    Connect,
    Defer,
    Deliver,
    Disconnect,
    Event,
    Login,
    LoginRefused,
    Ready,
    Refuse,
)
from staffetta.observe.log import EventLog, LogSettings
from staffetta.observe.metrics import Counters
from staffetta.observe.privacy import private
from staffetta.observe.render import json_line, text_line

NOW = datetime(2026, 11, 24, 9, 10, 11, 123456, UTC)
ACCEPT = Accept(
    time=NOW,
    session="s1",
    id="01JD",
    sender="anna@example.org",
    recipients=("bob@example.com", "carla@example.net"),
    size=4096,
    message_id="<1@example.org>",
    client="192.0.2.1",
    login="",
    checks={"spf": "pass smtp.mailfrom=anna@example.org"},
)
REFUSE = Refuse(
    time=NOW,
    stage="rcpt",
    client="192.0.2.1",
    sender=None,
    recipient="bob@example.com",
    reply="550 5.1.1 <bob@example.com> is unknown",
    rule="recipient",
    reason="no such account",
)


def refused(text: str) -> Refuse:
    return Refuse(
        time=NOW, stage=text, client=text, sender=text, recipient=text, reply=text, rule="rule", reason=text, login=text
    )


def test_text_is_one_line_for_people() -> None:
    assert text_line(ACCEPT).decode() == (
        "2026-11-24T09:10:11.123Z accept session=s1 id=01JD sender=anna@example.org"
        " recipients=bob@example.com,carla@example.net size=4096 message_id=<1@example.org> client=192.0.2.1"
        ' checks="spf:pass smtp.mailfrom=anna@example.org"\n'
    )
    defer = Defer(
        time=NOW, recipient="a@b", reply="", next_attempt_at=NOW + timedelta(hours=1), reason='a "b" \\', in_doubt=True
    )
    assert text_line(defer).decode() == (
        "2026-11-24T09:10:11.123Z defer recipient=a@b next_attempt_at=2026-11-24T10:10:11.123Z"
        ' reason="a \\"b\\" \\\\" in_doubt=yes\n'
    )
    login = LoginRefused(time=NOW, login="x", mechanism="PLAIN", reason="wrong")
    assert b" login_refused " in text_line(login)


NASTY = [chr(number) for number in [*range(0x20), *range(0x7F, 0xA0), 0x200E, 0x202E, 0x2028, 0x2029, 0x2066]]
NASTY += ["\udc80", "\ud800", "\U000e0001"]


@pytest.mark.parametrize("line", [json_line, text_line])
def test_no_field_can_make_a_second_line(line: Any) -> None:
    for character in NASTY:
        event = refused(f"a{character}forged event=accept")
        written = line(event)
        assert written.endswith(b"\n")
        text = written[:-1].decode()
        assert len(text.splitlines()) == 1, repr(character)
        if line is json_line:
            assert not any(other in text for other in NASTY[:-1])
            back = json.loads(text)
            assert back["reply"] in (f"a{character}forged event=accept", f"a\\u{ord(character):04x}forged event=accept")
            assert back["event"] == "refuse"
        else:
            assert text.isprintable(), repr(character)
            assert " event=accept" not in text.replace(' event=accept"', "")


@pytest.mark.parametrize(
    ("privacy", "expected"),
    [
        ("masked", ("b***@example.com", "550 5.1.1 <b***@example.com> is unknown")),
        ("hashed", ("b1ff", None)),
    ],
)
def test_privacy(privacy: Any, expected: tuple[str, str | None]) -> None:
    veil = private(privacy, b"key of this installation")
    event = veil(REFUSE)
    assert isinstance(event, Refuse)
    shown = json_line(event) + json_line(veil(ACCEPT)) + text_line(veil(ACCEPT))
    for secret in (b"bob", b"anna", b"carla"):
        assert secret not in shown
    assert event.rule == "recipient"
    if privacy == "masked":
        assert (event.recipient, event.reply) == expected
    else:
        digest, _, domain = event.recipient.partition("@")
        assert domain == "example.com"
        assert len(digest) == 16
        assert f"<{digest}@example.com>" in event.reply
        other = private(privacy, b"another key")(REFUSE)
        assert isinstance(other, Refuse)
        assert other.recipient != event.recipient
        assert private(privacy, b"key of this installation")(REFUSE) == event


def test_privacy_in_free_text() -> None:
    veil = private("masked", b"")
    for text, expected in {
        "smtp.mailfrom=anna@example.org": "smtp.mailfrom=a***@example.org",
        '"anna b"@example.org refused': '"***@example.org refused',
        "to:<anna@example.org>,<bob@example.org>": "to:<a***@example.org>,<b***@example.org>",
        "nothing here": "nothing here",
        "a lone @ sign": "a lone @ sign",
    }.items():
        event = veil(Bounce(time=NOW, recipient="", reply=text, reason="", in_doubt=False))
        assert isinstance(event, Bounce)
        assert event.reply == expected
    with pytest.raises(ValueError, match="key"):
        private("hashed", b"")


def read_all(descriptor: int) -> bytes:
    data = b""
    while piece := os.read(descriptor, 65536):
        data += piece
    return data


def test_events_are_written_in_order_and_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = os.pipe()
    writes: list[int] = []
    write = os.write

    def counted(descriptor: int, data: Any) -> int:
        writes.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(log.os, "write", counted)

    async def main() -> None:
        events = EventLog(LogSettings(), far)
        for number in range(200):
            events.emit(Ready(time=NOW, listeners=(str(number),)))
            if number % 50 == 0:
                await asyncio.sleep(0)
        await asyncio.to_thread(events.close)
        os.close(far)
        assert events.dropped == 0

    asyncio.run(main())
    lines = read_all(near).decode().splitlines()
    os.close(near)
    assert [json.loads(line)["listeners"] for line in lines] == [[str(number)] for number in range(200)]
    assert len(writes) <= 10


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("info", ["ready", "refuse", "accept"]),
        ("debug", ["ready", "refuse", "accept"]),
        ("warning", ["refuse"]),
        ("error", []),
    ],
)
def test_level_and_format(level: Any, expected: list[str], tmp_path: Path) -> None:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    events = EventLog(LogSettings(level=level, format="text", privacy="masked"), descriptor)
    for event in (Ready(time=NOW, listeners=("mx",)), REFUSE, ACCEPT):
        events.emit(event)
    events.close()
    os.close(descriptor)
    assert [line.split()[1] for line in path.read_text().splitlines()] == expected
    assert "bob" not in path.read_text()


def emit_many(events: EventLog, count: int) -> float:
    begun = time.perf_counter()
    for number in range(count):
        events.emit(Ready(time=NOW, listeners=("x" * 200, str(number))))
    return time.perf_counter() - begun


def wait_until(true: Any) -> None:
    give_up = time.monotonic() + 5
    while not true():
        assert time.monotonic() < give_up
        threading.Event().wait(0.005)


def test_a_reader_that_stops_cannot_stop_us() -> None:
    near, far = os.pipe()
    events = EventLog(LogSettings(), far)
    assert emit_many(events, 3 * log.WAITING_LINES) < 2
    assert events.dropped > log.WAITING_LINES
    data = b""
    while b"log_dropped" not in data:  # the reader is back
        data += os.read(near, 65536)
        events.emit(Ready(time=NOW, listeners=("more",)))
    thread = threading.Thread(target=events.close)
    thread.start()
    drain = threading.Thread(target=lambda: (thread.join(), os.close(far)))
    drain.start()
    data += read_all(near)
    drain.join()
    os.close(near)
    lines = [json.loads(line) for line in data.decode().splitlines()]
    missing = sum(line["lines"] for line in lines if line["event"] == "log_dropped")
    assert 0 < missing <= events.dropped


def test_close_gives_up_on_a_blocked_output() -> None:
    near, far = os.pipe()
    events = EventLog(LogSettings(), far)
    emit_many(events, 2000)
    begun = time.monotonic()
    events.close(0.1)
    assert time.monotonic() - begun < 2
    os.close(near)  # frees the writer, which finds nobody
    events._thread.join(5)
    os.close(far)
    assert events.dropped > 0


def test_a_closed_output_is_counted() -> None:
    near, far = os.pipe()
    os.close(near)
    events = EventLog(LogSettings(), far)
    emit_many(events, 10)
    events.close()
    os.close(far)
    assert events.dropped == 10


def test_a_full_disk_is_counted_and_a_torn_line_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = os.pipe()
    full = threading.Event()
    full.set()
    write = os.write
    torn: list[bool] = []

    def failing(descriptor: int, data: Any) -> int:
        if full.is_set():
            if torn:
                raise OSError(28, "No space left on device")
            torn.append(True)
            return write(descriptor, data[:20])
        return write(descriptor, data)

    monkeypatch.setattr(log.os, "write", failing)
    events = EventLog(LogSettings(), far)
    events.emit(Ready(time=NOW, listeners=("lost",)))
    wait_until(lambda: events.dropped == 1)
    full.clear()
    events.emit(Ready(time=NOW, listeners=("kept",)))
    events.close()
    os.close(far)
    lines = read_all(near).decode().splitlines()
    os.close(near)
    assert [json.loads(line)["event"] for line in lines[1:]] == ["log_dropped", "ready"]
    assert json.loads(lines[1])["lines"] == 1


def test_counters() -> None:
    counters = Counters()
    for event in (
        Connect(time=NOW, listener="mx", client="192.0.2.1", tls=""),
        Disconnect(time=NOW, listener="mx", client="192.0.2.1", tls="", bytes=100, reason=""),
        ACCEPT,
        Deliver(time=NOW, recipient="a@b", reply="250"),
        Deliver(time=NOW, recipient="a@c", reply="250"),
        Ready(time=NOW, listeners=()),
        Attempt(
            time=NOW, recipient="", route="mx", destination="d", host="h", address="", tls="TLSv1.3 X", stage="data",
            reply="250", outcome="delivered", seconds=0.25,
        ),
    ):  # fmt: skip
        counters.observe(event)
    assert counters.total(Deliver) == 2
    assert counters.counted(Accept) == {("",): 1}
    assert counters.counted(Connect) == {("mx", ""): 1}
    assert counters.counted(Attempt) == {("delivered", "TLSv1.3 X"): 1}
    assert counters.total(Login) == 0
    counters.add(Connect, ("mx", ""), 3)
    counters.add(Accept, ("mx",), 2)
    assert counters.counted(Connect) == {("mx", ""): 4}
    assert counters.counted(Accept) == {("",): 1, ("mx",): 2}


def test_every_event_has_a_line() -> None:
    def concrete(kind: type[Event]) -> list[type[Event]]:
        return [kind, *(below for child in kind.__subclasses__() for below in concrete(child))]

    assert log.LogDropped in concrete(Event)
    tags = [kind.__struct_config__.tag for kind in concrete(Event)[1:]]
    assert len(set(tags)) == len(tags)
