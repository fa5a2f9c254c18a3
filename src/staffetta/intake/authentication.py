"""SMTP AUTH: the core speaks SASL, here the passwords are looked at, failures counted, and the login's rights taken.

RFC 4954 section 6 (replies). Unknown user and wrong password look and last the same: `accounts` sees to the time, this
module to the words.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from staffetta.accounts.login import LoginResult, LoginVerdict, Unhashed, login_name
from staffetta.accounts.store import AccountsUnavailable
from staffetta.mail.address import Mailbox
from staffetta.mail.reply import Reply, reply
from staffetta.observe.events import Login, LoginRefused, encode, moment
from staffetta.policy.verdict import Refusal
from staffetta.protocol import events as said
from staffetta.protocol.server import ServerConnection
from staffetta.spool.contract import JournalEntry

if TYPE_CHECKING:
    from staffetta.intake.session import Session

WELCOME: Final = reply(235, "2.7.0", "login ok")
PUT_OFF: Final = reply(454, "4.7.0", "login is not possible now, try again later")
WRONG: Final = reply(535, "5.7.8", "authentication credentials invalid")
NONCE_OCTETS: Final = 18


def password_offered(session: Session, event: said.PasswordOffered, core: ServerConnection) -> None:
    """PLAIN or LOGIN: the password was right a moment ago, or is hashed and compared in a thread."""
    mailbox = login_name(event.username)
    refused = _too_often(session, mailbox)
    if refused is not None:
        core.answer(_refused(session, event.username, event.mechanism, refused))
        return
    looked = session.house.logins.look(mailbox, event.password.reveal())
    if isinstance(looked, LoginVerdict):
        core.answer(_decided(session, event.username, event.mechanism, looked))
    else:
        session.answer_by(_check_password(session, event, looked))


async def _check_password(session: Session, event: said.PasswordOffered, unhashed: Unhashed) -> Reply:
    verdict = await session.house.logins.hash(unhashed)
    return _judged(session, event.username, event.mechanism, verdict)


def scram_needed(session: Session, event: said.ScramNeeded, core: ServerConnection) -> None:
    """SCRAM-SHA-256: the stored keys, or made-up ones for a name that nobody has."""
    house = session.house
    refused = _too_often(session, login_name(event.username))
    if refused is None:
        try:
            keys = house.logins.scram_keys(event.username)
        except AccountsUnavailable as error:
            refused = Refusal(PUT_OFF, "accounts", str(error))
    if refused is not None:
        core.answer(_refused(session, event.username, "SCRAM-SHA-256", refused))
        return
    core.scram_keys(keys, base64.b64encode(house.random_bytes(NONCE_OCTETS)).decode("ascii"))


def login_proven(session: Session, event: said.LoginProven, core: ServerConnection) -> None:
    """The client knows the password."""
    core.answer(_judged(session, event.username, event.mechanism, session.house.logins.proven(event.username)))


def login_failed(session: Session, event: said.LoginFailed, core: ServerConnection) -> None:
    """The client does not know it, or there is no such user."""
    mailbox = login_name(event.username)
    verdict = LoginVerdict(LoginResult.REFUSED, "" if mailbox is None else str(mailbox), "wrong proof")
    core.answer(_judged(session, event.username, event.mechanism, verdict))


def _too_often(session: Session, mailbox: Mailbox | None) -> Refusal | None:
    house = session.house
    return house.login_failures.judge(session.client, "" if mailbox is None else str(mailbox), house.clock())


def _judged(session: Session, username: str, mechanism: str, verdict: LoginVerdict) -> Reply:
    """The reply to a verdict that took its time."""
    house = session.house
    if verdict.result is not LoginResult.PUT_OFF:
        # Asked again: guesses made at the same time must not gain from having been judged before the first had failed.
        refused = house.login_failures.judge(session.client, verdict.name, house.clock())
        if refused is not None:
            return _refused(session, username, mechanism, refused)
    return _decided(session, username, mechanism, verdict)


def _decided(session: Session, username: str, mechanism: str, verdict: LoginVerdict) -> Reply:
    """The reply to a verdict, when the failures up to this moment have been counted."""
    house = session.house
    now = house.clock()
    if verdict.result is LoginResult.PUT_OFF:
        return _refused(session, username, mechanism, Refusal(PUT_OFF, "login_put_off", verdict.reason))
    account = verdict.account
    if account is None:
        house.login_failures.failed(session.client, verdict.name, now)
        return _refused(session, username, mechanism, Refusal(WRONG, "login", verdict.reason))
    house.login_failures.succeeded(session.client, verdict.name, now)
    session.login = verdict.name
    session.rights = house.directory.rights(account.address, account.may_send)
    event = Login(
        time=moment(now),
        session=session.id,
        login=session.login,
        mechanism=mechanism,
        listener=session.door.name,
        client=session.client,
    )
    house.emit(event)
    house.refusals.add(JournalEntry(encode(event), now, session=session.id))
    return WELCOME


def _refused(session: Session, username: str, mechanism: str, refusal: Refusal) -> Reply:
    house = session.house
    now = house.clock()
    event = LoginRefused(
        time=moment(now),
        session=session.id,
        login=username[:320],
        mechanism=mechanism,
        listener=session.door.name,
        client=session.client,
        reason=f"{refusal.rule}: {refusal.reason}",
    )
    house.emit(event)
    house.refusals.add(JournalEntry(encode(event), now, session=session.id))
    return refusal.reply
