"""Mail for our own domains, over the whole relay: Maildirs, LMTP, inner servers, and loops that must end.

RFC 5321 sections 4.4 and 6.3, RFC 2033; threats S12, S16.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from staffetta.testing.rehearsal import LETTER, Refused, Rehearsal
from staffetta.testing.sink_script import Fault, Kind, Script

HOME = '[domain."home.example"]\n'
ANY = HOME + 'recipients = "any"\n'


def files(relay: Rehearsal, folder: str, part: str = "new") -> list[Path]:
    return sorted((relay.config.data_dir / "mail" / "home.example" / folder / part).iterdir())


async def sent(relay: Rehearsal, recipient: str, content: bytes = LETTER, sender: str = "anna@near.example") -> str:
    number = await relay.submit(sender, [recipient], content)
    await relay.settled()
    return number


def test_a_message_lies_in_the_mailbox(stage: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        relay.account("ben@home.example")
        await sent(relay, "Ben+lists@HOME.example")
        (file,) = files(relay, "ben")
        content = file.read_bytes()
        assert content.startswith(
            b"Return-Path: <anna@near.example>\r\nDelivered-To: Ben+lists@home.example\r\nReceived: from "
        )
        assert content.endswith(b"\r\n\r\nHello.\r\n")
        assert content.count(b"\n") == content.count(b"\r\n")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.parent.stat().st_mode) == 0o700
        assert files(relay, "ben", "tmp") == []
        assert file.name.endswith(f",S={len(content)}")

    stage(play, toml=HOME)


def test_large_messages_and_the_null_path(stage: Any) -> None:
    body = LETTER + (b"0123456789" * 7 + b"\r\n") * 20_000

    async def play(relay: Rehearsal) -> None:
        relay.account("ben@home.example")
        await sent(relay, "ben@home.example", body, sender="")
        (file,) = files(relay, "ben")
        assert file.read_bytes().startswith(b"Return-Path: <>\r\n")
        assert file.read_bytes().endswith(body)
        assert files(relay, "ben", "tmp") == []

    stage(play, toml=HOME)


ODD = {
    '".."@home.example': "%2E.",
    '"."@home.example': "%2E",
    '"../../etc/passwd"@home.example': "%2E.%2F..%2Fetc%2Fpasswd",
    "a/b@home.example": "a%2Fb",
    "-x@home.example": "%2Dx",
    '".hidden"@home.example': "%2Ehidden",
    "50%off@home.example": "50%25off",
    "Ben@home.example": "ben",
}


@pytest.mark.parametrize("address", list(ODD))
def test_odd_local_parts_stay_inside(stage: Any, address: str) -> None:
    async def play(relay: Rehearsal) -> None:
        await sent(relay, address)
        root = relay.config.data_dir / "mail"
        found = [path for path in stage.folder.rglob("*") if path.is_file() and ",S=" in path.name]
        assert [path.relative_to(root).parts[:2] for path in found] == [("home.example", ODD[address])]

    stage(play, toml=ANY)


def test_a_local_part_too_long_for_a_folder_fails(stage: Any) -> None:
    """64 octets is what SMTP allows; encoded they may become 192, which still fits. Nothing longer gets this far."""

    async def play(relay: Rehearsal) -> None:
        await sent(relay, "/" * 64 + "@home.example")
        (file,) = (relay.config.data_dir / "mail" / "home.example" / ("%2F" * 64) / "new").iterdir()
        assert file.stat().st_size
        with pytest.raises(Refused, match=r"^50[015]|^55[03]"):
            await relay.submit("anna@near.example", ["x" * 200 + "@home.example"])

    stage(play, toml=ANY)


@pytest.mark.parametrize("what", ["mailbox", "new", "tmp"])
def test_planted_links_are_not_followed(stage: Any, what: str) -> None:
    async def play(relay: Rehearsal) -> None:
        outside = stage.folder / "outside"
        for part in ("", "new", "tmp", "cur", "ben", "ben/new", "ben/tmp", "ben/cur"):
            (outside / part).mkdir()
        root = relay.config.data_dir / "mail" / "home.example"
        place = {"mailbox": root / "ben", "new": root / "ben" / "new", "tmp": root / "ben" / "tmp"}[what]
        place.parent.mkdir(parents=True)
        place.symlink_to(outside)
        relay.account("ben@home.example")
        number = await relay.submit("anna@near.example", ["ben@home.example"])
        await relay.until(lambda: relay.told("defer", number))
        assert [path for path in outside.rglob("*") if path.is_file()] == []
        place.unlink()
        await relay.settled(600)
        assert len(files(relay, "ben")) == 1

    stage(play, toml=HOME)


def test_a_mailbox_that_cannot_be_written_waits_and_others_do_not(stage: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        for name in ("ben", "cara"):
            relay.account(f"{name}@home.example")
        root = relay.config.data_dir / "mail" / "home.example"
        root.mkdir(parents=True)
        (root / "ben").write_text("a file where a folder should be")
        number = await relay.submit("", ["ben@home.example", "cara@home.example"])
        await relay.until(lambda: relay.told("defer", number))
        assert relay.told("defer")[0].reply.startswith("451 4.3.0")
        assert len(files(relay, "cara")) == 1
        os.unlink(root / "ben")
        await relay.settled(600)
        assert len(files(relay, "ben")) == 1
        assert len(files(relay, "cara")) == 1

    stage(play, toml=HOME)


def test_aliases_lead_in_and_out(stage: Any, mx: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11")
        relay.account("ben@home.example")
        await sent(relay, "all@home.example")
        assert len(files(relay, "ben")) == 1
        assert [received.rcpts for received in sink.messages] == [[b"TO:<cara@far.example>"]]

    toml = HOME + '[domain."home.example".aliases]\nall = ["ben", "cara@far.example"]\n'
    stage(play, mx("10 127.0.0.11"), toml)


def test_a_message_that_was_here_already_is_in_a_loop(stage: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        relay.account("ben@home.example")
        relay.account("anna@home.example")
        loop = b"Delivered-To: ben@home.example\r\n" + LETTER
        await sent(relay, "ben@home.example", loop, sender="anna@home.example")
        assert relay.told("bounce")[0].reply.startswith("554 5.4.6")
        assert not (relay.config.data_dir / "mail" / "home.example" / "ben" / "new").exists() or not files(relay, "ben")
        (report,) = files(relay, "anna")
        assert b"mail loop" in report.read_bytes()

    stage(play, toml=HOME)


def test_too_many_hops_are_a_loop(stage: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        relay.account("ben@home.example")
        hop = b"Received: from a.example by b.example; Tue, 1 Sep 2026 10:00:00 +0000\r\n"
        await sent(relay, "ben@home.example", hop * 49 + LETTER)
        with pytest.raises(Refused, match=r"^554 5\.4\.6"):
            await relay.submit("anna@near.example", ["ben@home.example"], hop * 51 + LETTER)
        assert len(files(relay, "ben")) == 1

    stage(play, toml=HOME)


@pytest.mark.parametrize("where", ["tcp", "unix"])
def test_lmtp_answers_for_each_recipient(stage: Any, where: str) -> None:
    answers = {
        b"full@home.example": b"452 4.2.2 mailbox full\r\n",
        b"gone@home.example": b"550 5.2.1 mailbox disabled\r\n",
    }
    script = Script(lmtp=True, dot=answers, rcpt={b"no@home.example": b"550 5.1.1 unknown\r\n"})

    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11", script)
        if where == "unix":
            await sink.stop()
            await sink.start(path=str(stage.folder / "lmtp"))
        recipients = [f"{name}@home.example" for name in ("ok", "full", "gone", "no")]
        number = await relay.submit("", recipients)
        await relay.until(lambda: relay.told("defer", number))
        ends = {one.recipient: name for name in ("deliver", "bounce", "defer") for one in relay.told(name, number)}
        assert [ends[recipient] for recipient in recipients] == ["deliver", "defer", "bounce", "bounce"]
        assert sink.verbs()[0] == "LHLO"
        script.dot.clear()
        await relay.settled(600)
        assert [received.rcpts for received in sink.messages][1:] == [[b"TO:<full@home.example>"]]

    target = "lmtp:127.0.0.11:{port}" if where == "tcp" else "lmtp:unix:lmtp"
    stage(play, toml=ANY + f'deliver = "{target}"\n')


def test_lmtp_that_dies_between_its_answers_leaves_doubt_about_the_rest_only(stage: Any) -> None:
    script = Script(lmtp=True, dot={b"b@home.example": b"421 4.3.2 going down\r\n"})

    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11", script)
        number = await relay.submit("", [f"{name}@home.example" for name in "abc"])
        await relay.until(lambda: len(relay.told("defer", number)) == 2)
        assert [event.recipient for event in relay.told("deliver", number)] == ["a@home.example"]
        assert [(event.recipient, event.in_doubt) for event in relay.told("defer", number)] == [
            ("b@home.example", False),
            ("c@home.example", True),
        ]
        script.dot.clear()
        await relay.settled(600)
        assert sorted(one for received in sink.messages[1:] for one in received.rcpts) == [
            b"TO:<b@home.example>",
            b"TO:<c@home.example>",
        ]

    stage(play, toml=ANY + 'deliver = "lmtp:127.0.0.11:{port}"\n')


def test_an_inner_server_gets_the_mail_of_a_domain(stage: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11", Script(name="relay.example"))
        await sent(relay, "whoever@home.example")
        assert sink.count == 1, "a server of ours may have our name"

    stage(play, toml=ANY + 'deliver = "smtp:127.0.0.11:{port}"\n')


def test_an_lmtp_socket_that_is_missing_waits(stage: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        number = await relay.submit("", ["ben@home.example"])
        await relay.until(lambda: relay.told("defer", number))
        sink = await relay.sink("127.0.0.11", Script(lmtp=True, faults=(Fault("dot", Kind.DROP, times=1),)))
        await sink.stop()
        await sink.start(path=str(stage.folder / "lmtp"))
        await relay.settled(4000)
        assert sink.count == 1
        assert any(event.in_doubt for event in relay.told("defer", number))

    stage(play, toml=ANY + 'deliver = "lmtp:unix:lmtp"\n')
