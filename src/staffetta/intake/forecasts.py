"""What receivers will conclude of the mail that we take, said while it is taken: kept answers only, nobody waits.

The asking is done behind the dialogue (see app/forecasting). The first message of its kind is told of in an event of
its own as soon as the answer is there, the following ones carry it in their `accept` event.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from staffetta.mail.address import Mailbox, ReversePath
from staffetta.mail.domain import Domain
from staffetta.message.authorship import HeaderIdentity


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """One kind of outgoing mail. `author_domain` is that of From, `envelope_domain` "" for the null path,
    `signed_as` "" where nobody signs, `destination` the key of the first recipient outside."""

    author_domain: str
    envelope_domain: str
    signed_as: str
    destination: str


class Forecaster(Protocol):
    """Knows, or finds out for the next time."""

    def look(self, outgoing: Outgoing, message_id: str) -> str:
        """The forecast in words, "" while it is not known; then `message_id` will be told of later."""

    async def close(self) -> None:
        """Ask no more."""


def domain_of(path: ReversePath) -> str:
    """The domain of an envelope sender; "" for the null path and address literals."""
    return path.domain.ascii if isinstance(path, Mailbox) and isinstance(path.domain, Domain) else ""


def author_domain(identity: HeaderIdentity) -> str:
    """The domain of From, "" where it is unclear."""
    if identity.from_problem or len(identity.from_addresses) != 1:
        return ""
    return domain_of(identity.from_addresses[0])
