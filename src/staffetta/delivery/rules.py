"""What of the configuration delivery goes by, as one value: a reload puts another in its place while mail is moving.

Also filing anew: what waits, or is at hand, under a destination that today's routes do not give it any more.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from staffetta.delivery.bounce import Notifier
from staffetta.delivery.courier import CourierFactory
from staffetta.mail.address import Mailbox, ReversePath
from staffetta.policy.retry import RetrySettings
from staffetta.policy.route import is_held
from staffetta.spool.contract import Claim, WaitingRecipient

Choose = Callable[[Mailbox, ReversePath], str]
"""The destination key of a recipient, by recipient and sender."""

Limits = Callable[[str], tuple[int, float]]
"""Connections at most, and transactions a second (0: no limit), of a destination; (0, 0.0) for the default."""


class Rules(msgspec.Struct, frozen=True):
    """The rules of one configuration."""

    retry: RetrySettings
    couriers: CourierFactory
    notifier: Notifier
    limits: Limits
    destination: Choose


def rerouted(claim: Claim, choose: Choose | None) -> Claim | None:
    """The claim under the routes of today, where they are not those under which it waits; else None.

    It goes back to the spool under its new destination before anybody tries it: what is known of that destination
    (it may be down) must hold for it too.
    """
    if choose is None:
        return None
    sender = claim.message.sender.reverse_path
    for recipient in claim.recipients:
        key = choose(recipient.address, sender)
        if key != recipient.destination and not is_held(recipient.destination):
            break
    else:
        return None
    today = tuple([_filed(recipient, choose(recipient.address, sender)) for recipient in claim.recipients])
    return Claim(claim.message, today, claim.content)


def _filed(recipient: WaitingRecipient, key: str) -> WaitingRecipient:
    return recipient if is_held(recipient.destination) else replace(recipient, destination=key)
