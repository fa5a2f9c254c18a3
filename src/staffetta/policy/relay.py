"""May this client send here at all, and may this recipient be accepted?

RFC 5321 section 3.6 (relaying), 7.3 (what a refusal reveals), RFC 6409 section 4.3 (submission needs authorisation),
RFC 4954 section 6 (530). Strangers reach local recipients through `mx` doors and nothing else anywhere.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from staffetta.mail.reply import reply
from staffetta.policy.door import MX, RELAY, Client, Door
from staffetta.policy.verdict import Allowed, Refusal, Verdict


class Place(StrEnum):
    """Where a recipient is, as the directory says."""

    LOCAL = "local"
    """In a local domain, and somebody is there (postmaster always is)."""
    UNKNOWN = "unknown"
    """In a local domain, and nobody is there."""
    OUTSIDE = "outside"
    """Somebody else's domain."""


LOCAL: Final = Place.LOCAL
UNKNOWN: Final = Place.UNKNOWN
OUTSIDE: Final = Place.OUTSIDE
"""As MX in policy/door."""

OPEN_TO_ALL: Final = Allowed("mx")
TRUSTED_NETWORK: Final = Allowed("trusted_network")
LOGGED_IN: Final = Allowed("login")
LOCAL_RECIPIENT: Final = Allowed("local_recipient")
LOCAL_SUBMISSION: Final = Allowed("local_submission")

LOGIN_REQUIRED: Final = Refusal(
    reply(530, "5.7.0", "login required"), "login_required", "this door takes mail only after a login"
)
CLIENT_NOT_TRUSTED: Final = Refusal(
    reply(550, "5.7.1", "access denied"),
    "client_not_trusted",
    "the client is outside the door's trusted networks, and the door offers no login",
)
TRUST_WITHDRAWN: Final = Refusal(
    reply(550, "5.7.1", "access denied, log in to send"),
    "trust_withdrawn",
    "strangers seem to hide behind this trusted address, so its trust is withdrawn: staffetta status says why",
)
RELAYING_DENIED: Final = Refusal(
    reply(550, "5.7.1", "relaying denied"), "relaying_denied", "neither a local recipient nor a client that may relay"
)
RELAYING_DENIED_AT_MX: Final = Refusal(
    RELAYING_DENIED.reply,
    "relaying_denied",
    "an mx door relays for nobody, not even after a login: send through a submission or relay door",
)
UNKNOWN_RECIPIENT: Final = Refusal(
    reply(550, "5.1.1", "no such recipient here"), "unknown_recipient", "no account, alias or catch-all has it"
)


ONLY_BOUNCES: Final = Refusal(
    reply(550, "5.7.1", "this address takes only bounces"),
    "only_bounces",
    "the address stands for the sender of forwarded mail, and only a bounce (null sender) may go back to it",
)


def may_send(door: Door, client: Client) -> Verdict:
    """May this client begin a mail transaction? Asked at MAIL, so that no address is looked up for strangers."""
    if door.role is MX:
        return OPEN_TO_ALL
    if door.local and client.trusted:
        return LOCAL_SUBMISSION
    if client.logged_in:
        return LOGGED_IN
    if door.role is RELAY and client.trusted:
        return TRUSTED_NETWORK
    if client.withdrawn:
        return TRUST_WITHDRAWN
    return LOGIN_REQUIRED if door.auth else CLIENT_NOT_TRUSTED


def may_reach(door: Door, client: Client, place: Place) -> Verdict:
    """May this recipient be accepted? Asked at RCPT, after `may_send` allowed the transaction.

    Whoever may not relay gets one and the same reply for every outside address; unknown local ones are refused openly
    (RFC 5321 section 3.3), because accepting them would mean bouncing to forged senders later.
    """
    first = may_send(door, client)
    if isinstance(first, Refusal):
        return first
    if place is LOCAL:
        return first if door.local else LOCAL_RECIPIENT
    if place is UNKNOWN:
        return UNKNOWN_RECIPIENT
    if door.role is not MX:
        return first
    return RELAYING_DENIED_AT_MX if client.logged_in else RELAYING_DENIED
