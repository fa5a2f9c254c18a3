"""Metrics: counted right, readable by a strict reader, all there from the start, and nothing of strangers in labels."""

from __future__ import annotations

import ast
import math
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from staffetta.console.exposition import exposition, gauge
from staffetta.console.metrics import Facts, Store, families
from staffetta.console.process import Process, this_process
from staffetta.console.rules import LOGIN_RULES, REFUSALS
from staffetta.observe.events import (
    Accept,
    Attempt,
    Connect,
    Defer,
    Deliver,
    Event,
    Expire,
    Junk,
    Login,
    LoginRefused,
    Notice,
    Refuse,
)
from staffetta.observe.metrics import FIELDS, Counters
from staffetta.spool.contract import Ledger, State
from staffetta.spool.operator import Down, Standing
from staffetta.testing.metrics_page import MetricsPage, PageFault

NOW = 1_800_000_000.0
SOURCE = Path(__file__).parents[3] / "src" / "staffetta"
PROCESS = Process(1.5, 40 << 20, 90 << 20, NOW - 60, 12, 1024)


def event(kind: type[Event], /, **fields: Any) -> Event:
    """An event of that kind; what is not given holds something hostile."""
    given: dict[str, Any] = {"time": datetime.fromtimestamp(NOW, UTC)}
    for field in msgspec.structs.fields(kind):
        if field.name not in {"time", "session", "id"}:
            given[field.name] = fields.get(field.name, 'evil\n"label\\')
    return kind(**given)


def facts(counters: Counters | None = None, **more: Any) -> Facts:
    ledger = Ledger(accepted=9, delivered=5, bounced=1, dropped=1, queued=2)
    standing = Standing(
        {State.QUEUED: 1, State.DEFERRED: 1}, {State.DEFERRED: NOW - 90}, 5000, ledger, (Down("mx:a", 0, 1, "", 1),)
    )
    plain = Facts(
        version="1.0",
        python="3.11.7",
        now=NOW,
        listeners=("mx", "submission", "local"),
        sessions={"mx": 3},
        counters=counters or Counters(),
        store=Store(standing, 10_000, 90_000),
        expires={"mx.example.org": NOW + 86_400},
        lists={"zen.example": True, "dead.example": False},
        alarms=("dkim example.org", "blocklist dead.example", "clock", 'somebody\'s "name"'),
        selfcheck=None,
        reload_success=True,
        loaded_at=NOW - 10.5,
        lag_seconds=0.0025,
        missing_log_lines=0,
        missing_refusals=4,
        process=PROCESS,
    )
    return msgspec.structs.replace(plain, **more)


def page(facts: Facts) -> MetricsPage:
    return MetricsPage(exposition(families(facts)))


def test_what_is_counted() -> None:
    counters = Counters()
    events = [
        event(Connect, listener="mx", tls=""),
        event(Connect, listener="submission", tls="implicit"),
        event(Connect, listener="submission", tls="implicit"),
        event(Login, listener="submission", mechanism="PLAIN"),
        event(LoginRefused, listener="submission", mechanism="LOGIN"),
        event(Accept, listener="submission"),
        event(Refuse, stage="rcpt", rule="relaying_denied"),
        event(Refuse, stage="rcpt", rule="a_rule_of_tomorrow"),
        event(Attempt, outcome="delivered", tls="TLSv1.3 TLS_AES_256_GCM_SHA384"),
        event(Attempt, outcome="delivered", tls="TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256"),
        event(Attempt, outcome="deferred", tls=""),
        event(Deliver),
        event(Defer),
        event(Defer),
        event(Expire),
        event(Junk),
        event(Notice, kind="failed"),
    ]
    for one in events:
        counters.observe(one)
    series = page(facts(counters))
    for name, labels, expected in (
        ("smtp_connections", {"listener": "mx"}, 3),
        ("smtp_connections", {"listener": "submission"}, 0),
        ("smtp_connections_total", {"listener": "mx", "tls": "clear"}, 1),
        ("smtp_connections_total", {"listener": "submission", "tls": "implicit"}, 2),
        ("auth_attempts_total", {"listener": "submission", "mechanism": "PLAIN", "result": "accepted"}, 1),
        ("auth_attempts_total", {"listener": "submission", "mechanism": "LOGIN", "result": "refused"}, 1),
        ("messages_accepted_total", {"listener": "submission"}, 1),
        ("messages_accepted_total", {"listener": "mx"}, 0),
        ("messages_refused_total", {"stage": "rcpt", "rule": "relaying_denied"}, 1),
        ("messages_refused_total", {"stage": "rcpt", "rule": "a_rule_of_tomorrow"}, 1),
        ("messages_refused_total", {"stage": "data", "rule": "dmarc_reject"}, 0),
        ("delivery_attempts_total", {"result": "delivered", "tls": "yes"}, 2),
        ("delivery_attempts_total", {"result": "deferred", "tls": "no"}, 1),
        ("recipients_deferred_total", {}, 2),
        ("recipients_expired_total", {}, 1),
        ("recipients_junk_total", {}, 1),
        ("notices_total", {"kind": "failed"}, 1),
        ("recipients_accepted_total", {}, 9),
        ("recipients_final_total", {"outcome": "delivered"}, 5),
        ("recipients_unaccounted", {}, 0),
        ("queue_recipients", {"state": "queued"}, 1),
        ("queue_recipients", {"state": "held"}, 0),
        ("queue_oldest_age_seconds", {"state": "deferred"}, 90),
        ("queue_oldest_age_seconds", {"state": "queued"}, 0),
        ("queue_bytes", {}, 5000),
        ("destinations_down", {}, 1),
        ("spool_free_bytes", {}, 10_000),
        ("store_up", {}, 1),
        ("certificate_expiry_timestamp_seconds", {"name": "mx.example.org"}, NOW + 86_400),
        ("dns_list_up", {"zone": "dead.example"}, 0),
        ("alarms", {"kind": "dkim"}, 1),
        ("alarms", {"kind": "blocklist"}, 1),
        ("alarms", {"kind": "console"}, 0),
        ("alarms", {"kind": "other"}, 2),
        ("build_info", {"version": "1.0", "python": "3.11.7"}, 1),
        ("config_last_reload_success", {}, 1),
        ("config_loaded_timestamp_seconds", {}, NOW - 10.5),
        ("event_loop_lag_seconds", {}, 0.0025),
        ("journal_refusals_missing_total", {}, 4),
    ):
        assert series.value(f"staffetta_{name}", **labels) == expected, (name, labels)
    assert series.value("process_open_fds") == 12


