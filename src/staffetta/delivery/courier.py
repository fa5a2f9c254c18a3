"""A courier carries claims of one destination: over a connection it keeps, or into a mailbox. One shape for all.

The dispatcher knows couriers only; couriers know transports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from staffetta.mail.outcome import Outcome, Result
from staffetta.spool.contract import Claim


class Try(msgspec.Struct, frozen=True, gc=False):
    """One host that was tried for a claim, for the `attempt` event. `outcomes` holds one per recipient of the claim.

    `dsn`: the host promised to send the notifications that were asked for (RFC 3461).
    """

    outcomes: tuple[Outcome, ...]
    host: str = ""
    address: str = ""
    tls: str = ""
    seconds: float = 0.0
    dsn: bool = False


class Report(msgspec.Struct, frozen=True, gc=False):
    """What came of one claim: the tries in order; the last one's outcomes count."""

    tries: tuple[Try, ...]
    route: str = ""

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """One outcome per recipient of the claim, in its order."""
        return self.tries[-1].outcomes

    @property
    def spoke(self) -> bool:
        """True when a peer spoke, or a mailbox took it: nothing else shows that the destination is well."""
        heard = [one for one in self.tries[-1].outcomes if one.remote or one.result is Result.DELIVERED]
        return bool(heard)


class Courier(Protocol):
    """Serves one destination, one claim at a time."""

    @property
    def warm(self) -> bool:
        """True when keeping this courier for the next claim saves work (it holds an open connection)."""

    async def deliver(self, claim: Claim) -> Report:
        """Try to deliver. Never raises for what the world does."""

    async def finish(self) -> None:
        """Let go of the connection in good order."""


CourierFactory = Callable[[str], Courier]
"""Makes the courier of a destination key."""
