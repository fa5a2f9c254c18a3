"""A relay on a virtual clock, and sessions on streams that a test holds in its hands."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from staffetta.app.doors import doors_of
from staffetta.intake.session import Session
from staffetta.net.contract import Endpoint, TlsFacts
from staffetta.spool.contract import CHUNK_OCTETS, Draft, NewMessage, SpoolUnavailable
from staffetta.spool.memory import MemorySpool
from staffetta.testing.clock import VirtualClock, run
from staffetta.testing.rehearsal import Rehearsal

TOML = """\
version = 1
hostname = "relay.example"
data_dir = "data"
[listen.relay]
bind = ["127.0.0.9:{port}"]
role = "relay"
tls = "off"
auth = false
[limits]
idle = "5m"
"""


class HandStream:
    """A stream (net.contract.Stream) without a wire: `sent` is what the relay wrote."""

    def __init__(self) -> None:
        self.peer = Endpoint("127.0.0.1", 40_000)
        self.local = Endpoint("127.0.0.9", 25)
        self.tls: TlsFacts | None = None
        self.sent = b""
        self.closed = self.aborted = self.paused = False

    @property
    def closing(self) -> bool:
        return self.closed

    def after_arrivals(self, call: Callable[[], None]) -> None:
        call()

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.sent += data

    def start_tls(self, context: ssl.SSLContext, **_: Any) -> None:
        raise NotImplementedError

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def said(self) -> str:
        """What was sent since this was asked last."""
        text, self.sent = self.sent.decode(), b""
        return text


class GatedSpool(MemorySpool):
    """Numbers the drafts that it stored, and takes its time or fails as it is told."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.stored: set[int] = set()
        self.heads: list[bytes] = []
        self.full = False
        self.gate: Any = None
        self._numbers = 0

    async def write(self, draft: Draft, data: bytes) -> None:
        await super().write(draft, data)
        if draft.pending_octets >= CHUNK_OCTETS:
            if self.gate is not None:
                await self.gate.wait()
            if draft.number is None:
                self._numbers += 1
                draft.number = self._numbers
                self.stored.add(draft.number)

    async def commit(self, new: NewMessage) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.full:
            raise SpoolUnavailable("no space", full=True)
        await super().commit(new)
        self.heads.append(new.head)
        if new.draft.number is not None:
            self.stored.discard(new.draft.number)

    async def discard(self, draft: Draft) -> None:
        await super().discard(draft)
        if draft.number is not None:
            self.stored.discard(draft.number)
            draft.number = None


class Place:
    """A relay whose sessions a test drives by hand."""

    def __init__(self, relay: Rehearsal) -> None:
        self.relay = relay
        self.spool: Any = relay.spool
        self.house = relay.parts.house

    def session(self, **door: Any) -> tuple[Session, HandStream]:
        """A new session, greeted."""
        stream = HandStream()
        [(_, settings)] = doors_of(self.relay.config, None)
        session = Session(stream, self.house, msgspec.structs.replace(settings, **door))
        stream.said()
        return session, stream

    def leave(self, session: Session) -> None:
        """The client cuts the connection."""
        session.stream.abort()
        session.stream_closed(ConnectionResetError())

    def look(self) -> None:
        """What the relay does every second."""
        for session in list(self.house.sessions):
            session.look_at_clock(self.house.monotonic())


@pytest.fixture
def place(tmp_path: Path) -> Callable[[Callable[[Place], Awaitable[None]]], None]:
    """Plays a coroutine at a place."""

    def play(main: Callable[[Place], Awaitable[None]], toml: str = TOML) -> None:
        clock = VirtualClock()

        async def spool(_: object) -> GatedSpool:
            return GatedSpool(clock.wall)

        async def whole() -> None:
            async with Rehearsal(tmp_path, toml, {}, clock=clock, spool=spool) as relay:
                await main(Place(relay))

        run(whole, clock)

    return play
