"""What each field of an event means, and the page of all events, made from the types in `events` themselves.

A field has one meaning wherever it stands. This module refuses to know when an event is made.
"""

from __future__ import annotations

import inspect
import types
import typing
from datetime import datetime
from typing import Any, Final

import msgspec

from staffetta.observe import events

FIELDS: Final = {
    "time": "when",
    "session": "the connection; every event of one connection has the same",
    "id": "the message; every event of one message has the same, and `trace` and `queue` take it",
    "address": "IP address of the host that was tried",
    "author_domain": "the domain of From",
    "by": "the account that ran the command",
    "bytes": "octets that the client sent",
    "checks": "results of SPF, DKIM, DMARC, ARC and block lists, by name",
    "client": "IP address of the client",
    "destination": "what is limited and retried as one: `mx:DOMAIN`, `route:NAME`, `local:DOMAIN`",
    "dkim": "what DKIM will say: `pass`, `fail`, `none` or `unknown`",
    "dmarc": "what an aggregate report needs of this message (RFC 9990); for `forecast`, what DMARC will say",
    "envelope_domain": "the domain of the envelope sender",
    "for_id": "the message that the notice speaks about",
    "helo": "the name that the client gave itself",
    "host": "name of the host that was tried; empty for a mailbox of ours",
    "in_doubt": "the connection ended after the message was sent and before the answer: it may have arrived",
    "kind": "`failed`, `delayed` or `delivered`",
    "listener": "the door, NAME of `[listen.NAME]`",
    "listeners": "each door as its name and address",
    "login": "the account that logged in; for mail of this machine, its user",
    "mechanism": "how the client logged in: `SCRAM-SHA-256`, `PLAIN` or `LOGIN`",
    "message_id": "Message-ID without its brackets",
    "name": "a stable name for programs",
    "next_attempt_at": "when it is tried again, at the earliest",
    "outcome": "`delivered`, `deferred` or `failed`",
    "policy": "what the domain asks for when DMARC fails: `none`, `quarantine` or `reject`",
    "reason": "why, in a sentence for the operator",
    "recipient": "the recipient; empty where all of a message are meant, or none was named",
    "recipients": "all recipients of the message",
    "reply": "the SMTP reply, word by word: what we told the client, or what the other server told us",
    "route": "NAME of `[route.NAME]`, or `local:DOMAIN`",
    "rule": "the [rule](rules.md) that decided",
    "seconds": "how long the attempt took",
    "sender": "the envelope sender; empty for the null path, null where none was named",
    "signed_as": "the domain that signs",
    "size": "octets of the message as it is stored",
    "spf": "what SPF will say: `pass`, `fail`, `none` or `unknown`",
    "stage": "where in the dialogue: `connect`, `ehlo`, `auth`, `mail`, `rcpt`, `data`, `dot` and the like",
    "tls": "TLS version and cipher; empty for a line in clear",
    "verdict": "`pass`, `fail` or `unknown`",
}
"""Field and its meaning."""

_WORDS: Final = {str: "text", int: "number", float: "number", bool: "true or false", datetime: "time", dict: "object"}


def all_events() -> list[type[events.Event]]:
    """Every event, in the order in which they are written down."""
    found = [one for one in vars(events).values() if isinstance(one, type) and issubclass(one, events.Event)]
    return [one for one in found if one is not events.Event]


def name_of(event: type[events.Event]) -> str:
    """The word in `event`."""
    return str(event.__struct_config__.tag)


def page() -> str:
    """`docs/reference/events.md`."""
    lines = [
        "# Events",
        "",
        "<!-- Made by staffetta.observe.event_words. Do not edit. -->",
        "",
        "Log lines, `trace --json` and the journal are these events, one JSON object a line: `event` says which, times",
        "are RFC 3339 in UTC. A field that is marked *if any* is left out where there is nothing to say; `session` and",
        "`id` may stand in every event. New events and fields may come; those that are here keep their meaning.",
    ]
    for event in all_events():
        lines += ["", f"## `{name_of(event)}`", "", " ".join((inspect.getdoc(event) or "").split()), ""]
        lines += ["| field | type | | meaning |", "| --- | --- | --- | --- |"]
        lines += [_row(field) for field in msgspec.structs.fields(event) if field.name not in {"time", "session", "id"}]
    lines += ["", "## Fields of every event", "", "| field | type | | meaning |", "| --- | --- | --- | --- |"]
    lines += [_row(field) for field in msgspec.structs.fields(events.Event)]
    return "\n".join(lines) + "\n"


def _row(field: msgspec.structs.FieldInfo) -> str:
    always = "" if field.required else "if any"
    return f"| `{field.name}` | {_word(field.type)} | {always} | {FIELDS[field.name]} |"


def _word(kind: Any) -> str:
    origin = typing.get_origin(kind)
    if origin in {types.UnionType, typing.Union}:
        parts = [one for one in typing.get_args(kind) if one is not type(None)]
        return _word(parts[0]) + (" or null" if parts[0] is str else "")
    if origin is tuple:
        return "list"
    return _WORDS.get(origin or kind, "object")
