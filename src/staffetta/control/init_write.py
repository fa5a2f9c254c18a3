"""Writing the first files: never over another one unless told to, secrets for their owner only, and checked.

The configuration gets its name last, after the loader has found nothing wrong with it; what was written before is
taken away again when it has.
"""

from __future__ import annotations

import contextlib
import grp
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from staffetta.config.load import Loaded, Problems, load
from staffetta.config.problems import Problem
from staffetta.control.place import SERVICE_ACCOUNT

_OPEN: Final = 0o644
_PRIVATE: Final = 0o600
_SHARED: Final = 0o640
"""What root writes for the account that serves."""


class Exists(Exception):
    """Files are there already; the message names them."""


class CannotWrite(Exception):
    """The system does not let us; the message says why."""


class Refused(Exception):
    """The loader refuses what would be written; it never got its name."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("the configuration would not be right")
        self.problems = problems


class FirstFile(msgspec.Struct, frozen=True, gc=False):
    """One file to write."""

    path: Path
    content: bytes
    secret: bool = False


def write_all(config: FirstFile, others: Sequence[FirstFile], environ: Mapping[str, str], *, force: bool) -> Loaded:
    """Write the configuration and what it names, and return it as it loads. Raises Exists, CannotWrite, Refused."""
    found = [one.path for one in (*others, config) if os.path.lexists(one.path)]
    if found and not force:
        raise Exists(", ".join(map(str, found)))
    written: list[Path] = []
    draft = config.path.with_name(f".{config.path.name}.new")
    try:
        config.path.parent.mkdir(parents=True, exist_ok=True)
        for one in others:
            written.append(one.path)
            _write(one, one.path)
        _write(config, draft)
        loaded = load(draft, environ)
        if isinstance(loaded, Problems):
            raise Refused(_named(loaded.problems, config.path))
        draft.replace(config.path)
    except OSError as error:
        _take_away(written if not found else [])
        raise CannotWrite(f"cannot write {error.filename or config.path}: {error.strerror}") from error
    except Refused:
        _take_away(written if not found else [])
        raise
    finally:
        draft.unlink(missing_ok=True)
    return msgspec.structs.replace(loaded, file=config.path.name, warnings=_named(loaded.warnings, config.path))


def _write(one: FirstFile, path: Path) -> None:
    """Make the file anew, with its rights from the first moment on: what stands there is removed, not followed."""
    path.unlink(missing_ok=True)
    group = _service_group()
    mode = _PRIVATE if one.secret else _OPEN
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, mode)) as stream:
        stream.write(one.content)
        if group is not None:
            os.fchown(stream.fileno(), -1, group)
            os.fchmod(stream.fileno(), _SHARED if one.secret else _OPEN)


def _service_group() -> int | None:
    """The group of the account that serves, when root writes for it."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return grp.getgrnam(SERVICE_ACCOUNT).gr_gid
    return None


def _named(problems: tuple[Problem, ...], path: Path) -> tuple[Problem, ...]:
    draft = f".{path.name}.new"
    return tuple(
        msgspec.structs.replace(
            problem,
            file=path.name if problem.file == draft else problem.file,
            cure=problem.cure.replace(draft, path.name),
        )
        for problem in problems
    )


def _take_away(paths: Sequence[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
