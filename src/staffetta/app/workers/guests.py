"""Clients of a worker that concern the relay's watch over itself: its own probes, and strangers who hide.

A probe's session has to be where the sentinel is: its connection is given back to the main process, which takes it as
if it had come there. Who hides behind whom is judged there too, since one worker sees only a part of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from staffetta.app.open_doors import OpenDoor
from staffetta.app.sentinel_masks import asked_for, greeted_as
from staffetta.app.workers import frames
from staffetta.app.workers.wire import Wire
from staffetta.intake.probes import EXPECTED_AT_ONCE
from staffetta.net.contract import Endpoint
from staffetta.net.stream import TcpStream

if TYPE_CHECKING:
    from staffetta.intake.session import Session
    from staffetta.intake.transaction import Transaction

AGAIN_SECONDS: Final = 60.0
"""How often the same greeting of the same client is told again."""

GREETINGS_REMEMBERED: Final = 4096


class GivenBack:
    """Probes of the main process that will come to a door of this worker."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._expected: dict[tuple[Endpoint, Endpoint], None] = {}

    def expect(self, order: frames.Expect) -> None:
        """Know it when it comes."""
        if len(self._expected) >= EXPECTED_AT_ONCE:
            del self._expected[next(iter(self._expected))]
        self._expected[Endpoint(*order.near), Endpoint(*order.far)] = None
        self._wire.send(frames.Expected(order.number))

    def watch(self, door: OpenDoor, number: int) -> None:
        """Look at who comes to a door."""

        def divert(stream: TcpStream) -> bool:
            if not self._expected:
                return False
            ends = (stream.peer, stream.local)
            if ends not in self._expected:
                return False
            del self._expected[ends]
            file = os.dup(stream.fileno())
            try:
                self._wire.send_files(frames.Arrived(number), [file])
            finally:
                os.close(file)
            return True

        door.divert = divert


class RemoteMasks:
    """See intake.door.Masks."""

    def __init__(self, wire: Wire, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wire = wire
        self._monotonic = monotonic
        self._withdrawn: frozenset[str] = frozenset()
        self._greeted: set[tuple[str, str]] = set()
        self._forget_at = 0.0

    def told(self, order: frames.Withdrawn) -> None:
        """The main process says whom not to trust."""
        self._withdrawn = frozenset(order.clients)

    def greeted(self, session: Session) -> None:
        """See Masks."""
        greeting = (session.client, greeted_as(session))
        now = self._monotonic()
        if now >= self._forget_at or len(self._greeted) >= GREETINGS_REMEMBERED:
            self._greeted.clear()
            self._forget_at = now + AGAIN_SECONDS
        if greeting not in self._greeted:
            self._greeted.add(greeting)
            self._wire.send(frames.Greeted(*greeting))

    def withdrawn(self, client: str) -> bool:
        """See Masks."""
        return client in self._withdrawn

    def asked(self, session: Session, transaction: Transaction, *, outside: bool) -> None:
        """See Masks."""
        client = session.client
        if client == "::1" or client.startswith("127."):
            return  # programs of this machine are judged by nobody
        self._wire.send(frames.Asked(client, session.helo, asked_for(session, transaction), outside))
