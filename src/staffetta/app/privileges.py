"""Giving up root after the ports are bound, and folders that only we may enter."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Final

DEFAULT_USER: Final = "staffetta"
"""The account to become when the configuration names none and this one exists."""


class PrivilegeError(Exception):
    """The account cannot be had; the message says why."""


def account_for(user: str | None) -> pwd.struct_passwd | None:
    """The account to become; None when there is nothing to give up or nobody to become. Raises PrivilegeError."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(user or DEFAULT_USER)
    except KeyError:
        if user is None:
            return None
        raise PrivilegeError(f"the account {user!r} does not exist") from None


def private_directory(path: Path, owner: pwd.struct_passwd | None) -> None:
    """Make the data directory, for its owner only; an existing one stays as it is. What is made from now on is ours
    only; the folders above it are not ours, and its owner has to come through them."""
    new = not path.exists()
    if new:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    os.umask(0o077)
    if new:
        path.mkdir(mode=0o700)
        if owner is not None:
            os.chown(path, owner.pw_uid, owner.pw_gid)


def become(account: pwd.struct_passwd | None) -> None:
    """Be that account from now on, for good: groups first, then group, then user."""
    if account is None:
        return
    os.initgroups(account.pw_name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    if os.geteuid() == 0 and account.pw_uid != 0:
        raise PrivilegeError("root could not be given up")
