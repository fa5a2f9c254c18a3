"""What a stranger writes stays inside the field it was written in (threats S6).

Every control character, the Unicode line ends and octets that are no UTF-8, in every field that a client or a server
can fill, seen at every place where fields come out: events as log lines of both kinds, the journal, trace fields,
outgoing commands, reports, files in a Maildir, and what the queue commands print. There is never a line, a header, a
command or a record too many, and never a control character.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from staffetta.cli.main import cli
from staffetta.observe.events import Event
from staffetta.observe.render import json_line, text_line
from staffetta.testing import clock as virtual
from staffetta.testing.daemon import Daemon
from staffetta.testing.house import House
from staffetta.testing.house_wire import HouseWire
from staffetta.testing.sink_script import Fault, Kind, Script, faults_of

CHARACTERS = [bytes([octet]) for octet in (*range(0x20), 0x7F)]
CHARACTERS += [chr(point).encode() for point in (*range(0x80, 0xA0), 0x2028, 0x2029, 0x202E, 0x200B, 0xFEFF)]
CHARACTERS += [b"\x80", b"\x85", b"\xff", b"\xc0\x8a", b"\xed\xa0\x80", b"\r\n", b"\r\n ", b"\r\nX-Injected: yes\r\n"]
TRUSTED = "198.51.100.9"
DOORS = """\
[listen.mx]
bind = ["192.0.2.25:25"]
role = "mx"
[listen.submission]
bind = ["192.0.2.25:465"]
role = "submission"
tls = "implicit"
[listen.relay]
bind = ["192.0.2.25:1025"]
role = "relay"
trust = ["198.51.100.0/24"]
[domain."example.org"]
[domain."any.example"]
recipients = "any"
"""
BODY = b"Subject: plain\r\n\r\nplain\r\n"
EVIL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e\u200b\ufeff]|X-Injected")
SHOWN = "\0-\x1f\x7f-\x9f\u2028\u2029\u202e"
"""What must not even stand in JSON where people see it. The journal is for our own reader only."""

VERBS = {b"EHLO", b"HELO", b"MAIL", b"RCPT", b"DATA", b"BDAT", b"QUIT", b"RSET"}

Play = Callable[[House], Awaitable[None]]


def run(folder: Path, play: Play, script: Script | None = None, domain: str = DOORS) -> None:
    clock = virtual.VirtualClock()

    async def main() -> None:
        accounts = {"anna@example.org": "secret"}
        core = {"errors": 10**6, "commands": 10**6}
        async with House(folder, domain, clock=clock, accounts=accounts, core=core, script=script) as house:
            await play(house)
            await house.settled(2000)
            await house.parts.house.refusals.flush()
            judge(house)

    virtual.run(main, clock)


# What comes out.


def judge(house: House) -> None:
    judge_events(house.events)
    for entry in house.spool.journal:
        for line in entry.lines.split(b"\n"):
            check_json(line)
    for session, _, command in house.network.sink.commands:
        assert command.endswith(b"\r\n"), (session, command)
        assert not EVIL.search(command[:-2].decode()), command
        assert b"\n" not in command[:-2]
        assert command[:4].upper() in VERBS, command
    for message in house.network.sink.messages:
        assert faults_of(message) == []
    for content, new in zip(house.spool.contents, house.spool.accepted, strict=True):
        check_trace(content, new.head)
    for notice in house.spool.notices:
        check_report(notice.head)
    for path in (house.folder / "data" / "mail").rglob("new/*"):
        check_file(path)


def judge_events(events: list[Event]) -> None:
    for event in events:
        line = json_line(event)
        assert line.endswith(b"\n")
        assert check_json(line[:-1], SHOWN)["event"]
        text = text_line(event)
        assert text.count(b"\n") == 1
        assert text.endswith(b"\n")
        assert not EVIL.search(text.decode()[:-1].replace("X-Injected", "")), text


def check_json(line: bytes, acted_on: str = "\0-\x1f") -> dict[str, Any]:
    """One record: valid JSON, and as text without anything that a terminal or a line reader would act on."""
    assert not re.search(f"[{acted_on}]", line.decode()), line
    record: dict[str, Any] = json.loads(line)
    return record


def fields_of(block: bytes) -> list[bytes]:
    """The names of header fields; folded lines belong to theirs."""
    lines = block.split(b"\r\n")
    assert all(b"\r" not in line and b"\n" not in line for line in lines), block
    return [line.partition(b":")[0] for line in lines if line[:1] not in {b" ", b"\t", b""}]


def check_trace(content: bytes, head: bytes) -> None:
    end = re.search(rb"\r\n(?![ \t])", head)
    assert end is not None
    trace = content[: end.end()]
    assert fields_of(trace) == [b"Received"], trace
    assert not EVIL.search(trace.decode().replace("\r\n", "")), trace


def check_report(content: bytes) -> None:
    head, _, body = content.partition(b"\r\n\r\n")
    known = {b"From", b"To", b"Subject", b"Date", b"Message-ID", b"Auto-Submitted", b"MIME-Version", b"Content-Type"}
    known |= {b"Received", b"In-Reply-To", b"References", b"Content-Transfer-Encoding"}
    names = fields_of(head)
    assert set(names) <= known, names
    assert len(names) == len(set(names))
    told = body.partition(b"message/rfc822")[0].partition(b"text/rfc822-headers")[0]
    told = told.partition(b"message/global")[0] if b"message/global-delivery" not in told else told
    for line in told.split(b"\r\n"):
        assert not line.startswith(b"X-Injected"), told
        assert not re.search("[\0-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202e]", line.decode()), line


def check_file(path: Path) -> None:
    assert path.is_file()
    content = path.read_bytes()
    assert b"\r" not in content.replace(b"\r\n", b"")
    top = content.replace(b"\r\n", b"\n").split(b"\n")[:3]
    names = [line.partition(b":")[0] for line in top]
    assert names in ([b"Return-Path", b"Delivered-To", name] for name in (b"Received", b"From")), top
    assert not EVIL.search(b"".join(top[:2]).decode())
    assert EVIL.search(str(path.relative_to(path.parents[5]))) is None, path


# What goes in.


def commands(evil: bytes) -> Iterator[list[bytes]]:
    """Commands with the character in every field, each list in one transaction."""
    a, hello = b"<a@ext.example>", b"EHLO client.example"
    to, smtputf8 = b"RCPT TO:<u@any.example>", b" SMTPUTF8"
    x = b"x" + evil + b"y"
    yield [b"EHLO " + x, b"MAIL FROM:" + a, to]
    yield [b"HELO " + x, b"MAIL FROM:" + a, to]
    yield [b"EHLO [" + x + b"]", b"MAIL FROM:" + a, to]
    yield [b"EHLO (" + x + b") by x ; \\", b"MAIL FROM:" + a, to]
    for path in (
        x + b"@ext.example",
        b'"' + x + b'"@ext.example',
        b'"\\' + evil + b'"@ext.example',
        b"a@" + x + b".example",
    ):
        for more in (b"", smtputf8):
            yield [hello, b"MAIL FROM:<" + path + b">" + more, to]
            yield [hello, b"MAIL FROM:" + a + more, b"RCPT TO:<" + path.replace(b"ext.example", b"any.example") + b">"]
            yield [hello, b"MAIL FROM:" + a + more, b"RCPT TO:<" + path + b">"]
    for name in (b"SIZE", b"BODY", b"ENVID", b"RET", b"AUTH", b"X" + evil):
        for more in (b"", smtputf8):
            yield [hello, b"MAIL FROM:" + a + b" " + name + b"=" + x + more, to]
    for name in (b"NOTIFY=", b"ORCPT=rfc822;", b"ORCPT=utf-8;", b"ORCPT=" + x + b";", b"X="):
        for more in (b"", smtputf8):
            yield [hello, b"MAIL FROM:" + a + more, to + b" " + name + x]
    coded = b"".join(b"+%02X" % octet for octet in evil)
    embedded = b"".join(b"\\x{%X}" % octet for octet in evil)
    yield [hello, b"MAIL FROM:" + a + b" ENVID=x" + coded + b"y", to + b" NOTIFY=SUCCESS"]
    yield [hello, b"MAIL FROM:" + a + b" AUTH=x" + coded + b"y", to]
    yield [hello, b"MAIL FROM:" + a, to + b" NOTIFY=SUCCESS ORCPT=rfc822;x" + coded + b"y@z"]
    yield [hello, b"MAIL FROM:" + a + smtputf8, to + b" NOTIFY=SUCCESS ORCPT=utf-8;x" + embedded + b"y@z"]
    yield [hello, b"MAIL FROM:" + a, to + b" ORCPT=x" + coded + b"y;z"]
    for verb in (b"VRFY ", b"EXPN ", b"NOOP ", b"HELP ", b"RSET ", b"QUIT ", b"BDA", b"WR", b"", b"STARTTLS "):
        yield [verb + x]


@pytest.mark.parametrize("door", ["mx", "relay"])
def test_commands(door: str, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = HouseWire(house, door, client=TRUSTED)
        for evil in CHARACTERS:
            for lines in commands(evil):
                if wire.ended:
                    wire = HouseWire(house, door, client=TRUSTED)
                await wire.say("EHLO fresh.example", *lines, "DATA")
                await wire.raw(BODY + b".\r\n")
                await wire.say("RSET")
        assert house.spool.accepted
        senders = {str(new.message.sender.reverse_path) for new in house.spool.accepted}
        assert not EVIL.search("".join(senders))
        for new in house.spool.accepted:
            for recipient in new.recipients:
                assert not EVIL.search(f"{recipient.address} {recipient.orcpt} {new.message.sender.envid}")

    run(tmp_path, play)


def test_user_names(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        number = 0
        for evil in CHARACTERS:
            for name in (
                b"anna" + evil + b"@example.org",
                evil + b"anna@example.org",
                b"anna@example.org" + evil,
                evil,
            ):
                number += 1
                wire = HouseWire(house, "submission", tls=True, client=f"198.18.{number // 250}.{number % 250}")
                await wire.begin()
                for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256"):
                    await attempt(wire, mechanism, name)
                wire.cut()
        assert all(event.event != "login" for event in map(_tagged, house.events))

    run(tmp_path, play)


def _tagged(event: Event) -> Any:
    return msgspec.json.decode(msgspec.json.encode(event), type=_Tag)


class _Tag(msgspec.Struct):
    event: str


async def attempt(wire: HouseWire, mechanism: str, name: bytes) -> None:
    if mechanism == "PLAIN":
        await wire.say(b"AUTH PLAIN " + base64.b64encode(b"\0" + name + b"\0wrong"))
    elif mechanism == "LOGIN":
        await wire.say("AUTH LOGIN")
        await wire.say(base64.b64encode(name))
        await wire.say(base64.b64encode(b"wrong"))
    else:
        first = b"n,,n=" + name.replace(b"=", b"=3D").replace(b",", b"=2C") + b",r=abcdefghijklmnopqrstuvwx"
        await wire.say(b"AUTH SCRAM-SHA-256 " + base64.b64encode(first))
        await wire.say("*")
    wire.heard = b""


HEADERS = [b"Subject", b"Message-ID", b"From", b"To", b"Received", b"Date", b"Delivered-To", b"Return-Path", b"X-Any"]


@pytest.mark.parametrize("door", ["mx", "relay", "submission"])
def test_headers(door: str, tmp_path: Path) -> None:
    """Header values, which end in the events (Message-ID), in reports and in files."""

    async def play(house: House) -> None:
        wire = HouseWire(house, door, client=TRUSTED, tls=door == "submission")
        await wire.begin()
        if door == "submission":
            await wire.login("anna@example.org", "secret")
        sender = "<x@ext.example>" if door != "submission" else "<anna@example.org>"
        outside = "<bad@ext.example>" if door != "mx" else "<u2@any.example>"
        for evil in CHARACTERS:
            for name in HEADERS:
                author = b"From: anna@example.org\r\n" if name != b"From" else b""
                field = name + b": <x" + evil + b"y@example.org>\r\n"
                await wire.mail(sender, ["<u@any.example>", outside], author + field + BODY)
                await wire.mail(sender, ["<u@any.example>"], author + name + evil + b": x\r\n" + BODY)

    run(tmp_path, play, Script(rcpt={b"bad@ext.example": b"550 5.1.1 no\r\n"}))


STAGES = ["greeting", "ehlo", "mail", "rcpt", "data", "dot"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("code", [b"550 5.1.1 ", b"451 4.7.1 ", b"250 2.0.0 "])
def test_what_servers_say(stage: str, code: bytes, tmp_path: Path) -> None:
    """OpenSMTPD CVE-2020-8794: the text of a reply travels into the queue, the log and the report."""
    evils = [evil for evil in CHARACTERS if b"\n" not in evil] + [b"\n", b"\r\nRCPT TO:<evil@ext.example>"]

    async def play(house: House) -> None:
        wire = HouseWire(house, "relay", client=TRUSTED)
        await wire.begin()
        for number, evil in enumerate(evils):
            words = [
                code + b"said x" + evil + b"y\r\n",
                code[:3] + b"-" + code[4:] + b"one" + evil + b"\r\n" + code + b"two\r\n",
            ]
            for place, octets in enumerate(words):
                house.network.sink.script.faults = (Fault(stage, Kind.REPLY, octets, times=1),)
                recipient = f"<u{number}-{place}@d{number}-{place}.example>"
                line = "MAIL FROM:<x@ext.example>"
                await wire.say(line, f"RCPT TO:{recipient} NOTIFY=SUCCESS,FAILURE,DELAY", "DATA")
                await wire.raw(BODY + b".\r\n")
                await house.settled(1)
        house.network.sink.script.faults = ()

    run(tmp_path, play, Script(extensions=("PIPELINING", "8BITMIME", "SMTPUTF8")))


def test_what_the_queue_commands_print(tmp_path: Path) -> None:
    """The same through the installed daemon: what is on disk afterwards is read by the commands, record by record."""

    async def main() -> None:
        text = '[listen.mx]\nbind = ["127.0.0.1:0"]\nrole = "mx"\n[domain."any.example"]\nrecipients = "any"\n'
        text += 'deliver = "smtp:127.0.0.1:1"\n'
        async with Daemon(tmp_path, text, {}) as daemon:
            for evil in CHARACTERS[::3]:
                async with daemon.wire("mx") as wire:
                    await wire.replies()
                    for lines in list(commands(evil))[::2]:
                        octets = b"".join([line + b"\r\n" for line in (*lines, b"DATA", BODY + b".", b"RSET")])
                        await wire.send(b"EHLO fresh\r\n" + octets)
                    await wire.send(b"QUIT\r\n")
                    while await wire.receive_until_quiet():
                        pass
            assert await daemon.stop() == 0
            assert daemon.complaints() == ""
            assert daemon.accepted() > 20
            for event in daemon.log():
                assert event["time"]
            for line in (tmp_path / "stdout").read_bytes().split(b"\n")[:-1]:
                check_json(line, SHOWN)
            read_with_commands(tmp_path / "staffetta.toml")

    asyncio.run(main())


def read_with_commands(config: Path) -> None:
    runner = CliRunner()
    listed = runner.invoke(cli, ["queue", "list", "--json", "-c", str(config)])
    rows = [check_json(line, SHOWN) for line in listed.stdout_bytes.split(b"\n")[:-1]]
    assert len(rows) > 20
    assert all(row["id"] and row["state"] in {"queued", "active", "deferred", "held"} for row in rows)
    table = runner.invoke(cli, ["queue", "list", "-c", str(config)])
    assert not EVIL.search(table.stdout.replace("\n", ""))
    for row in rows[:20]:
        for verb in (["trace"], ["queue", "show"]):
            shown = runner.invoke(cli, [*verb, row["id"], "--json", "-c", str(config)])
            assert shown.exit_code == 0
            assert [check_json(line, SHOWN) for line in shown.stdout_bytes.split(b"\n")[:-1]]
            text = runner.invoke(cli, [*verb, row["id"], "-c", str(config)])
            assert not EVIL.search(text.stdout.replace("\n", "")), text.stdout
