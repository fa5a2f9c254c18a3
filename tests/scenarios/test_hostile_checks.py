"""What goes wrong while mail from outside is examined: a DNS that fails at any step, a bug of ours in any of them, and
mail among the junk that cannot be delivered. Nothing is taken unexamined, and nobody hears of what they did not send.

RFC 9989 section 4.10.1, RFC 7208 section 2.6.6, RFC 6376 section 6.1.2; threats S8 and S12.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from staffetta.dns.resolver import Lookup, RecordKind
from staffetta.mailauth.dkim.record import Algorithm, write_record
from staffetta.mailauth.dkim.sign import Signer, SigningKey, new_body_hash
from staffetta.message.header import Header
from staffetta.observe.events import Accept, Bounce, Refuse
from staffetta.spool.contract import CHUNK_OCTETS, Draft
from staffetta.testing import clock as virtual
from staffetta.testing.house import House
from staffetta.testing.house_wire import HouseWire
from staffetta.testing.sink_script import Script

HOST = "203.0.113.7"
STRANGER = "203.0.113.99"
KEY = SigningKey("bank.example", "s1", Algorithm.ED25519_SHA256, Ed25519PrivateKey.generate())
ZONES: dict[str, Any] = {
    "bank.example": {"TXT": [f"v=spf1 ip4:{HOST} -all"]},
    "_dmarc.bank.example": {"TXT": ["v=DMARC1; p=reject"]},
    "s1._domainkey.bank.example": {"TXT": [write_record(KEY.private.public_key())]},
    "shop.example": {"TXT": ["v=spf1 -all"]},
    "_dmarc.shop.example": {"TXT": ["v=DMARC1; p=quarantine"]},
    "list.example": {"TXT": [f"v=spf1 ip4:{STRANGER} -all"]},
    "mail.bank.example": {"A": [HOST]},
    "7.113.0.203.in-addr.arpa": {"PTR": ["mail.bank.example"]},
    "2.0.0.127.bl.example": {"A": ["127.0.0.2"]},
    "test.dbl.example": {"A": ["127.0.0.2"]},
}
CONFIG = """\
[listen.mx]
bind = ["192.0.2.25:25"]
role = "mx"
[domain."example.org"]
[domain."example.org".aliases]
away = ["ben@far.example"]
[checks]
spf = "{spf}"
dkim = "{dkim}"
dmarc = "enforce"
arc = "record"
[[checks.blocklist]]
zone = "bl.example"
codes = ["127.0.0.2"]
action = "reject"
[[checks.domain_blocklist]]
zone = "dbl.example"
codes = ["127.0.0.2"]
action = "reject"
"""
Play = Callable[[House], Awaitable[None]]


def run(folder: Path, play: Play, *, mode: str = "record", script: Script | None = None) -> None:
    clock = virtual.VirtualClock()
    config = CONFIG.replace("{spf}", mode).replace("{dkim}", mode)

    async def main() -> None:
        zones = {"far.example": {"A": ["203.0.113.25"]}} | ZONES
        async with House(
            folder, config, clock=clock, accounts={"anna@example.org": "secret"}, zones=zones, script=script
        ) as house:
            house.resolver.everywhere = False
            await play(house)

    virtual.run(main, clock)


def letter(author: str, body: bytes = b"Send money.\r\n") -> bytes:
    return f"From: {author}\r\nSubject: hello\r\n\r\n".encode() + body


def signed(content: bytes) -> bytes:
    head, _, body = content.partition(b"\r\n\r\n")
    hasher = new_body_hash()
    hasher.feed(body)
    return Signer([KEY]).sign(Header(head + b"\r\n").fields, hasher.finish(), virtual.START) + content


async def send(
    house: House, content: bytes, sender: str, client: str = STRANGER, to: str = "anna@example.org"
) -> list[str]:
    wire = HouseWire(house, "mx", client=client)
    await wire.begin("mail.bank.example")
    codes = await wire.mail(f"<{sender}>", [f"<{to}>"], content)
    await house.settled()
    wire.cut()
    return codes


class Raising:
    """A resolver with a bug: it raises for one name, and asks another resolver for the rest."""

    def __init__(self, inner: Any, name: str) -> None:
        self.inner = inner
        self.name = name
        self.raised = 0

    async def query(self, name: str, kind: RecordKind) -> Lookup:
        if name == self.name:
            self.raised += 1
            raise KeyError("a bug")
        found: Lookup = await self.inner.query(name, kind)
        return found

    def cached(self, name: str, kind: RecordKind) -> Lookup | None:
        return None


def with_bug(house: House, name: str) -> Raising:
    room = house.parts.house.examining
    assert room is not None
    raising = Raising(house.resolver, name)
    house.parts.house.examining = msgspec.structs.replace(room, resolver=raising)
    return raising


STEPS = [
    "bank.example",
    "mail.bank.example",
    "s1._domainkey.bank.example",
    "_dmarc.bank.example",
    "7.113.0.203.in-addr.arpa",
    "7.113.0.203.bl.example",
    "bank.example.dbl.example",
]


@pytest.mark.parametrize("step", STEPS)
def test_a_bug_of_ours_in_any_step_puts_mail_off_and_takes_nothing(step: str, tmp_path: Path) -> None:
    dropped: list[int] = []

    async def play(house: House) -> None:
        raising = with_bug(house, step)
        discard = house.spool.discard

        async def discarding(draft: Draft) -> None:
            dropped.append(draft.number or 0)
            await discard(draft)

        house.spool.discard = discarding  # type: ignore[method-assign]
        store = house.spool.write

        async def numbered(draft: Draft, data: bytes) -> None:
            await store(draft, data)
            draft.number = 7

        house.spool.write = numbered  # type: ignore[method-assign]
        large = signed(letter("ceo@bank.example", b"x" * 70 + b"\r\n") + (b"y" * 70 + b"\r\n") * (CHUNK_OCTETS // 60))
        codes = await send(house, large, "x@bank.example", HOST)
        assert raising.raised
        assert codes[-1] == "451"
        assert house.spool.accepted == []
        assert dropped == [7]
        (refuse,) = house.told(Refuse)
        assert (refuse.rule, refuse.stage, refuse.reply[:3]) == ("internal_error", "data", "451")
        assert len(house.wrong) == 1  # reported
        house.wrong.clear()
        raising.name = ""
        assert (await send(house, letter("ceo@bank.example"), "x@bank.example", HOST))[-1] == "250"

    run(tmp_path, play)


ROWS = [
    # what fails, mode of SPF and DKIM, the author's mail: forged, by path, by signature
    ("", "record", "550", "250", "250"),
    ("_dmarc.bank.example", "record", "451", "250", "250"),
    ("bank.example", "record", "451", "451", "250"),
    ("s1._domainkey.bank.example", "record", "550", "250", "451"),
    ("7.113.0.203.in-addr.arpa", "record", "550", "250", "250"),
    ("mail.bank.example", "record", "550", "250", "250"),
    ("99.113.0.203.bl.example", "record", "550", "250", "250"),
    ("list.example.dbl.example", "record", "550", "250", "250"),
    ("", "enforce", "550", "550", "250"),
    ("list.example", "enforce", "550", "550", "451"),
    ("s1._domainkey.bank.example", "enforce", "550", "550", "451"),
]
"""`enforce`: mail without any signature is refused for that (dkim_none), whatever its path."""


@pytest.mark.parametrize(("failing", "mode", "forged", "by_path", "by_signature"), ROWS)
def test_what_a_failing_dns_comes_to(
    failing: str, mode: str, forged: str, by_path: str, by_signature: str, tmp_path: Path
) -> None:
    async def play(house: House) -> None:
        house.resolver.failing.add(failing)
        plain = letter("ceo@bank.example")
        sender = "x@bank.example" if failing == "bank.example" else "x@list.example"
        assert (await send(house, plain, sender))[-1] == forged
        assert (await send(house, plain, "x@bank.example", HOST))[-1] == by_path
        assert (await send(house, signed(plain), "x@list.example"))[-1] == by_signature
        taken = [by_path, by_signature].count("250")
        assert len(house.told(Accept)) == taken
        assert all(event.reply[:3] in {"451", "550"} for event in house.told(Refuse))

    run(tmp_path, play, mode=mode)


@pytest.mark.parametrize(
    ("author", "sender", "notices"),
    [("ceo@shop.example", "victim@shop.example", 0), ("x@list.example", "x@list.example", 1)],
)
def test_nobody_hears_of_junk_that_could_not_be_forwarded(
    author: str, sender: str, notices: int, tmp_path: Path
) -> None:
    async def play(house: House) -> None:
        codes = await send(house, letter(author), sender, to="away@example.org")
        assert codes[-1] == "250"
        await house.settled(60)
        assert [event.recipient for event in house.told(Bounce)][:1] == ["ben@far.example"]
        assert house.network.sink.messages == []
        assert len(house.spool.notices) == notices

    run(tmp_path, play, script=Script(rcpt={b"ben@far.example": b"550 5.7.1 no junk here\r\n"}))


def test_whoever_is_refused_by_policy_gets_no_notice(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        assert (await send(house, letter("ceo@bank.example"), "victim@list.example"))[-1] == "550"
        await house.settled(3600)
        assert house.spool.notices == []
        assert house.network.sink.messages == []

    run(tmp_path, play)
