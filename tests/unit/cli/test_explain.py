"""`explain route` and `explain session`: what they say, where they point, and that they leave nothing behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CONFIG = """\
version = 1
hostname = "mx.example.org"
data_dir = "data"

[tls]
certificate = "nothing.pem"
key = "nothing.key"

[listen.mx]
bind = ["127.0.0.1:2525"]
role = "mx"

[listen.submission]
bind = ["127.0.0.1:2587"]
role = "submission"

[listen.office]
bind = ["127.0.0.1:2526"]
role = "relay"
trust = ["10.1.0.0/16"]
from = ["example.org"]

[domain."example.org"]
catch_all = "rest"

[domain."example.org".aliases]
Sales = ["anna", "ben@far.example"]
rest = ["anna"]
lost = ["nobody2"]

[domain."closed.example"]

[domain."any.example"]
recipients = "any"
deliver = "lmtp:127.0.0.1:24"

[route.acme]
from = ["acme.example"]
to = [".far.example", "far.example"]
via = "127.0.0.9:2525"

[route.partner]
to = ["partner.example"]
via = ["127.0.0.1:465", "127.0.0.2:2525"]

[checks]
dmarc = "off"
spf = "off"
dkim = "off"
arc = "off"

[dns]
servers = ["127.0.0.1:9"]
timeout = "1s"
"""


@pytest.fixture
def office(place: Any) -> Any:
    place.file.write_text(CONFIG)
    added = place.run("account", "add", "anna@example.org", "--password-stdin", stdin="a good enough password\n")
    assert added.exit_code == 0, added.output
    return place


def line_of(text: str) -> str:
    """`staffetta.toml:N` of the line that begins so."""
    return f"staffetta.toml:{next(n for n, line in enumerate(CONFIG.split(chr(10)), 1) if line.startswith(text))}"


Said = Callable[..., dict[str, Any]]


@pytest.fixture
def said(office: Any) -> Said:
    def ask(*words: str, status: int) -> dict[str, Any]:
        result = office.run(*words, "--json")
        assert result.exit_code == status, result.output
        answer: dict[str, Any] = json.loads(result.stdout)
        return answer

    return ask


def steps(report: dict[str, Any], about: str) -> list[tuple[str, str]]:
    return [(step["text"], step["where"]) for step in report["steps"] if step["about"] == about]


# explain route


def test_an_account_is_delivered_here(said: Said) -> None:
    report = said("explain", "route", "Anna+x@example.org", status=0)
    assert report["verdict"] == "delivered here"
    ((text, where),) = steps(report, "recipient")
    assert "anna@example.org" in text
    assert where == "accounts"
    assert steps(report, "domain") == [("example.org is a domain of ours", line_of('[domain."example.org"]'))]
    assert [target["destination"] for target in report["targets"]] == ["local:example.org"]
    assert [step["number"] for step in report["steps"]] == list(range(1, len(report["steps"]) + 1))


def test_an_alias_names_its_line_and_every_target_is_followed(said: Said) -> None:
    report = said("explain", "route", "SALES@example.org", status=6)
    (text, where), *_ = steps(report, "recipient")
    assert text == "alias sales stands for anna@example.org, ben@far.example"
    assert where == line_of("Sales =")
    assert [target["recipient"] for target in report["targets"]] == ["anna@example.org", "ben@far.example"]
    assert report["targets"][1]["temporary"]


def test_the_catch_all(said: Said) -> None:
    report = said("explain", "route", "whoever@example.org", status=0)
    ((text, where),) = steps(report, "recipient")
    assert text.startswith("nobody has it, so the catch-all takes it: anna@example.org")
    assert where == line_of("catch_all")


def test_an_alias_that_leads_nowhere(said: Said) -> None:
    report = said("explain", "route", "nobody@closed.example", status=1)
    assert report["verdict"] == "refused"
    assert report["targets"] == []
    assert "550 5.1.1" in steps(report, "recipient")[0][0]


def test_every_local_part_and_lmtp(said: Said) -> None:
    report = said("explain", "route", "x@any.example", status=0)
    assert steps(report, "recipient")[0][1] == line_of('recipients = "any"')
    assert steps(report, "delivery") == [("by LMTP", line_of("deliver"))]
    assert report["targets"][0]["hosts"][0]["port"] == 24


def test_a_route_by_its_sender(said: Said) -> None:
    ours = said("explain", "route", "x@sub.far.example", "--from", "news@acme.example", status=0)
    ((text, where),) = steps(ours, "route")
    assert text == '[route.acme] is the first that takes it, by ".far.example" and its sender'
    assert where == line_of('to = [".far')
    assert ours["targets"][0]["hosts"] == [
        {"host": "127.0.0.9", "port": 2525, "preference": None, "addresses": ["127.0.0.9"], "denied": []}
    ]
    other = said("explain", "route", "x@far.example", "--from", "x@other.example", status=6)
    skipped, taken = steps(other, "route")
    assert skipped == ("[route.acme] takes only mail from acme.example", line_of('from = ["acme'))
    assert taken[0].endswith("[route.default], by MX")


def test_hosts_in_order_and_tls_of_the_first(said: Said) -> None:
    report = said("explain", "route", "x@partner.example", status=0)
    assert [host["host"] for host in report["targets"][0]["hosts"]] == ["127.0.0.1", "127.0.0.2"]
    assert report["targets"][0]["tls"] == "implicit"


def test_the_dns_does_not_answer(said: Said) -> None:
    report = said("explain", "route", "x@elsewhere.example", status=6)
    assert report["verdict"] == "unknown"
    assert "mail waits" in steps(report, "outcome")[0][0]


def test_an_address_literal_of_our_own_network(said: Said) -> None:
    report = said("explain", "route", "x@[127.0.0.1]", status=1)
    assert report["targets"][0]["hosts"][0]["denied"] == ["127.0.0.1"]


@pytest.mark.parametrize("address", ["bad", "a@b@c", "@x.example", "a@", "\udcff@x.example", "a@x.example\n"])
def test_a_malformed_address_is_2(office: Any, address: str) -> None:
    assert office.run("explain", "route", address).exit_code == 2


def test_the_store_tells_what_waits_and_what_is_down(relay: Any) -> None:
    text = relay.run("explain", "route", "cara@partner.example").stdout
    assert "destination route:partner: 1 waiting" in text


def test_people_get_lines_and_no_control_characters(office: Any) -> None:
    result = office.run("explain", "route", "sales@example.org")
    assert result.stdout.startswith("mail for sales@example.org from <>: unknown\n 1  domain ")
    assert all(line.isprintable() for line in result.stdout.split("\n"))


# explain session

ASK = ["explain", "session", "--from-ip", "203.0.113.7", "--helo", "h.example", "--mail-from", "a@far.example"]


def by_command(report: dict[str, Any], command: str) -> dict[str, Any]:
    found: dict[str, Any] = next(step for step in report["steps"] if step["command"].startswith(command))
    return found


def test_a_stranger_for_a_local_recipient(said: Said) -> None:
    report = said(*ASK, "--rcpt", "sales@example.org", status=0)
    assert (report["door"], report["verdict"]) == ("mx", "accepted")
    assert report["recipients"] == ["anna@example.org", "ben@far.example"]
    step = by_command(report, "RCPT")
    assert (step["reply"], step["rule"], step["where"]) == (
        "250 2.1.5 recipient ok", "local_recipient", line_of("Sales ="),
    )  # fmt: skip


def test_a_stranger_who_wants_to_relay(said: Said) -> None:
    report = said(*ASK, "--rcpt", "x@far.example", status=1)
    step = by_command(report, "RCPT")
    assert (step["reply"], step["rule"]) == ("550 5.7.1 relaying denied", "relaying_denied")
    assert step["where"] == line_of('role = "mx"')
    assert step["reason"]


def test_an_unknown_recipient_points_at_its_domain(said: Said) -> None:
    report = said(*ASK, "--rcpt", "x@closed.example", status=1)
    assert by_command(report, "RCPT")["where"] == line_of('[domain."closed.example"]')


def test_some_refused_and_some_taken(said: Said) -> None:
    report = said(*ASK, "--rcpt", "x@far.example", "--rcpt", "postmaster", status=0)
    assert [step["reply"][:3] for step in report["steps"] if step["command"].startswith("RCPT")] == ["550", "250"]


def test_a_local_name_from_outside(said: Said) -> None:
    words = [word if word != "a@far.example" else "anna@example.org" for word in ASK]
    step = by_command(said(*words, "--rcpt", "anna@example.org", status=1), "MAIL")
    assert (step["rule"], step["where"]) == ("local_sender_from_outside", line_of('[domain."example.org"]'))


def test_a_login_needs_no_password_and_has_its_rights(said: Said) -> None:
    words = [word if word != "a@far.example" else "anna+news@example.org" for word in ASK]
    report = said(*words, "--rcpt", "x@far.example", "--login", "anna@example.org", status=0)
    assert report["door"] == "submission"
    assert [step["command"].partition(" ")[0] for step in report["steps"]] == [
        "(connection)", "EHLO", "STARTTLS", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "(a", "QUIT",
    ]  # fmt: skip
    assert by_command(report, "AUTH")["reply"].startswith("235")
    refused = said(*ASK, "--rcpt", "x@far.example", "--login", "anna@example.org", status=1)
    assert by_command(refused, "MAIL")["rule"] == "sender_not_owned"
    forged = said(
        *words, "--rcpt", "x@far.example", "--login", "anna@example.org", "--header-from", "boss@example.org", status=1
    )
    assert by_command(forged, "(a message")["rule"] == "header_not_owned"


def test_a_login_that_does_not_exist(said: Said) -> None:
    report = said(*ASK, "--rcpt", "x@far.example", "--login", "ben@example.org", status=1)
    assert report["steps"][-1]["reply"].startswith("535")
    assert report["steps"][-1]["reason"] == "no such account"


def test_no_login_at_a_door_without(said: Said) -> None:
    report = said(*ASK, "--rcpt", "x@far.example", "--login", "anna@example.org", "--door", "mx", status=1)
    assert by_command(report, "AUTH")["reply"][:1] == "5"


def test_trust_and_the_list_of_senders_at_a_door(said: Said) -> None:
    inside = [word if word != "203.0.113.7" else "10.1.2.3" for word in ASK]
    refused = said(*inside, "--rcpt", "x@far.example", "--door", "office", status=1)
    assert by_command(refused, "MAIL")["where"] == line_of("from = [")
    words = [word if word != "a@far.example" else "anna@example.org" for word in inside]
    taken = said(*words, "--rcpt", "x@far.example", "--door", "office", status=0)
    assert by_command(taken, "RCPT")["rule"] == "trusted_network"
    assert by_command(taken, "RCPT")["where"] == line_of("trust =")
    outside = said(*ASK, "--rcpt", "x@far.example", "--door", "office", status=1)
    assert by_command(outside, "MAIL")["rule"] == "login_required"


@pytest.mark.parametrize(
    "words",
    [
        ["--from-ip", "300.1.1.1", "--mail-from", "", "--rcpt", "a@b.example"],
        ["--from-ip", "192.0.2.1", "--mail-from", "bad", "--rcpt", "a@b.example"],
        ["--from-ip", "192.0.2.1", "--mail-from", "<>"],
        ["--from-ip", "192.0.2.1", "--mail-from", "<>", "--rcpt", "a@b.example", "--door", "no\x1bwhere"],
        ["--from-ip", "192.0.2.1", "--mail-from", "<>", "--rcpt", "a@b.example", "--helo", "a\r\nb"],
        ["--from-ip", "192.0.2.1", "--mail-from", "<>", "--rcpt", "a@b.example", "--header-from", "a\r\nBcc: x"],
    ],
)
def test_wrong_usage_is_2(office: Any, words: list[str]) -> None:
    result = office.run("explain", "session", *words)
    assert result.exit_code == 2
    assert "\x1b" not in result.output


def test_nothing_is_left_behind(office: Any, said: Said) -> None:
    def names() -> set[str]:
        return {path.name.removesuffix("-wal").removesuffix("-shm") for path in office.data_dir.iterdir()}

    before = names()
    said(*ASK, "--rcpt", "sales@example.org", status=0)
    assert names() == before
    assert office.run("trace", "from:a@far.example").exit_code == 3


def test_without_a_store_nobody_has_an_account(place: Any) -> None:
    result = place.run("explain", "session", *ASK[2:], "--rcpt", "anna@example.org")
    assert result.exit_code == 1
    assert "unknown_recipient" in result.stdout
    assert not Path(place.data_dir).exists()
