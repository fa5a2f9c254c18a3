"""What the house answers to each event of a dialogue: facts are gathered, a judge decides, the session says it.

Each function answers one event of protocol/events. The order of the questions is the order of RFC 5321: who may send,
as whom, to whom, and only then what.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from staffetta.accounts.directory import RETURNING
from staffetta.accounts.store import AccountsUnavailable
from staffetta.intake import authentication
from staffetta.intake.accept import storage_refusal
from staffetta.intake.judgement import judge_content, judge_sender
from staffetta.intake.refusals import Why
from staffetta.intake.taking import take
from staffetta.intake.transaction import Transaction
from staffetta.intake.watching import watch_of
from staffetta.mail.address import NullPath
from staffetta.mail.reply import reply
from staffetta.policy.door import Client
from staffetta.policy.relay import ONLY_BOUNCES, OUTSIDE, may_reach, may_send
from staffetta.policy.verdict import Refusal
from staffetta.protocol import events as said
from staffetta.protocol.server import ServerConnection

if TYPE_CHECKING:
    from staffetta.intake.session import Session

HELLO_OK: Final = reply(250, "", "ok")
OK: Final = reply(250, "2.0.0", "ok")
SENDER_OK: Final = reply(250, "2.1.0", "sender ok")
RECIPIENT_OK: Final = reply(250, "2.1.5", "recipient ok")
GO_AHEAD: Final = reply(354, "", "end with <CRLF>.<CRLF>")
DIRECTORY_DOWN: Final = reply(451, "4.3.0", "the list of recipients cannot be read, try again later")
BYE: Final = reply(221, "2.0.0", "bye")
TLS_GO: Final = reply(220, "2.0.0", "ready to start TLS")


def hello(session: Session, event: said.Hello, core: ServerConnection) -> None:
    """Anybody may say hello; the name is a claim and is only recorded."""
    session.helo = event.name
    session.esmtp = event.esmtp
    session.opening = None
    session.drop_transaction()
    if session.house.masks is not None and not session.probe:
        session.house.masks.greeted(session)
    core.answer(HELLO_OK)


def mail_from(session: Session, event: said.MailFrom, core: ServerConnection) -> None:
    """May this client send, and as this sender?"""
    session.drop_transaction()
    door = session.door.door
    masks = session.house.masks
    withdrawn = session.trusted and masks is not None and masks.withdrawn(session.client)
    client = Client(session.trusted and not withdrawn, bool(session.login), withdrawn)
    allowed = may_send(door, client)
    if isinstance(allowed, Refusal):
        session.refuse("mail", allowed, sender=event.sender.reverse_path)
        return
    verdict = judge_sender(session, event.sender.reverse_path, client)
    if isinstance(verdict, Refusal):
        session.refuse("mail", verdict, sender=event.sender.reverse_path)
        return
    session.transaction = Transaction(event.sender, client, door.sender_fixed)
    core.answer(SENDER_OK)


def rcpt_to(session: Session, event: said.RcptTo, core: ServerConnection) -> None:
    """May mail for this recipient be accepted here, and where does it go?"""
    transaction = session.transaction
    assert transaction is not None  # noqa: S101 - the core allows RCPT only inside a transaction
    path = event.recipient.forward_path
    try:
        resolution = session.house.directory.resolve(path)
    except AccountsUnavailable as error:
        session.refuse("rcpt", Refusal(DIRECTORY_DOWN, "accounts", str(error)), recipient=str(path))
        return
    verdict = may_reach(session.door.door, transaction.client, resolution.place)
    if resolution.rule == RETURNING and not isinstance(transaction.claimed_sender, NullPath):
        verdict = ONLY_BOUNCES
    if isinstance(verdict, Refusal):
        session.refuse("rcpt", verdict, recipient=str(path))
        return
    transaction.rule = verdict.rule
    transaction.add(event.recipient, resolution)
    masks = session.house.masks
    if masks is not None and transaction.client.trusted and not (session.probe or session.login):
        masks.asked(session, transaction, outside=resolution.place is OUTSIDE)
    core.answer(RECIPIENT_OK)


def data_start(session: Session, event: said.DataStart, core: ServerConnection) -> None:
    """The content may come."""
    transaction = session.transaction
    assert transaction is not None  # noqa: S101 - see rcpt_to
    transaction.begin_content(session.house.spool.draft(), watch_of(session))
    session.content_began = session.house.monotonic()
    session.content_octets = 0
    core.answer(GO_AHEAD)


def content(session: Session, event: said.Content, core: ServerConnection) -> None:
    """A stretch of it."""
    transaction = session.transaction
    if transaction is None:
        return
    session.content_octets += len(event.data)
    if transaction.content(event.data):
        session.pause_for(transaction.store(session.house.spool))


def content_end(session: Session, event: said.ContentEnd, core: ServerConnection) -> None:
    """Everything is here: one verdict, and 250 only after it is on disk."""
    session.content_began = 0.0
    transaction = session.transaction
    assert transaction is not None  # noqa: S101 - see rcpt_to
    scan = transaction.end_content()
    draft = transaction.draft
    assert draft is not None  # noqa: S101 - content began with it
    refusal = storage_refusal(transaction.failed) or judge_content(session, transaction, scan, event.problem)
    if refusal is not None:
        session.refuse("data", refusal)
        session.drop_transaction()
        return
    session.transaction = None
    answer = take(session, transaction, scan, draft)
    if answer is not None:
        core.answer(answer)


def reset(session: Session, event: said.Reset, core: ServerConnection) -> None:
    """Forget the transaction."""
    session.drop_transaction()
    core.answer(OK)


def quit_session(session: Session, event: said.Quit, core: ServerConnection) -> None:
    """Goodbye."""
    session.reason = "quit"
    core.answer(BYE)


def start_tls(session: Session, event: said.StartTls, core: ServerConnection) -> None:
    """Say 220 in clear, then nothing more in clear."""
    core.answer(TLS_GO)
    session.begin_tls()


def violation(session: Session, event: said.Violation, core: ServerConnection) -> None:
    """The core refused by itself; the record says why."""
    session.note_refusal(event.stage, event.reply, Why(event.rule, event.excerpt))
    if event.ends_transaction:
        session.drop_transaction()


Answer = Callable[[Any, Any, ServerConnection], None]

ANSWERS: Final[dict[type, Answer]] = {
    said.Hello: hello,
    said.MailFrom: mail_from,
    said.RcptTo: rcpt_to,
    said.DataStart: data_start,
    said.Content: content,
    said.ContentEnd: content_end,
    said.Reset: reset,
    said.Quit: quit_session,
    said.StartTls: start_tls,
    said.PasswordOffered: authentication.password_offered,
    said.ScramNeeded: authentication.scram_needed,
    said.LoginProven: authentication.login_proven,
    said.LoginFailed: authentication.login_failed,
    said.Violation: violation,
}
