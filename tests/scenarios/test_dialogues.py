"""Every dialogue against the whole relay: over wires in memory, and against the installed daemon over TCP."""

from __future__ import annotations

from pathlib import Path

import pytest

from staffetta.net.memory import single_octets, whole
from staffetta.testing import clock as virtual
from staffetta.testing.core_wire import PASSWORD, USERNAME
from staffetta.testing.dialogue import Dialogue, play_async, read_dialogue
from staffetta.testing.house import House
from staffetta.testing.house_wire import HouseWire

DIALOGUES = sorted((Path(__file__).parents[1] / "dialogues").glob("*.smtp"))

DOORS = """\
[listen.mx]
bind = ["192.0.2.25:25"]
role = "mx"
[listen.mx-tls]
bind = ["192.0.2.25:2465"]
role = "mx"
tls = "implicit"
[listen.submission]
bind = ["192.0.2.25:587"]
role = "submission"
[listen.submission-tls]
bind = ["192.0.2.25:465"]
role = "submission"
[listen.relay]
bind = ["192.0.2.25:1025"]
role = "relay"
trust = ["192.0.2.0/28"]
[listen.relay-tls]
bind = ["192.0.2.25:1465"]
role = "relay"
trust = ["192.0.2.0/28"]
tls = "implicit"
[domain."example.org"]
"""

ACCOUNTS = {USERNAME: PASSWORD, "bob@example.org": PASSWORD}


def door_of(dialogue: Dialogue) -> str:
    return dialogue.needs["door"] + ("-tls" if dialogue.needs.get("tls") == "on" else "")


@pytest.mark.parametrize("shape", [whole, single_octets], ids=["whole", "each octet"])
@pytest.mark.parametrize("path", DIALOGUES, ids=lambda path: path.stem)
def test_in_memory(path: Path, shape: object, tmp_path: Path) -> None:
    dialogue = read_dialogue(path)
    limits = {key: int(value) for key, value in dialogue.needs.items() if key not in {"door", "tls"}}
    clock = virtual.VirtualClock()

    async def main() -> None:
        async with House(tmp_path, DOORS, clock=clock, accounts=ACCOUNTS, core=limits, shape=shape) as house:
            door = door_of(dialogue)
            await play_async(dialogue, HouseWire(house, door, tls=door.endswith("-tls")))

    virtual.run(main, clock)
