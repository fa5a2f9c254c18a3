"""Reading tables by `keys`: known keys to values, unknown ones to problems that say where they belong."""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

from staffetta.config.keys import TABLES, Table
from staffetta.config.kinds import BROKEN, type_word
from staffetta.config.nearest import FAMILIAR, nearest
from staffetta.config.positions import Path
from staffetta.config.reader import Reader, header
from staffetta.config.toml import toml_key, toml_string, toml_text
from staffetta.config.values import quoted

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TABLE_NAMES: Final = sorted({table.path[0] for table in TABLES if table.path})


def read_table(reader: Reader, table: Table, path: Path, raw: dict[str, Any], inner: frozenset[str]) -> dict[str, Any]:
    """The values of the table's keys, by field; without those that are not written or broken.

    `inner` are names of tables inside, which others read.
    """
    for name, inside in raw.items():
        if name not in table.keys and name not in inner:
            _unknown(reader, table, (*path, name), inside)
    found: dict[str, Any] = {}
    for name, key in table.keys.items():
        place = (*path, name)
        if name not in raw:
            if key.required:
                _missing(reader, table, place)
            reader.set(place, key.default, key.words.replace("`", ""))
            continue
        value = key.kind.read(reader, place, raw[name])
        if value is BROKEN:
            reader.broken.add(place)
            continue
        found[key.field] = value
        reader.set(place, '"***"' if name == "password" and _is_literal(raw[name]) else toml_text(raw[name]))
    return found


def read_plain(reader: Reader, table: Table, document: dict[str, Any], *inner: str) -> dict[str, Any]:
    """The values of a table that exists once."""
    raw: Any = document
    for name in table.path:
        raw = raw.get(name, {})
    if not isinstance(raw, dict):
        cure = f"write {table.header}" if isinstance(raw, list) else f"write {table.header}, and its keys below"
        message = f"{toml_key(table.path)} is a table, not {type_word(raw)}"
        reader.report("C104", table.path, message, cure, at="key")
        reader.broken.add(table.path)
        raw = {}
    return read_table(reader, table, table.path, raw, frozenset(inner))


