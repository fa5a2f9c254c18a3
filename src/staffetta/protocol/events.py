"""What the server side of a dialogue has to tell its owner. Frozen values; what they hold was parsed and judged.

`Content` and `Violation` need no answer. Every other event does: the core stands still until `answer` (or, after
ScramNeeded, `scram_keys`).
"""

from __future__ import annotations

from typing import Final

import msgspec

from staffetta.mail.envelope import Recipient, Sender
from staffetta.mail.reply import Reply
from staffetta.protocol.framing import ContentProblem


class Secret:
    """Text that no repr, log or traceback shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text: Final = text

    def reveal(self) -> str:
        """The text."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(...)"

    def __reduce__(self) -> str:
        raise TypeError("a secret is not stored")


class Hello(msgspec.Struct, frozen=True, gc=False):
    """EHLO or HELO. Any transaction is gone. A 2yz answer is replaced by the core's own (the extensions)."""

    name: str
    esmtp: bool


class MailFrom(msgspec.Struct, frozen=True, gc=False):
    """MAIL. A 2yz answer begins a transaction."""

    sender: Sender


class RcptTo(msgspec.Struct, frozen=True, gc=False):
    """RCPT inside a transaction. A 2yz answer adds the recipient."""

    recipient: Recipient


class DataStart(msgspec.Struct, frozen=True, gc=False):
    """DATA, or the first BDAT (`chunked`), with at least one recipient.

    Answer 354 for both (it is sent only after DATA) or refuse; a refusal ends the transaction.
    """

    chunked: bool


class Content(msgspec.Struct, frozen=True, gc=False):
    """A stretch of the message, as it is to be kept; at most as long as what `receive` was given at once.

    All stretches together are lines that end in CRLF, with no other CR or LF and no NUL.
    """

    data: bytes


class ContentEnd(msgspec.Struct, frozen=True, gc=False):
    """The message is complete, or it failed (`problem`) and was discarded up to a place where both sides agree.

    `octets` is its size. The answer is the final reply; the transaction is over, whatever it is.
    """

    octets: int
    problem: ContentProblem | None


class Reset(msgspec.Struct, frozen=True, gc=False):
    """RSET. Any transaction is gone, whatever the answer."""


class Quit(msgspec.Struct, frozen=True, gc=False):
    """QUIT. After the answer the connection is to be closed."""


class StartTls(msgspec.Struct, frozen=True, gc=False):
    """STARTTLS with nothing behind it. After 220: write the output, shake hands, call `tls_started`."""


class PasswordOffered(msgspec.Struct, frozen=True, gc=False):
    """PLAIN or LOGIN, prepared with SASLprep. 235 logs in. `authorization_id` is empty or equal to `username`."""

    mechanism: str
    authorization_id: str
    username: str
    password: Secret


class ScramNeeded(msgspec.Struct, frozen=True, gc=False):
    """SCRAM began: give `scram_keys`, made-up ones of stable salt for unknown users, or `answer` with a refusal."""

    username: str


class LoginProven(msgspec.Struct, frozen=True, gc=False):
    """The client knows the password of `username`. 235 logs in."""

    mechanism: str
    username: str


class LoginFailed(msgspec.Struct, frozen=True, gc=False):
    """The client does not know the password, or the user does not exist. Answer 535, or 421 when it tries too often."""

    mechanism: str
    username: str


class Violation(msgspec.Struct, frozen=True, gc=False):
    """The core refused something by itself, and has answered already.

    `reply` is what it said; None when the client is cut off without a word. `rule` names why, `stage` where. `excerpt`
    is printable and holds no secret. With `ends_transaction` the transaction there was is gone.
    """

    reply: Reply | None
    rule: str
    stage: str
    excerpt: str = ""
    ends_transaction: bool = False


Event = (
    Hello
    | MailFrom
    | RcptTo
    | DataStart
    | Content
    | ContentEnd
    | Reset
    | Quit
    | StartTls
    | PasswordOffered
    | ScramNeeded
    | LoginProven
    | LoginFailed
    | Violation
)
