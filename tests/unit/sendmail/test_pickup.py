"""From the drop directory into the queue: whose name, to whom, what is refused, and what happens to the file."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from staffetta.app.directory import build_directory
from staffetta.app.pickup_folder import Folder
from staffetta.app.pickup_header import Writer, completed
from staffetta.app.pickup_letter import Letter, _say
from staffetta.app.pickup_people import People, User
from staffetta.app.pickup_start import was_taken
from staffetta.app.pickup_watch import FAILURES_AT_ONCE, Pickup
from staffetta.config.load import Problems, load
from staffetta.mail.address import NULL_PATH, POSTMASTER, parse_mailbox
from staffetta.mail.reply import Reply, reply
from staffetta.message.authorship import identity_facts
from staffetta.message.header import Header
from staffetta.observe.events import Accept, Refuse
from staffetta.policy.signing import signing_domain
from staffetta.sendmail.drop import DropFile, Envelope
from staffetta.spool.contract import SpoolUnavailable
from staffetta.spool.memory import MemorySpool
from staffetta.spool.recovery import STORE_NAME
from staffetta.spool.sqlite import SqliteSpool
from staffetta.testing.rehearsal import Rehearsal

HEAD = 'version = 1\nhostname = "mx.home.example"\ndata_dir = "data"\n[console]\nbind = "off"\n'
HOME = '[domain."home.example"]\naliases = { ops = ["anna"] }\n[domain."other.example"]\nrecipients = "any"\n'
LOOPBACK = '[listen.office]\nbind = ["127.0.0.1:{port}"]\nrole = "relay"\ntls = "off"\nauth = false\n'
OPEN = HEAD + HOME
ONLY_HOME = HEAD + '[domain."home.example"]\naliases = { ops = ["anna"] }\n'
CONTENT = b"Subject: x\r\n\r\nhello\r\n"
ROOT, BOB = User(0, "root", "Root"), User(54321, "bob", "Bob Ä")


class Place:
    """A relay with the accounts anna and bob of home.example, and its pickup."""

    def __init__(self, relay: Rehearsal, drop: Path) -> None:
        self.relay = relay
        self.drop = drop
        self.taken: set[str] = set()
        self.pickup = Pickup(drop, lambda: relay.config, lambda: relay.parts.house, self.taken.__contains__)
        assert self.pickup.start() == ""

    def leave(self, content: bytes = CONTENT, **envelope: Any) -> str:
        file = DropFile(self.drop)
        file.write(content)
        file.commit(Envelope(**{"recipients": ("anna",), **envelope}))
        return file.name

    def files(self) -> list[str]:
        return sorted(path.name for path in self.drop.iterdir() if path.name != "damaged")

    def told(self, kind: type) -> list[Any]:
        return [event for event in self.relay.events if isinstance(event, kind)]

    async def empty(self) -> None:
        """Return when the directory is empty."""
        async with asyncio.timeout(10):
            while self.files():  # noqa: ASYNC110 - a directory has no event
                await asyncio.sleep(0.01)

    def mailbox(self, name: str, domain: str = "home.example") -> list[bytes]:
        new = self.relay.config.data_dir / "mail" / domain / name / "new"
        return [path.read_bytes() for path in sorted(new.iterdir())] if new.is_dir() else []

    async def delivered(self, name: str, count: int = 1) -> list[bytes]:
        async with asyncio.timeout(10):
            while len(found := self.mailbox(name)) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return found


class Moody(MemorySpool):
    """A spool that fails as often as it is told."""

    failures = 0

    async def commit(self, new: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise SpoolUnavailable("no space", full=True)
        await super().commit(new)


def play(tmp_path: Path, drop: Path, main: Callable[[Place], Awaitable[None]], toml: str = ONLY_HOME) -> None:
    async def spool(_: object) -> Moody:
        return Moody(time.time)

    async def whole() -> None:
        async with Rehearsal(tmp_path, toml, {}, spool=spool) as relay:
            for name in ("anna", "bob"):
                relay._accounts.add(parse_mailbox(f"{name}@home.example"), "a password 9")
            place = Place(relay, drop)
            try:
                await main(place)
            finally:
                await place.pickup.stop()

    asyncio.run(whole())


def test_a_message_arrives_and_its_file_goes(tmp_path: Path, drop: Path) -> None:
    async def main(place: Place) -> None:
        os.utime(drop / place.leave(b"To: anna\r\nBcc: x\r\n" + CONTENT), (1e9, 1e9))
        (got,) = await place.delivered("anna")
        await place.empty()
        assert got.startswith(b"Return-Path: <postmaster@home.example>\r\n")
        assert b"Received: by mx.home.example (local user 0)\r\n\twith ESMTPA id " in got
        assert b"\r\nDate: Sun, 9 Sep 2001 01:46:40 +0000\r\n" in got
        assert b"\r\nTo: anna@mx.home.example\r\nSubject: x\r\n\r\nhello\r\n" in got
        assert b"Bcc" not in got
        (accept,) = place.told(Accept)
        assert (accept.login, accept.listener, accept.rule) == ("root", "local", "local_submission")

    play(tmp_path, drop, main)


def test_what_is_refused_comes_back_and_the_rest_goes_on(tmp_path: Path, drop: Path) -> None:
    async def main(place: Place) -> None:
        place.leave(recipients=("no-one@home.example", "anna", "neither@home.example"), sender="bob@home.example")
        (got,) = await place.delivered("anna")
        (report,) = await place.delivered("bob")
        assert b"no-one@home.example" in report
        assert report.count(b"Action: failed") == 2
        assert b"Final-Recipient: rfc822; neither@home.example\r\n" in report
        assert b"550 5.1.1 no such recipient here" in report
        assert got.endswith(b"\r\n\r\nhello\r\n")
        await place.empty()

    play(tmp_path, drop, main)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Subject: x\r\n\r\n" + b"y" * 990 + b"\r\n" + b"z" * 70_000 + b"\r\n", b"554 5.6.0"),
        (b"Received: x\r\n" * 60 + CONTENT, b"554 5.4.6"),
        (b"Subject: x\r\n\r\n" + (b"y" * 99 + b"\r\n") * 800, b"552 5.3.4"),
    ],
)
def test_a_message_that_no_door_takes_comes_back(tmp_path: Path, drop: Path, content: bytes, words: bytes) -> None:
    async def main(place: Place) -> None:
        place.leave(content, sender="bob@home.example")
        (report,) = await place.delivered("bob")
        assert words in report
        await place.empty()
        assert place.mailbox("anna") == []

    play(tmp_path, drop, main, ONLY_HOME + '[limits]\nmessage_size = "75KiB"\n')


def test_no_report_to_nobody(tmp_path: Path, drop: Path) -> None:
    async def main(place: Place) -> None:
        kept = place.leave(recipients=("no-one@home.example",), sender="")
        place.leave(recipients=("no-one@home.example",), notify=("NEVER",))
        place.leave(recipients=("no-one@home.example", "anna"), sender="")
        await place.empty()
        await place.delivered("anna")
        assert len(place.told(Accept)) == 1
        assert [event.rule for event in place.told(Refuse)].count("unknown_recipient") == 3
        assert [path.name for path in (drop / "damaged").iterdir()] == [kept]

    play(tmp_path, drop, main)


def test_damaged_files_are_put_aside_and_others_flow(tmp_path: Path, drop: Path) -> None:
    async def main(place: Place) -> None:
        broken = place.leave()
        with (drop / broken).open("r+b") as file:
            file.seek(-200, os.SEEK_END)
            file.write(b"#")
        odd = place.leave(recipients=("a b c",))
        nobody = place.leave(recipients=())
        (drop / "junk").write_bytes(b"junk")
        place.leave()
        await place.delivered("anna")
        await place.empty()
        assert {broken, odd, nobody} < {path.name for path in (drop / "damaged").iterdir()}
        assert {event.rule for event in place.told(Refuse)} == {"drop_damaged"}
        assert len(place.told(Accept)) == 1

    play(tmp_path, drop, main)


def test_what_cannot_be_taken_now_waits(tmp_path: Path, drop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("staffetta.app.pickup_watch.AGAIN_SECONDS", 0.2)
    monkeypatch.setattr("staffetta.app.pickup_watch.LOOK_SECONDS", 0.05)

    async def main(place: Place) -> None:
        place.relay.spool.failures = FAILURES_AT_ONCE + 2  # type: ignore[attr-defined]
        for _ in range(8):
            place.leave()
        await place.empty()
        assert len(await place.delivered("anna", 8)) == 8

    play(tmp_path, drop, main)


class Door:
    """Answers each command by its first words."""

    def __init__(self, **answers: Reply) -> None:
        self.answers = answers
        self.said: list[str] = []

    async def say(self, line: str) -> Reply:
        self.said.append(line)
        word = line.partition(":")[2].strip("<>").partition(">")[0].partition("@")[0]
        return self.answers.get(word, reply(250, "2.0.0", "ok"))

    async def write(self, octets: bytes) -> None:
        self.said.append(octets.decode())

    async def hear(self) -> Reply:
        return self.answers.get("content", reply(250, "2.0.0", "ok"))


@pytest.mark.parametrize(
    ("answers", "again", "refused", "brought"),
    [
        ({}, False, 0, True),
        ({"anna": reply(550, "5.1.1", "no")}, False, 1, True),
        ({"anna": reply(550, "5.1.1", "no"), "bob": reply(550, "5.1.1", "no")}, False, 2, False),
        ({"anna": reply(451, "4.3.0", "later")}, True, 0, False),
        ({"anna": reply(550, "5.1.1", "no"), "bob": reply(451, "4.3.0", "later")}, True, 0, False),
        ({"sender": reply(451, "4.3.0", "later")}, True, 0, False),
        ({"content": reply(452, "4.3.1", "full")}, True, 0, True),
    ],
)
def test_nothing_is_taken_in_part_that_may_be_taken_whole_later(
    answers: dict[str, Reply], again: bool, refused: int, brought: bool
) -> None:
    recipients = (parse_mailbox("anna@a.example"), parse_mailbox("bob@a.example"))
    letter = Letter("", "root", "", None, parse_mailbox("sender@a.example"), recipients)
    door = Door(**answers)
    result = asyncio.run(_say(door, letter, iter((b"content",))))  # type: ignore[arg-type]
    assert (result.again, len(result.refused)) == (again, refused)
    assert ("content" in door.said) is brought


def test_a_file_that_was_taken_before_a_crash_is_not_taken_again(tmp_path: Path, drop: Path) -> None:
    async def main(place: Place) -> None:
        await place.pickup.stop()
        again, new = place.leave(), place.leave(b"Subject: new\r\n\r\nnew\r\n")
        opened = Folder(drop)
        dropped = opened.open(again, 1 << 20)
        dropped.close()
        opened.close()
        place.taken.add(dropped.identity)
        await asyncio.sleep(0.05)
        place.pickup = Pickup(
            drop, lambda: place.relay.config, lambda: place.relay.parts.house, place.taken.__contains__
        )
        place.pickup.start()
        await place.empty()
        assert len(place.told(Accept)) == 1
        (got,) = await place.delivered("anna")
        assert got.endswith(b"new\r\n")
        assert new != again

    play(tmp_path, drop, main)


def test_the_journal_knows_what_was_taken(tmp_path: Path, drop: Path) -> None:
    """The question that a relay asks after a crash, put to a real store."""

    async def main() -> None:
        (tmp_path / "data").mkdir()
        store = tmp_path / "data" / STORE_NAME

        async def spool(_: object) -> SqliteSpool:
            return await SqliteSpool.open(store, time.time)

        async with Rehearsal(tmp_path, ONLY_HOME, {}, spool=spool) as relay:
            relay.account("anna@home.example")
            place = Place(relay, drop)
            place.leave()
            place.leave(recipients=("no-one@home.example",), notify=("NEVER",))
            await place.empty()
            await place.pickup.stop()
            await relay.parts.house.refusals.flush()
            (accept,), (refuse,) = place.told(Accept), place.told(Refuse)
            assert was_taken(store, accept.session)
            assert not was_taken(store, refuse.session)
            assert not was_taken(store, "0" * 26)

    asyncio.run(main())


def people(tmp_path: Path, toml: str, known: tuple[str, ...] = ("root", "bob")) -> People:
    file = tmp_path / "people.toml"
    file.write_text(toml.replace("{port}", "2525"))
    loaded = load(file, {}, now=0)
    assert not isinstance(loaded, Problems), loaded
    accounts = {parse_mailbox("anna@home.example"), parse_mailbox("bob@home.example")}
    config = loaded.config
    return People(config, build_directory(config, accounts.__contains__), known.__contains__)


@pytest.mark.parametrize(
    ("toml", "name", "goes"),
    [
        (OPEN, "anna", "anna@home.example"),
        (OPEN, "ops", "ops@home.example"),
        (OPEN, "root", "root@other.example"),  # where every local part exists
        (ONLY_HOME, "root", "postmaster"),
        (ONLY_HOME, "postmaster", "postmaster@home.example"),
        (HEAD, "postmaster", "postmaster@mx.home.example"),
        (ONLY_HOME, "typo", "typo@mx.home.example"),
        (ONLY_HOME, "anna@mx.home.example", "anna@home.example"),
        (ONLY_HOME, "anna@far.example", "anna@far.example"),
        (HEAD, "root", "root@mx.home.example"),
        (HEAD.replace("[console]", 'postmaster = "it@far.example"\n[console]'), "root", "postmaster"),
    ],
)
def test_where_mail_for_a_bare_name_goes(tmp_path: Path, toml: str, name: str, goes: str) -> None:
    assert str(people(tmp_path, toml).recipient(name)) == goes


@pytest.mark.parametrize(
    ("toml", "asked", "path"),
    [
        (ONLY_HOME, None, "bob@home.example"),
        (ONLY_HOME, "root", "postmaster@home.example"),
        (ONLY_HOME, "x@far.example", "x@far.example"),
        (HEAD, None, "bob@mx.home.example"),
        (HEAD.replace("[console]", 'postmaster = "it@far.example"\n[console]'), None, "it@far.example"),
    ],
)
def test_reports_find_the_sender(tmp_path: Path, toml: str, asked: str | None, path: str) -> None:
    assert str(people(tmp_path, toml).sender(asked, BOB)) == path


def test_the_null_path_stays(tmp_path: Path) -> None:
    assert people(tmp_path, HEAD).sender("", BOB) is NULL_PATH
    assert people(tmp_path, ONLY_HOME).recipient("root") is POSTMASTER


@pytest.mark.parametrize(
    ("toml", "user", "sender", "header", "rule"),
    [
        (ONLY_HOME, ROOT, "ceo@home.example", "ceo@home.example", ""),
        (ONLY_HOME, BOB, None, None, ""),
        (ONLY_HOME, BOB, "bob", "bob", ""),
        (ONLY_HOME, BOB, "bob@home.example", "Bob <bob@home.example>", ""),
        (ONLY_HOME, BOB, "", "bob", ""),
        (ONLY_HOME, BOB, "anna@home.example", None, "sender_not_owned"),
        (ONLY_HOME, BOB, "ceo@far.example", None, "sender_not_owned"),
        (ONLY_HOME, BOB, None, "anna@home.example", "header_not_owned"),
        (ONLY_HOME, BOB, "", "ceo@far.example", "header_not_owned"),
        (ONLY_HOME + LOOPBACK, BOB, "ceo@far.example", "anna@home.example", ""),
        (ONLY_HOME + LOOPBACK + 'from = ["home.example"]\n', BOB, "anna@home.example", "anna@home.example", ""),
        (ONLY_HOME + LOOPBACK + 'from = ["home.example"]\n', BOB, "x@far.example", None, "sender_not_at_this_door"),
        (ONLY_HOME + LOOPBACK + 'from = ["home.example"]\n', ROOT, "x@far.example", "x@far.example", ""),
        (ONLY_HOME + LOOPBACK + 'trust = ["10.0.0.0/8"]\n', BOB, "x@far.example", None, "sender_not_owned"),
        (ONLY_HOME + LOOPBACK + 'from_fixed = "all@home.example"\n', BOB, "x@far.example", "x@far.example", ""),
    ],
)
def test_who_may_send_as_whom(
    tmp_path: Path,
    drop: Path,
    monkeypatch: pytest.MonkeyPatch,
    toml: str,
    user: User,
    sender: str | None,
    header: str | None,
    rule: str,
) -> None:
    monkeypatch.setattr("staffetta.app.pickup_watch.user_of", lambda _: user)
    monkeypatch.setattr("staffetta.app.pickup_people.is_system_user", {"root", "bob"}.__contains__)

    async def main(place: Place) -> None:
        content = (f"From: {header}\r\n".encode() if header else b"") + CONTENT
        place.leave(content, sender=sender)
        await place.empty()
        refusals = [event.rule for event in place.told(Refuse)]
        assert refusals[:1] == ([rule] if rule else [])
        if rule:
            assert place.mailbox("anna") == []
            if sender == "":
                assert len(list((drop / "damaged").iterdir())) == 1
                return
            reported = await place.delivered("bob")
            assert b"Action: failed" in reported[0]
            return
        (got,) = await place.delivered("anna")
        if "from_fixed" in toml:
            assert got.startswith(b"Return-Path: <all@home.example>\r\n")
            assert b"\r\nFrom: <all@home.example>\r\n" in got
        elif header is None:
            assert b"\r\nFrom: =?UTF-8?B?Qm9iIMOE?= <bob@mx.home.example>\r\n" in got

    play(tmp_path, drop, main, toml)


@pytest.mark.parametrize(
    ("block", "name", "completed_to"),
    [
        (b"", "", b"From: bob@h.example\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\n"),
        (b"Date: x\r\n", "Bob Blum", b"From: Bob Blum <bob@h.example>\r\nDate: x\r\n"),
        (b"Date: x\r\n", 'B. "x\\', b'From: "B. \\"x\\\\" <bob@h.example>\r\nDate: x\r\n'),
        (b"Date: x\r\n", "B\r\nBcc: evil", b'From: "BBcc: evil" <bob@h.example>\r\nDate: x\r\n'),
        (b"From: x\r\nDate: x\r\n", "Bob", b"From: x@h.example\r\nDate: x\r\n"),
        (b"from : x@y.example\r\ndate: x\r\n", "Bob", b"from : x@y.example\r\ndate: x\r\n"),
    ],
)
def test_what_a_header_lacks(block: bytes, name: str, completed_to: bytes) -> None:
    assert completed(block, Writer(parse_mailbox("bob@h.example"), name, 0.0, "h.example")) == completed_to


def test_a_long_name_is_written_in_words_that_fit() -> None:
    result = completed(b"Date: x\r\n", Writer(parse_mailbox("bob@h.example"), "Ä" * 150, 0.0, "h.example"))
    lines = result.split(b"\r\n")[:-2]
    assert len(lines) > 3
    assert all(len(line) <= 100 for line in lines)
    assert all(line.count(b"=?UTF-8?B?") == 1 for line in lines)


@pytest.mark.parametrize(
    ("toml", "user", "author", "signed"),
    [
        (ONLY_HOME, ROOT, "ceo@home.example", True),
        (ONLY_HOME, BOB, "bob@home.example", True),
        (ONLY_HOME, BOB, "anna@home.example", False),
        (ONLY_HOME + LOOPBACK, BOB, "bob@home.example", False),
        (ONLY_HOME + LOOPBACK, BOB, "ceo@home.example", False),
        (ONLY_HOME + LOOPBACK, ROOT, "ceo@home.example", True),
        (ONLY_HOME + LOOPBACK + 'from = ["bob@home.example"]\n', BOB, "bob@home.example", True),
        (ONLY_HOME + LOOPBACK + 'from = ["bob@home.example"]\n', BOB, "ceo@home.example", False),
    ],
)
def test_nothing_is_signed_that_the_door_of_the_network_would_not_sign(
    tmp_path: Path, toml: str, user: User, author: str, signed: bool
) -> None:
    known = people(tmp_path, toml)
    identity = identity_facts(Header(f"From: {author}\r\n".encode()))
    assert (signing_domain(known.door(user), known.rights(user), identity) is not None) is signed