def test_everything_is_there_before_anything_happens() -> None:
    before = page(facts())
    counters = Counters()
    for kind, fields in FIELDS.items():
        plain = {"listener": "mx", "tls": "", "mechanism": "PLAIN", "outcome": "failed", "kind": "delayed"}
        plain |= {"stage": "data", "rule": "too_big"}
        counters.observe(event(kind, **{name: plain[name] for name in fields}))
    after = page(facts(counters))
    assert after.series.keys() == before.series.keys()
    assert after.series != before.series


def test_a_store_that_cannot_be_read_is_said() -> None:
    series = page(facts(store=None))
    assert series.value("staffetta_store_up") == 0
    assert not [name for name, _ in series.series if "queue" in name]


@pytest.mark.parametrize(("known", "expected"), [(True, 1.0), (False, 0.0)])
def test_the_self_check(known: bool, expected: float) -> None:
    assert page(facts(selfcheck=known)).value("staffetta_relay_selfcheck_success") == expected
    assert math.isnan(page(facts()).value("staffetta_relay_selfcheck_success"))


def test_labels_hold_anything() -> None:
    text = 'a "quoted" \\ back\\n slash\nand line\x1b ü {a="b"}'
    series = MetricsPage(exposition([gauge("x", "sum\nup \\", {(text,): 1.5, ("",): -2e300}, ("name",))]))
    assert series.value("staffetta_x", name=text) == 1.5
    assert series.value("staffetta_x", name="") == -2e300


def test_a_lone_surrogate_is_no_end_of_the_page() -> None:
    assert b"\\udcff" in exposition([gauge("x", "x", {("\udcff",): 1}, ("name",))])


@pytest.mark.parametrize(
    "page_",
    [
        b"# HELP a x\n# TYPE a gauge\na 1",
        b"# HELP a x\n# TYPE a counter\na 1\n",
        b"# HELP a x\n# TYPE a gauge\nb 1\n",
        b"# HELP a x\n# TYPE a gauge\na 1\na 2\n",
        b'# HELP a x\n# TYPE a gauge\na{x="\n"} 1\n',
        b'# HELP a x\n# TYPE a gauge\na{x="\\t"} 1\n',
        b"# HELP a x\n# TYPE a gauge\na one\n",
        b"# HELP a x\n# TYPE a gauge\n# HELP a x\n",
        b"a 1\n",
    ],
)
def test_the_reader_is_strict(page_: bytes) -> None:
    with pytest.raises(PageFault):
        MetricsPage(page_)


def test_this_process_tells_the_truth() -> None:
    told = this_process()
    assert told.cpu_seconds > 0
    assert 0 < told.resident_octets < told.virtual_octets
    assert told.open_descriptors == len(os.listdir("/proc/self/fd")) - 1
    assert 0 < time.time() - told.started_at < 3600


def refusal_rules() -> set[str]:
    """Rules that judges refuse by: the second argument of every Refusal."""
    found: set[str] = set()
    for folder in ("policy", "intake"):
        for path in (SOURCE / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refusal":
                    found |= {str(rule.value) for rule in node.args[1:2] if isinstance(rule, ast.Constant)}
    return found


def test_no_rule_is_forgotten() -> None:
    """A rule of a judge that is in no stage of console/rules.py has no series before it first decides: add it there."""
    found = refusal_rules()
    assert "relaying_denied" in found
    assert found - {rule for _, rule in REFUSALS} - LOGIN_RULES == set()
    assert len(REFUSALS) == len(set(REFUSALS))
