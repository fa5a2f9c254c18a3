"""Who may send, and to whom: the page of the relay policy, one row a sentence."""

from __future__ import annotations

import pytest

from staffetta.policy.door import Client, Door, Role
from staffetta.policy.relay import Place, may_reach, may_send
from staffetta.policy.verdict import Allowed, Refusal

MX = Door("in", Role.MX, auth=False)
MX_AUTH = Door("in-with-login", Role.MX)
SUBMISSION = Door("submission", Role.SUBMISSION)
RELAY = Door("office", Role.RELAY)
RELAY_WITHOUT_LOGIN = Door("printers", Role.RELAY, auth=False)
STRANGER = Client()
TRUSTED = Client(trusted=True)
LOGIN = Client(logged_in=True)
BOTH = Client(trusted=True, logged_in=True)
WITHDRAWN = Client(withdrawn=True)
WITHDRAWN_LOGIN = Client(logged_in=True, withdrawn=True)

SENDING = [
    (MX, STRANGER, "mx"),
    (MX_AUTH, LOGIN, "mx"),
    (SUBMISSION, STRANGER, "530 5.7.0"),
    (SUBMISSION, TRUSTED, "530 5.7.0"),
    (SUBMISSION, LOGIN, "login"),
    (RELAY, STRANGER, "530 5.7.0"),
    (RELAY, TRUSTED, "trusted_network"),
    (RELAY, LOGIN, "login"),
    (RELAY, BOTH, "login"),
    (RELAY_WITHOUT_LOGIN, STRANGER, "550 5.7.1"),
    (RELAY_WITHOUT_LOGIN, TRUSTED, "trusted_network"),
    (RELAY, WITHDRAWN, "550 5.7.1"),
    (RELAY, WITHDRAWN_LOGIN, "login"),
    (RELAY_WITHOUT_LOGIN, WITHDRAWN, "550 5.7.1"),
    (MX, WITHDRAWN, "mx"),
    (SUBMISSION, WITHDRAWN_LOGIN, "login"),
]

REACHING = [
    (MX, STRANGER, Place.LOCAL, "local_recipient"),
    (MX, STRANGER, Place.UNKNOWN, "550 5.1.1"),
    (MX, STRANGER, Place.OUTSIDE, "550 5.7.1"),
    (MX, TRUSTED, Place.OUTSIDE, "550 5.7.1"),
    (MX_AUTH, LOGIN, Place.OUTSIDE, "550 5.7.1"),
    (MX_AUTH, LOGIN, Place.LOCAL, "local_recipient"),
    (SUBMISSION, STRANGER, Place.LOCAL, "530 5.7.0"),
    (SUBMISSION, STRANGER, Place.UNKNOWN, "530 5.7.0"),
    (SUBMISSION, STRANGER, Place.OUTSIDE, "530 5.7.0"),
    (SUBMISSION, TRUSTED, Place.OUTSIDE, "530 5.7.0"),
    (SUBMISSION, LOGIN, Place.LOCAL, "local_recipient"),
    (SUBMISSION, LOGIN, Place.UNKNOWN, "550 5.1.1"),
    (SUBMISSION, LOGIN, Place.OUTSIDE, "login"),
    (RELAY, STRANGER, Place.OUTSIDE, "530 5.7.0"),
    (RELAY, STRANGER, Place.LOCAL, "530 5.7.0"),
    (RELAY, TRUSTED, Place.OUTSIDE, "trusted_network"),
    (RELAY, TRUSTED, Place.LOCAL, "local_recipient"),
    (RELAY, TRUSTED, Place.UNKNOWN, "550 5.1.1"),
    (RELAY, LOGIN, Place.OUTSIDE, "login"),
    (RELAY_WITHOUT_LOGIN, STRANGER, Place.OUTSIDE, "550 5.7.1"),
    (RELAY_WITHOUT_LOGIN, STRANGER, Place.LOCAL, "550 5.7.1"),
    (RELAY_WITHOUT_LOGIN, TRUSTED, Place.OUTSIDE, "trusted_network"),
    (RELAY, WITHDRAWN, Place.OUTSIDE, "550 5.7.1"),
    (RELAY, WITHDRAWN, Place.LOCAL, "550 5.7.1"),
    (MX, WITHDRAWN, Place.LOCAL, "local_recipient"),
    (MX, WITHDRAWN, Place.OUTSIDE, "550 5.7.1"),
]


def said(verdict: Allowed | Refusal) -> str:
    if isinstance(verdict, Allowed):
        return verdict.rule
    assert verdict.rule
    assert verdict.reason
    return f"{verdict.reply.code} {verdict.reply.enhanced}"


@pytest.mark.parametrize(("door", "client", "expected"), SENDING)
def test_who_may_begin_a_message(door: Door, client: Client, expected: str) -> None:
    assert said(may_send(door, client)) == expected


@pytest.mark.parametrize(("door", "client", "place", "expected"), REACHING)
def test_whom_a_message_may_reach(door: Door, client: Client, place: Place, expected: str) -> None:
    assert said(may_reach(door, client, place)) == expected


def test_no_combination_lets_a_stranger_out() -> None:
    for role in Role:
        for auth in (False, True):
            for trusted in (False, True):
                verdict = may_reach(Door("d", role, auth), Client(trusted), Place.OUTSIDE)
                assert isinstance(verdict, Allowed) == (role is Role.RELAY and trusted)


def test_relaying_is_denied_in_the_same_words_after_a_login() -> None:
    stranger, login = (may_reach(MX_AUTH, client, Place.OUTSIDE) for client in (STRANGER, LOGIN))
    assert isinstance(stranger, Refusal)
    assert isinstance(login, Refusal)
    assert stranger.reply == login.reply
