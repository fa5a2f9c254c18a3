"""A door as the judges see it: what it is for, and who may be named as sender there.

Interface section 2, `[listen.NAME]`. This module refuses to know networks, ports and TLS: whether a client is trusted
is a fact that somebody else establishes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from staffetta.mail.address import Mailbox
from staffetta.mail.domain import Domain


class Role(StrEnum):
    """Values are those of `[listen] role`."""

    MX = "mx"
    """Anyone may deliver to local domains, nothing else."""
    SUBMISSION = "submission"
    """Login required; may send anywhere, only as itself."""
    RELAY = "relay"
    """Trusted clients may send anywhere; others only after login."""


MX: Final = Role.MX
RELAY: Final = Role.RELAY
"""By these names where every message asks: to find a member in its enumeration costs Python ten times as much."""


class Door(msgspec.Struct, frozen=True):
    """`auth`: login can be had here. `senders` empty: any; else domains and mailboxes that may pass.

    `sender_fixed`: envelope sender and From are rewritten to this mailbox, so what the client claims does not count.
    `local`: no door of the network but the one by which commands on this machine bring mail: whoever may write to the
    store may send. `any_name`: who comes by it could read the signing keys anyway, so that nothing is gained by not
    signing for them.
    """

    name: str
    role: Role
    auth: bool = True
    senders: frozenset[Domain | Mailbox] = frozenset()
    sender_fixed: Mailbox | None = None
    local: bool = False
    any_name: bool = False

    def lets_pass(self, sender: Mailbox) -> bool:
        """True when the door's list of senders has this mailbox or its domain, or there is no list.

        Mailboxes are listed folded; a domain does not stand for its subdomains.
        """
        if not self.senders:
            return True
        return sender.domain in self.senders or sender.folded() in self.senders


class Client(msgspec.Struct, frozen=True, gc=False):
    """Who speaks: inside the door's trusted networks, logged in, both or neither. `withdrawn`: it would be trusted, but
    strangers seem to hide behind its address (policy/masking), so it is not."""

    trusted: bool = False
    logged_in: bool = False
    withdrawn: bool = False


STRANGER = Client()
"""Nobody we know."""
