"""Where each key of a TOML text stands: the standard reader gives values but no positions.

A second, light pass over a text that `tomllib` has already accepted, so it need not judge. A path is the keys from the
top, with numbers for elements of arrays and of arrays of tables: `("listen", "mx", "bind", 0)`.
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from bisect import bisect_right

import msgspec

Path = tuple[str | int, ...]

_BLANK = re.compile(r"[ \t]*")
_VOID = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{1,2})?|' + r"'''.*?'''(?:'{1,2})?|" + r'"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]*")


class Span(msgspec.Struct, frozen=True, gc=False):
    """A stretch of the text: offsets of its first character and of the one behind its last."""

    start: int
    end: int


class Place(msgspec.Struct, frozen=True, gc=False):
    """Line and column, both from 1, in characters; `length` up to the end of that line."""

    line: int
    column: int
    length: int


class Positions:
    """The index of one text. `keys` and `values` map paths to spans; `repeated` is what came again."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.keys: dict[Path, Span] = {}
        self.values: dict[Path, Span] = {}
        self.repeated: list[tuple[Path, Span]] = []
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def place(self, span: Span) -> Place:
        """Where a span begins."""
        line = bisect_right(self._starts, span.start)
        start = self._starts[line - 1]
        end = self._starts[line] - 1 if line < len(self._starts) else len(self.text)
        return Place(line, span.start - start + 1, max(1, min(span.end, end) - span.start))

    def line(self, number: int) -> str:
        """The text of a line, from 1, without its end."""
        end = self._starts[number] - 1 if number < len(self._starts) else len(self.text)
        return self.text[self._starts[number - 1] : end]

    def line_start(self, number: int) -> int:
        """The offset of a line's first character."""
        return self._starts[number - 1]

    def key(self, path: Path) -> Span | None:
        """The span of the key or header at `path`, or of the nearest one around it."""
        while path:
            span = self.keys.get(path) or self.values.get(path)
            if span is not None:
                return span
            path = path[:-1]
        return None

    def value(self, path: Path) -> Span | None:
        """The span of the value at `path` or of the nearest one around it; a table has its header."""
        while path:
            span = self.values.get(path) or self.keys.get(path)
            if span is not None:
                return span
            path = path[:-1]
        return None


def positions(text: str) -> Positions:
    """The index of `text`, line ends as `\\n`. For a text that is not TOML the index is incomplete, never an error."""
    index = Positions(text)
    with contextlib.suppress(RecursionError):
        _Scanner(index).document()
    return index


class _Scanner:
    def __init__(self, index: Positions) -> None:
        self._index = index
        self._text = index.text
        self._at = 0
        self._counts: dict[Path, int] = {}
        self._headers: set[Path] = set()

    def document(self) -> None:
        table: Path = ()
        text = self._text
        while True:
            self._skip(_VOID)
            if self._at >= len(text):
                return
            before = self._at
            if text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            if self._at == before:
                self._at = text.find("\n", before) % (len(text) + 1)
                if self._at <= before:
                    return

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()

    def _header(self) -> Path:
        start = self._at
        several = self._text.startswith("[[", start)
        self._at += 2 if several else 1
        names = self._key()
        table: Path = ()
        for name, _ in names[:-1]:
            table = self._current((*table, name))
        table = (*table, *(name for name, _ in names[-1:]))
        closing = "]]" if several else "]"
        if self._text.startswith(closing, self._at):
            self._at += len(closing)
        span = Span(start, self._at)
        for number in range(1, len(names)):
            self._index.keys.setdefault(self._current(tuple(name for name, _ in names[:number])), span)
        if not several:
            if table in self._headers or table in self._index.values:
                self._index.repeated.append((table, span))
            self._headers.add(table)
        self._index.keys.setdefault(table, span)
        if several:
            count = self._counts.get(table, 0)
            self._counts[table] = count + 1
            table = (*table, count)
            self._index.keys[table] = span
        return table

    def _current(self, path: Path) -> Path:
        # A header below an array of tables means the last element of it.
        count = self._counts.get(path)
        return path if count is None else (*path, count - 1)

    def _pair(self, table: Path) -> None:
        names = self._key()
        path = table
        for name, span in names:
            path = (*path, name)
            if path in self._index.values:
                self._index.repeated.append((path, span))
            self._index.keys.setdefault(path, span)
        if self._text[self._at : self._at + 1] == "=":
            self._at += 1
            self._skip(_BLANK)
            self._value(path)

    def _key(self) -> list[tuple[str, Span]]:
        """A dotted key with the span of each part; the scanner stands behind it, blanks skipped."""
        names: list[tuple[str, Span]] = []
        while True:
            self._skip(_BLANK)
            start = self._at
            quoted = self._text[start : start + 1] in {'"', "'"}
            match = (_STRING if quoted else _BARE_KEY).match(self._text, start)
            if match is None:
                return names
            self._at = match.end()
            names.append((_unquote(match.group()) if quoted else match.group(), Span(start, self._at)))
            self._skip(_BLANK)
            if self._text[self._at : self._at + 1] != ".":
                return names
            self._at += 1

    def _value(self, path: Path) -> None:
        start = self._at
        first = self._text[start : start + 1]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        elif first in {'"', "'"} and (match := _STRING.match(self._text, start)):
            self._at = match.end()
        else:
            self._skip(_SCALAR)
            self._at = start + len(self._text[start : self._at].rstrip())
        self._index.values[path] = Span(start, self._at)

    def _array(self, path: Path) -> None:
        self._at += 1
        for number in range(len(self._text)):
            self._skip(_VOID)
            if self._text[self._at : self._at + 1] in {"]", ""}:
                break
            before = self._at
            self._value((*path, number))
            self._skip(_VOID)
            if self._text[self._at : self._at + 1] == ",":
                self._at += 1
            elif self._at == before:
                break
        if self._text[self._at : self._at + 1] == "]":
            self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while True:
            self._skip(_VOID)
            if self._text[self._at : self._at + 1] in {"}", ""}:
                break
            before = self._at
            self._pair(path)
            self._skip(_VOID)
            if self._text[self._at : self._at + 1] == ",":
                self._at += 1
            elif self._at == before:
                break
        if self._text[self._at : self._at + 1] == "}":
            self._at += 1


def _unquote(text: str) -> str:
    if text[0] == "'" or "\\" not in text:
        return text[1:-1]
    try:
        return str(tomllib.loads(f"k = {text}")["k"])
    except tomllib.TOMLDecodeError:
        return text[1:-1]