def named(reader: Reader, table: Table, document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Names and raw tables of a table that has a name in its header, in file order."""
    path = table.path
    raw = document.get(path[0], {})
    if not isinstance(raw, dict):
        reader.report("C113", path, f"{header(path)} needs a name for each", f"write {table.header}", at="key")
        reader.broken.add(path)
        return []
    found = []
    for name, inside in raw.items():
        place = (*path, name)
        if isinstance(inside, dict):
            if _is_named_well(reader, table, place, inside):
                found.append((name, inside))
            else:
                reader.broken.add(path)
        elif not reader.problems or reader.problems[-1].code != "C113":
            reader.report("C113", place, f"{header(path)} needs a name", f"write {table.header} above it", at="key")
            reader.broken.add(path)
    return found


def read_many(reader: Reader, table: Table, document: dict[str, Any]) -> list[dict[str, Any]]:
    """The values of each of an array of tables. Those that lack a required key are left out."""
    raw = document.get(table.path[0], {})
    raw = raw.get(table.path[1], []) if isinstance(raw, dict) else []
    if not isinstance(raw, list) or not all(isinstance(inside, dict) for inside in raw):
        message = f"{toml_key(table.path)} is a list of tables, not {type_word(raw)}"
        reader.report("C104", table.path, message, f"write {table.header}, in double brackets", at="key")
        return []
    found = []
    texts = []
    for number, inside in enumerate(raw):
        place: Path = (*table.path, number)
        fields = read_table(reader, table, place, inside, frozenset())
        texts.append({name: inside.get(name) or _default(key.default) for name, key in table.keys.items()})
        for name in table.keys:
            reader.settings.pop((*place, name), None)
        if all(key.field in fields for key in table.keys.values() if key.required):
            found.append(fields)
    reader.set(table.path, toml_text(texts))
    return found


def _default(text: str) -> Any:
    return tomllib.loads(f"k = {text}")["k"] if text else ""


def _is_literal(raw: object) -> bool:
    return not (isinstance(raw, str) and raw.startswith(("file:", "env:")))


def _missing(reader: Reader, table: Table, place: Path) -> None:
    if place == ("version",):
        return  # the loader has words of its own for this one
    key = table.keys[str(place[-1])]
    inside = header(place[:-1]) if table.shape != "many" else table.header
    cure = f"write {key.name} = " + ('["*:25"]' if key.name == "bind" else f"{key.kind.word}".replace(", ", " or "))
    if key.name == "zone":
        cure = 'write zone = "bl.example.org"'
    reader.report("C105", place, f"{inside} has no {key.name}", cure, at="key")


def _unknown(reader: Reader, table: Table, path: Path, raw: Any) -> None:
    name = str(path[-1])
    inside = f"in {header(path[:-1])}" if table.path else "at the top"
    if table.shape == "many":
        inside = f"in {table.header}"
    cure, near = _advice(table, path, name)
    if isinstance(raw, dict):
        reader.report("C102", path, f"unknown table {header(path)}", cure, near, at="key")
    elif isinstance(raw, list) and raw and all(isinstance(one, dict) for one in raw):
        reader.report("C102", path, f"unknown table [{header(path)}]", cure, near, at="key")
    else:
        reader.report("C103", path, f"unknown key {quoted(name)} {inside}", cure, near, at="key")


def _advice(table: Table, path: Path, name: str) -> tuple[str, str]:
    """What to do about an unknown name, and the nearest name."""
    elsewhere = [other for other in TABLES if name in other.keys]
    if elsewhere:
        places = [other.header or "above the first [table]" for other in elsewhere]
        return f'"{name}" belongs {"in " if places[0].startswith("[") else ""}{" or ".join(places)}', name
    if table.path and name in _TABLE_NAMES:
        return f"{_headers(name)} is a table of its own, outside of {header(path[:-1])}", name
    known = list(table.keys) + ([] if table.path else _TABLE_NAMES)
    near = nearest(name, known)
    if near == "password" and name.lower().endswith(("_file", "-file")):
        return 'did you mean password = "file:PATH"?', near
    if near:
        return f'did you mean "{near}"?' if near in table.keys else f"did you mean {_headers(near)}?", near
    familiar = FAMILIAR.get(name.lower().replace("-", "_"))
    if familiar:
        return f"here it is {familiar}", ""
    for other in TABLES:
        near = nearest(name, other.keys)
        if near:
            return f'did you mean "{near}", in {other.header or "the top, above the first [table]"}?', near
    return f"known: {', '.join(known)}", ""


def _headers(name: str) -> str:
    return next(table.header for table in TABLES if table.path[:1] == (name,))


def _is_named_well(reader: Reader, table: Table, path: Path, raw: dict[str, Any]) -> bool:
    name = str(path[-1])
    if table.name == '"D"':
        return _is_quoted_well(reader, table, path, raw)
    if _NAME.fullmatch(name):
        return True
    cure = "write letters, digits, - and _"
    reader.report("C113", path, f"{header(path)}: {quoted(name)} is not a name", cure, at="key")
    return False


def _is_quoted_well(reader: Reader, table: Table, path: Path, raw: dict[str, Any]) -> bool:
    """False for [domain.example.org], where TOML sees three tables."""
    names = [str(path[-1])]
    inside: Any = raw
    place = path
    while True:
        deeper = [key for key, value in inside.items() if isinstance(value, dict) and key not in table.keys]
        if not deeper:
            break
        names.append(deeper[0])
        place = (*place, deeper[0])
        inside = inside[deeper[0]]
    if len(names) == 1:
        return True
    domain = ".".join(names)
    cure = f"write [{table.path[0]}.{toml_string(domain)}], with quotes"
    reader.report("C113", place, f"{header(place)}: without quotes each dot begins another table", cure, at="key")
    return False
