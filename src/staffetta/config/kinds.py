"""What a key takes: text of some kind, a number, a word, a list. Each kind reads a raw TOML value through a `Reader`.

A kind returns the value, or reports what is wrong and returns BROKEN, so that one run finds every mistake.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from enum import Enum, StrEnum
from typing import Any, Final, Protocol

from staffetta.config import values
from staffetta.config.nearest import nearest
from staffetta.config.positions import Path
from staffetta.config.reader import Reader, label
from staffetta.config.schema import Secret
from staffetta.config.secret import read_secret
from staffetta.config.toml import toml_text
from staffetta.config.values import Wrong, quoted


class _Broken(Enum):
    BROKEN = "broken"


BROKEN: Final = _Broken.BROKEN
"""What a kind returns for a value that it has reported."""

_TYPES: Final[dict[type, str]] = {
    bool: "true or false",
    str: "text",
    int: "a whole number",
    float: "a number with a fraction",
    list: "a list",
    dict: "a table",
}
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class Kind(Protocol):
    """`word` names it for the reference: `duration`, `list of networks`."""

    @property
    def word(self) -> str: ...

    def read(self, reader: Reader, path: Path, raw: Any) -> Any:
        """The value of `raw` at `path`, or BROKEN."""
        ...


def type_word(raw: object) -> str:
    """The type of a raw value in words."""
    return _TYPES.get(type(raw), "a date or time")


def wrong_type(reader: Reader, path: Path, raw: object, wanted: str, cure: str) -> _Broken:
    """Report C104."""
    reader.report("C104", path, f"{label(path)} takes {wanted}, not {type_word(raw)}", cure)
    return BROKEN


def wrong(reader: Reader, path: Path, fault: Wrong) -> _Broken:
    """Report what a parser of `values` said."""
    reader.report(fault.code, path, f"{label(path)}: {fault}", fault.cure)
    return BROKEN


def unseen_character(text: str) -> str:
    """The name of the first character of `text` that nobody sees; empty when there is none."""
    if text.isascii() and text.isprintable():
        return ""
    return next((f"U+{ord(c):04X}" for c in text if unicodedata.category(c) in _UNSEEN), "")


class Text:
    """Text that `parse` understands, with an example of what is right."""

    def __init__(self, word: str, example: str, parse: Callable[[str], Any]) -> None:
        self.word = word
        self._example = example
        self._parse = parse

    def read(self, reader: Reader, path: Path, raw: Any) -> Any:
        """See Kind."""
        if not isinstance(raw, str):
            return wrong_type(reader, path, raw, f"{self.word} in quotes", self._cure(raw))
        character = unseen_character(raw)
        if character:
            reader.report("C112", path, f"{label(path)} has the invisible character {character}", "remove it")
            return BROKEN
        try:
            return self.parse(reader, raw)
        except Wrong as fault:
            return wrong(reader, path, fault)

    def parse(self, reader: Reader, text: str) -> Any:
        """The value of the text. Raises Wrong."""
        return self._parse(text)

    def _cure(self, raw: object) -> str:
        if isinstance(raw, list) and len(raw) == 1 and isinstance(raw[0], str):
            return f"write {toml_text(raw[0])}"
        if isinstance(raw, int) and not isinstance(raw, bool):
            for unit in ("s", "MiB", "/s"):
                if self._example.rstrip('"').endswith(unit):
                    return f'write "{raw}{unit}", with its unit'
        return f"write {self._example}"


class FilePath(Text):
    """A path, relative to the configuration file."""

    def __init__(self) -> None:
        super().__init__("a path", '"tls/mail.pem"', str)

    def parse(self, reader: Reader, text: str) -> Any:
        """See Text."""
        return parse_path(reader, text)


def parse_path(reader: Reader, text: str) -> Any:
    """The absolute path of `text`. Raises Wrong."""
    if not text:
        raise Wrong('"" is not a path', "write a path, or leave the key out")
    if text.startswith("~"):
        raise Wrong(f"{quoted(text)}: ~ is not replaced here", "write the path in full")
    return reader.base / text


class Positive(Text):
    """Text whose value is a number above 0: a duration or a size."""

    def parse(self, reader: Reader, text: str) -> Any:
        """See Text."""
        value = super().parse(reader, text)
        if value == 0:
            raise Wrong(f"{quoted(text)} is nothing at all", f"write {self._example}", "C107")
        return value


class Number:
    """A whole number from `low` to `high`."""

    def __init__(self, low: int, high: int) -> None:
        self.word = "whole number"
        self._low = low
        self._high = high

    def read(self, reader: Reader, path: Path, raw: Any) -> Any:
        """See Kind."""
        if isinstance(raw, bool) or not isinstance(raw, int):
            cure = f"write a number from {self._low} to {self._high}"
            if isinstance(raw, str) and raw.isascii() and raw.isdigit():
                cure = f"write {raw[:20]} without quotes"
            return wrong_type(reader, path, raw, "a whole number", cure)
        if not self._low <= raw <= self._high:
            cure = f"write a number from {self._low} to {self._high}"
            reader.report("C107", path, f"{label(path)} is {raw}", cure)
            return BROKEN
        return raw


class NumberOrAuto(Number):
    """A whole number, or "auto"; then None."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__(low, high)
        self.word = 'whole number or "auto"'

    def read(self, reader: Reader, path: Path, raw: Any) -> Any:
        """See Kind."""
        return None if raw == "auto" else super().read(reader, path, raw)


