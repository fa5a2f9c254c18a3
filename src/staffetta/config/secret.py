"""Secrets: from a file, from the environment, or written down. Their text never enters a message."""

from __future__ import annotations

import itertools
import os
import re
import stat
from pathlib import Path as FilePath
from typing import Final

from staffetta.config.nearest import nearest
from staffetta.config.positions import Path
from staffetta.config.reader import Reader, label
from staffetta.config.schema import Secret

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST: Final = 64 * 1024
"""Octets of the longest secret file."""

_OF_THE_CONTAINER: Final = "/run/secrets/"
"""Where container engines mount secrets, readable by everybody in the container, who is the relay alone."""

_MOST_NAMES: Final = 1000
"""Files of a folder among which the nearest name is looked for."""


def read_secret(reader: Reader, path: Path, text: str) -> Secret | None:
    """The secret that `text` names or is; None when it cannot be had, which is reported."""
    if text.startswith("file:"):
        return _from_file(reader, path, text[len("file:") :])
    if text.startswith("env:"):
        return _from_environment(reader, path, text[len("env:") :])
    if reader.readable_by_others and path not in reader.variables:
        message = f"{label(path)} stands in a file that others can read"
        reader.report("C309", path, message, f'chmod 600 {reader.file}, or write "file:PATH"')
    if _looks_like_path(reader, text):
        reader.report("C318", path, f"{label(path)} is read as the password itself", 'for a file write "file:PATH"')
    return _judged(reader, path, text, "literal")


def readable_by_others(status: os.stat_result) -> bool:
    """True when others may read, or a group: but for root's files, where a group is a deliberate grant."""
    group = stat.S_IRGRP if status.st_uid else 0
    return bool(status.st_mode & (group | stat.S_IROTH))


def _from_file(reader: Reader, path: Path, name: str) -> Secret | None:
    if not name:
        reader.report("C106", path, f'{label(path)}: "file:" names no file', 'write "file:PATH"')
        return None
    file = reader.base / name
    data = read_file(reader, path, file, name)
    if data is None:
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        reader.report("C303", path, f"{label(path)}: {name} is not UTF-8 text", "write the secret alone into it")
        return None
    return _judged(reader, path, text.removesuffix("\n").removesuffix("\r"), f"file:{name}")


def read_file(reader: Reader, path: Path, file: FilePath, name: str) -> bytes | None:
    """What is in a small file that the key at `path` names; None when it cannot be read, which is reported.

    A file that others can read is reported when it holds a secret, which `path` tells by its last name.
    """
    try:
        with file.open("rb") as stream:
            status = os.fstat(stream.fileno())
            data = stream.read(_LONGEST + 1)
    except FileNotFoundError:
        reader.report("C301", path, f"{label(path)}: there is no file {name}", _whereabouts(reader, file))
        return None
    except IsADirectoryError:
        reader.report("C302", path, f"{label(path)}: {name} is a folder", "name a file in it")
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        reader.report("C302", path, f"{label(path)}: {name} cannot be read ({reason})", _owner_words(file))
        return None
    if len(data) > _LONGEST:
        reader.report("C303", path, f"{label(path)}: {name} is larger than 64 KiB", "is it the right file?")
        return None
    shared = readable_by_others(status) and not str(file).startswith(_OF_THE_CONTAINER)
    if path[-1] in {"password", "key"} and shared:
        mode = stat.S_IMODE(status.st_mode)
        reader.report("C308", path, f"{label(path)}: others can read {name} (mode {mode:o})", f"chmod 600 {name}")
    return data


def _whereabouts(reader: Reader, file: FilePath) -> str:
    try:
        beside = [entry.name for entry in itertools.islice(file.parent.iterdir(), _MOST_NAMES)]
    except OSError:
        return "there is no such folder either"
    alike = [name for name in beside if name != reader.file and FilePath(name).suffix == file.suffix]
    near = nearest(file.name, alike)
    return f"did you mean {near}?" if near else f"paths are relative to the folder of {reader.file}"


def _owner_words(file: FilePath) -> str:
    try:
        status = file.stat()
    except (OSError, ValueError):
        return "a folder above it is closed to this account"
    mode = stat.S_IMODE(status.st_mode)
    return f"it belongs to uid {status.st_uid}, mode {mode:o}; this account is uid {os.geteuid()}"


def _from_environment(reader: Reader, path: Path, name: str) -> Secret | None:
    if not _VARIABLE.fullmatch(name):
        reader.report(
            "C106", path, f"{label(path)}: what follows env: is not the name of a variable", 'write "env:NAME"'
        )
        return None
    text = reader.environ.get(name)
    if text is None:
        file = f'{name}_FILE is set; for that write "file:…"' if f"{name}_FILE" in reader.environ else ""
        reader.report("C310", path, f"{label(path)}: the variable {name} is not set", file or f"set {name} at start")
        return None
    return _judged(reader, path, text, f"env:{name}")


def _judged(reader: Reader, path: Path, text: str, origin: str) -> Secret | None:
    if not text:
        reader.report("C311", path, f"{label(path)}: the secret is empty", "write the secret, or leave the key out")
        return None
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        message = f"{label(path)}: the secret has a control character or more than one line"
        reader.report("C112", path, message, "write the secret alone")
        return None
    if text != text.strip() or (len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"):
        message = f"{label(path)}: quotes or blanks around the secret are taken as part of it"
        reader.report("C317", path, message, "remove them if they are not")
    return Secret(text, origin)


def _looks_like_path(reader: Reader, text: str) -> bool:
    if "\x00" in text or len(text) > 255:
        return False
    if text.startswith(("/", "./", "../")):
        return True
    try:
        return bool(text) and (reader.base / text).is_file()
    except OSError:
        return False
