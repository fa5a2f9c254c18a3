"""What strangers write where mail is examined stays inside the field it was written in (threats S6).

Names, records, signatures and senders full of control characters, line ends of Unicode, quotes and comments: in the
results on top of the message, the reason for the junk folder, the trace field, replies and events. There is never a
header, a result, a line or a record too many. RFC 8601 section 2.2 says what a result looks like; a strict reader of it
stands here and knows nothing of ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from staffetta.dns.resolver import Answer, Lookup, RecordKind
from staffetta.observe.events import Accept, Junk, Refuse
from staffetta.observe.render import json_line, text_line
from staffetta.testing import clock as virtual
from staffetta.testing.house import House
from staffetta.testing.house_wire import HouseWire

CONTROLS = [chr(point) for point in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x202E, 0x200B, 0xFEFF, 0xDC80)]
SYNTAX = [
    '"',
    '\\"',
    "(",
    ")",
    ";",
    ";dmarc=pass",
    '"; dmarc=pass header.from=bank.example; x="',
    "\\",
    "=",
    "?",
    "%0d%0a",
]
BREAKS = ["\r\n", "\r\n ", "\r\nX-Injected: yes\r\n", "\n", "\r"]
EVIL = CONTROLS + SYNTAX + BREAKS
STRANGER = "203.0.113.99"
DOORS = """\
[listen.mx]
bind = ["192.0.2.25:25"]
role = "mx"
[domain."example.org"]
recipients = "any"
[checks]
spf = "{spf}"
dkim = "record"
dmarc = "enforce"
arc = "record"
[[checks.blocklist]]
zone = "bl.example"
codes = ["127.0.0.2"]
action = "junk"
"""
WORD = "[A-Za-z0-9-]+"
TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+"
QUOTED = r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
VALUE = rf"(?:{QUOTED}|[A-Za-z0-9!#$%&'*+.^_`{{|}}~-]*@?[A-Za-z0-9.-]+|{TOKEN})"
RESULT = rf"{WORD}={WORD}(?: reason={QUOTED})?(?: {WORD}\.{WORD}={VALUE})*"
REMARK = r"(?: \([ -'*-\[\]-~]*\))?"
FIELD = re.compile(rf"Authentication-Results: mx\.example\.org; ({RESULT}(?:; {RESULT})*){REMARK}")
OUTER = {b"Authentication-Results", b"Received", b"X-Spam-Flag", b"X-Junk-Reason"}
METHODS = {"dmarc", "spf", "dkim", "arc", "iprev"}


def messages(evil: str) -> Iterator[tuple[str, str]]:
    """Envelope sender and content, with the evil at every place of the content that we quote."""
    x = f"x{evil}y"
    author = "From: <ceo@shop.example>\r\n"
    good = {"d": "shop.example", "s": "s", "h": "from", "bh": "AAAA", "b": "AAAA", "a": "rsa-sha256", "v": "1"}
    for name, value in (
        *[(name, x) for name in good],
        ("d", f"{x}.example"),
        ("i", f"{x}@shop.example"),
        (x, "1"),
        ("c", x),
    ):
        tags = "; ".join([f"{tag}={text}" for tag, text in (good | {name: value}).items()])
        yield "x@list.example", f"DKIM-Signature: {tags}\r\n{author}"
    coded = "".join([f"={octet:02X}" for octet in evil.encode("utf-8", "surrogateescape")])
    tags = "; ".join([f"{tag}={text}" for tag, text in good.items()])
    yield "x@list.example", f"DKIM-Signature: {tags}; i=x{coded}y@shop.example\r\n{author}"
    for name in ("i", "d", "s", "cv", "a", "b"):
        seal = {"i": "1", "a": "rsa-sha256", "cv": "none", "d": "shop.example", "s": "s", "b": "AAAA"} | {name: x}
        tags = "; ".join([f"{tag}={text}" for tag, text in seal.items()])
        chain = f"ARC-Seal: {tags}\r\nARC-Message-Signature: i=1; {tags}\r\nARC-Authentication-Results: i=1; {x}\r\n"
        yield "x@list.example", chain + author
    for address in (f"{x}@shop.example", f'"{x}"@shop.example', f"ceo@{x}.shop.example", f"{x} <ceo@shop.example>"):
        yield "x@list.example", f"From: {address}\r\n"
    yield "x@list.example", f"Authentication-Results: mx.example.org; dmarc=pass reason={x}\r\n{author}"
    yield "x@list.example", f"Message-ID: <{x}>\r\nX-{x}: y\r\n{author}"
    yield f'"{x}"@shop.example', author
    yield f"x@{x}.shop.example", author


def run(folder: Path, spf: str, evil: list[str]) -> None:
    clock = virtual.VirtualClock()

    async def main() -> None:
        async with House(
            folder, DOORS.replace("{spf}", spf), clock=clock, core={"errors": 10**6, "commands": 10**6}
        ) as house:
            for one in evil:
                house.resolver.query = resolver(one)  # type: ignore[method-assign]
                for sender, content in messages(one):
                    await send(house, f"helo.{one if one.isprintable() else 'x'}.example", sender, content)
                await send(house, f"[{one}]", "x@list.example", "From: <ceo@shop.example>\r\n")
            await house.settled(600)
            judge(house)
            assert house.told(Refuse if spf == "enforce" else Accept)
            assert spf == "enforce" or house.told(Junk)

    virtual.run(main, clock)


def resolver(evil: str) -> Any:
    """Everything that it says has the evil in it. (Names never have, by the contract of resolvers; here they do.)"""
    octets = f"x{evil}y".encode("utf-8", "surrogateescape")

    async def query(name: str, kind: RecordKind) -> Lookup:
        if kind is RecordKind.PTR:
            return Answer((f"x{evil}y.example",), 60)
        if kind is not RecordKind.TXT:
            return Answer(("203.0.113.99" if kind is RecordKind.A and "bl.example" not in name else "127.0.0.2",), 60)
        if name.startswith("_dmarc."):
            return Answer((b"v=DMARC1; p=quarantine; rua=mailto:%b@a.example; x%b=y; fo=%b" % ((octets,) * 3),), 60)
        if "_domainkey" in name:
            return Answer((b"v=DKIM1; k=%b; p=%b" % (octets, octets), b"v=DKIM1; p="), 60)
        if name.startswith("exp."):
            return Answer((octets,), 60)
        terms = b"v=spf1 -exists:%b.example -all exp=exp.example" % octets
        return Answer((b"v=spf1 -all exp=exp.example" if "list" in name else terms,), 60)

    return query


async def send(house: House, helo: str, sender: str, content: str) -> None:
    wire = HouseWire(house, "mx", client=STRANGER)

    def octets(text: str) -> bytes:
        return text.encode("utf-8", "surrogateescape")

    await wire.say(octets(f"EHLO {helo}"))
    replies = await wire.say(octets(f"MAIL FROM:<{sender}> BODY=8BITMIME SMTPUTF8"), "RCPT TO:<u@example.org>", "DATA")
    if replies and replies[-1][:3] == "354":
        body = octets(content.replace("\r\n", "\n").replace("\n", "\r\n") + "\r\nhello\r\n.\r\n")
        replies += await wire.raw(body)
    for reply in replies:
        assert re.fullmatch(r"[2-5][0-9]{2}[ -][ -~]*", reply), reply
    wire.cut()


def judge(house: House) -> None:
    for event in house.events:
        line = json_line(event)
        assert line.count(b"\n") == 1
        record = json.loads(line)
        assert record["event"] != "X-Injected"
        for text in (line.decode(), text_line(event).decode()):
            assert text.count("\n") == 1
            assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e\ufeff]", text[:-1]), text
    for new in house.spool.accepted:
        judge_head(new.head)


def judge_head(head: bytes) -> None:
    end = head.index(b"\r\nReceived: ")
    end = head.index(b"+0000\r\n", end) + 7
    ours = head[:end]
    assert ours.isascii(), ours
    assert not re.search(rb"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]", ours), ours
    lines = ours.split(b"\r\n")
    assert all(b"\r" not in line and b"\n" not in line for line in lines)
    names = [line.partition(b":")[0] for line in lines if line[:1] not in {b" ", b"\t", b""}]
    assert set(names) <= OUTER, ours
    assert len(names) == len(set(names)), ours
    unfolded = re.sub(r"\r\n[ \t]+", " ", ours.decode())
    (field,) = [line for line in unfolded.split("\r\n") if line.startswith("Authentication-Results:")]
    match = FIELD.fullmatch(field)
    assert match is not None, field
    without_values = re.sub(QUOTED, '""', match[1])
    methods = [result.strip().partition("=")[0] for result in without_values.split(";")]
    assert set(methods) <= METHODS, field
    for method in METHODS - {"dkim", "spf"}:
        assert methods.count(method) <= 1, field
    assert "dmarc=pass" not in without_values, field


@pytest.mark.parametrize("spf", ["record", "enforce"])
@pytest.mark.parametrize("start", range(4))
def test_whatever_strangers_write_stays_where_it_was_written(spf: str, start: int, tmp_path: Path) -> None:
    run(tmp_path, spf, EVIL[start::4])
