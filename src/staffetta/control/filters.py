"""The one filter language, `from:news@ older:2h reply:4.7.28`, as words become a question to the queue.

Every word must hold. A bare word that has the shape of an id is `id:`. This module refuses to know SQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from staffetta.mail.address import AddressError, parse_mailbox
from staffetta.mail.domain import DomainError, parse_host
from staffetta.mail.identity import is_identity
from staffetta.policy.route import DEFAULT_ROUTE_NAME
from staffetta.spool.contract import State
from staffetta.spool.operator import Destinations, Filter

KEYS: Final = ("id", "from", "to", "state", "route", "older", "reply")
LOCAL_ROUTE: Final = "local"
"""How the road to our own domains is called where a route is named."""

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGE: Final = re.compile(r"([0-9]{1,9})([smhdw])")


class FilterError(ValueError):
    """A word is not a filter; the message says what is."""


def parse_filter(words: Iterable[str]) -> Filter:
    """The filter that the words make together. Raises FilterError."""
    given: dict[str, str] = {}
    for word in words:
        key, value = _split(word)
        if key in given:
            raise FilterError(f"{key}: is given twice; all words must hold together")
        given[key] = value
    return Filter(
        id=given.get("id", "").upper(),
        sender=_sender(given["from"]) if "from" in given else "",
        recipient=_address("to", given["to"]) if "to" in given else "",
        state=_state(given["state"]) if "state" in given else None,
        destinations=_destinations(given["route"]) if "route" in given else (),
        older_than_seconds=_age(given["older"]) if "older" in given else 0.0,
        reply=given.get("reply", ""),
    )


def is_one_message(chosen: Filter) -> bool:
    """True when the filter names one message and asks nothing else."""
    return bool(chosen.id) and chosen == Filter(id=chosen.id)


def route_of(destination: str) -> str:
    """The route in a destination's key (see policy/route); LOCAL_ROUTE for a domain of ours."""
    kind, _, rest = destination.partition(":")
    if kind == "route":
        return rest
    if kind == "mx":
        name, slash, _ = rest.rpartition("/")
        return name if slash else DEFAULT_ROUTE_NAME
    return LOCAL_ROUTE


def _destinations(route: str) -> tuple[Destinations, ...]:
    """The keys of policy/route that belong to a route of this name, whatever kind it has been."""
    found = [Destinations("local:"), Destinations("held:")] if route == LOCAL_ROUTE else []
    if route == DEFAULT_ROUTE_NAME:
        found.append(Destinations("mx:", without="/"))
    return (*found, Destinations(f"route:{route}", whole=True), Destinations(f"mx:{route}/"))


def _split(word: str) -> tuple[str, str]:
    try:
        word.encode()
    except UnicodeEncodeError as error:
        raise FilterError("a filter is not UTF-8 text") from error
    if is_identity(word.upper()):
        return "id", word
    key, colon, value = word.partition(":")
    if not colon or key not in KEYS:
        raise FilterError(f"{word!r} is not a filter; filters are {' '.join(f'{name}:' for name in KEYS)}")
    if not value:
        raise FilterError(f"{key}: needs a value")
    return key, value


def _sender(text: str) -> str:
    return "<>" if text == "<>" else _address("from", text)


def _address(key: str, text: str) -> str:
    """`local@domain`, `local@` or `@domain` as the queue compares them: unquoted, with an ASCII domain."""
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    try:
        if text.startswith("@") or "@" not in text:
            return f"@{parse_host(text.removeprefix('@'))}"
        if text.endswith("@"):
            return f"{parse_mailbox(text + 'example.org', smtputf8=True).local_part}@"
        mailbox = parse_mailbox(text, smtputf8=True)
    except (AddressError, DomainError) as error:
        raise FilterError(f"{key}: takes LOCAL@DOMAIN, @DOMAIN or LOCAL@; {error}") from error
    return f"{mailbox.local_part}@{mailbox.domain}"


def _state(text: str) -> State:
    try:
        return State(text)
    except ValueError as error:
        raise FilterError(f"state: is one of {', '.join(State)}") from error


def _age(text: str) -> float:
    match = _AGE.fullmatch(text)
    if match is None:
        raise FilterError("older: takes a whole number and s, m, h, d or w, such as older:2h")
    return float(int(match.group(1)) * _SECONDS[match.group(2)])
