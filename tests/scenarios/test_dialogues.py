"""Every dialogue against the whole relay: over wires in memory, and against the installed daemon over TCP."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from staffetta.net.memory import single_octets, whole
from staffetta.testing import clock as virtual
from staffetta.testing.core_wire import PASSWORD, USERNAME
from staffetta.testing.daemon import Daemon
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
tls = "implicit"
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

ACCOUNTS = dict.fromkeys([USERNAME, "bob@example.org", "postmaster@example.org"], PASSWORD)


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


def scope(dialogue: Dialogue) -> tuple[tuple[str, str], ...] | None:
    """The limits that a daemon is started with; None when no configuration can set them."""
    limits = {key: value for key, value in dialogue.needs.items() if key not in {"door", "tls"}}
    if "errors" in limits:
        return None
    return tuple(sorted(limits.items()))


def by_limits() -> dict[tuple[tuple[str, str], ...], list[Dialogue]]:
    found: dict[tuple[tuple[str, str], ...], list[Dialogue]] = {}
    for path in DIALOGUES:
        dialogue = read_dialogue(path)
        limits = scope(dialogue)
        if limits is not None:
            found.setdefault(limits, []).append(dialogue)
    return found


KEYS = {"commands": "commands_per_session"}
ON_LOOPBACK = DOORS.partition("[domain.")[0].replace("192.0.2.25", "127.0.0.1").replace("192.0.2.0/28", "127.0.0.0/8")


@pytest.mark.parametrize("limits", by_limits(), ids=lambda limits: ",".join("=".join(pair) for pair in limits) or "all")
def test_against_the_daemon(limits: tuple[tuple[str, str], ...], tmp_path: Path) -> None:
    doors = re.sub(r":\d+\"", ':0"', ON_LOOPBACK)
    text = doors + "[limits]\n"
    for key, value in limits:
        text += f'message_size = "{value}B"\n' if key == "message_size" else f"{KEYS.get(key, key)} = {value}\n"

    async def main() -> None:
        async with Daemon(tmp_path, text, ACCOUNTS) as daemon:
            for dialogue in by_limits()[limits]:
                door = door_of(dialogue)
                async with daemon.wire(door, tls=door.endswith("-tls")) as wire:
                    await play_async(dialogue, wire)
            assert await daemon.stop() == 0
            complaints = daemon.complaints()
            assert complaints == "" or (limits and "C222" in complaints and "Traceback" not in complaints)
            assert daemon.sink.wrong == []

    asyncio.run(main())
