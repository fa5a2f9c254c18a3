"""Maildir: one file per message, written in `tmp`, flushed, renamed into `new`, and the folder flushed too.

Without the flush of the folder a message that was acknowledged is back in `tmp` after a power cut, where nobody looks.
Content is stored as it travels, with CRLF: what was signed stays what is read. Dovecot, mutt and mbsync take both.
Folders are opened without following links, and files are made in folders that are already open (openat), so that
nothing planted in a mailbox leads outside. This module refuses to know who exists.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

NAME_OCTETS: Final = 200
"""Longest folder name for a local part; file systems take 255."""

_ALWAYS: Final = b"abcdefghijklmnopqrstuvwxyz0123456789_+="
_PLAIN = re.compile(r"[a-z0-9_+=][a-z0-9_+=.-]*")
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PARTS: Final = ("tmp", "new", "cur")


class MailboxNameError(ValueError):
    """The local part cannot be the name of a folder."""


class MaildirSettings(msgspec.Struct, frozen=True):
    """`root` holds the folders of one domain; `hostname` goes into file names, as readers expect."""

    root: Path
    hostname: str


def folder_name(local_part: str) -> str:
    """The folder of a local part (folded already): itself where it is plain, else with `%XX` for each odd octet.

    One name for one local part and no other: `%` itself is encoded. Raises MailboxNameError when it gets too long.
    """
    if _PLAIN.fullmatch(local_part) and len(local_part) <= NAME_OCTETS:
        return local_part
    octets = local_part.encode("utf-8", "surrogatepass")
    safe = "".join(_written(octet, first=not place) for place, octet in enumerate(octets))
    if not safe or len(safe) > NAME_OCTETS:
        raise MailboxNameError("the local part is too long for a mailbox")
    return safe


def _written(octet: int, *, first: bool) -> str:
    plain = octet in _ALWAYS or (octet in b".-" and not first)
    return chr(octet) if plain else f"%{octet:02X}"


class Maildir:
    """The Maildirs below one root. Blocking; call it in a thread."""

    def __init__(self, settings: MaildirSettings, process: int, counter: Iterator[int] | None = None) -> None:
        self._settings = settings
        self._process = process
        self._counter = counter if counter is not None else itertools.count(1)

    def deliver(self, local_part: str, pieces: Iterable[bytes], now: float, *, folder: str = "") -> str:
        """Put one message into the mailbox of `local_part`; the file's name. See `begin`."""
        writing = self.begin(local_part, now, folder=folder)
        try:
            for piece in pieces:
                writing.write(piece)
            return writing.finish()
        except BaseException:
            writing.abandon()
            raise

    def begin(self, local_part: str, now: float, *, folder: str = "") -> Writing:
        """Begin a message for the mailbox of `local_part` (folded), in its subfolder `folder` (Maildir++) if named.

        Raises OSError, MailboxNameError.
        """
        seconds = int(now)
        micro = int((now - seconds) * 1_000_000)
        unique = f"{seconds}.M{micro}P{self._process}Q{next(self._counter)}.{self._settings.hostname}"
        with self._mailbox(local_part, folder) as mailbox:
            return Writing(mailbox, unique)

    @contextmanager
    def _mailbox(self, local_part: str, folder: str) -> Iterator[int]:
        """The open folder of a mailbox, made and flushed where it is missing."""
        name = folder_name(local_part)
        root = self._settings.root
        if not root.is_dir():
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for parent in (root.parent, root.parent.parent):
                _flush(parent)
        with _opened(str(root), None) as top, _made(name, top) as mailbox:
            if not folder:
                _complete(mailbox)
                yield mailbox
                return
            if "/" in folder or folder.startswith(".") or "\0" in folder:
                raise MailboxNameError("not a folder name")
            _complete(mailbox)
            with _made(f".{folder}", mailbox) as inner:
                _complete(inner)
                yield inner


class Writing:
    """One message on its way in: `write`, then `finish` or `abandon`. Visible and durable only after `finish`."""

    def __init__(self, mailbox: int, unique: str) -> None:
        self._unique = unique
        self._size = 0
        self._tmp = os.open("tmp", _DIRECTORY, dir_fd=mailbox)
        try:
            self._new = os.open("new", _DIRECTORY, dir_fd=mailbox)
        except BaseException:
            os.close(self._tmp)
            raise
        try:
            self._file = os.open(unique, _NEW_FILE, 0o600, dir_fd=self._tmp)
        except BaseException:
            os.close(self._tmp)
            os.close(self._new)
            raise
        self._open = True

    def write(self, piece: bytes) -> None:
        """Append. Raises OSError."""
        view = memoryview(piece)
        while view:
            view = view[os.write(self._file, view) :]
        self._size += len(piece)

    def finish(self) -> str:
        """Flush, rename, flush the folder; the name of the file. Raises OSError; then `abandon`."""
        os.fsync(self._file)
        name = f"{self._unique},S={self._size}"
        os.rename(self._unique, name, src_dir_fd=self._tmp, dst_dir_fd=self._new)
        os.fsync(self._new)
        self._close()
        return name

    def abandon(self) -> None:
        """Leave nothing behind."""
        if self._open:
            with suppress(OSError):
                os.unlink(self._unique, dir_fd=self._tmp)
            self._close()

    def _close(self) -> None:
        self._open = False
        for descriptor in (self._file, self._tmp, self._new):
            os.close(descriptor)


def _complete(mailbox: int) -> None:
    for part in _PARTS:
        with _made(part, mailbox):
            pass


@contextmanager
def _opened(name: str, parent: int | None) -> Iterator[int]:
    descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _made(name: str, parent: int) -> Iterator[int]:
    try:
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        with suppress(FileExistsError):  # another delivery was faster
            os.mkdir(name, 0o700, dir_fd=parent)
        os.fsync(parent)
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _flush(path: Path) -> None:
    try:
        with _opened(str(path), None) as descriptor:
            os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EACCES, errno.ENOENT}:
            raise
