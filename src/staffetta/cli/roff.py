"""A manual page in the language of man(7), out of paragraphs and lists. Text becomes text: nothing in it is markup but
`back quotes`, which are set in bold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_ESCAPED: Final = {"\\": r"\[rs]", "-": r"\-", "'": r"\[aq]", "`": r"\[ga]", "^": r"\[ha]", "~": r"\[ti]"}
_QUOTED = re.compile(r"`([^`]+)`")


class Page:
    """One page. `section` as in `staffetta(1)`; `date` as it stands at its foot."""

    def __init__(self, name: str, section: int, about: str, *, date: str, version: str) -> None:
        title = _argument(name.upper())
        self._lines = [f'.TH {title} {section} "{date}" {_argument(f"Staffetta {version}")}']
        self.section("NAME")
        self._lines.append(rf"{escaped(name)} \- {escaped(about)}")

    def section(self, title: str) -> None:
        """A chapter."""
        self._lines.append(f".SH {_argument(title)}")

    def subsection(self, title: str) -> None:
        """A part of a chapter."""
        self._lines.append(f".SS {_argument(title)}")

    def paragraph(self, text: str) -> None:
        """Text, filled by the reader's program."""
        self._lines += [*self._apart(), _body(text)]

    def items(self, rows: Iterable[tuple[str, str]]) -> None:
        """Terms in bold, each with what it means."""
        for term, text in rows:
            self._lines += [".TP", rf"\fB{escaped(term)}\fR", _body(text)]

    def _apart(self) -> list[str]:
        """What keeps a paragraph apart from what is above it; a title does so by itself."""
        return [] if self._lines[-1].startswith((".SH", ".SS")) else [".PP"]

    def text(self) -> str:
        """The page."""
        return "\n".join(self._lines) + "\n"


def escaped(text: str) -> str:
    """Characters that mean something to roff, or that an old one does not know, as they are to appear."""
    return "".join(_ESCAPED.get(one) or (one if one.isascii() else f"\\[u{ord(one):04X}]") for one in text)


def _body(text: str) -> str:
    """A paragraph on one line, its back quotes as bold."""
    words = " ".join(text.split())
    parts = _QUOTED.split(words)
    return _line("".join(rf"\fB{escaped(part)}\fR" if at % 2 else escaped(part) for at, part in enumerate(parts)))


def _line(text: str) -> str:
    """No line of text may begin as a request does."""
    return rf"\&{text}" if text[:1] in {".", "'"} else text


def _argument(text: str) -> str:
    return '"' + escaped(text).replace('"', r"\[dq]") + '"'
