"""A mistake in the file as an operator sees it: code, place, what is wrong, what is right.

Text for people, one flat object for programs. A password never shows: its text is covered before a line is quoted.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

_EXCERPT: Final = 110
"""Longest piece of a line that is quoted, in characters."""


class Level(StrEnum):
    """Whether the file may be used."""

    ERROR = "error"
    WARNING = "warning"


class Problem(msgspec.Struct, frozen=True, gc=False):
    """One mistake. `line` 0: it has no line. `column` and `length` count characters of the file.

    `excerpt` is the line as it may be shown, and `caret` the offset in it; no excerpt, no caret. `nearest` is the name
    that was probably meant.
    """

    code: str
    level: Level
    file: str
    line: int
    column: int
    length: int
    message: str
    cure: str = ""
    nearest: str = ""
    excerpt: str = ""
    caret: int = 0

    def fields(self) -> dict[str, str | int]:
        """The fields for `--json`."""
        return {
            "code": self.code,
            "level": self.level.value,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "length": self.length,
            "message": self.message,
            "cure": self.cure,
            "nearest": self.nearest,
        }


def render_problem(problem: Problem) -> str:
    """One problem as text of one to three lines, without a line end."""
    place = f"{problem.file}:{problem.line}" if problem.line else problem.file
    warning = "warning: " if problem.level is Level.WARNING else ""
    first = f"{place}  {problem.code}  {warning}{problem.message}"
    if not problem.excerpt:
        return f"{first}\n      | {problem.cure}" if problem.cure else first
    excerpt, caret = _window(problem.excerpt, problem.caret)
    length = max(1, min(problem.length, len(excerpt) - caret))
    marks = " " * _width(excerpt[:caret]) + "^" * max(1, _width(excerpt[caret : caret + length]))
    cure = f"  {problem.cure}" if problem.cure else ""
    return f"{first}\n{problem.line:>5} | {excerpt}\n      | {marks}{cure}"


def render(problems: Sequence[Problem], consequence: str = "") -> str:
    """All problems, a count, what follows from them (`consequence`, a sentence or two), and where to read more."""
    lines = [render_problem(problem) for problem in problems]
    if problems:
        lines.append(f"{count(problems)}. {consequence}".rstrip())
        worst = next((problem for problem in problems if problem.level is Level.ERROR), problems[0])
        lines.append(f"More: staffetta help {worst.code}")
    return "\n".join(lines)


def count(problems: Sequence[Problem]) -> str:
    """`2 errors, 1 warning`."""
    errors = sum(problem.level is Level.ERROR for problem in problems)
    warnings = len(problems) - errors
    words = [f"{n} {word}{'s' if n > 1 else ''}" for n, word in ((errors, "error"), (warnings, "warning")) if n]
    return ", ".join(words)


def printable(text: str) -> str:
    """`text` with nothing that moves a terminal or hides: tabs are one space, the rest of its kind `?`."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "?" for c in text)


def _window(excerpt: str, caret: int) -> tuple[str, int]:
    if len(excerpt) <= _EXCERPT:
        return excerpt, caret
    start = max(0, min(caret - 20, len(excerpt) - _EXCERPT))
    cut = excerpt[start : start + _EXCERPT]
    before = "…" if start else ""
    after = "…" if start + _EXCERPT < len(excerpt) else ""
    return f"{before}{cut}{after}", caret - start + len(before)


def _width(text: str) -> int:
    """Columns on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in {"W", "F"} else 1 for c in text
    )
