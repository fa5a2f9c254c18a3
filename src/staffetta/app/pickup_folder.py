"""The drop directory as the relay sees it: a place where anybody on the machine can put anything.

Everything is done below one open directory, no name is followed, and nothing but a plain file with one name is read
(threats S16). The owner of a file is who sends it: nobody can give files away. What is no mail of `sendmail` is put
aside into `damaged/`, or removed where it can hold none; the rest of the mail flows.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from staffetta.control.place import drop_of
from staffetta.mail.identity import is_identity
from staffetta.sendmail.drop import (
    FRONT_OCTETS,
    MODE,
    UNFINISHED,
    Damaged,
    Envelope,
    Front,
    read_envelope,
    read_front,
)

DAMAGED: Final = "damaged"
"""Folder of what was put aside; for the relay's account only."""

NAMES_AT_ONCE: Final = 500
"""How many files are taken from one look at the directory."""

UNFINISHED_SECONDS: Final = 86_400.0
"""A file that has been in the making for a day will not be finished."""

_READ_OCTETS: Final = 256 * 1024


class Unusable(Exception):
    """The directory cannot serve; the message says why."""


def prepare(data_dir: Path, owner: pwd.struct_passwd | None) -> str:
    """Make the drop directory, or give an old one its mode. "" or why there is none: mail of this machine's programs
    then finds no way in, and all else works.

    Called while we may still be root: `owner` is who we are about to become.
    """
    directory = drop_of(data_dir)
    try:
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
            if owner is not None:
                os.chown(directory, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(opened)
            if status.st_uid != (os.geteuid() if owner is None else owner.pw_uid):
                return f"{directory} does not belong to the relay"
            if stat.S_IMODE(status.st_mode) != MODE:
                _set_mode(opened)
        finally:
            os.close(opened)
    except OSError as error:
        return f"{directory}: {error.strerror}"
    return ""


def _set_mode(opened: int) -> None:
    """The mode; without the inherited group where a sandbox forbids to set that bit. Raises OSError."""
    try:
        os.fchmod(opened, MODE)
    except PermissionError:
        os.fchmod(opened, MODE & ~stat.S_ISGID)


class Dropped(msgspec.Struct):
    """One file, open. `uid` is who owns it, `identity` the same at every look at it. `written_at` is the time that its
    owner gives it, `changed_at` the system's, of the renaming."""

    name: str
    file: int
    uid: int
    written_at: float
    changed_at: float
    identity: str
    front: Front
    envelope: Envelope

    def content(self) -> Iterator[bytes]:
        """The content in stretches; raises Damaged at its end when the digest is not that of what was read."""
        digest = hashlib.sha256()
        at, end = FRONT_OCTETS, FRONT_OCTETS + self.front.content
        while at < end:
            data = os.pread(self.file, min(_READ_OCTETS, end - at), at)
            if not data:
                raise Damaged("it became shorter while it was read")
            digest.update(data)
            at += len(data)
            yield data
        digest.update(os.pread(self.file, self.front.envelope, end))
        if digest.digest() != self.front.digest:
            raise Damaged("its content is not what was written")

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(OSError):
            os.close(self.file)


class Folder:
    """The drop directory, open. Raises Unusable when it is not ours."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            self._folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise Unusable(f"{directory}: {error.strerror}") from error
        if os.fstat(self._folder).st_uid != os.geteuid() and os.geteuid() != 0:
            os.close(self._folder)
            raise Unusable(f"{directory} does not belong to the relay: it could not remove what it took")
        self._stuck: set[str] = set()
        self._damaged = self._own_folder(DAMAGED)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._folder)
        if self._damaged is not None:
            os.close(self._damaged)

    def changed_at(self) -> int:
        """When a name in it changed last, in nanoseconds."""
        return os.fstat(self._folder).st_mtime_ns

    def names(self, now: float, without: frozenset[str] = frozenset()) -> list[str]:
        """What is to be looked at, at most NAMES_AT_ONCE. Leftovers of unfinished files are removed on the way."""
        found: list[str] = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                name = entry.name
                if name == DAMAGED or name in self._stuck or name in without:
                    continue
                if name.startswith(UNFINISHED):
                    self._sweep(name, now)
                elif len(found) < NAMES_AT_ONCE:
                    found.append(name)
        return sorted(found)

    def open(self, name: str, largest: int) -> Dropped:
        """The file of that name. Raises Damaged when it is none of sendmail's, FileNotFoundError when it is gone.

        Files with more than `largest` octets of content are damaged too: nobody may fill the memory of those who look.
        """
        # Not blocking: nobody may ever write to a FIFO.
        try:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._folder)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Damaged(f"it cannot be opened: {error.strerror}") from error
        try:
            return self._read(name, file, largest)
        except BaseException:
            os.close(file)
            raise

    def _read(self, name: str, file: int, largest: int) -> Dropped:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise Damaged("it is no file")
        if status.st_nlink != 1:
            raise Damaged("it has another name elsewhere")
        if not is_identity(name):
            raise Damaged("its name is none that sendmail gives")
        front = read_front(os.pread(file, FRONT_OCTETS, 0), status.st_size)
        if front.content > largest:
            raise Damaged(f"{front.content} octets are more than a message may have")
        envelope = read_envelope(os.pread(file, front.envelope, FRONT_OCTETS + front.content))
        identity = _identity(name, status)
        return Dropped(name, file, status.st_uid, status.st_mtime, status.st_ctime, identity, front, envelope)

    def remove(self, name: str) -> None:
        """The relay has it. What cannot be removed is not taken a second time."""
        try:
            os.unlink(name, dir_fd=self._folder)
        except FileNotFoundError:
            return
        except OSError:
            self._stuck.add(name)
            raise
        os.fsync(self._folder)

    def put_aside(self, name: str) -> str:
        """Out of the way, whatever it is; what became of it, in words."""
        try:
            status = os.stat(name, dir_fd=self._folder, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                os.unlink(name, dir_fd=self._folder)
                return "removed"
            if self._damaged is None:
                raise OSError(0, f"{DAMAGED} is not ours")
            os.rename(name, _plain(name), src_dir_fd=self._folder, dst_dir_fd=self._damaged)
        except FileNotFoundError:
            return "gone"
        except OSError as error:
            self._stuck.add(name)
            return f"left where it is: {error.strerror}"
        return f"kept as {DAMAGED}/{_plain(name)}"

    def _own_folder(self, name: str) -> int | None:
        """A folder of ours in there; None where somebody else has put something of that name."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=self._folder)
        try:
            opened = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder)
        except OSError:
            return None
        if os.fstat(opened).st_uid == os.geteuid():
            return opened
        os.close(opened)
        return None

    def _sweep(self, name: str, now: float) -> None:
        with contextlib.suppress(OSError):
            status = os.stat(name, dir_fd=self._folder, follow_symlinks=False)
            if status.st_mtime < now - UNFINISHED_SECONDS:
                os.unlink(name, dir_fd=self._folder)


def _identity(name: str, status: os.stat_result) -> str:
    """A name for this very file, in the shape of a session's."""
    facts = f"{name} {status.st_uid} {status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}"
    number = int.from_bytes(hashlib.sha256(facts.encode()).digest()[:16], "big")
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    return "".join([alphabet[number >> shift & 31] for shift in range(125, -1, -5)])


def _plain(name: str) -> str:
    """The name as a name of ours: no octet of somebody else's choice."""
    if is_identity(name):
        return name
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:26]