class Switch:
    """true or false."""

    word = "true or false"

    def read(self, reader: Reader, path: Path, raw: Any) -> Any:
        """See Kind."""
        if isinstance(raw, bool):
            return raw
        cure = "write true or false"
        if isinstance(raw, str) and raw.lower() in {"true", "false", "yes", "no", "on", "off"}:
            cure = f"write {'true' if raw.lower() in {'true', 'yes', 'on'} else 'false'} without quotes"
        return wrong_type(reader, path, raw, "true or false", cure)


class Word:
    """One of the words of `words`."""

    def __init__(self, words: type[StrEnum]) -> None:
        self.word = ", ".join(f'"{word.value}"' for word in words)
        self._words = words

    def read(self, reader: Reader, path: Path, raw: Any) -> Any:
        """See Kind."""
        if not isinstance(raw, str):
            return wrong_type(reader, path, raw, "a word in quotes", f"write one of {self.word}")
        known = {word.value: word for word in self._words}
        if raw in known:
            return known[raw]
        return unknown_word(reader, path, raw, list(known))


def unknown_word(reader: Reader, path: Path, raw: str, known: list[str]) -> _Broken:
    """Report C108."""
    near = nearest(raw, known)
    listed = ", ".join(f'"{word}"' for word in known)
    cure = f'did you mean "{near}"?' if near else f"write one of {listed}"
    reader.report("C108", path, f"{label(path)} does not know {quoted(raw)}", cure, near)
    return BROKEN


class Many:
    """A list of `item`, at least `least` of them."""

    def __init__(self, item: Kind, word: str, least: int = 0, *, alone: bool = False) -> None:
        self.word = word
        self._item = item
        self._least = least
        self._alone = alone

    def read(self, reader: Reader, path: Path, raw: Any) -> Any:
        """See Kind."""
        if self._alone and isinstance(raw, str):
            value = self._item.read(reader, path, raw)
            return value if value is BROKEN else (value,)
        if not isinstance(raw, list):
            cure = f"write [{toml_text(raw)}]" if isinstance(raw, str | int) else "write a list in square brackets"
            return wrong_type(reader, path, raw, f"a {self.word}", cure)
        if len(raw) < self._least:
            reader.report("C107", path, f"{label(path)} is empty", "write at least one")
            return BROKEN
        found = [self._item.read(reader, (*path, number), item) for number, item in enumerate(raw)]
        return BROKEN if any(value is BROKEN for value in found) else tuple(found)


class SecretText:
    """`file:PATH`, `env:NAME`, or the secret itself."""

    word = "secret"

    def read(self, reader: Reader, path: Path, raw: Any) -> Secret | _Broken:
        """See Kind."""
        if not isinstance(raw, str):
            return wrong_type(reader, path, raw, "a secret in quotes", 'write "file:PATH" or "env:NAME"')
        secret = read_secret(reader, path, raw)
        return BROKEN if secret is None else secret


SOME_DURATION: Final = Positive("a duration", '"5s"', values.parse_duration)
SOME_SIZE: Final = Positive("a size", '"25MiB"', values.parse_size)
RATE: Final = Text("a rate", '"80/s"', values.parse_rate)
DOMAIN: Final = Text("a domain", '"example.org"', values.parse_domain_name)
ADDRESS: Final = Text("an address", '"anna@example.org"', values.parse_address)
NETWORKS: Final = Many(Text("a network", '"192.0.2.0/24"', values.parse_network_of), "list of networks")
PATH: Final = FilePath()
PORT: Final = Number(1, 65535)
MOST_PROCESSES: Final = 64
COUNT: Final = Number(1, 1_000_000_000)
