"""Mail that an alias sends outside: in whose name it goes on (policy/srs), which is known only where everything meets.

Only what came for an alias of ours is rewritten, and only when its sender is nobody of ours: our own senders may be
sent from here anyway.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from staffetta.accounts.directory import Directory
from staffetta.mail.address import Mailbox, ReversePath
from staffetta.mail.domain import Domain
from staffetta.policy.srs import Forwarding
from staffetta.spool.contract import Claim


def forwarding_of(secret: bytes) -> Forwarding:
    """The rewriting of this installation, by its secret."""
    return Forwarding(hmac.digest(secret, b"srs", "sha256"))


class Forwarder:
    """Says what the envelope sender of a claim is at the next hop."""

    def __init__(self, forwarding: Forwarding, directory: Directory, clock: Callable[[], float]) -> None:
        self._forwarding = forwarding
        self._directory = directory
        self._clock = clock

    def sender(self, claim: Claim) -> ReversePath:
        """The sender as it leaves us."""
        sender = claim.message.sender.reverse_path
        for recipient in claim.recipients:
            if recipient.original is not None:
                return self._rewritten(sender, recipient.original, recipient.address)
        return sender

    def _rewritten(self, sender: ReversePath, alias: Mailbox, target: Mailbox) -> ReversePath:
        is_local = self._directory.is_local
        if not isinstance(sender, Mailbox) or is_local(sender.domain) or is_local(target.domain):
            return sender
        if not isinstance(alias.domain, Domain) or not is_local(alias.domain):
            return sender
        return self._forwarding.forward(sender, alias.domain, self._clock())
