"""Loading the file: all that is wrong in one run, or the whole configuration. Never half of it.

Looks at the file, the files it names, the account database and the machine's name; never at DNS or the network.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from staffetta.config.build import build
from staffetta.config.checks import check
from staffetta.config.codes import CODES
from staffetta.config.environment import overlay
from staffetta.config.positions import positions
from staffetta.config.problems import Problem
from staffetta.config.reader import Reader, Setting
from staffetta.config.schema import Config
from staffetta.config.secret import readable_by_others
from staffetta.config.syntax import parse

LARGEST: Final = 1 << 20
"""Octets of the largest file that is read."""


Beyond = Callable[[Reader, Config], None]
"""More checks of a file that could be read: of what is beyond it, such as ports. They report to the reader."""


class Loaded(msgspec.Struct, frozen=True):
    """A configuration that may run. `settings` is every effective value with its origin; `digest` names the text."""

    config: Config
    warnings: tuple[Problem, ...]
    settings: tuple[Setting, ...]
    file: str
    digest: str

    def written(self, *path: str) -> bool:
        """True when the key at `path` stands in the file or in the environment, False when its default holds."""
        return any(one.path == path and (one.line or one.variable) for one in self.settings)


class Problems(msgspec.Struct, frozen=True):
    """A file that may not run: at least one error, in the order of the file, with the warnings between them."""

    problems: tuple[Problem, ...]


def load(
    path: Path,
    environ: Mapping[str, str],
    *,
    machine_name: str | None = None,
    now: float | None = None,
    files: bool = True,
    beyond: Beyond | None = None,
) -> Loaded | Problems:
    """Read, check and complete the file at `path`. Raises nothing for what stands in the file.

    `machine_name` is the default of `hostname` (the system's own when None), `now` the time for certificates.
    Without `files`, certificates, keys and accounts that the file names are not looked at: commands on the store need
    none of them, and who runs one need not be able to read them. What `beyond` finds is reported with the rest.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            data = stream.read(LARGEST + 1)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "there is no such file" if missing else f"the file cannot be read ({error.strerror})"
        return _unreadable(path, reason, "name it with -c FILE" if missing else "")
    if len(data) > LARGEST:
        return _unreadable(path, "the file is larger than 1 MiB", "is it the right file?")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return _unreadable(path, "the file is not UTF-8 text", "save it as UTF-8", line)
    if text.startswith("\ufeff"):
        return _unreadable(path, "the file begins with a byte order mark", "save it as UTF-8 without one", 1)
    reader = Reader(positions(text.replace("\r\n", "\n")), path.name, path.absolute().parent, environ)
    reader.readable_by_others = readable_by_others(status)
    try:
        moment = (time.time() if now is None else now) if files else None
        return _judge(reader, data, machine_name or socket.gethostname(), moment, beyond)
    except RecursionError:
        return _unreadable(path, "the file nests lists or tables too deeply", "")


def _judge(
    reader: Reader, data: bytes, machine_name: str, now: float | None, beyond: Beyond | None
) -> Loaded | Problems:
    document = parse(reader)
    overlay(reader, {} if document is None else document)
    if document is not None:
        config = build(reader, document, machine_name)
        check(reader, config, now)
        if beyond is not None:
            beyond(reader, config)
        if not reader.failed:
            digest = hashlib.sha256(data).hexdigest()[:8]
            warnings = _in_order(reader.problems)
            return Loaded(config, warnings, tuple(reader.settings.values()), reader.file, digest)
    return Problems(_in_order(reader.problems))


def _in_order(problems: list[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))


def _unreadable(path: Path, reason: str, cure: str, line: int = 0) -> Problems:
    return Problems((Problem("C110", CODES["C110"].level, path.name, line, 0, 0, reason, cure),))
