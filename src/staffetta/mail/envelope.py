"""The envelope: who sent, to whom, and what the sender asked for.

RFC 5321 section 2.3.1, RFC 3461, RFC 6152, RFC 6531.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from staffetta.mail.address import ForwardPath, ReversePath


class Body(StrEnum):
    """The BODY parameter, RFC 6152."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT_MIME = "8BITMIME"


class Return(StrEnum):
    """The RET parameter, RFC 3461 section 4.3: what a failure notification shall carry."""

    FULL = "FULL"
    HEADERS = "HDRS"


class Notify(StrEnum):
    """One value of the NOTIFY parameter, RFC 3461 section 4.1."""

    NEVER = "NEVER"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    DELAY = "DELAY"


class Sender(msgspec.Struct, frozen=True, gc=False):
    """MAIL FROM with its parameters. `envid` is decoded from xtext; `declared_size` in octets."""

    reverse_path: ReversePath
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    declared_size: int | None = None
    ret: Return | None = None
    envid: str | None = None


class Recipient(msgspec.Struct, frozen=True, gc=False):
    """RCPT TO with its parameters. `notify` empty means the sender said nothing; `orcpt` is `type;decoded-address`."""

    forward_path: ForwardPath
    notify: tuple[Notify, ...] = ()
    orcpt: str | None = None
