"""The frozen facts that a delivery status notification is made of.

RFC 3464 sections 2.2 and 2.3. The address it goes to is a Mailbox, so a report to the null path cannot be written.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from staffetta.mail.address import Mailbox
from staffetta.mail.reply import Reply


class Kind(StrEnum):
    """What the report is about; one report speaks about one kind."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"


class Action(StrEnum):
    """What was done for a recipient, RFC 3464 section 2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    """Handed to a server that does not promise reports."""
    EXPANDED = "expanded"
    """Delivered to an alias that stands for several."""


class ReportedRecipient(msgspec.Struct, frozen=True, gc=False):
    """One recipient's fate.

    `reply` is the last one, verbatim; `remote_mta` the host that gave it, "" when it is our own. `original` is the
    address as the sender gave it where an alias changed it; `orcpt` is `type;address`, decoded. `expired`: given up
    because of age. Times in seconds since the epoch.
    """

    address: Mailbox
    action: Action
    reply: Reply | None = None
    remote_mta: str = ""
    original: Mailbox | None = None
    orcpt: str | None = None
    expired: bool = False
    in_doubt: bool = False
    last_attempt_at: float | None = None
    retry_until: float | None = None


class Original(msgspec.Struct, frozen=True, gc=False):
    """What is returned of the message: its header block, and all that follows it when the whole is returned."""

    header: bytes
    rest: bytes | None = None


class ReportInput(msgspec.Struct, frozen=True, gc=False):
    """Everything a report is made of. `id` is its own queue id; `message_id` that of the original, "" when none.
    `author_domain` is the domain of From, where that is not the hostname."""

    kind: Kind
    id: str
    hostname: str
    to: Mailbox
    now: float
    arrived_at: float
    recipients: tuple[ReportedRecipient, ...]
    original: Original
    envid: str | None = None
    message_id: str = ""
    author_domain: str = ""
