"""`--json` of every reading verb against the contract: names of fields, their order where it is fixed, and their types.

A schema is data: a type's name (`?` behind it: or null), a list of one schema, or an object of schemas. `*` as the only
name of an object stands for any name. Fields not named here are a failure: the contract grows here first.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

import pytest

Schema = Any

STEP: Final = {"number": "int", "about": "str", "text": "str", "where": "str"}
ENTRY: Final = {
    "schema": "one", "id": "str", "sender": "str", "recipient": "str", "state": "state", "route": "str",
    "destination": "str", "size": "int", "received_at": "time", "attempts": "int", "next_attempt_at": "time?",
    "last_reply": "str", "in_doubt": "bool",
}  # fmt: skip
HOST: Final = {"preference": "int", "host": "str", "addresses": ["str"]}
SAID: Final = {"said": "str", "reply": "str"}

SCHEMAS: Final[dict[str, Schema]] = {
    "config check": {
        "schema": "one", "code": "str", "level": "str", "file": "str", "line": "int", "column": "int", "length": "int",
        "message": "str", "cure": "str", "nearest": "str",
    },
    "config show": {"schema": "one", "key": "str", "value": "str", "origin": "str", "line": "int"},
    "account list": {"schema": "one", "address": "str", "may_send": ["str"], "created_at": "time"},
    "queue list": ENTRY,
    "queue show": {
        "schema": "one", "id": "str", "sender": "str", "size": "int", "received_at": "time", "message_id": "str",
        "session": "str", "client": "str", "login": "str", "recipients": [ENTRY], "header": "str",
    },
    "queue age": {
        "schema": "one", "destination": "str", "route": "str", "recipients": "int", "oldest_at": "time",
        "ages": [{"up_to_minutes": "int?", "recipients": "int"}],
    },
    "queue act": {"schema": "one", "act": "str", "touched": "int", "active": "int"},
    "queue preview": {"schema": "one", "recipients": "int", "oldest": "time?", "samples": [ENTRY]},
    "lookup mx": {
        "schema": "one", "domain": "str", "null_mx": "bool", "implicit": "bool", "hosts": [HOST], "error": "str?",
    },
    "explain route": {
        "schema": "one", "address": "str", "sender": "str", "verdict": "str", "steps": [STEP],
        "targets": [{
            "recipient": "str", "destination": "str", "route": "str",
            "hosts": [{"host": "str", "port": "int", "preference": "int?", "addresses": ["str"], "denied": ["str"]}],
            "tls": "str", "error": "str?", "temporary": "bool", "down_until": "time?", "last_reply": "str",
            "waiting": "int?",
        }],
        "forecast": ["str"],
    },
    "explain session": {
        "schema": "one", "door": "str", "client": "str", "verdict": "str", "recipients": ["str"],
        "checks": {"*": "str"},
        "steps": [{"command": "str", "reply": "str", "rule": "str", "reason": "str", "where": "str"}],
    },
    "check relay": {
        "schema": "one", "passed": "bool", "tried": "int", "failed": "int", "seconds": "float",
        "doors": [{"door": "str", "role": "str", "where": "str", "tried": "int", "failed": "int"}],
        "failures": [{
            "door": "str", "client": "str", "shape": "str", "dialogue": [SAID], "went_to": ["str"], "rule": "str",
            "where": "str",
        }],
        "notes": ["str"],
    },
    "check upstream": {
        "schema": "one", "stage": "str", "ok": "bool", "host": "str", "address": "str", "text": "str",
        "seconds": "float", "permanent": "bool", "advice": "str", "details": {"*": "str"},
    },
    "client-settings": {
        "schema": "one", "domain": "str", "discover": "bool", "login": "str",
        "outgoing": [{"kind": "str", "host": "str", "port": "int", "security": "str"}],
        "incoming": [{"kind": "str", "host": "str", "port": "int", "security": "str"}],
        "records": [{"name": "str", "type": "str", "value": "str"}],
    },
    "send": {"schema": "one", "id": "str", "sender": "str", "recipients": ["str"]},
    "dkim list": {
        "schema": "one", "domain": "str", "selector": "str", "algorithm": "str", "bits": "int", "state": "str",
        "created_at": "time",
    },
    "dkim publish": {"schema": "one", "name": "str", "type": "str", "value": "str", "state": "str?"},
    "check domain": {
        "schema": "one", "domain": "str", "verdicts": {"spoofable": "str?", "reachable": "str?", "bulk": "str?"},
        "findings": [{
            "code": "str", "level": "str", "record": "str", "evidence": "str", "advice": "str", "text": "str",
            "publish": "str",
        }],
        "sentences": {"spoofable": "str", "reachable": "str", "bulk": "str"},
    },
    "check ip": {
        "schema": "one", "address": "str", "reverse": "str?", "confirmed": "bool",
        "lists": [{
            "zone": "str", "listed": "bool", "code": "str", "meaning": "str", "error": "str", "reason": "str",
        }],
        "generic": "str", "special": "str", "error": "str",
    },
    "explain headers": {
        "schema": "one",
        "hops": [{
            "index": "int", "by": "str", "from": "str", "helo": "str", "address": "str", "reverse": "str",
            "with": "str", "tls": "str", "id": "str", "for": "str", "time": "time?", "delay_seconds": "float?",
            "trusted": "bool", "problem": "str",
        }],
        "boundary": {
            "index": "int", "by": "str", "address": "str", "helo": "str", "reverse": "str", "certain": "bool",
            "local": "bool", "caveat": "str",
        },
        "from": "str?", "envelope_from": "str?", "checks": {"*": "str"},
        "verdict": {
            "handed_by": "str", "claims": "str", "proven": "bool", "by": ["str"], "suspicious": "bool",
            "undecided": "bool", "sentence": "str",
        },
        "results": [{"method": "str", "result": "str", "subject": "str", "reason": "str"}],
        "recorded": ["str"], "findings": ["str"], "from_shown": "str", "more_hops": "int",
    },
    "explain reply": {
        "schema": "one", "text": "str", "code": "int?", "enhanced_status": "str?", "permanent": "bool",
        "class": "str", "cause": "str", "actor": "str", "advice": "str", "relay_does": "str", "matched": "str?",
        "source": "str",
    },
    "status": {
        "schema": "one", "version": "str", "hostname": "str", "started_at": "time?",
        "listeners": [{"name": "str", "address": "str", "role": "str", "tls": "str", "sessions": "int"}],
        "queue": {"queued": "int", "active": "int", "deferred": "int", "held": "int"},
        "ledger": {
            "accepted": "int", "delivered": "int", "bounced": "int", "dropped": "int", "queued": "int",
            "unaccounted": "int",
        },
        "oldest": {"queued": "time?", "active": "time?", "deferred": "time?", "held": "time?"},
        "destinations": [{
            "destination": "str", "route": "str", "down_until": "time", "failures": "int", "waiting": "int",
            "last_reply": "str",
        }],
        "certificates": [{
            "subject": "str", "names": ["str"], "file": "str", "expires_at": "time?", "days_left": "int?",
            "fault": "str?",
        }],
        "disk": {"path": "str", "free": "int", "total": "int", "queue": "int"},
        "reload": "nothing?", "alarms": ["nothing"], "problems": ["str"], "pid": "int?", "file": "str",
        "configuration": "str", "workers": [{"pid": "int", "sessions": "int"}],
    },
}  # fmt: skip

EVENTS: Final[dict[str, Schema]] = {
    "refuse": {
        "time": "time", "stage": "str", "client": "str", "sender": "str?", "recipient": "str", "reply": "str",
        "rule": "str", "reason": "str",
    },
    "accept": {
        "time": "time", "id": "str", "sender": "str", "recipients": ["str"], "size": "int", "message_id": "str",
        "client": "str", "login": "str", "checks": {"*": "str"},
    },
    "deliver": {"time": "time", "id": "str", "recipient": "str", "reply": "str"},
}  # fmt: skip
"""Fields that each event of the journal has; it may have more."""

STATES: Final = {"queued", "active", "deferred", "held"}


def faults(value: Any, schema: Schema, at: str = "$") -> list[str]:
    """What in a value is not as its schema says."""
    if isinstance(schema, list):
        if not isinstance(value, list):
            return [f"{at} is no list"]
        return [fault for place, one in enumerate(value) for fault in faults(one, schema[0], f"{at}[{place}]")]
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return [f"{at} is no object"]
        if "*" in schema:
            return [fault for name, one in value.items() for fault in faults(one, schema["*"], f"{at}.{name}")]
        wrong = [] if list(value) == list(schema) else [f"{at} has {list(value)}, not {list(schema)}"]
        return wrong + [
            fault for name in schema if name in value for fault in faults(value[name], schema[name], f"{at}.{name}")
        ]
    if schema.endswith("?") and value is None:
        return []
    return [] if fits(value, schema.removesuffix("?")) else [f"{at} is {value!r}, not {schema}"]


def fits(value: Any, kind: str) -> bool:
    """True when a value is of a simple type."""
    match kind:
        case "str":
            return isinstance(value, str)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "bool":
            return isinstance(value, bool)
        case "nothing":
            return False
        case "one":
            return value == 1 and value is not True
        case "state":
            return value in STATES
        case "time":
            return isinstance(value, str) and value.endswith("Z") and datetime.fromisoformat(value).tzinfo is not None
    raise AssertionError(kind)


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ({"a": 1, "b": 2}, {"a": "int"}),
        ({}, {"a": "int"}),
        ({"b": 1, "a": 1}, {"a": "int", "b": "int"}),
        (True, "int"),
        (None, "str"),
        ([1, "x"], ["int"]),
        ("2026-11-24T13:00:00", "time"),
        ("2026-11-24T13:00:00+01:00", "time"),
        ("waiting", "state"),
        (2, "one"),
        ({"x": 1}, {"*": "str"}),
    ],
)
def test_a_schema_can_fail(value: Any, schema: Schema) -> None:
    assert faults(value, schema)


MAIL = (
    "Received: from a.example (a.example [192.0.2.1]) by mx.example.org with ESMTP id 1;\n"
    "\tTue, 24 Nov 2026 10:00:00 +0000\nFrom: a@b.example\n\ntext\n"
)
SESSION = "explain session --from-ip 203.0.113.7 --helo h.example --mail-from a@far.example --rcpt anna@example.org"
CASES: Final = [
    ("config check", "config check", {8}),
    ("config show", "config show", {0}),
    ("account list", "account list", {0}),
    ("queue list", "queue list", {0}),
    ("queue show", "queue show FRESH", {0}),
    ("queue age", "queue age", {0}),
    ("queue act", "queue hold to:@x.example --yes", {0}),
    ("queue act", "queue release state:held --yes", {0}),
    ("queue act", "queue retry TRIED", {0}),
    ("queue act", "queue bounce to:@x.example --yes --reason moved", {0}),
    ("queue act", "queue drop to:@x.example --yes", {0}),
    ("queue preview", "queue drop to:@x.example --dry-run", {0}),
    ("lookup mx", "lookup mx far.example", {6}),
    ("explain route", "explain route anna@example.org", {0, 1}),
    ("explain route", "explain route nobody@example.org", {1}),
    ("explain route", "explain route cara@partner.example --from a@b.example", {0}),
    ("explain route", "explain route x@evil.example", {6}),
    ("explain session", SESSION, {6}),
    ("check relay", "check relay", {0}),
    ("check upstream", "check upstream partner", {6}),
    ("check upstream", "check upstream default --domain far.example", {6}),
    ("client-settings", "client-settings example.org", {0}),
    ("send", "send --to postmaster@example.org", {0}),
    ("dkim publish", "dkim publish example.org", {6}),
    ("dkim list", "dkim list", {0}),
    ("check domain", "check domain example.org", {6}),
    ("check ip", "check ip 192.0.2.1 --list bl.example", {6}),
    ("explain headers", "explain headers - --no-dns", {1}),
    ("explain reply", "explain reply 550-5.1.1-no-such-user", {0, 3}),
    ("status", "status", {4}),
]


@pytest.fixture
def ready(relay: Any) -> Any:
    """A relay with an account and a name service that refuses connections at once."""
    text = relay.file.read_text().replace('via = "smart.example:2525"', 'via = "127.0.0.1:9"')
    relay.file.write_text(text + '[dns]\nservers = ["127.0.0.1:9"]\ntimeout = "1s"\n')
    added = relay.run("account", "add", "anna@example.org", "--password-stdin", stdin="a good enough password\n")
    assert added.exit_code == 0, added.output
    return relay


@pytest.mark.parametrize(("name", "words", "statuses"), CASES, ids=[words for _, words, _ in CASES])
def test_json_is_as_the_contract_says(ready: Any, name: str, words: str, statuses: set[int]) -> None:
    if name == "config check":
        ready.file.write_text(ready.file.read_text() + "[limits]\nrecipents = 5\n")
    if name == "dkim list":
        ready.run("dkim", "publish", "example.org")  # makes the keys
    named = [getattr(ready, word) if word in {"FRESH", "TRIED"} else word for word in words.split(" ")]
    given = {"send": "text\n", "explain headers": MAIL}.get(name)
    result = ready.run(*named, "--json", stdin=given)
    assert result.exit_code in statuses, result.output
    lines = result.stdout.split("\n")[:-1]
    assert lines
    assert [fault for line in lines for fault in faults(json.loads(line), SCHEMAS[name])] == []


def test_every_event_of_a_trace_has_the_fields_of_the_contract(ready: Any) -> None:
    for event in ready.lines("trace", ready.GONE):
        assert event.pop("schema") == 1
        wanted = EVENTS[event.pop("event")]
        assert wanted.keys() <= event.keys()
        assert faults({name: event[name] for name in wanted}, wanted) == []


def test_the_two_that_differ_by_what_they_find(ready: Any) -> None:
    """`explain route`: down until when, and how many wait, come from the store."""
    result = ready.run("explain", "route", "dan@evil.example", "--json")
    (target,) = json.loads(result.stdout)["targets"]
    assert target["waiting"] == 1
    assert target["destination"] == "mx:evil.example"
