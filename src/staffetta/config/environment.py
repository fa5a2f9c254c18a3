"""Variables of the environment that stand for keys of the file: `STAFFETTA_LOG_LEVEL` is `[log] level`.

Default, file, environment: the later one holds. A variable is laid over what was read, so that it is read and checked
like the file, and what is wrong in it is reported under its name. Those that nobody knows are errors: a limit with a
misspelt name would silently be none. Policy with names of its own, domains and block lists, is in the file only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from staffetta.config.compound import VIA
from staffetta.config.keys import LISTEN, ROUTE, TABLES, Key
from staffetta.config.kinds import Many, Number, NumberOrAuto, SecretText, Switch
from staffetta.config.nearest import nearest
from staffetta.config.positions import Path
from staffetta.config.reader import Reader, label
from staffetta.config.schema import IMPLIED_ROUTE
from staffetta.config.values import quoted

PREFIX: Final = "STAFFETTA_"
FILE_VARIABLE: Final = "STAFFETTA_CONFIG"
"""Names the configuration file, like -c."""

DOMAIN_VARIABLE: Final = "STAFFETTA_INIT_DOMAIN"
"""The domain for which a container writes its first file."""

DROP_VARIABLE: Final = "STAFFETTA_DROP"
"""Where `sendmail` leaves mail (sendmail.place)."""

NO_KEYS: Final = (FILE_VARIABLE, DOMAIN_VARIABLE, DROP_VARIABLE)
"""Variables of ours that stand for no key; others read them."""

_NOT_IN_ENVIRONMENT: Final = {"version"}
_TWIN: Final = "_FILE"
"""The end of the name of a variable that names the file of a secret."""

_SEPARATOR: Final = re.compile(r"[,\s]+")
_OTHER: Final = re.compile(r"[^A-Z0-9]")

_TRUST: Final = "STAFFETTA_LISTEN_NAME_TRUST"
_FAMILIAR: Final = {
    name: ours
    for ours, names in {
        "STAFFETTA_HOSTNAME": "MYHOSTNAME HOST FQDN DOMAINNAME",
        "STAFFETTA_ROUTE_DEFAULT_VIA": "RELAYHOST RELAY_HOST SMARTHOST SMARTHOST_HOST UPSTREAM VIA",
        "STAFFETTA_ROUTE_DEFAULT_LOGIN": "LOGIN USERNAME USER_NAME RELAYHOST_USERNAME SMARTHOST_LOGIN SMTP_USERNAME",
        "STAFFETTA_ROUTE_DEFAULT_PASSWORD": "PASSWORD RELAYHOST_PASSWORD SMARTHOST_PASSWORD SMTP_PASSWORD",
        _TRUST: "TRUST MYNETWORKS ALLOWED_NETWORKS NETWORKS",
        "STAFFETTA_INIT_DOMAIN": "DOMAIN ALLOWED_SENDER_DOMAINS",
        "STAFFETTA_LIMITS_MESSAGE_SIZE": "MESSAGE_SIZE_LIMIT",
    }.items()
    for name in names.split()
}
"""What images of other programs call the same."""


class Variables:
    """Every name that is known for one file, and the key that it stands for."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.keys: dict[str, tuple[Path, Key]] = {}
        self.ambiguous: set[str] = set()
        for path, key in _keys(document):
            name = variable_of(path)
            if name in self.keys:
                self.ambiguous.add(name)
            self.keys[name] = (path, key)

    def secret_of(self, name: str) -> str:
        """`X` for `X_FILE` where X is a secret; else empty."""
        secret = name.removesuffix(_TWIN)
        found = self.keys.get(secret) if secret != name else None
        return secret if found is not None and isinstance(found[1].kind, SecretText) else ""


def variable_of(path: Path) -> str:
    """The variable that stands for a key: `("log", "level")` is `STAFFETTA_LOG_LEVEL`."""
    return PREFIX + "_".join(_OTHER.sub("_", str(name).upper()) for name in path)


def overlay(reader: Reader, document: dict[str, Any]) -> None:
    """Lay the variables over the document, and report those that are wrong. The document is changed."""
    known = Variables(document)
    for name in sorted(reader.environ):
        if name.startswith(PREFIX) and name not in NO_KEYS:
            _lay(reader, document, known, name)


