"""The desk at which the file is read: text, positions, and what was found wrong, kept with its place.

Kinds, tables and checks all report here; nothing stops at the first mistake.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Final

import msgspec

from staffetta.config.codes import CODES
from staffetta.config.nearest import nearest
from staffetta.config.positions import Path, Positions, Span
from staffetta.config.problems import Level, Problem, printable
from staffetta.config.toml import toml_key
from staffetta.mail.domain import Domain

_SECRET_NAMES: Final = ("password", "secret", "token", "passphrase")
_NAMES_A_SOURCE: Final = re.compile(r"""["']{1,3}(?:file|env):""")
_COVER: Final = '"***"'


class Setting(msgspec.Struct, frozen=True, gc=False):
    """One effective value: its path, TOML text (empty: not set), and the line of the file; 0: a default.

    `why` says how a default came about that is not the same everywhere, `variable` where it is not the file's.
    """

    path: Path
    text: str
    line: int = 0
    why: str = ""
    variable: str = ""


class Reader:
    """One reading of one file. `base` is the folder that paths are relative to, `file` the name in messages."""

    def __init__(self, index: Positions, file: str, base: FilePath, environ: Mapping[str, str]) -> None:
        self.index = index
        self.file = file
        self.base = base
        self.environ = environ
        self.problems: list[Problem] = []
        self.settings: dict[Path, Setting] = {}
        self.broken: set[Path] = set()
        self.readable_by_others = False
        self.spelling: dict[Domain, str] = {}
        """How each local domain is written in its header."""
        self.variables: dict[Path, str] = {}
        """Keys whose value is one of the environment, and the variable's name."""

    def report(self, code: str, path: Path, message: str, cure: str = "", near: str = "", *, at: str = "value") -> None:
        """Note a problem. `at` is what the caret marks: `value`, `key`, or `line` for no caret."""
        variable = self._variable(path)
        if variable:
            self.report_variable(code, variable, message, cure.replace('"', ""), near)
            return
        span = self.index.key(path) if at == "key" else self.index.value(path)
        if at == "line":
            span = self.index.key(path)
        if span is None:
            span = Span(0, 0)
            at = "line"
        place = self.index.place(span)
        excerpt, caret, length = "", 0, place.length
        if at != "line":
            excerpt, caret, length = self._excerpt(place.line, place.column - 1, place.length)
        level = CODES[code].level
        problem = Problem(code, level, self.file, place.line, place.column, length, message, cure, near, excerpt, caret)
        if problem not in self.problems:
            self.problems.append(problem)

    def report_variable(self, code: str, variable: str, message: str, cure: str = "", near: str = "") -> None:
        """Note a problem in a variable of the environment, whose name is its place."""
        problem = Problem(code, CODES[code].level, printable(variable), 0, 0, 0, message, cure, near)
        if problem not in self.problems:
            self.problems.append(problem)

    def report_file(self, code: str, message: str, cure: str = "") -> None:
        """Note a problem that has no line."""
        self.problems.append(Problem(code, CODES[code].level, self.file, 0, 0, 0, message, cure))

    def sound(self, *path: str | int) -> bool:
        """True when the key at `path` is not written, or written well."""
        return path not in self.broken

    def written(self, *path: str | int) -> bool:
        """True when the key at `path` stands in the file or the environment, or a key below it does."""
        return path in self.index.keys or any(known[: len(path)] == path for known in self.variables)

    def line_of(self, path: Path) -> int:
        """The line of a key, 0 when it is not written, or is a variable's."""
        if path in self.variables:
            return 0
        span = self.index.keys.get(path)
        return self.index.place(span).line if span else 0

    def domain_path(self, domain: Domain) -> Path:
        """The path of a local domain's table."""
        return ("domain", self.spelling.get(domain, domain.ascii))

    def set(self, path: Path, text: str, why: str = "") -> None:
        """Note an effective value."""
        self.settings[path] = Setting(path, text, self.line_of(path), why, self.variables.get(path, ""))

    def _variable(self, path: Path) -> str:
        """The variable that gave the value at `path`, the list it is an element of, or a table not in the file."""
        for place, variable in self.variables.items():
            if path[: len(place)] == place:
                return variable
            if place[: len(path)] == path and path not in self.index.keys:
                return variable
        return ""

    @property
    def failed(self) -> bool:
        """True when there is an error, not only warnings."""
        return any(problem.level is Level.ERROR for problem in self.problems)

    def _excerpt(self, line: int, caret: int, length: int) -> tuple[str, int, int]:
        """The line as it may be shown: secrets covered, nothing that moves a terminal; caret and length moved along."""
        text = self.index.line(line)
        start = self.index.line_start(line)
        for span in sorted(self._secrets(start, start + len(text)), key=lambda span: -span.start):
            first, last = max(0, span.start - start), min(len(text), span.end - start)
            text = text[:first] + _COVER + text[last:]
            if caret >= last:
                caret += len(_COVER) - (last - first)
            elif caret >= first:
                caret, length = first, len(_COVER)
        return printable(text), caret, length

    def _secrets(self, start: int, end: int) -> list[Span]:
        text = self.index.text
        return [
            span
            for path, span in self.index.values.items()
            if span.start < end
            and span.end > start
            and is_secret_name(next((name for name in reversed(path) if isinstance(name, str)), ""))
            and text[span.start : span.start + 1] not in {"[", "{"}
            and not _NAMES_A_SOURCE.match(text, span.start)
        ]


def is_secret_name(name: str) -> bool:
    """True for a key that names a secret, also misspelt. `password_file` names a file."""
    if name.lower().endswith(("_file", "-file")):
        return False
    return "passw" in name.lower() or bool(nearest(name, _SECRET_NAMES))


def label(path: Path) -> str:
    """A key in a message: `[limits] recipients`."""
    names = [name for name in path if isinstance(name, str)]
    return f"[{toml_key(names[:-1])}] {toml_key(names[-1:])}" if len(names) > 1 else toml_key(names)


def header(path: Path) -> str:
    """A table in a message: `[listen.mx]`."""
    return f"[{toml_key(name for name in path if isinstance(name, str))}]"
