"""`check domain` and `check ip` as an operator calls them, against a DNS server with real packets and real trouble."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import rsa

from staffetta.cli.main import cli
from staffetta.mailauth.dkim.keystore import KeyStore
from staffetta.mailauth.dkim.record import write_record

KEY = write_record(rsa.generate_private_key(65537, 2048).public_key())
EVIL = "v=DMARC1; p=none; x=\x1b]0;owned\x07\x1b[31m"


def a_domain(name: str, dmarc: str, **more: Any) -> dict[str, Any]:
    return {
        name: {"MX": [f"10 mx.{name}"], "TXT": ["v=spf1 mx -all"], **more},
        f"mx.{name}": {"A": ["11.22.33.44"]},
        f"_dmarc.{name}": {"TXT": [dmarc]},
        f"s1._domainkey.{name}": {"TXT": [KEY]},
    }


ZONES: dict[str, Any] = {
    **a_domain("good.example", "v=DMARC1; p=reject; rua=mailto:d@good.example"),
    **a_domain("open.example", "v=DMARC1; p=none; rua=mailto:d@open.example"),
    **a_domain("evil.example", EVIL),
    "44.33.22.11.in-addr.arpa": {"PTR": ["mx.good.example"]},
    "servfail.example": {},
    "timeout.example": {},
    "deadhost.example": {"MX": ["10 servfail.deadhost.example"], "TXT": ["v=spf1 -all"]},
    "deadkey.example": {"TXT": ["v=spf1 include:servfail.deadkey.example -all"], "MX": ["0 ."]},
    "_dmarc.deadkey.example": {"TXT": ["v=DMARC1; p=reject"]},
    "bigkey.example": {"MX": ["10 mx.good.example"], "TXT": ["v=spf1 -all"]},
    "truncate._domainkey.bigkey.example": {"TXT": [KEY]},
    "44.33.22.11.bl.example": {"A": ["127.0.0.2"], "TXT": ["see \x1b[31mhere"]},
    "44.33.22.11.zen.spamhaus.org": {"A": ["127.255.255.254"]},
    "servfail.list.example": {},
}
DMARC_SERVFAIL = "_dmarc.silent.example"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """ADDRESS:PORT of a zone server in a process of its own."""
    words = [sys.executable, "-m", "staffetta.testing.zone"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(ZONES) + "\n")
        process.stdin.flush()
        yield process.stdout.readline().strip()
        process.stdin.close()
        process.wait(10)


class Desk:
    """A configuration that asks this server, and commands with it."""

    def __init__(self, folder: Path, server: str) -> None:
        self.data_dir = folder / "data"
        self.file = folder / "staffetta.toml"
        self.file.write_text(
            f'version = 1\nhostname = "mx.good.example"\ndata_dir = "data"\n[dns]\nservers = ["{server}"]\n'
            'timeout = "1s"\n[listen.mx]\nbind = ["127.0.0.1:2525"]\nrole = "mx"\n[domain."good.example"]\n'
        )

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(cli, [*words, "-c", str(self.file)])

    def json(self, *words: str) -> tuple[int, dict[str, Any]]:
        result = self.run(*words, "--json")
        return result.exit_code, json.loads(result.stdout)


@pytest.fixture
def desk(tmp_path: Path, server: str) -> Desk:
    return Desk(tmp_path, server)


def test_json_is_the_contract(desk: Desk) -> None:
    status, answer = desk.json("check", "domain", "GOOD.example.", "--selector", "s1")
    assert status == 0
    assert list(answer)[:4] == ["schema", "domain", "verdicts", "findings"]
    assert (answer["schema"], answer["domain"]) == (1, "good.example")
    assert answer["verdicts"] == {"spoofable": "no", "reachable": "partly", "bulk": "yes"}
    for finding in answer["findings"]:
        assert list(finding)[:5] == ["code", "level", "record", "evidence", "advice"]
        assert finding["level"] == "note"


def test_problem_is_exit_1_with_the_record_to_publish(desk: Desk) -> None:
    status, answer = desk.json("check", "domain", "open.example")
    assert status == 1
    assert answer["verdicts"]["spoofable"] == "yes"
    (none,) = [finding for finding in answer["findings"] if finding["code"] == "D403"]
    assert none["evidence"] == '"v=DMARC1; p=none; rua=mailto:d@open.example"'
    assert '_dmarc.open.example. IN TXT "v=DMARC1; p=reject; rua=mailto:d@open.example"' in none["advice"]


@pytest.mark.parametrize(
    ("domain", "verdicts"),
    [
        ("servfail.example", ("yes", None, None)),
        ("timeout.example", ("yes", None, None)),
        ("deadhost.example", ("yes", None, "no")),
    ],
)
def test_silent_dns_is_exit_6_and_soon(desk: Desk, domain: str, verdicts: tuple[str | None, ...]) -> None:
    start = time.monotonic()
    status, answer = desk.json("check", "domain", domain)
    assert time.monotonic() - start < 10
    assert status == 6
    assert tuple(answer["verdicts"].values()) == verdicts


def test_silence_of_a_part_leaves_the_verdicts(desk: Desk) -> None:
    status, answer = desk.json("check", "domain", "deadkey.example")
    assert status == 1
    assert "D218" in {finding["code"] for finding in answer["findings"]}
    assert None not in answer["verdicts"].values()


def test_key_that_needs_tcp_is_found(desk: Desk) -> None:
    status, answer = desk.json("check", "domain", "bigkey.example", "--selector", "truncate")
    assert status == 1
    (found,) = [finding for finding in answer["findings"] if finding["code"] == "D300"]
    assert found["text"] == "keys that receivers accept: truncate (RSA, 2048 bits)"


def test_our_own_keys_are_missed(desk: Desk) -> None:
    desk.data_dir.mkdir()
    KeyStore(desk.data_dir).make("good.example", datetime.now(UTC))
    result = desk.run("check", "domain", "good.example")
    assert result.exit_code == 1
    assert "D302" in result.stdout
    assert "receivers cannot check the mail" in result.stdout
    assert "._domainkey.good.example. IN TXT" in result.stdout
    assert result.stderr == "Next: staffetta dkim publish good.example\n"


def test_text_says_verdicts_first_and_escapes_everything(desk: Desk) -> None:
    result = desk.run("check", "domain", "evil.example", "--list", "bl.example")
    first = result.stdout.split("\n")[0]
    assert first.startswith("Can others send as you?             YES")
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout
    assert "\\x1b]0;owned\\x07" in result.stdout
    levels = [line.split(" ")[0] for line in result.stdout.split("\n") if line[:5] in {"FAULT", "WARNI", "NOTE "}]
    assert levels == sorted(levels, key=["FAULT", "WARNING", "NOTE"].index)
    assert {"FAULT", "WARNING", "NOTE"} == set(levels)


@pytest.mark.parametrize(
    "words",
    [
        ("domain", "a..b"),
        ("domain", "192.0.2.1"),
        ("domain", "\ud800"),
        ("domain", "good.example", "--selector", "a b"),
        ("domain", "good.example", "--list", "not a zone"),
        ("ip", "300.1.1.1"),
        ("ip", "mx.good.example"),
    ],
)
def test_malformed_is_exit_2(desk: Desk, words: tuple[str, ...]) -> None:
    result = desk.run("check", *words)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_check_ip(desk: Desk) -> None:
    status, answer = desk.json("check", "ip", "11.22.33.44")
    assert status == 0
    assert list(answer)[:5] == ["schema", "address", "reverse", "confirmed", "lists"]
    assert (answer["reverse"], answer["confirmed"], answer["lists"]) == ("mx.good.example", True, [])
    status, answer = desk.json("check", "ip", "11.22.33.44", "--list", "bl.example", "--list", "zen.spamhaus.org")
    assert status == 1
    listed, refused = answer["lists"]
    assert list(listed)[:5] == ["zone", "listed", "code", "meaning", "error"]
    assert (listed["listed"], listed["code"], listed["error"]) == (True, "127.0.0.2", None)
    assert (refused["listed"], refused["code"]) == (False, "127.255.255.254")
    assert "public resolver" in refused["error"]
    assert desk.json("check", "ip", "11.22.33.44", "--list", "zen.spamhaus.org")[0] == 6
    assert desk.json("check", "ip", "11.22.33.45")[0] == 1


def test_check_ip_asks_no_list_by_itself_and_says_so(desk: Desk) -> None:
    result = desk.run("check", "ip", "[11.22.33.44]")
    assert result.exit_code == 0
    assert result.stdout == "name: mx.good.example, which leads back to it\n"
    assert "No list was asked" in result.stderr
    listed = desk.run("check", "ip", "11.22.33.44", "--list", "bl.example")
    assert "LISTED, 127.0.0.2" in listed.stdout
    assert "(see \\x1b[31mhere)" in listed.stdout


def test_configured_lists_are_asked_with_their_codes(desk: Desk) -> None:
    with desk.file.open("a") as file:
        file.write('[[checks.blocklist]]\nzone = "bl.example"\ncodes = ["127.0.0.3"]\naction = "record"\n')
    status, answer = desk.json("check", "ip", "11.22.33.44")
    assert status == 6
    assert "not among the codes that count" in answer["lists"][0]["error"]


def test_explain_route_says_what_receivers_will_find(desk: Desk) -> None:
    words = ("explain", "route", "ben@open.example", "--from", "anna@good.example")
    status, answer = desk.json(*words)
    assert (status, answer["forecast"]) == (
        0,
        ["SPF pass, DKIM none, DMARC pass: receivers will find that it is from good.example, by SPF"],
    )
    with desk.file.open("a") as file:
        file.write('[route.default]\nsource = ["11.22.33.99"]\n')
    desk.data_dir.mkdir()
    KeyStore(desk.data_dir).make("good.example", datetime.now(UTC))
    (said,) = desk.json(*words)[1]["forecast"]
    assert said.startswith(
        "SPF fail, DKIM permerror, DMARC fail: receivers will refuse it, as good.example asks (p=reject)"
    )
    assert "SPF of good.example says fail for 11.22.33.99 (-all)" in said
    assert "forecast   SPF fail" in desk.run(*words).stdout
    assert desk.json("explain", "route", "ben@open.example")[1]["forecast"] == []
    assert desk.json("explain", "route", "anna@good.example", "--from", "anna@good.example")[1]["forecast"] == []


def test_explain_route_knows_that_a_smarthost_sends_from_elsewhere(desk: Desk) -> None:
    with desk.file.open("a") as file:
        file.write('[route.default]\nvia = "mx.open.example"\nsource = ["11.22.33.99"]\n')
    _, answer = desk.json("explain", "route", "ben@far.example", "--from", "anna@good.example")
    assert answer["forecast"][0].startswith("SPF pass")  # the smarthost's address is in its record
    _, answer = desk.json("explain", "route", "ben@far.example", "--from", "anna@bigkey.example")
    assert answer["forecast"][0].startswith("SPF unknown, DKIM none, DMARC none: whether receivers take it")
