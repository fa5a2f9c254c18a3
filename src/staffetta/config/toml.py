"""Writing TOML: values and dotted keys as they may stand in a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def toml_text(value: object) -> str:
    """A value: text, number, true or false, list, or table (inline)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return toml_string(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_text(item) for item in value) + "]"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{toml_key([str(key)])} = {toml_text(item)}" for key, item in value.items())
        return "{ " + pairs + " }" if pairs else "{}"
    return str(value)


def toml_string(text: str) -> str:
    """A basic string."""
    return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else f"\\U{ord(c):08x}") for c in text) + '"'


def toml_key(names: Iterable[str | int]) -> str:
    """A dotted key; names that need it are quoted."""
    return ".".join(name if _BARE.fullmatch(name) else toml_string(name) for name in map(str, names))
