"""How many workers a relay has when nobody says."""

from __future__ import annotations

from pathlib import Path

import pytest

from staffetta.app.workers.crew import MOST_BY_ITSELF, offers_tls, workers_for
from staffetta.config.schema import Config, DoorTls, Listen, Tls
from staffetta.mail.domain import Domain
from staffetta.net.endpoint import Bind
from staffetta.policy.door import Role


@pytest.mark.parametrize(
    ("processes", "cores", "tls", "workers"),
    [
        (None, 1, False, 0),
        (None, 1, True, 0),
        (None, 2, False, 1),
        (None, 2, True, 2),
        (None, 3, True, 3),
        (None, 4, False, 3),
        (None, 4, True, MOST_BY_ITSELF),
        (None, 64, False, MOST_BY_ITSELF),
        (0, 8, True, 0),
        (1, 2, True, 1),
        (3, 1, False, 3),
    ],
)
def test_how_many(processes: int | None, cores: int, tls: bool, workers: int) -> None:
    assert workers_for(processes, cores, tls=tls) == workers


@pytest.mark.parametrize(
    ("listens", "certificate", "offered"),
    [
        ((Listen("mx", (Bind("127.0.0.1", 25),), Role.MX),), True, True),
        ((Listen("mx", (Bind("127.0.0.1", 25),), Role.MX),), False, False),
        ((Listen("relay", (Bind("127.0.0.1", 25),), Role.RELAY, DoorTls.OFF),), True, False),
        (
            (
                Listen("relay", (Bind("127.0.0.1", 25),), Role.RELAY, DoorTls.OFF),
                Listen("submission", (Bind("127.0.0.1", 465),), Role.SUBMISSION),
            ),
            True,
            True,
        ),
        ((), True, False),
    ],
)
def test_who_offers_tls(listens: tuple[Listen, ...], certificate: bool, offered: bool) -> None:
    tls = Tls(Path("certificate.pem"), Path("key.pem")) if certificate else None
    assert offers_tls(Config(Domain("relay.example"), listeners=listens, tls=tls)) is offered
