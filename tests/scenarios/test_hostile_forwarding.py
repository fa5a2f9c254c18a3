"""The way back for bounces is no way out: through a rewritten sender nobody reaches whom he likes, in no spelling, and
what an alias sends on is neither signed by us nor believed more than it was.

RFC 5321 section 3.6; threats S5 and S12. The sink judges.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from staffetta.testing import clock as virtual
from staffetta.testing.house import House
from staffetta.testing.house_wire import HouseWire

HOST, STRANGER = "203.0.113.7", "203.0.113.99"
DOMAINS = {
    "plain": "",
    "catch-all": 'catch_all = "anna"\n',
    "any": 'recipients = "any"\n',
    "separator": 'separator = "="\n',
    "dash": 'separator = "-"\n',
}
CONFIG = """\
[listen.mx]
bind = ["192.0.2.25:25"]
role = "mx"
[listen.relay]
bind = ["192.0.2.25:1025"]
role = "relay"
trust = ["198.51.100.0/24"]
from = ["home.example"]
[domain."home.example"]
dkim = "auto"
{more}
[domain."home.example".aliases]
away = ["ben@far.example"]
[checks]
dmarc = "enforce"
"""
ZONES = {
    "near.example": {"TXT": [f"v=spf1 ip4:{HOST} -all"], "A": ["203.0.113.25"]},
    "far.example": {"A": ["203.0.113.25"]},
    "victim.example": {"A": ["203.0.113.25"]},
    "shop.example": {"TXT": ["v=spf1 -all"], "A": ["203.0.113.25"]},
    "_dmarc.shop.example": {"TXT": ["v=DMARC1; p=quarantine"]},
}
LETTER = b"From: <cara@near.example>\r\nSubject: hello\r\n\r\nHello.\r\n"
Play = Callable[[House], Awaitable[None]]


def run(folder: Path, play: Play, more: str = "") -> None:
    clock = virtual.VirtualClock()

    async def main() -> None:
        accounts = {"anna@home.example": "secret"}
        async with House(folder, CONFIG.replace("{more}", more), clock=clock, accounts=accounts, zones=ZONES) as house:
            house.resolver.everywhere = False
            await play(house)

    virtual.run(main, clock)


async def send(house: House, sender: str, to: str, content: bytes = LETTER, client: str = HOST) -> str:
    wire = HouseWire(house, "mx", client=client)
    await wire.begin("mail.near.example")
    replies = await wire.say(f"MAIL FROM:<{sender}> SMTPUTF8", f"RCPT TO:<{to}>", "DATA")
    if replies[-1][:3] == "354":
        replies = await wire.raw(content + b".\r\n")
    await house.settled()
    wire.cut()
    return next((reply for reply in replies if reply[:1] in "45"), replies[-1])


async def rewritten(house: House) -> str:
    """A rewritten sender of ours, as the next hop of forwarded mail sees it."""
    assert (await send(house, "cara@near.example", "away@home.example"))[:3] == "250"
    (forwarded,) = house.network.sink.messages
    house.network.sink.messages.clear()
    path = forwarded.mail.partition(b"<")[2].partition(b">")[0].decode()
    assert path.startswith("SRS0="), path
    return path


def forgeries(path: str) -> list[str]:
    """What somebody might try who has seen one."""
    local, _, domain = path.rpartition("@")
    _, tag, day, _, user = local.split("=")
    made = [
        f"SRS0={tag}={day}=victim.example={user}",
        f"SRS0={tag}={day}=near.example=dora",
        f"SRS0={tag}={day}=near.example={user}@victim.example",
        f"SRS0={tag}={day}=near.example={user}%victim.example",
        f"SRS0={tag}=zz=near.example={user}",
        f"SRS0={tag}={day}=near.example=={user}",
        f"SRS0={tag}={day}={day}=near.example={user}",
        f"SRS0=={tag}={day}=near.example={user}",
        f"SRS1={tag}=victim.example==x={day}=y={user}",
        f"SRS1={tag}=near.example={local[4:]}",
        f"SRS1={tag}=home.example={local[4:]}",
        f"SRS0={tag[:-1]}={day}=near.example={user}",
        f"SRS0=aaaaaaaa={day}=victim.example={user}",
        f"SRS0=\u017f\u017f\u017f\u017f\u017f\u017f\u017f\u017f={day}=victim.example={user}",
        f"\u017fRS0={tag}={day}=victim.example={user}",
        f"away={local}",
        f"victim+{local}",
    ]
    return [f"{one}@{domain}" if "@" not in one else f'"{one}"@{domain}' for one in made]


@pytest.mark.parametrize("kind", DOMAINS)
def test_nobody_makes_a_way_out_of_the_way_back(kind: str, tmp_path: Path) -> None:
    async def play(house: House) -> None:
        path = await rewritten(house)
        for forged in forgeries(path):
            for sender in ("", "mallory@near.example"):
                answer = await send(house, sender, forged)
                assert answer[:1] in "25", answer
        # An alias with a detail (its separator may be the mark of these addresses) still leads where it leads.
        assert {received.rcpts[0] for received in house.network.sink.messages} <= {b"TO:<ben@far.example>"}
        house.network.sink.messages.clear()
        assert (await send(house, "mallory@near.example", path))[:9] == "550 5.7.1"
        assert house.network.sink.messages == []
        for spelling in (path, path.lower(), path.upper()):
            assert (await send(house, "", spelling))[:3] == "250"
        assert {received.rcpts[0].lower() for received in house.network.sink.messages} == {b"to:<cara@near.example>"}
        assert {received.mail[:7] for received in house.network.sink.messages} == {b"FROM:<>"}
        house.network.sink.messages.clear()
        house.clock.advance(30 * 86_400)
        assert (await send(house, "", path))[:3] in {"550", "250"}
        assert house.network.sink.messages == []

    run(tmp_path, play, DOMAINS[kind])


def test_a_sender_that_looks_rewritten_leads_only_to_its_own_domain(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        for sender in (
            "SRS0=aaaa=bb=victim.example=u@near.example",
            "SRS1=aaaa=near.example==bbbb=cc=victim.example=u@near.example",
            "SRS1=aaaa=home.example==bbbb=cc=victim.example=u@near.example",
        ):
            house.network.sink.messages.clear()
            assert (await send(house, sender, "away@home.example"))[:3] == "250"
            (forwarded,) = house.network.sink.messages
            path = forwarded.mail.partition(b"<")[2].partition(b">")[0].decode()
            house.network.sink.messages.clear()
            await send(house, "", path)
            for received in house.network.sink.messages:
                assert received.rcpts[0].lower().startswith(b"to:<srs0="), received.rcpts
                assert received.rcpts[0].endswith(b"@near.example>"), received.rcpts

    run(tmp_path, play)


def test_what_an_alias_sends_on_is_not_signed_by_us(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        ours = LETTER.replace(b"cara@near", b"anna@home")
        for content in (LETTER, ours):
            assert (await send(house, "cara@near.example", "away@home.example", content))[:3] == "250"
        for received in house.network.sink.messages:
            assert b"DKIM-Signature" not in received.content
        assert len(house.network.sink.messages) == 2

    run(tmp_path, play)


def test_junk_that_an_alias_sends_on_says_that_it_is(tmp_path: Path) -> None:
    async def play(house: House) -> None:
        content = LETTER.replace(b"near", b"shop")
        assert (await send(house, "cara@near.example", "away@home.example", content))[:3] == "250"
        (received,) = house.network.sink.messages
        assert received.content.startswith(b"X-Spam-Flag: YES\r\nX-Junk-Reason: dmarc_quarantine; ")

    run(tmp_path, play)
