"""Who looks at the body of a message while it streams in: nobody, who will sign it, or who examines it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from staffetta.intake.examination import Examination
from staffetta.intake.signing import BodyToSign, body_to_sign
from staffetta.intake.transaction import Watch
from staffetta.message.header import Header
from staffetta.policy.door import MX
from staffetta.policy.signing import may_be_signed

if TYPE_CHECKING:
    from staffetta.intake.session import Session


def watch_of(session: Session) -> Callable[[Header], Watch | None] | None:
    """What begins to look when the header is complete; None when nobody needs to."""
    house = session.house
    room = house.examining
    if room is not None and session.door.door.role is MX and session.rights is None:
        return lambda header: Examination(room, header)
    if house.signing is not None and may_be_signed(session.door.door, session.rights):
        return _sign
    return None


def _sign(header: Header) -> BodyToSign:
    return body_to_sign()
