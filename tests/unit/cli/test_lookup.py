"""`lookup mx`: the command against a DNS server on loopback, and what a relay would do as a table."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from staffetta.config.load import Loaded, load
from staffetta.control.mx import Verdict, report
from staffetta.dns.resolver import Unavailable
from staffetta.dns.table import TableResolver
from staffetta.mail.domain import parse_domain

ZONES: dict[str, Any] = {
    "good.example": {"MX": ["20 b.good.example", "10 a.good.example"]},
    "a.good.example": {"A": ["11.22.33.44"], "AAAA": ["2a01:db8::1"]},
    "b.good.example": {"A": ["10.0.0.1"]},
    "implicit.example": {"A": ["11.22.33.45"]},
    "null.example": {"MX": ["0 ."]},
    "nothing.example": {"TXT": ["x"]},
    "inside.example": {"MX": ["10 in.inside.example"]},
    "in.inside.example": {"A": ["127.0.0.1"]},
    "back.example": {"MX": ["10 mx.example.org"]},
    "second.example": {"MX": ["10 a.good.example", "20 mx.example.org"]},
    "mx.example.org": {"A": ["11.22.33.46"]},
    "deadhost.example": {"MX": ["10 servfail.dead.example"]},
}


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


@pytest.fixture
def asking(place: Any, server: str) -> Any:
    place.file.write_text(place.file.read_text() + f'[dns]\nservers = ["{server}"]\ntimeout = "2s"\n')
    return place


def test_json_is_the_contract(asking: Any) -> None:
    (answer,) = asking.lines("lookup", "mx", "good.example")
    assert list(answer) == ["schema", "domain", "null_mx", "implicit", "hosts", "error"]
    assert answer == {
        "schema": 1,
        "domain": "good.example",
        "null_mx": False,
        "implicit": False,
        "hosts": [
            {"preference": 10, "host": "a.good.example", "addresses": ["2a01:db8::1", "11.22.33.44"]},
            {"preference": 20, "host": "b.good.example", "addresses": ["10.0.0.1"]},
        ],
        "error": None,
    }
    assert [list(host) for host in answer["hosts"]] == [["preference", "host", "addresses"]] * 2


@pytest.mark.parametrize(
    ("domain", "status", "null_mx", "implicit", "has_error"),
    [
        ("good.example", 0, False, False, False),
        ("GOOD.example.", 0, False, False, False),
        ("implicit.example", 0, False, True, False),
        ("null.example", 1, True, False, True),
        ("nothing.example", 1, False, False, True),
        ("no-such.example", 1, False, False, True),
        ("servfail.good.example", 6, False, False, True),
        ("deadhost.example", 6, False, False, True),
    ],
)
def test_exit_statuses(asking: Any, domain: str, status: int, null_mx: bool, implicit: bool, has_error: bool) -> None:
    result = asking.run("lookup", "mx", domain, "--json")
    assert result.exit_code == status
    answer = json.loads(result.stdout)
    assert (answer["null_mx"], answer["implicit"], answer["error"] is not None) == (null_mx, implicit, has_error)
    assert asking.run("lookup", "mx", domain).exit_code == status


@pytest.mark.parametrize(
    "domain",
    ["", ".", "a..b", "-a.example", "x y", "192.0.2.1", "anna@good.example", "a.example\n", "\u202ea", "\udcff"],
)
def test_what_is_no_domain_is_2(asking: Any, domain: str) -> None:
    result = asking.run("lookup", "mx", "--", domain) if domain.startswith("-") else asking.run("lookup", "mx", domain)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "\u202e" not in result.stderr


def test_data_is_on_stdout_and_advice_on_stderr(asking: Any) -> None:
    result = asking.run("lookup", "mx", "good.example")
    assert result.stdout == "10\ta.good.example\t2a01:db8::1, 11.22.33.44\n20\tb.good.example\t10.0.0.1\n"
    assert "never connect to b.good.example at 10.0.0.1: private" in result.stderr


def test_a_named_file_that_is_missing_is_8(tmp_path: Path, place: Any) -> None:
    place.file.unlink()
    assert place.run("lookup", "mx", "good.example").exit_code == 8


MORE = """
[domain."ours.example"]
[route.some]
to = ["good.example"]
from = ["news.example"]
via = "smart.example:25"
"""


@pytest.mark.parametrize(
    ("domain", "said", "not_said"),
    [
        ("ours.example", ["ours.example is ours: mail is delivered into mailboxes here"], ["try"]),
        ("partner.example", ["mail takes route partner to smart.example:2525"], ["return"]),
        (
            "good.example",
            ["mail from news.example takes route some to smart.example:25", "mail takes route default: try the hosts"],
            [],
        ),
        ("implicit.example", ["no MX, so the domain's own address"], ["never"]),
        ("null.example", ["return it to the sender at once: 556 5.1.10"], ["try"]),
        ("inside.example", ["127.0.0.1: loopback", "no address is left"], []),
        ("back.example", ["mx.example.org is this relay itself", "5.4.6"], []),
        ("second.example", ["leave out mx.example.org"], ["no address is left"]),
        ("unknown.example", ["wait and try again"], ["return"]),
    ],
)
def test_what_a_relay_would_do(place: Any, domain: str, said: list[str], not_said: list[str]) -> None:
    place.file.write_text(place.file.read_text() + MORE)
    loaded = load(place.file, {})
    assert isinstance(loaded, Loaded)
    resolver = TableResolver({**ZONES, "unknown.example": Unavailable("SERVFAIL")})
    found = asyncio.run(report(resolver, parse_domain(domain), loaded.config))
    text = "\n".join(found.would)
    assert all(words in text for words in said), text
    assert not any(words in text for words in not_said), text


def test_without_a_configuration_only_the_dns_speaks() -> None:
    found = asyncio.run(report(TableResolver(ZONES), parse_domain("good.example"), None))
    assert found.verdict is Verdict.TAKES_MAIL
    assert found.would[0].startswith("try the hosts in this order")
