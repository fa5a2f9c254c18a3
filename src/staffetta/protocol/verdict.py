"""From a reply, or the lack of one, to an outcome: which code, at which stage, speaks about whom.

RFC 5321 sections 4.2.1 (what the digits mean), 4.5.3.1.10 (552 for too many recipients), RFC 3463 (our own codes).
The replies below are ours, for when no peer spoke; `remote` is then false.
"""

from __future__ import annotations

from typing import Final

from staffetta.mail.outcome import Outcome, Result, Scope
from staffetta.mail.reply import Reply, reply

LOST: Final = reply(451, "4.4.2", "the connection was lost")
SILENT: Final = reply(451, "4.4.2", "no reply in time")
BUSY_READER: Final = reply(451, "4.4.2", "the server does not take the message in time")
OUT_OF_STEP: Final = reply(451, "4.5.0", "the server's reply does not fit the command")
UNASKED: Final = reply(451, "4.5.0", "the server sent more replies than it was given commands")
NO_TLS: Final = reply(454, "4.7.5", "TLS is required here and the server does not offer it")
NOT_VERIFIED: Final = reply(454, "4.7.5", "the server's certificate was not verified")
INJECTED: Final = reply(454, "4.7.5", "the server sent more in clear than its answer to STARTTLS")
NO_LOGIN: Final = reply(454, "4.7.0", "the server offers no login that can be used")
LOGIN_IN_CLEAR: Final = reply(454, "4.7.0", "login is needed and the connection is not encrypted")
NOT_PROVEN: Final = reply(454, "4.7.0", "the server did not prove that it knows the password")
LOOP: Final = reply(554, "5.4.6", "mail loop: the server goes by the name of this relay")
BARE_LINE_END: Final = reply(554, "5.6.0", "content has a bare line end")
TOO_BIG: Final = reply(552, "5.3.4", "the message is larger than the server takes")
NEEDS_EIGHT_BIT: Final = reply(554, "5.6.3", "the message needs 8BITMIME and the server does not offer it")
NEEDS_UTF8: Final = reply(553, "5.6.7", "the message needs SMTPUTF8 and the server does not offer it")
UNREADABLE: Final = reply(451, "4.3.0", "the stored message cannot be read now")
ENOUGH_MAIL: Final = reply(451, "4.5.3", "the server takes no more messages in this session")


REASON_CHARACTERS: Final = 200
"""How much of a reason is kept: OpenSSL can be wordy."""


def garbled(reason: str) -> Reply:
    """What the server says is not SMTP; `reason` is our own words (ReplyError)."""
    return reply(451, "4.5.0", f"what the server says is not SMTP: {reason}")


def tls_failed(reason: str) -> Reply:
    """The handshake failed. Of `reason`, which may quote a certificate, only printable ASCII is kept."""
    words = "".join([one if one.isascii() and one.isprintable() else "?" for one in reason[:REASON_CHARACTERS]])
    return reply(454, "4.7.5", f"the TLS handshake with the server failed: {words}")


def judge(answer: Reply, scope: Scope, stage: str) -> Outcome:
    """The outcome of a 4yz or 5yz reply. 421 closes the session, whatever it answers (RFC 5321 section 3.8)."""
    code = answer.code
    if code == 421:
        return Outcome(Result.DEFERRED, Scope.SESSION, answer, stage)
    return Outcome(Result.FAILED if code >= 500 else Result.DEFERRED, scope, answer, stage)


def judge_recipient(answer: Reply) -> Outcome:
    """The outcome of a refusal of RCPT. 552 is 'too many recipients', unless it says that a mailbox is full."""
    outcome = judge(answer, Scope.RECIPIENT, "rcpt")
    status = answer.enhanced
    if answer.code == 552 and (status is None or (status.subject, status.detail) == (5, 3)):
        return Outcome(Result.DEFERRED, Scope.RECIPIENT, answer, "rcpt")
    return outcome


def ours(answer: Reply, scope: Scope, stage: str, *, in_doubt: bool = False) -> Outcome:
    """An outcome in which no peer had the word."""
    result = Result.FAILED if answer.is_permanent else Result.DEFERRED
    return Outcome(result, scope, answer, stage, remote=False, in_doubt=in_doubt)
