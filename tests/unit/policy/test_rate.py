"""Failed logins and connections: what is refused, who is not hurt, and how much is remembered."""

from __future__ import annotations

import pytest

from staffetta.policy import rate
from staffetta.policy.rate import Connections, LoginFailures, LoginLimits, client_network

ANNA = "anna@example.com"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:0:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("2001:db8::1", "192.0.2.1", False),
        ("/run/socket", "/run/socket", True),
        ("not:an:address", "not:an:address", True),
    ],
)
def test_client_network(one: str, other: str, same: bool) -> None:
    assert (client_network(one) == client_network(other)) is same


def rule(failures: LoginFailures, client: str, account: str, now: float) -> str:
    verdict = failures.judge(client, account, now)
    return verdict.rule if verdict is not None else ""


def test_a_network_is_shut_out_after_its_failures_and_comes_back() -> None:
    failures = LoginFailures(LoginLimits(failures=3, window_seconds=600))
    for second in range(3):
        assert rule(failures, "192.0.2.1", ANNA, second) == ""
        failures.failed("192.0.2.1", f"user{second}@example.com", second)
    assert rule(failures, "192.0.2.1", ANNA, 3) == "login_failures_network"
    assert rule(failures, "192.0.2.1", "", 3) == "login_failures_network"
    assert rule(failures, "192.0.2.2", ANNA, 3) == ""
    # the window slides: the first failure leaves it before the others
    assert rule(failures, "192.0.2.1", ANNA, 599.9) == "login_failures_network"
    assert rule(failures, "192.0.2.1", ANNA, 600) == ""
    failures.failed("192.0.2.1", ANNA, 600)
    assert rule(failures, "192.0.2.1", ANNA, 600.5) == "login_failures_network"


def test_failures_within_one_ipv6_network_add_up() -> None:
    failures = LoginFailures(LoginLimits(failures=3))
    for number in range(3):
        failures.failed(f"2001:db8::{number}", "", 0)
    assert rule(failures, "2001:db8::99", ANNA, 1) == "login_failures_network"


def test_guessing_from_everywhere_gets_one_guess_each_and_the_owner_notices_nothing() -> None:
    failures = LoginFailures(LoginLimits(failures=3, window_seconds=600))
    failures.succeeded("198.51.100.7", ANNA, 0)
    for number in range(50):
        bot = f"192.0.2.{number}"
        assert rule(failures, bot, ANNA, 10) == ""
        failures.failed(bot, ANNA, 10)
    for number in range(50):
        assert rule(failures, f"192.0.2.{number}", ANNA, 11) == ("login_failures_account")
    # others are not concerned, nor is the owner: where he was before, and where he is for the first time
    assert rule(failures, "192.0.2.1", "bob@example.com", 11) == ""
    assert rule(failures, "198.51.100.7", ANNA, 11) == ""
    assert rule(failures, "203.0.113.9", ANNA, 11) == ""
    # at home a slip is forgiven even now, up to the network's own limit
    failures.failed("198.51.100.7", ANNA, 12)
    assert rule(failures, "198.51.100.7", ANNA, 12) == ""
    assert rule(failures, "192.0.2.1", ANNA, 700) == ""


def test_case_does_not_make_another_account() -> None:
    failures = LoginFailures(LoginLimits(failures=2))
    failures.failed("192.0.2.1", "ANNA@example.com", 0)
    failures.failed("192.0.2.2", "anna@EXAMPLE.com", 0)
    assert rule(failures, "192.0.2.1", ANNA, 1) == "login_failures_account"


def test_an_own_account_does_not_clear_the_networks_count() -> None:
    failures = LoginFailures(LoginLimits(failures=3))
    for _ in range(3):
        failures.failed("192.0.2.1", ANNA, 0)
        failures.succeeded("192.0.2.1", "mallory@example.com", 0)
    assert rule(failures, "192.0.2.1", ANNA, 1) == "login_failures_network"


def test_a_known_network_is_forgotten_in_time() -> None:
    failures = LoginFailures(LoginLimits(failures=1, window_seconds=1e9, known_seconds=100))
    failures.succeeded("192.0.2.1", ANNA, 0)
    failures.failed("192.0.2.2", ANNA, 0)
    failures._networks.clear()
    assert rule(failures, "192.0.2.2", ANNA, 1) == "login_failures_account"
    failures._pairs[ANNA, "192.0.2.1"] = [0.0]
    assert rule(failures, "192.0.2.1", ANNA, 100) == ""
    assert rule(failures, "192.0.2.1", ANNA, 101) == "login_failures_account"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REMEMBERED_NETWORKS", "REMEMBERED_ACCOUNTS", "REMEMBERED_PAIRS"):
        monkeypatch.setattr(rate, name, 100)
    failures = LoginFailures(LoginLimits(failures=3))
    for number in range(1000):
        client, account = f"10.0.{number >> 8}.{number & 255}", f"u{number}" + "x" * 1000
        failures.failed(client, account, number)
        failures.failed(client, account, number)
        failures.succeeded(client, account, number)
    for _ in range(1000):
        failures.failed("192.0.2.1", ANNA, 5000)
    assert len(failures._networks) <= 100
    assert len(failures._accounts) <= 100
    assert len(failures._pairs) <= 100
    assert len(failures._known) <= 100
    assert max(len(name) for name in failures._accounts) <= 320
    assert max(len(times) for times in failures._networks.values()) <= 3


def test_connections_per_client_and_altogether() -> None:
    connections = Connections(most=4, most_per_client=2)
    assert connections.enter("192.0.2.1") is None
    assert connections.enter("::ffff:192.0.2.1") is None
    refused = connections.enter("192.0.2.1")
    assert refused is not None
    assert (refused.rule, refused.reply.code, str(refused.reply.enhanced)) == ("connections_per_client", 421, "4.7.0")
    assert connections.enter("2001:db8::1") is None
    assert connections.enter("2001:db8::2") is None
    full = connections.enter("192.0.2.9")
    assert full is not None
    assert (full.rule, full.reply.code) == ("connections", 421)
    connections.leave("192.0.2.1")
    assert connections.enter("192.0.2.1") is None
    for client in ("192.0.2.1", "192.0.2.1", "2001:db8::7", "2001:db8::8"):
        connections.leave(client)
    assert connections.open == 0
    assert not connections._per_network
    with pytest.raises(ValueError, match="left"):
        connections.leave("192.0.2.1")
