"""What a session has established, and which command may come when. RFC 5321 section 4.1.4, RFC 3207, RFC 4954.

Each question returns the refusal, or None when the command is in order. States and transactions are born and dropped,
never reset: STARTTLS makes a new State, MAIL a new Transaction.
"""

from __future__ import annotations

from typing import Final

from staffetta.mail.reply import Reply
from staffetta.protocol import refusals
from staffetta.protocol.extensions import ServerSettings
from staffetta.protocol.framing import ContentFilter


class Transaction:
    """Between a MAIL that was accepted and its end."""

    __slots__ = ("chunked", "content", "recipients", "smtputf8")

    def __init__(self, smtputf8: bool) -> None:
        self.smtputf8: Final = smtputf8
        self.recipients = 0
        self.content: ContentFilter | None = None
        self.chunked = False


class State:
    """What is known about the session since it began, or since TLS began."""

    __slots__ = ("auth_tried", "authenticated", "hello", "tls", "transaction")

    def __init__(self, tls: bool) -> None:
        self.tls: Final = tls
        self.hello = False
        self.authenticated = False
        self.auth_tried = False
        self.transaction: Transaction | None = None

    def judge_mail(self) -> Reply | None:
        """May MAIL come now?"""
        if not self.hello:
            return refusals.HELLO_FIRST
        return None if self.transaction is None else refusals.NESTED_MAIL

    def judge_rcpt(self, settings: ServerSettings) -> Reply | None:
        """May RCPT come now?"""
        transaction = self.transaction
        if transaction is None:
            return refusals.MAIL_FIRST
        if transaction.content is not None:
            return refusals.RCPT_AFTER_CONTENT
        return refusals.TOO_MANY_RECIPIENTS if transaction.recipients >= settings.recipients else None

    def judge_data(self) -> Reply | None:
        """May DATA come now?"""
        transaction = self.transaction
        if transaction is None:
            return refusals.MAIL_FIRST
        if transaction.chunked:
            return refusals.DATA_AFTER_BDAT
        return None if transaction.recipients else refusals.NO_RECIPIENTS

    def judge_bdat(self) -> Reply | None:
        """May BDAT come now?"""
        transaction = self.transaction
        if transaction is None:
            return refusals.MAIL_FIRST
        return None if transaction.recipients else refusals.NO_RECIPIENTS

    def judge_starttls(self, settings: ServerSettings) -> Reply | None:
        """May STARTTLS come now?"""
        if self.tls:
            return refusals.TLS_TWICE
        if not settings.starttls:
            return refusals.TLS_NOT_OFFERED
        return None if self.transaction is None else refusals.TLS_IN_TRANSACTION

    def judge_auth(self, settings: ServerSettings) -> Reply | None:
        """May AUTH come now?"""
        if not settings.auth:
            return refusals.AUTH_NOT_OFFERED
        if not self.tls:
            return refusals.AUTH_NEEDS_TLS
        if not self.hello:
            return refusals.HELLO_FIRST
        if self.authenticated:
            return refusals.AUTH_TWICE
        return None if self.transaction is None else refusals.AUTH_IN_TRANSACTION
