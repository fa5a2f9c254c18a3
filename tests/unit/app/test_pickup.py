"""Mail that commands bring: judged, mended and committed as at a door, and found by whoever looks at the store."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from staffetta.app.pickup import NotTaken, Submitted, Wishes, submit_locally
from staffetta.config.load import Loaded, load
from staffetta.config.schema import Config
from staffetta.control.journey import journey
from staffetta.control.place import NotAllowed
from staffetta.control.queue import open_queue
from staffetta.mail.address import NULL_PATH, POSTMASTER, Mailbox, parse_mailbox
from staffetta.mail.envelope import Notify, Return
from staffetta.spool.operator import Filter, books, content, show, waiting
from staffetta.spool.recovery import RelayLock

TOML = """\
version = 1
hostname = "mx.example.org"
data_dir = "data"
[listen.mx]
bind = ["127.0.0.1:0"]
role = "mx"
[domain."example.org"]
aliases = { sales = ["anna@far.example", "ben@far.example"] }
[limits]
message_size = "64KiB"
"""

OUTSIDE = parse_mailbox("cara@far.example")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    file = tmp_path / "staffetta.toml"
    file.write_text(TOML)
    loaded = load(file, {}, files=False)
    assert isinstance(loaded, Loaded)
    return loaded.config


def submit(config: Config, *recipients: Any, body: bytes = b"Subject: x\n\nhello\n", **more: Any) -> Submitted:
    sender = more.pop("sender", parse_mailbox("root@mx.example.org"))
    return submit_locally(config, sender, recipients, io.BytesIO(body), user="root", **more)


def stored(config: Config, message_id: str) -> bytes:
    with open_queue(config.data_dir) as store:
        return b"".join(content(store, message_id))


def test_it_waits_in_the_queue_mended_and_stamped(config: Config) -> None:
    given = b"Subject: x\nBcc: hidden@far.example\n\none\n.\n..two\rthree\n"
    done = submit(config, OUTSIDE, parse_mailbox("sales@example.org"), POSTMASTER, body=given)
    assert done.recipients == (
        "cara@far.example", "anna@far.example", "ben@far.example", "postmaster@example.org",
    )  # fmt: skip
    text = stored(config, done.id)
    assert text.startswith(b"Received: by mx.example.org with ")
    assert text.endswith(b"Subject: x\r\n\r\none\r\n.\r\n..two\r\nthree\r\n")
    assert b"\r\nDate: " in text
    assert b"\r\nMessage-ID: <" in text
    assert b"hidden" not in text
    with open_queue(config.data_dir) as store:
        assert [one.sender for one in waiting(store, Filter(), 0)] == ["root@mx.example.org"] * 4
        assert (books(store).accepted, books(store).unaccounted) == (4, 0)


def test_mail_of_our_domains_leaves_signed(config: Config) -> None:
    anna = parse_mailbox("anna@example.org")
    done = submit(config, OUTSIDE, sender=anna, body=b"From: anna@example.org\nSubject: x\n\nhello\n")
    assert stored(config, done.id).count(b"DKIM-Signature: ") == 2
    done = submit(config, OUTSIDE, body=b"From: anna@elsewhere.example\nSubject: x\n\nhello\n")
    assert b"DKIM-Signature" not in stored(config, done.id)


def test_the_journal_says_who_and_by_what_right(config: Config) -> None:
    for recipient in (OUTSIDE, POSTMASTER):
        done = submit(config, recipient)
        (event,) = journey(config.data_dir, done.id)
        assert (event["event"], event["login"], event["rule"]) == ("accept", "root", "local_submission")


def test_beside_a_running_relay(config: Config) -> None:
    first = submit(config, OUTSIDE)
    lock = RelayLock.acquire(config.data_dir)
    second = submit(config, OUTSIDE)
    lock.release()
    assert first.id != second.id
    assert stored(config, second.id)


def test_one_refused_recipient_stops_all_or_is_left_out(config: Config) -> None:
    nobody = parse_mailbox("nobody@example.org")
    with pytest.raises(NotTaken) as refusal:
        submit(config, OUTSIDE, nobody)
    assert [path for path, _ in refusal.value.refused] == [nobody]
    assert str(refusal.value.reply) == "550 5.1.1 no such recipient here"
    assert "alias" in refusal.value.reason
    with open_queue(config.data_dir) as store:
        assert not list(waiting(store, Filter(), 0))
    done = submit(config, OUTSIDE, nobody, partly=True)
    assert done.recipients == ("cara@far.example",)
    assert [path for path, _ in done.refused] == [nobody]
    with pytest.raises(NotTaken):
        submit(config, nobody, partly=True)


def test_the_null_path_and_wishes_for_notices(config: Config) -> None:
    wishes = Wishes((Notify.SUCCESS, Notify.FAILURE), Return.HEADERS, "a b+c")
    done = submit(config, OUTSIDE, sender=NULL_PATH, wishes=wishes)
    with open_queue(config.data_dir) as store:
        (one,) = waiting(store, Filter(id=done.id), 0)
        shown = show(store, done.id, 0)
    assert one.sender == ""
    assert shown is not None
    assert (shown.message.sender.envid, shown.message.sender.ret) == ("a b+c", Return.HEADERS)


def test_addresses_and_content_beyond_ascii(config: Config) -> None:
    done = submit(
        config, parse_mailbox("j\u00fcrg@far.example", smtputf8=True), body="Subject: \u00fc\n\n\u00fc\n".encode()
    )
    assert done.recipients == ("j\u00fcrg@far.example",)
    assert stored(config, done.id).endswith("\u00fc\r\n".encode())


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"Subject: x\n\n" + b"y" * 70_000, "552"),
        (b"Received: x\n" * 60 + b"\n", "554"),
    ],
)
def test_limits_are_those_of_the_doors(config: Config, body: bytes, code: str) -> None:
    with pytest.raises(NotTaken) as refusal:
        submit(config, OUTSIDE, body=body)
    assert str(refusal.value.reply)[:3] == code
    assert not refusal.value.refused


def test_many_recipients_and_no_content(config: Config) -> None:
    many = [Mailbox(f"u{number}", OUTSIDE.domain) for number in range(300)]
    assert len(submit(config, *many, body=b"").recipients) == 300


def test_a_directory_of_somebody_else_is_not_allowed(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_, **__: False)
    config.data_dir.mkdir()
    with pytest.raises(NotAllowed):
        submit(config, OUTSIDE)
    assert not list(config.data_dir.iterdir())
