"""Two tenants of one relay: a login of the one never speaks in the name of the other, in no disguise.

RFC 6409 section 6.1; threats S4 and S7; what happened to shared relays: the attacks through providers in 2022 to 2024.
The sink judges: whatever leaves must not show b.example as its author to any reader, however generous, and nothing is
signed for b.example by a login of a.example.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from staffetta.observe.events import Accept, Refuse
from staffetta.testing import clock as virtual
from staffetta.testing.house import House
from staffetta.testing.house_wire import HouseWire

DOORS = """\
[listen.submission]
bind = ["192.0.2.25:465"]
role = "submission"
tls = "implicit"
[listen.relay]
bind = ["192.0.2.25:1025"]
role = "relay"
[listen.mx]
bind = ["192.0.2.25:25"]
role = "mx"
auth = true
[domain."a.example"]
dkim = "auto"
aliases = { team = ["anna", "ben@b.example"] }
[domain."b.example"]
dkim = "auto"
aliases = { sales = ["ben"], shared = ["anna@a.example", "ben"] }
"""
ACCOUNTS = {"anna@a.example": "secret", "ben@b.example": "secret"}
Play = Callable[[House], Awaitable[None]]


def run(folder: Path, play: Play) -> None:
    clock = virtual.VirtualClock()

    async def main() -> None:
        async with House(folder, DOORS, clock=clock, accounts=ACCOUNTS, core={"normalise": False}) as house:
            await play(house)

    virtual.run(main, clock)


async def logged_in(house: House, door: str) -> HouseWire:
    wire = HouseWire(house, door, tls=door == "submission")
    await wire.begin()
    if door != "submission":
        assert (await wire.say("STARTTLS"))[-1][:3] == "220"
        await wire.start_tls()
        await wire.begin()
    assert (await wire.login("anna@a.example", "secret"))[0][:3] == "235"
    return wire


A, B = b"anna@a.example", b"ben@b.example"
DISGUISES: dict[str, tuple[bytes, bytes]] = {
    # name: envelope sender, header (its From belongs to the other tenant in somebody's eyes)
    "envelope and From": (B, b"From: " + B + b"\r\n"),
    "envelope only": (B, b"From: " + A + b"\r\n"),
    "From only": (A, b"From: " + B + b"\r\n"),
    "null sender": (b"", b"From: " + B + b"\r\n"),
    "second From": (A, b"From: " + A + b"\r\nFrom: " + B + b"\r\n"),
    "second From on top": (A, b"From: " + B + b"\r\nFrom: " + A + b"\r\n"),
    "From in capitals": (A, b"From: " + A + b"\r\nFROM: " + B + b"\r\n"),
    "From with a space": (A, b"From: " + A + b"\r\nFrom : " + B + b"\r\n"),
    "From with a tab": (A, b"From: " + A + b"\r\nFrom\t: " + B + b"\r\n"),
    "From after a space": (A, b"Subject: x\r\n From: " + B + b"\r\nFrom: " + A + b"\r\n"),
    "From with its colon below": (A, b"From: " + A + b"\r\nFrom\r\n : " + B + b"\r\n"),
    "From with a control character": (A, b"From: " + A + b"\r\nFrom\x01: " + B + b"\r\n"),
    "From behind a byte order mark": (A, b"\xef\xbb\xbfFrom: " + B + b"\r\nFrom: " + A + b"\r\n"),
    "From with a soft hyphen": (A, b"From: " + A + b"\r\nFr\xc2\xadom: " + B + b"\r\n"),
    "only a disguised From": (A, b"From : " + B + b"\r\n"),
    "two addresses": (A, b"From: " + A + b", " + B + b"\r\n"),
    "two addresses, folded": (A, b"From: " + A + b",\r\n " + B + b"\r\n"),
    "two addresses, without comma": (A, b"From: " + A + b" " + B + b"\r\n"),
    "two addresses, semicolon": (A, b"From: " + A + b"; " + B + b"\r\n"),
    "group": (A, b"From: friends: " + B + b";\r\n"),
    "group with both": (A, b"From: friends: " + A + b", " + B + b";\r\n"),
    "empty group before": (A, b"From: " + B + b":;, " + A + b"\r\n"),
    "address as a name": (A, b"From: " + B + b" <" + A + b">\r\n"),
    "two brackets": (A, b"From: <" + B + b"> <" + A + b">\r\n"),
    "bracket in bracket": (A, b"From: <" + B + b"<" + A + b">>\r\n"),
    "text behind the bracket": (A, b"From: <" + A + b"> " + B + b"\r\n"),
    "comment": (A, b"From: (" + B + b") " + A + b"\r\n"),
    "comment in the address": (A, b"From: ben@b.example(@a.example)\r\n"),
    "comment that does not end": (A, b"From: " + A + b" (" + B + b"\r\n"),
    "quoted with a bracket": (A, b'From: "x <ben@b.example>" <' + A + b">\r\n"),
    "quoted pair": (A, b'From: "ben@b.example\\" <" <' + A + b">\r\n"),
    "route": (A, b"From: <@b.example:" + A + b">\r\n"),
    "route of the other": (A, b"From: <@a.example:" + B + b">\r\n"),
    "encoded address": (A, b"From: =?utf-8?q?ben=40b.example?=\r\n"),
    "encoded before": (A, b"From: =?utf-8?b?YmVuQGIuZXhhbXBsZQ==?=, " + A + b"\r\n"),
    "encoded in the bracket": (A, b"From: x <=?utf-8?q?ben=40b.example?=>\r\n"),
    "encoded local part": (A, b"From: <=?utf-8?q?ben=40b.example=3E?=@a.example>\r\n"),
    "quoted local part": (A, b'From: "ben@b.example"@a.example\r\n'),
    "percent": (A, b"From: ben%b.example@a.example\r\n"),
    "no From": (A, b"Subject: x\r\n"),
    "empty From": (A, b"From: \r\n"),
    "From only as Sender": (A, b"Sender: " + A + b"\r\n"),
    "not UTF-8": (A, b"From: \xff <" + A + b">, " + B + b"\r\n"),
    "wide at": (A, "From: ben\uff20b.example <anna@a.example>, x\uff20b.example\r\n".encode()),
    "Sender": (A, b"From: " + A + b"\r\nSender: " + B + b"\r\n"),
    "Sender twice": (A, b"From: " + A + b"\r\nSender: " + A + b"\r\nSender: " + B + b"\r\n"),
    "Sender with a space": (A, b"From: " + A + b"\r\nSender : " + B + b"\r\n"),
    "Resent-From": (A, b"Resent-From: " + B + b"\r\nFrom: " + A + b"\r\n"),
    "Resent-Sender": (A, b"Resent-Sender: " + B + b"\r\nResent-From: " + A + b"\r\nFrom: " + A + b"\r\n"),
    "a line of white space": (A, b"From: " + A + b"\r\n \r\nFrom: " + B + b"\r\n"),
    "no field before": (A, b"no field\r\nFrom: " + B + b"\r\nFrom: " + A + b"\r\n"),
    "the header begins with a space": (A, b" " + B + b"\r\nFrom: " + A + b"\r\n"),
    "alias of the other": (b"sales@b.example", b"From: sales@b.example\r\n"),
    "subdomain": (A, b"From: anna@x.a.example\r\n"),
    "domain that ends alike": (A, b"From: anna@bada.example\r\n"),
    "Kelvin sign": (A, "From: anna@\u212a.example\r\n".encode()),
    "detail of the other": (b"ben+anna@b.example", b"From: ben+anna@b.example\r\n"),
    "detail with an at": (A, b'From: "anna+@b.example"@a.example, ben+x@b.example\r\n'),
    "name": (A, b'From: "ben@b.example" <' + A + b">\r\n"),
    "name in a quoted pair": (A, b'From: "ben\\@b.example" <' + A + b">\r\n"),
    "name with words around": (A, b'From: "The *ben@b.example* team/B" <' + A + b">\r\n"),
    "encoded name": (A, b"From: =?utf-8?q?ben=40b.example?= <" + A + b">\r\n"),
    "encoded name in pieces": (A, b"From: =?utf-8?q?ben=40b?=\r\n =?utf-8?q?.example?= <" + A + b">\r\n"),
    "name in UTF-7": (A, b"From: =?utf-7?q?ben+AEA-b.example?= <" + A + b">\r\n"),
    "name with a wide at": (A, "From: ben\uff20b.example <anna@a.example>\r\n".encode()),
    "name with an invisible letter": (A, 'From: "ben@b.exam\u200bple" <anna@a.example>\r\n'.encode()),
    "name behind many": (A, b'From: "' + b"x@y.example " * 30 + b'ben@b.example" <' + A + b">\r\n"),
    "name behind many words": (
        A,
        b"From:" + b" =?utf-8?q?x?=\r\n" * 201 + b" =?utf-8?q?ben=40b.example?= <" + A + b">\r\n",
    ),
    "other in the same domain": (A, b"From: berta@a.example\r\n"),
}


RULES = {"sender_not_owned", "header_not_owned", "header_unclear", "header_begins_with_space"}


@pytest.mark.parametrize("door", ["submission", "relay"])
@pytest.mark.parametrize("disguise", DISGUISES)
def test_no_disguise_lends_the_name_of_another_tenant(disguise: str, door: str, tmp_path: Path) -> None:
    sender, header = DISGUISES[disguise]

    async def play(house: House) -> None:
        wire = await logged_in(house, door)
        replies = await wire.say(b"MAIL FROM:<" + sender + b"> BODY=8BITMIME", "RCPT TO:<far@ext.example>", "DATA")
        if replies[-1][:3] == "354":
            replies = await wire.raw(header + b"To: far@ext.example\r\n\r\nhello\r\n.\r\n")
        assert replies[-1][:1] == "5", replies
        await house.settled()
        assert house.network.sink.messages == []
        assert house.told(Accept) == []
        refusals = house.told(Refuse)
        assert refusals[0].login == "anna@a.example"
        assert refusals[0].rule in RULES, refusals[0]

    run(tmp_path, play)


ALLOWED = {
    "her own": (A, b"From: Anna <" + A + b">\r\n"),
    "her detail": (A, b"From: anna+news@a.example\r\n"),
    "her alias": (b"team@a.example", b"From: team@a.example\r\n"),
    "a shared alias": (b"shared@b.example", b"From: shared@b.example\r\n"),
    "null sender": (b"", b"From: " + A + b"\r\n"),
    "Reply-To": (A, b"From: " + A + b"\r\nReply-To: " + B + b"\r\n"),
    "her Sender and Resent": (A, b"Resent-From: " + A + b"\r\nFrom: " + A + b"\r\nSender: " + A + b"\r\n"),
    "capitals": (A, b"From: ANNA@A.EXAMPLE\r\n"),
    "a name that is her address": (A, b'From: "anna@a.example" <' + A + b">\r\n"),
    "a name that is a foreign address": (A, b'From: "ceo@far.example" <' + A + b">\r\n"),
    "the other in the text": (A, b"From: " + A + b"\r\nTo: " + B + b"\r\nSubject: From: ben@b.example\r\n"),
}


@pytest.mark.parametrize("allowed", ALLOWED)
def test_her_own_names_leave_under_her_own_signature(allowed: str, tmp_path: Path) -> None:
    sender, header = ALLOWED[allowed]
    signed_as = b"b.example" if allowed == "a shared alias" else b"a.example"

    async def play(house: House) -> None:
        wire = await logged_in(house, "submission")
        codes = await wire.mail(f"<{sender.decode()}>", ["<far@ext.example>"], header + b"\r\nhello\r\n")
        for _ in range(1000):
            if house.network.sink.messages:
                break
            await asyncio.sleep(0.01)
        (received,) = house.network.sink.messages
        domains = re.findall(rb"\r\n\td=([^;]+);", received.content)
        assert domains == [signed_as, signed_as], codes

    run(tmp_path, play)


def test_a_login_at_the_mx_door_gets_no_signature_and_no_other_name(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        wire = await logged_in(house, "mx")
        to = ["<ben@b.example>"]
        assert (await wire.mail(f"<{B.decode()}>", to, b"From: " + A + b"\r\n\r\nx\r\n"))[0] == "553"
        assert (await wire.mail(f"<{A.decode()}>", to, b"From: " + B + b"\r\n\r\nx\r\n"))[-1] == "550"
        assert (await wire.mail(f"<{A.decode()}>", to, b"From: " + A + b"\r\n\r\nx\r\n"))[-1] == "250"
        await house.settled()
        (content,) = house.spool.contents
        assert b"DKIM-Signature" not in content

    run(tmp_path, play)


FIXED = """\
[listen.scanner]
bind = ["192.0.2.25:1026"]
role = "relay"
trust = ["198.51.100.0/24"]
from_fixed = "scan@a.example"
[domain."a.example"]
dkim = "auto"
"""


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (b"From: " + B + b"\r\n", "250"),
        (b"From: " + B + b"\r\nFrom: " + A + b"\r\n", "250"),
        (b"From : " + B + b"\r\n", "250"),
        (b"From\r\n : " + B + b"\r\n", "250"),
        (b"Subject: x\r\n", "250"),
        (b"\t, " + B + b"\r\nDate: x\r\nMessage-ID: <x@y>\r\n", "554"),
        (b" <" + B + b">\r\n", "554"),
    ],
)
def test_what_a_door_rewrites_is_all_there_is(header: bytes, code: str, tmp_path: Path) -> None:
    clock = virtual.VirtualClock()

    async def main() -> None:
        async with House(tmp_path, FIXED, clock=clock) as house:
            wire = HouseWire(house, "scanner", client="198.51.100.7")
            await wire.begin()
            assert (await wire.mail("<x@b.example>", ["<far@ext.example>"], header + b"\r\nhello\r\n"))[-1] == code
            for _ in range(1000 if code == "250" else 10):
                if house.network.sink.messages:
                    break
                await asyncio.sleep(0.01)
            for received in house.network.sink.messages:
                head = received.content.partition(b"\r\n\r\n")[0]
                assert b"b.example" not in head, head
                assert head.count(b"\r\nFrom: <scan@a.example>\r\n") == 1
            assert len(house.network.sink.messages) == (code == "250")

    virtual.run(main, clock)
