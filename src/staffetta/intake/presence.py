"""Clients that come and go: the events that say so, and who is not greeted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from staffetta.mail.reply import reply
from staffetta.observe.events import Connect, Disconnect, moment
from staffetta.policy.verdict import Refusal

if TYPE_CHECKING:
    from staffetta.intake.session import Session

EARLY_TALKER: Final = Refusal(
    reply(554, "5.5.1", "you spoke before the greeting"), "early_talker", "octets came before the greeting was sent"
)


def connect_event(session: Session, now: float) -> Connect:
    """Who it is stands fast: behind a proxy that is not the end of the stream."""
    door = session.door
    return Connect(
        time=moment(now),
        session=session.id,
        listener=door.door.name,
        client=session.client,
        tls="implicit" if door.implicit_tls else "",
    )


def disconnect_event(session: Session, now: float, received: int, error: Exception | None) -> Disconnect:
    """`received`: octets; `error`: what ended the stream, where nothing better is known."""
    tls = session.stream.tls
    return Disconnect(
        time=moment(now),
        session=session.id,
        listener=session.door.door.name,
        client=session.client,
        tls="" if tls is None else str(tls),
        bytes=received,
        reason=session.reason or (str(error) if error is not None else "closed"),
    )
