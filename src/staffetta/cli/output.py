"""How verbs speak: data on stdout, everything else on stderr; tables on a terminal only; JSON for machines.

Nothing from outside reaches a terminal as it is: what does not print is escaped, in JSON too. `rich` is imported only
when a table is drawn on a terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import click
import msgspec

from staffetta.cli import exits

_encode = msgspec.json.Encoder().encode


class Stop(click.ClickException):
    """The verb ends here: a sentence for stderr and an exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        vars(self)["exit_code"] = status

    def show(self, file: Any = None) -> None:
        """The sentence, escaped."""
        say(f"staffetta: {safe(self.message)}")


def safe(text: str) -> str:
    """Text from outside as a terminal may show it, on one line: control, direction and invisible characters escaped."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else " " if character in "\n\t" else _escape(character)
        for character in text
    )


def print_json(value: Any) -> None:
    """One JSON object on one line, in ASCII where a character does not print."""
    try:
        line = _encode(value)
    except UnicodeEncodeError:  # a lone surrogate, which UTF-8 cannot hold
        import json  # noqa: PLC0415

        line = json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode()
    if not line.isascii() or b"\x7f" in line:
        line = "".join(c if c.isprintable() else _json_escape(c) for c in line.decode()).encode()
    _write(line + b"\n")


def line(text: str) -> None:
    """A line of data for people. The text is ours or went through `safe`."""
    _write((text + "\n").encode(sys.stdout.encoding or "utf-8", "backslashreplace"))


def record(cells: Sequence[str]) -> None:
    """One thing on one line, tab separated."""
    line("\t".join(safe(cell) for cell in cells))


def raw(data: bytes) -> None:
    """Octets as they are, for a file or a pipe."""
    _write(data)


def say(text: str) -> None:
    """A hint, warning or progress line."""
    click.echo(text, err=True)


def on_terminal() -> bool:
    """True when a person reads stdout."""
    return sys.stdout.isatty()


def finish() -> None:
    """Write what is buffered; called once before the end."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _reader_gone()


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """A table on a terminal; elsewhere one record per line, tab separated, with no head."""
    if not on_terminal():
        for row in rows:
            record(row)
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold", no_wrap=column == "id")  # an id is copied whole
    for row in rows:
        drawn.add_row(*(Text(safe(cell)) for cell in row))
    finish()
    Console(no_color=bool(os.environ.get("NO_COLOR"))).print(drawn)


def span(seconds: float) -> str:
    """A duration for people: `12 s`, `5 min`, `3 h`, `2 d`."""
    seconds = max(0.0, seconds)
    for limit, size, unit in ((90, 1, "s"), (5400, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def octets(count: int) -> str:
    """A size for people."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _write(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
    except BrokenPipeError:
        _reader_gone()


def _reader_gone() -> NoReturn:
    # `| head` has seen enough. Python would complain once more when it flushes at exit: give it somewhere to write.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(exits.DONE)


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
