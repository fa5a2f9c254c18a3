"""Mail from outside is examined before it is taken, and every verdict can be read: in the reply, in the event, in the
message. RFC 7208, 6376, 9989, 8601; threats S7 and S8. Over the whole relay in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from staffetta.mailauth.dkim.record import Algorithm, write_record
from staffetta.mailauth.dkim.sign import Signer, SigningKey, new_body_hash
from staffetta.message.header import Header
from staffetta.observe.events import Accept, Junk, Refuse
from staffetta.testing import clock as virtual
from staffetta.testing.house import House
from staffetta.testing.house_wire import HouseWire

HOST = "203.0.113.7"
STRANGER = "203.0.113.99"
KEY = SigningKey("bank.example", "s1", Algorithm.ED25519_SHA256, Ed25519PrivateKey.generate())
ZONES = {
    "bank.example": {"TXT": [f"v=spf1 ip4:{HOST} -all"]},
    "_dmarc.bank.example": {"TXT": ["v=DMARC1; p=reject; rua=mailto:d@bank.example"]},
    "s1._domainkey.bank.example": {"TXT": [write_record(KEY.private.public_key())]},
    "shop.example": {"TXT": [f"v=spf1 ip4:{HOST} ~all"]},
    "_dmarc.shop.example": {"TXT": ["v=DMARC1; p=quarantine"]},
    "open.example": {"TXT": ["v=spf1 -all"]},
    "_dmarc.open.example": {"TXT": ["v=DMARC1; p=none"]},
    "list.example": {"TXT": [f"v=spf1 ip4:{STRANGER} -all"]},
    "mail.bank.example": {"A": [HOST]},
    "7.113.0.203.in-addr.arpa": {"PTR": ["mail.bank.example"]},
}
DOORS = """\
[listen.mx]
bind = ["192.0.2.25:25"]
role = "mx"
[domain."example.org"]
[domain."example.org".aliases]
all = ["anna"]
[checks]
"""
ACCOUNTS = {"anna@example.org": "secret"}
Play = Callable[[House], Awaitable[None]]


def run(folder: Path, play: Play, extra: str = "", zones: dict[str, Any] | None = None) -> None:
    clock = virtual.VirtualClock()

    async def main() -> None:
        known = {name: {} for name in ("example.net", "_dmarc.example.net")} | ZONES | (zones or {})
        async with House(folder, DOORS + extra, clock=clock, accounts=ACCOUNTS, zones=known) as house:
            house.resolver.everywhere = False
            await play(house)

    virtual.run(main, clock)


def letter(author: str, more: str = "") -> bytes:
    return f"From: {author}\r\n{more}Subject: hello\r\n\r\nSend money.\r\n".encode()


def signed(content: bytes) -> bytes:
    head, _, body = content.partition(b"\r\n\r\n")
    hasher = new_body_hash()
    hasher.feed(body)
    return Signer([KEY]).sign(Header(head + b"\r\n").fields, hasher.finish(), virtual.START) + content


async def send(house: House, content: bytes, sender: str, client: str = STRANGER) -> list[str]:
    wire = HouseWire(house, "mx", client=client)
    await wire.begin("mail.bank.example")
    codes = await wire.mail(f"<{sender}>", ["<anna@example.org>"], content)
    await house.settled()
    return codes


def inbox(house: House, folder: str = "new") -> list[bytes]:
    root = house.folder / "data/mail/example.org/anna" / folder
    return [file.read_bytes() for file in sorted(root.iterdir())] if root.is_dir() else []


REJECTED, JUNKED, TAKEN = "550", "junk", "250"

ROWS = [
    # who says to be the author, envelope sender, from where, what happens, by which rule
    ("ceo@bank.example", "x@bank.example", HOST, TAKEN, ""),
    ("ceo@bank.example", "x@bank.example", STRANGER, REJECTED, "dmarc_reject"),
    ("ceo@bank.example", "x@list.example", STRANGER, REJECTED, "dmarc_reject"),
    ("ceo@sub.bank.example", "x@list.example", STRANGER, REJECTED, "dmarc_reject"),
    ("ceo@shop.example", "x@list.example", STRANGER, JUNKED, "dmarc_quarantine"),
    ("ceo@open.example", "x@list.example", STRANGER, TAKEN, ""),
    ("ceo@nowhere.example", "x@list.example", STRANGER, TAKEN, ""),
    ("ceo@bank.example, x@list.example", "x@list.example", STRANGER, REJECTED, "dmarc_reject"),
    ("x@list.example\r\nFrom: ceo@bank.example", "x@list.example", STRANGER, REJECTED, "dmarc_reject"),
    ("x@list.example, y@nowhere.example", "x@list.example", STRANGER, JUNKED, "author_unclear"),
    ("ceo@bank.example", "", STRANGER, REJECTED, "dmarc_reject"),
]


@pytest.mark.parametrize(("author", "sender", "client", "expected", "rule"), ROWS)
def test_who_may_speak_for_whom(
    author: str, sender: str, client: str, expected: str, rule: str, tmp_path: Path
) -> None:
    async def play(house: House) -> None:
        codes = await send(house, letter(author), sender, client)
        assert codes[-1] == (REJECTED if expected is REJECTED else TAKEN)
        assert len(inbox(house)) == (expected is TAKEN)
        assert len(inbox(house, ".Junk/new")) == (expected is JUNKED)
        if expected is REJECTED:
            (refuse,) = house.told(Refuse)
            assert (refuse.rule, refuse.stage) == (rule, "data")
            assert "5.7.1" in refuse.reply
            assert refuse.checks["dmarc"] == "fail"
            assert house.spool.accepted == []
        elif expected is JUNKED:
            (junk,) = house.told(Junk)
            assert junk.rule == rule
            (content,) = inbox(house, ".Junk/new")
            assert b"X-Spam-Flag: YES\r\n" in content
            assert b"X-Junk-Reason: " + rule.encode() in content

    run(tmp_path, play)


def test_a_signature_proves_what_the_path_does_not(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        content = signed(letter("ceo@bank.example"))
        assert (await send(house, content, "x@list.example"))[-1] == "250"
        assert (await send(house, content.replace(b"money", b"mice"), "x@list.example"))[-1] == "550"
        (accept,) = house.told(Accept)
        assert accept.checks["dkim"] == "pass"
        assert accept.checks["dmarc"] == "pass"
        assert accept.dmarc.header_from == "bank.example"
        assert house.told(Refuse)[0].checks["dkim"] == "fail"

    run(tmp_path, play)


def test_results_stand_on_top_and_nobody_else_speaks_in_our_name(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        forged = "Authentication-Results: mx.example.org; dmarc=pass\r\n"
        other = "Authentication-Results: elsewhere.example; dmarc=pass\r\n"
        await send(house, letter("ceo@bank.example", forged + other), "x@bank.example", HOST)
        (content,) = inbox(house)
        text = content.decode()
        assert text.count("Authentication-Results: mx.example.org;") == 1
        assert text.index("Authentication-Results: mx.example.org") < text.index("Received: from mail.bank.example")
        assert other in text
        ours = text[text.index("Authentication-Results: mx.example.org") :].partition("\r\nReceived")[0]
        for words in (
            "dmarc=pass",
            "spf=pass",
            "smtp.mailfrom=x@bank.example",
            "header.from=bank.example",
            "iprev=pass",
        ):
            assert words in ours, ours
        assert "(mail.bank.example [203.0.113.7])" in text

    run(tmp_path, play)


def test_a_dns_that_fails_puts_off_and_refuses_nobody_for_good(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        house.resolver.failing.add("_dmarc.bank.example")
        assert (await send(house, letter("ceo@bank.example"), "x@list.example"))[-1] == "451"
        house.resolver.failing.clear()
        assert (await send(house, letter("ceo@bank.example"), "x@bank.example", HOST))[-1] == "250"

    run(tmp_path, play)


def test_recording_only_lets_everything_in(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        assert (await send(house, letter("ceo@bank.example"), "x@list.example"))[-1] == "250"
        (accept,) = house.told(Accept)
        assert accept.checks["dmarc"] == "fail"
        assert accept.dmarc.override == "local_policy"

    run(tmp_path, play, 'dmarc = "record"\n')


def test_known_forwarders_are_let_through(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        assert (await send(house, letter("ceo@bank.example"), "x@list.example"))[-1] == "250"
        (accept,) = house.told(Accept)
        assert accept.checks["decided_by"].startswith("known_forwarder: ")

    run(tmp_path, play, 'forwarders = ["list.example"]\n')


LISTS = """\
[[checks.blocklist]]
zone = "bl.example"
codes = ["127.0.0.2-127.0.0.9"]
action = "{action}"
"""
LISTED = {
    "99.113.0.203.bl.example": {"A": ["127.0.0.2"]},
    "2.0.0.127.bl.example": {"A": ["127.0.0.2"]},
}


@pytest.mark.parametrize(
    ("action", "code", "places"), [("reject", "554", ""), ("junk", "250", ".Junk/new"), ("record", "250", "new")]
)
def test_lists_do_what_they_were_named_for(action: str, code: str, places: str, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        assert (await send(house, letter("x@list.example"), "x@list.example"))[-1] == code
        assert not places or len(inbox(house, places)) == 1
        event = (house.told(Refuse) or house.told(Accept))[0]
        assert event.checks["blocklist"] == "bl.example"

    run(tmp_path, play, LISTS.replace("{action}", action), LISTED)


def test_a_list_that_lists_everything_lists_nobody(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        assert (await send(house, letter("x@list.example"), "x@list.example"))[-1] == "250"
        (alarm,) = house.parts.alarms.active()
        assert "bl.example" in alarm.text

    zones = LISTED | {"1.0.0.127.bl.example": {"A": ["127.0.0.2"]}}
    run(tmp_path, play, LISTS.replace("{action}", "reject"), zones)


def test_questions_about_one_message_are_counted(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        house.resolver.asked.clear()
        many = "".join(
            f"DKIM-Signature: v=1; a=rsa-sha256; d=d{n}.example; s=s; h=from; bh=x; b=x\r\n" for n in range(50)
        )
        await send(house, letter("ceo@a.b.c.d.e.f.g.h.i.j.k.example", many), "x@deep.example")
        assert len(house.resolver.asked) <= 40

    chain = {f"r{n}.example": {"TXT": [f"v=spf1 include:r{n + 1}.example mx a ptr -all"]} for n in range(60)}
    run(tmp_path, play, "", {"deep.example": {"TXT": ["v=spf1 include:r0.example -all"]}} | chain)


def test_a_client_that_leaves_meanwhile_breaks_nothing(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = HouseWire(house, "mx", client=HOST)
        await wire.begin("mail.bank.example")
        await wire.say("MAIL FROM:<x@bank.example>", "RCPT TO:<anna@example.org>", "DATA")
        house.resolver.gate = asyncio.Event()
        await wire.send(letter("ceo@bank.example") + b".\r\n")
        await house.quiet()
        wire.cut()
        await house.quiet()
        house.resolver.gate.set()
        await house.settled()
        assert len(inbox(house)) == 1

    run(tmp_path, play)
