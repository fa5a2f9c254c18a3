"""What to say when the file is no TOML: the reader's one sentence, turned into place and advice."""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

from staffetta.config.positions import Path, Positions, Span, positions
from staffetta.config.reader import Reader, header, is_secret_name, label
from staffetta.config.values import quoted

_AT: Final = re.compile(r"(?s)(.*) \(at (?:line (\d+), column (\d+)|end of document)\)")
_PAIR: Final = re.compile(r"\s*([A-Za-z0-9_.\"'-]+)\s*=\s*(.*)")
_MOST: Final = 20
"""Syntax errors reported in one run."""

_WORDS: Final = (
    (re.compile(r"[\u201c\u201d\u201e\u2018\u2019]"), "use straight quotes"),
    (re.compile(r"^\s*[\w-]+\s*:\s"), "write = between key and value"),
    (re.compile(r"^\s*[\w-]+\s*=\s*(?:True|False|TRUE|FALSE|yes|no|on)\b"), "write true or false, in lower case"),
    (re.compile(r"^\s*[\w-]+\s*=\s*$"), "write a value behind ="),
    (re.compile(r"^\s*\[[^\]]*$"), "close the table's name with ]"),
    (re.compile(r"^\s*(?:;|//)"), "a comment begins with #"),
    (re.compile(r"^\s*\[[^\]]*[^\w.\"'\[\]\s-]"), "a name with other than letters, digits, - and _ stands in quotes"),
    (re.compile(r"^.*\"[^\"]*\\[^\"]*\""), "write \\\\ for a backslash, or use single quotes"),
    (re.compile(r"^\s*[\w.-]+\s*=\s*(?:\"[^\"]*|'[^']*)$"), "close the quotes"),
    (re.compile(r"^\s*[\w.-]+\s*=\s*[A-Za-z*./]"), "text stands in double quotes"),
    (re.compile(r"^\s*[\w.-]+\s*=\s*\d+[A-Za-z.:]"), "text stands in double quotes, also a duration, size or address"),
    (re.compile(r"^\s*[\w.-]+\s*$"), "write key = value"),
)
"""What the line looks like, and what to do about it; the first that fits."""


def parse(reader: Reader) -> dict[str, Any] | None:
    """The document, or None when it is no TOML, which is reported: each line that is broken, until none is or it is
    no longer clear what a line means."""
    text = reader.index.text
    for _ in range(_MOST):
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            line = _report(reader, text, str(error))
            if line is None:
                return None
            text = _blanked(text, line)
        else:
            return None if reader.failed else document
    return None


def _blanked(text: str, line: int) -> str:
    lines = text.split("\n")
    lines[line - 1] = " " * len(lines[line - 1])  # as long as before, so that places stay
    return "\n".join(lines)


def _report(reader: Reader, text: str, said: str) -> int | None:
    """Report one error; the line that may be left out to find the next one, None when no line can."""
    match = _AT.fullmatch(said)
    words = match.group(1) if match else said
    if words.startswith("Cannot"):
        return _report_repeated(reader, text, words, int(match.group(2)) if match and match.group(2) else 0)
    if match is None or match.group(2) is None:
        start = _opening(reader.index, text, len(text))
        place = start or Span(len(text.rstrip()) - 1, len(text.rstrip()))
        _syntax(reader, place, _sentence(words), "close it" if start else "")
        return None
    line, column = int(match.group(2)), int(match.group(3))
    offset = reader.index.line_start(line) + column - 1
    if words.startswith("Unclosed"):
        start = _opening(reader.index, text, offset)
        _syntax(reader, start or Span(offset, offset + 1), _sentence(words), "close it with a bracket")
        return None
    here = reader.index.line(line)
    cure = next((cure for pattern, cure in _WORDS if pattern.search(here)), "")
    _syntax(reader, _value_span(reader.index, line, offset), _sentence(words), cure)
    return line


def _value_span(index: Positions, line: int, offset: int) -> Span:
    """The value of a broken `key = value` as a whole, else the character that the reader stopped at."""
    match = _PAIR.fullmatch(index.line(line))
    start = index.line_start(line)
    if match and match.group(2):
        return Span(start + match.start(2), start + match.end(2))
    return Span(min(offset, start + max(0, len(index.line(line)) - 1)), offset + 1)


def _opening(index: Positions, text: str, offset: int) -> Span | None:
    """The last bracket or triple quote before `offset` that opens a value."""
    found = None
    for match in re.finditer(r"=[ \t]*(\[|\{|\"\"\"|''')", text[:offset]):
        found = Span(match.start(1), match.end(1))
    return found


def _sentence(words: str) -> str:
    known = {
        "Invalid value": "the value cannot be read",
        "Unclosed array": "a list is not closed",
        "Unclosed inline table": "a table in braces is not closed",
        "Unterminated string": "a text is not closed",
        "Expected newline or end of document after a statement": "there is more behind the value",
        "Expected '=' after a key in a key/value pair": "there is no = behind the key",
        "Invalid statement": "this is no key, table or comment",
        "Unescaped '\\' in a string": "a backslash in double quotes begins a code",
        "Illegal character '\\n'": "a text is not closed on its line",
    }
    return known.get(words, words[:1].lower() + words[1:])


def _syntax(reader: Reader, span: Span, message: str, cure: str) -> None:
    # The place is not one of a key that the index knows, or the index may be off; so it is given as it is.
    path: Path = ("", span.start)
    reader.index.values[path] = span
    line = reader.index.place(span).line
    match = _PAIR.fullmatch(reader.index.line(line))
    if match and is_secret_name(match.group(1)):
        start = reader.index.line_start(line)
        reader.index.values["password", 0] = Span(start + match.start(2), start + match.end(2))
    reader.report("C101", path, f"not TOML: {message}", cure)


def _report_repeated(reader: Reader, text: str, words: str, line: int) -> int | None:
    """Keys and tables that come again."""
    index = positions(text)
    repeated = [(path, span) for path, span in index.repeated if not line or index.place(span).line <= line]
    if not repeated:
        place = Span(index.line_start(line or 1), index.line_start(line or 1) + 1)
        _syntax(reader, place, _sentence(words), "")
        return line or None
    path, span = repeated[-1]
    first = reader.line_of(path)
    is_header = text[span.start] == "["
    name = header(path) if is_header else quoted(label(path)) if len(path) == 1 else label(path)
    reader.index.values["again", span.start] = span
    cure = "make them one table" if is_header else "remove one of them"
    reader.report("C111", ("again", span.start), f"{name} is written twice, first in line {first}", cure)
    return None if is_header else index.place(span).line
