"""How the house knows its own sentinel at the door, so that its questions are nobody's news.

A probe is known by the two ends of its connection, agreed before it connects and good for one session. Nobody can come
from an address and port of this machine that we hold ourselves, so nobody else can be taken for it; and nothing is
decided by it: a probe is judged like anybody, and only its `connect`, `disconnect` and `refuse` events are left out.
What it would have accepted is told like everything that is accepted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from staffetta.net.contract import Endpoint

if TYPE_CHECKING:
    from staffetta.intake.session import Session

EXPECTED_AT_ONCE: Final = 16
"""Probes that have not arrived yet; older ones are forgotten."""


class Probe:
    """One connection of ours to a door of ours. `session` is there once the door has taken it."""

    __slots__ = ("session",)

    def __init__(self) -> None:
        self.session: Session | None = None


class Probes:
    """The probes that are on their way. Used from the loop's thread only. `announce` tells those who take connections
    elsewhere, to have them brought here."""

    __slots__ = ("_announce", "_expected")

    def __init__(self, announce: Callable[[Endpoint, Endpoint], Awaitable[None]] | None = None) -> None:
        self._announce = announce
        self._expected: dict[tuple[Endpoint, Endpoint], Probe] = {}

    async def announced(self, near: Endpoint, far: Endpoint) -> None:
        """Return when a probe that is expected will be known wherever it arrives."""
        if self._announce is not None:
            await self._announce(near, far)

    def expect(self, near: Endpoint, far: Endpoint) -> Probe:
        """A probe will come from `near`, an end that is bound already, to `far`, the very address of a door."""
        if len(self._expected) >= EXPECTED_AT_ONCE:
            del self._expected[next(iter(self._expected))]
        probe = self._expected[near, far] = Probe()
        return probe

    def forget(self, near: Endpoint, far: Endpoint) -> None:
        """It will not come."""
        self._expected.pop((near, far), None)

    def recognise(self, session: Session) -> bool:
        """Is this the session of a probe? Then it has arrived."""
        if not self._expected:
            return False
        probe = self._expected.pop((session.stream.peer, session.stream.local), None)
        if probe is None:
            return False
        probe.session = session
        return True
