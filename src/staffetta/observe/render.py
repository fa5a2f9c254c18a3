"""One event as one line, for programs (JSON) or for people (text), whatever its fields hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec

from staffetta.observe.events import Event, encode

Render = Callable[[Event], bytes]
"""The line of an event, with its line end. Never raises."""

# JSON must escape only below U+0020. Readers that split lines at DEL, C1, U+2028 or U+2029 exist; direction marks can
# make a terminal show another line than was written.
_LOOKS_LIKE_CONTROL: Final = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_DEL: Final = 0x7F  # a number: looking for one octet in bytes takes five times as long
_WORDS_FIRST: Final = ("time", "event", "session", "id")


def json_line(event: Event) -> bytes:
    """The event as a JSON line."""
    try:
        line = encode(event)
    except UnicodeEncodeError:  # a lone surrogate: octets that were not UTF-8
        line = encode(repaired(event))
    if not is_plain(line):
        text = _LOOKS_LIKE_CONTROL.sub(_json_escape, line.decode())
        line = text.encode()
    return line + b"\n"


def is_plain(encoded: bytes) -> bool:
    """True when JSON holds nothing that could look like a control: then it is what `json_line` would write."""
    return encoded.isascii() and _DEL not in encoded


def text_line(event: Event) -> bytes:
    """The event as a line of text: time, word, session, id, then `field=value`; what is empty is left out."""
    fields = [_moment(event.time), (event.__struct_config__.tag or "event").__str__()]
    if event.session:
        fields.append(f"session={event.session}")
    if event.id:
        fields.append(f"id={event.id}")
    for name in event.__struct_fields__:
        if name not in _WORDS_FIRST:
            value = getattr(event, name)
            if value not in ("", None, (), {}) and value is not False and not isinstance(value, msgspec.Struct):
                fields.append(f"{name}={_shown(value)}")
    return (" ".join(fields) + "\n").encode("utf-8", "backslashreplace")


def repaired(event: Event) -> Event:
    """The event with every text such that it can be written as UTF-8."""
    changes = {name: _repair(getattr(event, name)) for name in event.__struct_fields__}
    return msgspec.structs.replace(event, **changes)


def _repair(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, tuple):
        return tuple(_repair(entry) for entry in value)
    if isinstance(value, dict):
        return {_repair(name): _repair(entry) for name, entry in value.items()}
    return value


def _json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return _word(value)
    if value is True:
        return "yes"
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, dict):
        return _word(",".join(f"{name}:{entry}" for name, entry in value.items()))
    if isinstance(value, tuple):
        return _word(",".join(map(str, value)))
    return _word(str(value))


def _word(text: str) -> str:
    """Bare where it is one plain word, else in quotes with everything unusual escaped."""
    if text.isprintable() and not (" " in text or '"' in text or "\\" in text):
        return text
    escaped = "".join(
        f"\\{character}" if character in '"\\' else character if character.isprintable() else _text_escape(character)
        for character in text
    )
    return f'"{escaped}"'


def _text_escape(character: str) -> str:
    number = ord(character)
    if number > 0xFFFF:
        return f"\\U{number:08x}"
    return f"\\u{number:04x}" if number > 0xFF else f"\\x{number:02x}"


def _moment(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z"
