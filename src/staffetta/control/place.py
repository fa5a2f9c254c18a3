"""The data directory as commands use it: found, made when missing, and worked on as its owner.

A command that root runs works as the owner of the directory while it holds a store open, so that the relay, which is
not root, can use every file that was made meanwhile, and nothing planted in the directory reaches further than its
owner could. This module refuses to know what is stored.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SERVICE_ACCOUNT: Final = "staffetta"
"""Who owns a new data directory when the configuration names nobody and this account exists."""

DIRECTORY_MODE: Final = 0o700

DROP_SUFFIX: Final = "-drop"
"""The drop directory, where any user of the machine leaves mail (`sendmail.drop`), stands beside the data directory,
which nobody but the relay may enter: its name and this."""


class NothingThere(Exception):
    """There is no store yet; the message says where it was looked for."""


class NotAllowed(Exception):
    """This user may not use the data directory; the message says who may."""


@contextlib.contextmanager
def as_owner(directory: Path) -> Iterator[None]:
    """Be the owner of the directory while the body runs, when root asks; change nothing for anybody else.

    Only the effective ids change: whoever runs this could become root again, which is no barrier against our own code
    but makes files belong to the right account. Raises NotAllowed, NothingThere.
    """
    status = _status(directory)
    if os.geteuid() != 0 or status.st_uid == 0:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    # Group ids first: without root's user id they could not be changed any more.
    os.setgroups([status.st_gid])
    os.setegid(status.st_gid)
    os.seteuid(status.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def make(directory: Path, user: str | None) -> None:
    """Make the directory where there is none; for root, it belongs to `user`, or to the service account if it exists.

    Raises NotAllowed.
    """
    if _exists(directory):
        return
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=DIRECTORY_MODE)
        if os.geteuid() == 0 and (owner := _account(user)) is not None:
            os.chown(directory, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
    except FileExistsError:
        return
    except OSError as error:
        raise NotAllowed(f"cannot make {directory}: {error.strerror}") from error


def drop_of(data_dir: Path) -> Path:
    """The drop directory of a data directory."""
    return data_dir.with_name(data_dir.name + DROP_SUFFIX)


def require(path: Path) -> None:
    """Return when this user may read and write the file; as_owner is in force. Raises NothingThere, NotAllowed."""
    if not _exists(path):
        raise NothingThere(f"there is no {path.name} in {path.parent}")
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        raise NotAllowed(f"only {who_may(path.parent)} may use {path}")


def owner_of(directory: Path) -> str:
    """The name of the account that owns a directory."""
    number = _status(directory).st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def who_may(directory: Path) -> str:
    """Who may use a directory: `root`, or `staffetta and root`."""
    owner = owner_of(directory)
    return owner if owner == "root" else f"{owner} and root"


def who_asks() -> str:
    """The account behind this command, for the journal; through sudo, the one that called it."""
    called_by = os.environ.get("SUDO_USER", "") if os.getuid() == 0 else ""
    if called_by and called_by.isascii() and called_by.isprintable():
        return called_by
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


def _status(directory: Path) -> os.stat_result:
    try:
        return directory.stat()
    except FileNotFoundError as error:
        raise NothingThere(f"there is no {directory}") from error
    except OSError as error:
        raise NotAllowed(f"cannot look into {directory}: {error.strerror}") from error


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise NotAllowed(f"cannot look at {path}: {error.strerror}") from error
    return True


def _account(user: str | None) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(user or SERVICE_ACCOUNT)
    except KeyError:
        return None
