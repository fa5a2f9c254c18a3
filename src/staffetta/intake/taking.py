"""From the last octet of a message that was judged to the reply.

Most messages wait for one thing only, that they are on disk. Where that is told in a callback, the reply is given in
it, and no task is made. What awaits more than that, such as a signature or what others publish, is a task.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from staffetta.intake.accept import Letter, accept_begun, accepted, begin, complete, not_stored
from staffetta.intake.examination import Examination
from staffetta.intake.examined import accept_examined
from staffetta.intake.handover import UnderWay
from staffetta.intake.refusals import Why
from staffetta.intake.transaction import Transaction
from staffetta.mail.reply import Reply, reply
from staffetta.message.scan import Scan
from staffetta.spool.contract import Draft, SpoolUnavailable

if TYPE_CHECKING:
    from staffetta.intake.session import Session

BROKEN: Final = reply(451, "4.3.0", "internal error, try again later")


def take(session: Session, transaction: Transaction, scan: Scan, draft: Draft) -> Reply | None:
    """Put it on disk and hand it to delivery; the reply for the client, or None when the session will have it later."""
    house, watch = session.house, transaction.watch
    if isinstance(watch, Examination):
        work = accept_examined(session, transaction, scan, draft, watch)
        session.answer_by(_ended(session, transaction, draft, work))
        return None
    try:
        letter = begin(session, transaction, scan, draft)
        if letter.signed_as is not None:
            session.answer_by(_ended(session, transaction, draft, accept_begun(session, transaction, letter)))
            return None
        handed_over = house.hand_over(house, complete(session, transaction, letter))
    except Exception as error:
        return _failed(session, transaction, draft, error)
    if isinstance(handed_over, UnderWay):
        session.wait()
        handed_over.then(partial(_answer, session, transaction, letter))
    else:
        session.answer_by(_ended(session, transaction, draft, _awaited(handed_over, letter)))
    return None


def _answer(session: Session, transaction: Transaction, letter: Letter, error: Exception | None) -> None:
    try:
        answer = accepted(letter) if error is None else _failed(session, transaction, letter.draft, error)
    except Exception as bug:  # without an answer the client would wait for ever
        session.house.report(bug)
        answer = BROKEN
    session.answer_later(answer)


async def _awaited(handed_over: Awaitable[None], letter: Letter) -> Reply:
    await handed_over
    return accepted(letter)


async def _ended(session: Session, transaction: Transaction, draft: Draft, work: Coroutine[Any, Any, Reply]) -> Reply:
    try:
        return await work
    except Exception as error:
        return _failed(session, transaction, draft, error)


def _failed(session: Session, transaction: Transaction, draft: Draft, error: Exception) -> Reply:
    """The reply when it was not taken. Our own bug puts the message off, leaves nothing on disk, and can be found."""
    if isinstance(error, SpoolUnavailable):
        return not_stored(session, transaction, draft, error)
    session.house.report(error)
    # Of what was committed all the same nothing is taken back: a draft that became a message is none any more.
    session.discard(draft)
    why = Why("internal_error", f"a bug of ours ({type(error).__name__}), reported", transaction=transaction)
    session.note_refusal("data", BROKEN, why)
    return BROKEN
