"""LMTP towards a mailbox server: the same session, with LHLO and one reply per recipient after the dot. RFC 2033.

Over TCP or a Unix socket; the channel makes no difference. The server may have our own name: it is on our machine.
"""

from __future__ import annotations

from typing import ClassVar

from staffetta.delivery.transports.smtp import SmtpSession


class LmtpSession(SmtpSession):
    """As SmtpSession; outcomes after the dot have recipient scope, and who is unanswered when it dies is in doubt."""

    lmtp: ClassVar[bool] = True

    __slots__ = ()
