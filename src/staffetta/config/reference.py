"""The reference of the configuration and of its codes, printed from the tables that the loader reads by."""

from __future__ import annotations

from collections.abc import Iterator

from staffetta.config.codes import CODES
from staffetta.config.keys import TABLES, Key, Table


def reference() -> str:
    """`docs/reference/configuration.md`."""
    return "\n".join([*_introduction(), *(line for table in TABLES for line in _table(table)), *_codes()]) + "\n"


def _introduction() -> Iterator[str]:
    yield "# Configuration"
    yield ""
    yield "<!-- Made by staffetta.config.reference from the program's own tables. Do not edit. -->"
    yield ""
    yield 'One TOML file. Paths are relative to it. Durations `"30s"` `"5m"` `"4h"` `"5d"`, sizes `"64KiB"`'
    yield '`"25MiB"`, rates `"80/s"` `"500/h"`, networks `"192.0.2.0/24"` or `"192.0.2.10-192.0.2.20"`. A secret is'
    yield '`"file:PATH"`, `"env:NAME"` or the text itself. `staffetta config check` reports every mistake at once.'
    yield ""
    yield "A variable of the environment holds over the file. `STAFFETTA_HOSTNAME` is `hostname`, `STAFFETTA_LOG_LEVEL`"
    yield "is `[log] level`, `STAFFETTA_LISTEN_OFFICE_TRUST` is `trust` of a door `[listen.office]` that the file has,"
    yield "and `STAFFETTA_ROUTE_DEFAULT_VIA` is `via` of `[route.default]`. Lists are separated by commas or blanks. A"
    yield "secret may come from the file that its twin names: `STAFFETTA_ROUTE_DEFAULT_PASSWORD_FILE`. Domains and"
    yield "block lists are in the file only. `STAFFETTA_CONFIG` names the file itself. Unknown variables are errors."


def _table(table: Table) -> Iterator[str]:
    yield ""
    yield f"## `{table.header}`" if table.header else "## Top level"
    yield ""
    yield table.meaning
    yield ""
    yield "| key | takes | default | meaning |"
    yield "| --- | --- | --- | --- |"
    for key in table.keys.values():
        yield f"| `{key.name}` | {_cell(key.kind.word)} | {_cell(_default(key))} | {_cell(key.meaning)} |"


def _default(key: Key) -> str:
    if key.required:
        return "required"
    return key.words or (f"`{key.default}`" if key.default else "none")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _codes() -> Iterator[str]:
    yield ""
    yield "## Codes"
    yield ""
    yield "`staffetta help CODE` prints the same. Codes are never reused."
    for code, what in CODES.items():
        yield ""
        yield f"### {code}: {what.title} ({what.level.value})"
        yield ""
        yield what.explanation
