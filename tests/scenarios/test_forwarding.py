"""Mail that an alias sends outside goes on in the alias's name, and bounces come back through it.

RFC 7208 section 11.3; nobody else can use the way back.
"""

from __future__ import annotations

from typing import Any

import pytest

from staffetta.testing.rehearsal import LETTER, Refused, Rehearsal

HOME = '[domain."home.example"]\n[domain."home.example".aliases]\nall = ["ben", "cara@far.example"]\n'


def test_forwarded_mail_goes_in_our_name_and_its_bounce_returns(stage: Any, mx: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11")
        origin = await relay.sink("127.0.0.12")
        relay.account("ben@home.example")
        signed = b"DKIM-Signature: v=1; d=near.example\r\n" + LETTER
        await relay.submit("anna@near.example", ["all@home.example"], signed)
        await relay.settled()
        (forwarded,) = sink.messages
        assert forwarded.mail.startswith(b"FROM:<SRS0=")
        assert b"=near.example=anna@home.example>" in forwarded.mail
        assert forwarded.content.endswith(signed)
        path = forwarded.mail[6:].partition(b">")[0].decode()
        with pytest.raises(Refused, match=r"^550 5\.7\.1 this address takes only bounces"):
            await relay.submit("mallory@near.example", [path], LETTER)
        with pytest.raises(Refused, match=r"^550 5\.1\.1"):
            await relay.submit("", [path.replace("near", "victim")], LETTER)
        await relay.submit("", [path], LETTER)
        await relay.settled()
        (bounce,) = origin.messages
        assert bounce.mail.startswith(b"FROM:<>")
        assert bounce.rcpts == [b"TO:<anna@near.example>"]

    names = mx("10 127.0.0.11") | mx("10 127.0.0.12", domain="near.example")
    stage(play, names, HOME)


def test_our_own_senders_keep_their_name(stage: Any, mx: Any) -> None:
    async def play(relay: Rehearsal) -> None:
        sink = await relay.sink("127.0.0.11")
        relay.account("ben@home.example")
        await relay.submit("ben@home.example", ["all@home.example"])
        await relay.submit("", ["all@home.example"])
        await relay.submit("anna@near.example", ["cara@far.example"])
        await relay.settled()
        senders = sorted(one.mail.partition(b">")[0] for one in sink.messages)
        assert senders == [b"FROM:<", b"FROM:<anna@near.example", b"FROM:<ben@home.example"]

    stage(play, mx("10 127.0.0.11"), HOME)