def _lay(reader: Reader, document: dict[str, Any], known: Variables, name: str) -> None:
    secret = known.secret_of(name)
    if secret and reader.environ.get(secret):
        message = f"{secret} is set too, and only one of the two can hold"
        reader.report_variable("C115", name, message, "remove one of them")
        return
    found = known.keys.get(secret or name)
    if found is None:
        _unknown(reader, known, name)
        return
    if name in known.ambiguous:
        message = "two tables of the file have names that read the same here"
        reader.report_variable("C114", name, message, "give one of them another name")
        return
    path, key = found
    text = reader.environ[name]
    if not text:
        reader.report_variable("C117", name, "the variable is empty: it counts as not set", "set it, or remove it")
        return
    if _keeps_quotes(text) and not isinstance(key.kind, SecretText):
        message = "the quotes around the value are part of it"
        reader.report_variable("C116", name, message, "files of variables keep them: remove them there")
    value = _raw(reader, key, name, f"file:{text}" if secret else text)
    if value is not None and _put(document, path, value):
        reader.variables[path] = name


def _keys(document: dict[str, Any]) -> Iterator[tuple[Path, Key]]:
    for table in TABLES:
        if table.shape == "one":
            places = [table.path]
        elif table in (LISTEN, ROUTE):
            places = [(*table.path, name) for name in _names(document, table.path[0])]
        else:
            continue
        yield from (
            ((*place, name), key)
            for place in places
            for name, key in table.keys.items()
            if name not in _NOT_IN_ENVIRONMENT
        )


def _names(document: dict[str, Any], table: str) -> list[str]:
    """The doors or routes of the file; the route that is always there too."""
    inside = document.get(table, {})
    names = [name for name, raw in inside.items() if isinstance(raw, dict)] if isinstance(inside, dict) else []
    if table == ROUTE.path[0] and IMPLIED_ROUTE.name not in names:
        names.append(IMPLIED_ROUTE.name)
    return names


def _raw(reader: Reader, key: Key, name: str, text: str) -> Any:
    """The text as TOML would give it for this kind of key; None when it cannot be, which is reported."""
    try:
        text.encode()
    except UnicodeEncodeError:
        reader.report_variable("C106", name, "the value is not UTF-8 text", "write it in UTF-8")
        return None
    kind = key.kind
    if isinstance(kind, Number):
        if text.isascii() and text.isdigit() and len(text) < 19:
            return int(text)
        if isinstance(kind, NumberOrAuto) and text == "auto":
            return text
        reader.report_variable("C106", name, f"{quoted(text)} is not a whole number", "write digits alone")
        return None
    if isinstance(kind, Switch):
        if text in {"true", "false"}:
            return text == "true"
        reader.report_variable("C106", name, f"{quoted(text)} is neither true nor false", "write true or false")
        return None
    if isinstance(kind, Many) or kind is VIA:
        return [part for part in _SEPARATOR.split(text) if part]
    return text


def _put(document: dict[str, Any], path: Path, value: Any) -> bool:
    """Write the value into the document; False where the file has something else than a table, which others report."""
    inside: Any = document
    for name in path[:-1]:
        inside = inside.setdefault(name, {})
        if not isinstance(inside, dict):
            return False
    inside[path[-1]] = value
    return True


def _keeps_quotes(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"


def _unknown(reader: Reader, known: Variables, name: str) -> None:
    short = name.removeprefix(PREFIX)
    plain = known.keys.get(name.removesuffix(_TWIN))
    if name.endswith(_TWIN) and plain is not None:
        message = f"{label(plain[0])} is no secret, so it is not read from a file"
        reader.report_variable("C114", name, message, f"write the value into {name.removesuffix(_TWIN)}")
        return
    names = {other.removeprefix(PREFIX): other for other in (*known.keys, *NO_KEYS)}
    near = _FAMILIAR.get(short) or names.get(nearest(short, names), "")
    if near == _TRUST:
        near = next((other for other in known.keys if other.endswith("_TRUST")), _TRUST)
    cure = f"did you mean {near}?" if near else "config show prints every key; a variable is STAFFETTA_TABLE_KEY"
    if not near and re.match(r"(?:LISTEN|ROUTE)_", short):
        cure = f"the file has {_tables(known, short.partition('_')[0].lower())}"
    reader.report_variable("C114", name, "there is no key for this variable", cure, near)


def _tables(known: Variables, table: str) -> str:
    names = {str(path[1]): None for path, _ in known.keys.values() if path[0] == table}
    return ", ".join(f"[{table}.{name}]" for name in names) or f"no [{table}.NAME]"
