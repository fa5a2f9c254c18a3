"""What a store of mailboxes does for delivery: many letters in, one answer for each. Blocking; called in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class Letter(msgspec.Struct, frozen=True, gc=False):
    """One message for one mailbox, small enough to be held in memory.

    `local_part` is folded. `pieces` are its octets in order, trace fields first. `now` is in seconds since the epoch.
    `folder` is a folder within the mailbox, "" the inbox.
    """

    local_part: str
    pieces: tuple[bytes, ...]
    now: float
    folder: str = ""


class MailboxNameError(ValueError):
    """The name cannot be that of a mailbox or folder."""


class Writing(Protocol):
    """One large message on its way in. Visible and durable only after `finish`; one of the two ends is called."""

    def write(self, piece: bytes) -> None:
        """Append. Raises OSError."""

    def finish(self) -> str:
        """Make it durable and visible; its name. Raises OSError; then nothing is left behind."""

    def abandon(self) -> None:
        """Leave nothing behind. May be called after any failure, and twice."""


class MailboxStore(Protocol):
    """The mailboxes of one domain."""

    def deliver(self, letters: Sequence[Letter]) -> list[str | OSError | MailboxNameError]:
        """Put every letter where it belongs: its name, or why not. A name means: flushed to disk, file and folder."""

    def begin(self, local_part: str, now: float, folder: str = "") -> Writing:
        """Begin one large message. Raises OSError, MailboxNameError."""
