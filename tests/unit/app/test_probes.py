"""The mark of the sentinel's own connections: exact, good for once, and worth nothing but silence."""

from __future__ import annotations

from pathlib import Path

from staffetta.intake.probes import EXPECTED_AT_ONCE, Probes
from staffetta.net.contract import Endpoint
from staffetta.observe.events import Accept, Connect, Disconnect, Refuse
from staffetta.testing import clock as virtual
from staffetta.testing.house import House
from staffetta.testing.house_wire import HouseWire

DOORS = """\
[listen.mx]
bind = ["192.0.2.25:25"]
role = "mx"
[domain."example.org"]
"""
MX = Endpoint("192.0.2.25", 25)
CONTENT = b"Subject: x\r\n\r\nx\r\n"


def test_a_probe_is_silent_and_judged_like_anybody(tmp_path: Path) -> None:
    clock = virtual.VirtualClock()

    async def main() -> None:
        async with House(tmp_path, DOORS, clock=clock, accounts={"anna@example.org": "secret"}) as house:
            first = HouseWire(house, "mx")
            await first.begin()
            [session] = house.parts.house.sessions
            near = session.stream.peer
            assert [type(event) for event in house.events] == [Connect]
            first.leave()
            await house.settled()
            probes = house.parts.house.probes = Probes()
            # Ends of the memory network count up, as the system's do.
            probe = probes.expect(Endpoint(near.address, near.port + 1), MX)
            house.events.clear()
            wire = HouseWire(house, "mx")
            await wire.begin()
            assert probe.session is not None
            said = await wire.say("MAIL FROM:<x@ext.example>", "RCPT TO:<u@ext.example>", "NONSENSE", "QUIT")
            assert [line[:3] for line in said] == ["250", "550", "500", "221"]
            await house.settled()
            assert house.events == []
            assert not [entry for entry in house.spool.journal if b"refuse" in entry.lines]
            other = HouseWire(house, "mx")
            await other.begin()
            await other.say("MAIL FROM:<x@ext.example>", "RCPT TO:<u@ext.example>", "QUIT")
            await house.settled()
            assert [type(event) for event in house.events] == [Connect, Refuse, Disconnect], "the mark is good for once"
            assert [entry for entry in house.spool.journal if b"refuse" in entry.lines]

    virtual.run(main, clock)


def test_what_a_probe_would_get_accepted_is_told(tmp_path: Path) -> None:
    clock = virtual.VirtualClock()

    async def main() -> None:
        async with House(tmp_path, DOORS, clock=clock, accounts={"anna@example.org": "secret"}) as house:
            wire = HouseWire(house, "mx")
            await wire.begin()
            [session] = house.parts.house.sessions
            session.probe = True
            assert await wire.mail("<x@ext.example>", ["<anna@example.org>"], CONTENT) == ["250", "250", "354", "250"]
            await house.settled()
            assert len(house.told(Accept)) == 1

    virtual.run(main, clock)


def test_only_both_ends_together_are_known() -> None:
    class Wire:
        def __init__(self, peer: Endpoint, local: Endpoint) -> None:
            self.peer, self.local = peer, local

    class Visitor:
        def __init__(self, peer: Endpoint, local: Endpoint) -> None:
            self.stream = Wire(peer, local)

    near = Endpoint("192.0.2.2", 50_000)
    probes = Probes()
    probe = probes.expect(near, MX)
    strangers = [
        (Endpoint("192.0.2.2", 50_001), MX), (Endpoint("192.0.2.3", 50_000), MX), (near, Endpoint("192.0.2.25", 26)),
        (near, Endpoint("192.0.2.26", 25)),
    ]  # fmt: skip
    for ends in strangers:
        assert not probes.recognise(Visitor(*ends))  # type: ignore[arg-type]
    assert probe.session is None
    assert probes.recognise(Visitor(near, MX))  # type: ignore[arg-type]
    assert not probes.recognise(Visitor(near, MX))  # type: ignore[arg-type]
    probes.expect(near, MX)
    probes.forget(near, MX)
    assert not probes.recognise(Visitor(near, MX))  # type: ignore[arg-type]
    for port in range(100):
        probes.expect(Endpoint("192.0.2.2", port), MX)
    assert len(probes._expected) == EXPECTED_AT_ONCE
