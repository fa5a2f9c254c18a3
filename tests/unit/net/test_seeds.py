"""Random writes, splits and pauses in both directions under TLS: what arrives is what was sent. A seed replays."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from staffetta.net.contract import Endpoint
from staffetta.net.memory import MemoryNetwork
from staffetta.testing.recorder import Recorder

Run = Callable[[Coroutine[Any, Any, None]], None]
DOOR = Endpoint("198.51.100.1", 465)


class Walk:
    """One seeded run."""

    def __init__(self, seed: int, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
        self.chance = random.Random(seed)
        self.ours = Recorder(self.pause, greet=lambda recorder: recorder.stream.start_tls(server, server_side=True))
        self.theirs = Recorder(self.pause)
        network = MemoryNetwork(shape=self.shape)
        network.listen(DOOR, self.ours.accept)
        network.open(DOOR, self.theirs.accept)
        self.theirs.stream.start_tls(client, server_side=False, server_name="mx.example.org")

    def shape(self, data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            size = self.chance.choice([1, 5, 100, 1000, 20_000, 70_000])
            yield data[at : at + size]
            at += size

    def pause(self, recorder: Recorder, data: bytes) -> None:
        if self.chance.random() < 0.2:
            recorder.stream.pause_reading()
            asyncio.get_running_loop().call_soon(recorder.stream.resume_reading)

    async def go(self) -> None:
        sent = {self.ours: b"", self.theirs: b""}
        for _ in range(self.chance.randint(1, 12)):
            who = self.chance.choice([self.ours, self.theirs])
            data = self.chance.randbytes(self.chance.choice([1, 10, 3000, 16_384, 16_385, 50_000]))
            who.stream.write(data)
            sent[who] += data
            for _ in range(self.chance.randrange(4)):
                await asyncio.sleep(0)
        await self.ours.until(lambda recorder: recorder.tls)
        if self.chance.random() < 0.5:
            await self.theirs.until(lambda recorder: recorder.data == sent[self.ours])
        self.theirs.stream.close()
        await self.ours.until(lambda recorder: "finished" in recorder.happened)
        assert self.ours.data == sent[self.theirs]
        assert sent[self.ours].startswith(self.theirs.data)
        self.ours.stream.close()
        await self.ours.closed()
        await self.theirs.closed()
        assert self.ours.error is self.theirs.error is None


@pytest.mark.parametrize("seed", range(40))
def test_what_arrives_is_what_was_sent(seed: int, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    async def main() -> None:
        await Walk(seed, server, client).go()

    asyncio.run(main())
