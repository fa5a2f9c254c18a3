"""Events as a timeline that a person reads: one line each, the rest of it below where it needs room."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from staffetta.cli.meaning import Meanings
from staffetta.cli.output import octets, safe

Event = dict[str, Any]

_EXPLAINED: Final = frozenset({"defer", "bounce", "expire"})

_FIRST: Final = ("event", "time", "session", "id")


def timeline(events: Iterable[Event], meanings: Meanings | None = None) -> Iterator[str]:
    """The lines; a day stands above its events. Every text of an event is escaped. `meanings` explain what peers said
    when a recipient waits or fails."""
    day = ""
    subject = ""
    for event in events:
        moment = _moment(event.get("time"))
        if moment is not None and (today := moment.strftime("%Y-%m-%d")) != day:
            day = today
            yield f"{day} UTC"
        if (name := _text(event.get("id"))) and name != subject:
            subject = name
            yield f"message {name}"
        clock = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}" if moment is not None else "?"
        word = _text(event.get("event")) or "?"
        words = _SENTENCES.get(word, _fields)(event)
        yield f"  {clock:<12}  {word:<13}  {words}".rstrip()
        for below in _below(event):
            yield f"{'':<31}{below}"
        if meanings is not None and word in _EXPLAINED:
            for below in meanings.lines(str(event.get("reply") or "")):
                yield f"{'':<31}{below}"


def _connect(event: Event) -> str:
    return _join(f"{_text(event.get('client'))} at {_text(event.get('listener'))}", _with("TLS", event.get("tls")))


def _disconnect(event: Event) -> str:
    return _join(_text(event.get("reason")), _with("octets", event.get("bytes")))


def _login(event: Event) -> str:
    return _join(_text(event.get("login")), _with("by", event.get("mechanism")), _text(event.get("reason")))


def _refuse(event: Event) -> str:
    path = f"{_path(event.get('sender'))} -> {_text(event.get('recipient')) or '-'}"
    who = _with("login", event.get("login"))
    return _join(f"at {_text(event.get('stage'))}", path, _with("client", event.get("client")), who)


def _accept(event: Event) -> str:
    recipients = event.get("recipients")
    to = ", ".join(map(_text, recipients)) if isinstance(recipients, list) else _text(recipients)
    size = event.get("size")
    return _join(
        f"{_path(event.get('sender'))} -> {to}",
        octets(size) if isinstance(size, int) else "",
        _with("client", event.get("client")),
        _with("login", event.get("login")),
        _with("Message-ID", event.get("message_id")),
    )


def _attempt(event: Event) -> str:
    where = _text(event.get("host")) or _text(event.get("destination"))
    address = _text(event.get("address"))
    seconds = event.get("seconds")
    return _join(
        f"{_text(event.get('recipient'))} at {where}" + (f" [{address}]" if address else ""),
        f"{_text(event.get('outcome'))} at {_text(event.get('stage'))}",
        _with("TLS", event.get("tls")),
        f"{seconds:.3f} s" if isinstance(seconds, int | float) else "",
        _with("route", event.get("route")),
    )


def _recipient(event: Event) -> str:
    until = _moment(event.get("next_attempt_at"))
    return _join(
        _text(event.get("recipient")),
        f"next try {until:%Y-%m-%d %H:%M:%S}" if until is not None else "",
        "in doubt: the peer may have it" if event.get("in_doubt") is True else "",
    )


def _order(event: Event) -> str:
    return _join(_text(event.get("recipient")), _with("by", event.get("by")), _text(event.get("reason")))


def _junk(event: Event) -> str:
    return _text(event.get("recipient"))


def _forecast(event: Event) -> str:
    return _join(
        f"receivers will find spf {_text(event.get('spf'))}",
        f"dkim {_text(event.get('dkim'))}",
        f"dmarc {_text(event.get('dmarc'))} (policy {_text(event.get('policy'))})",
    )


def _notice(event: Event) -> str:
    return _join(_text(event.get("kind")), _with("about", event.get("for_id")), _text(event.get("recipient")))


def _fields(event: Event) -> str:
    shown = [f"{_text(name)}={_text(value)}" for name, value in event.items() if name not in _FIRST]
    return " ".join(shown)


_SENTENCES: Final[dict[str, Callable[[Event], str]]] = {
    "connect": _connect,
    "disconnect": _disconnect,
    "login": _login,
    "login_refused": _login,
    "refuse": _refuse,
    "accept": _accept,
    "attempt": _attempt,
    "deliver": _recipient,
    "defer": _recipient,
    "bounce": _recipient,
    "expire": _recipient,
    "hold": _order,
    "release": _order,
    "drop": _order,
    "retry": _order,
    "notice": _notice,
    "junk": _junk,
    "forecast": _forecast,
}


def _below(event: Event) -> Iterator[str]:
    """What was said, and why, on lines of their own."""
    word = _text(event.get("event"))
    if word not in _SENTENCES:
        return
    if (reply := _text(event.get("reply"))) and word != "deliver":
        yield f"reply: {reply}"
    rule = _text(event.get("rule"))
    reason = _text(event.get("reason")) if word in {"refuse", "bounce", "expire", "junk", "forecast"} else ""
    if rule or reason:
        yield f"because: {' - '.join(filter(None, (rule, reason)))}"
    checks = event.get("checks")
    if isinstance(checks, dict) and checks:
        yield f"checks: {', '.join(f'{_text(name)} {_text(value)}' for name, value in checks.items())}"


def _path(sender: object) -> str:
    if sender is None:
        return "-"
    return _text(sender) or "<>"


def _with(word: str, value: object) -> str:
    text = _text(value)
    return f"{word} {text}" if text else ""


def _join(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def _text(value: object) -> str:
    return "" if value is None else safe(str(value))


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
