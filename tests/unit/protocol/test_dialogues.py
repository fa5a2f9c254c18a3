"""Every dialogue against the core, written in one piece and octet by octet; and the runner against itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from staffetta.testing.core_wire import CoreWire, settings_for
from staffetta.testing.dialogue import DialogueError, parse_dialogue, play, play_async, read_dialogue, unescape

DIALOGUES = sorted((Path(__file__).parents[2] / "dialogues").glob("*.smtp"))


def wire_for(needs: dict[str, str]) -> CoreWire:
    settings = settings_for(needs)
    assert settings is not None
    return CoreWire(settings, tls=needs.get("tls") == "on", login_required=needs.get("door") == "submission")


@pytest.mark.parametrize("split", [0, 1, 7], ids=["whole", "each octet", "sevens"])
@pytest.mark.parametrize("path", DIALOGUES, ids=lambda path: path.stem)
def test_core(path: Path, split: int) -> None:
    dialogue = read_dialogue(path)
    play(dialogue, wire_for(dialogue.needs), split)


def test_there_are_dialogues() -> None:
    assert len(DIALOGUES) > 30


class AwaitedWire:
    """The core behind `await`."""

    def __init__(self, wire: CoreWire) -> None:
        self.wire = wire

    async def send(self, octets: bytes) -> None:
        await asyncio.sleep(0)
        self.wire.send(octets)

    async def receive_until_quiet(self) -> bytes:
        return self.wire.receive_until_quiet()

    async def overhear(self) -> bytes:
        return await self.receive_until_quiet()

    async def start_tls(self) -> None:
        self.wire.start_tls()

    async def is_closed(self) -> bool:
        return self.wire.is_closed()

    async def accepted(self) -> list[bytes]:
        return self.wire.accepted()


@pytest.mark.parametrize("name", ["one_message", "starttls", "http"])
def test_asynchronous_wire(name: str) -> None:
    dialogue = read_dialogue(DIALOGUES[0].with_name(f"{name}.smtp"))
    asyncio.run(play_async(dialogue, AwaitedWire(wire_for(dialogue.needs))))


@pytest.mark.parametrize(
    "script",
    [
        "S: 221",
        "S: 220\nC: NOOP\nS: 250 2.1.0",
        "S: 220\nC: NOOP\nS: 250 another text",
        "S: 220\nC: NOOP\nC: NOOP\nS: 250",
        "S: 220\nC: EHLO x\nS: 250 + NOSUCH",
        "S: 220\nC: EHLO x\nS: 250 - SIZE",
        "S: 220\nC: NOOP\nquiet",
        "S: 220\nclosed",
        "S: 220\nquiet\nS: 250",
        "S: 220\naccepted 1",
        "S: 220\ncontent a",
        "S: hello",
        "nonsense",
    ],
)
def test_runner_notices(script: str) -> None:
    with pytest.raises(DialogueError):
        play(parse_dialogue(script, "script"), wire_for({}))


def test_escapes() -> None:
    assert unescape(r"a\r\n\x00\xff\\n\#3{ab}\t") == b"a\r\n\x00\xff\\nababab\t"
