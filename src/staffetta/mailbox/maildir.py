"""Maildir: one file per message, written in `tmp`, flushed, renamed into `new`, and the folder flushed too.

Without the flush of the folder a message that was acknowledged is back in `tmp` after a power cut, where nobody looks.
Letters for one mailbox that come together share that flush. Content is stored as it travels, with CRLF: what was
signed stays what is read; Dovecot, mutt and mbsync take both. Folders inside a mailbox are Maildir++ (`.Junk`).

Below the root no link is followed, and files are made in folders that are already open (openat), so that nothing
planted in a mailbox leads outside. This module refuses to know who exists.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from staffetta.mailbox.contract import Letter, MailboxNameError

NAME_OCTETS: Final = 200
"""Longest folder name for a local part; file systems take 255."""

_ALWAYS: Final = b"abcdefghijklmnopqrstuvwxyz0123456789_+="
_PLAIN = re.compile(r"[a-z0-9_+=][a-z0-9_+=.-]*")
_FOLDER = re.compile(r"[A-Za-z0-9_+=, -]+(?:\.[A-Za-z0-9_+=, -]+)*")
_ROOT: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_DIRECTORY: Final = _ROOT | os.O_NOFOLLOW
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


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
    """The Maildirs below one root. Blocking; may be called from several threads."""

    def __init__(self, settings: MaildirSettings, process: int, counter: Iterator[int] | None = None) -> None:
        self._settings = settings
        self._process = process
        self._counter = counter if counter is not None else itertools.count(1)

    def deliver(self, letters: Sequence[Letter]) -> list[str | OSError | MailboxNameError]:
        """See mailbox.contract. Letters for one folder share its opening and its flush; one that fails stops no
        other."""
        results: list[str | OSError | MailboxNameError] = [""] * len(letters)
        places: dict[tuple[str, str], list[int]] = {}
        for position, letter in enumerate(letters):
            places.setdefault((letter.local_part, letter.folder), []).append(position)
        for (local_part, folder), positions in places.items():
            try:
                with self._open(local_part, folder) as box:
                    self._fill(box, letters, positions, results)
            except (OSError, MailboxNameError) as error:
                for position in positions:
                    results[position] = error
        return results

    def begin(self, local_part: str, now: float, folder: str = "") -> Writing:
        """See mailbox.contract."""
        with self._open(local_part, folder) as box:
            return Writing(box, self._unique(now))

    def _fill(
        self,
        box: Box,
        letters: Sequence[Letter],
        positions: Sequence[int],
        results: list[str | OSError | MailboxNameError],
    ) -> None:
        """Write the letters at `positions`, then make all of them visible with one flush. Raises OSError when that
        fails; then none of them is."""
        written: list[tuple[str, str]] = []
        try:
            for position in positions:
                letter = letters[position]
                unique = self._unique(letter.now)
                try:
                    size = box.write(unique, letter.pieces)
                except OSError as error:
                    results[position] = error
                    continue
                name = results[position] = f"{unique},S={size}"
                written.append((unique, name))
        except BaseException:
            box.remove_all(written)
            raise
        box.publish(written)

    def _unique(self, now: float) -> str:
        seconds = int(now)
        micro = int((now - seconds) * 1_000_000)
        return f"{seconds}.M{micro}P{self._process}Q{next(self._counter)}.{self._settings.hostname}"

    @contextmanager
    def _open(self, local_part: str, folder: str) -> Iterator[Box]:
        """The open box of a mailbox or of a folder in it, made and flushed where it is missing."""
        name = folder_name(local_part)
        if folder and (len(folder) > NAME_OCTETS or not _FOLDER.fullmatch(folder)):
            raise MailboxNameError("not the name of a folder")
        with _opened_root(self._settings.root) as root, _made(name, root) as mailbox:
            if not folder:
                with Box.opened(mailbox) as box:
                    yield box
                return
            # The inbox comes first: a Maildir++ folder without it is nobody's.
            with Box.opened(mailbox):
                pass
            with _made(f".{folder}", mailbox) as inner, Box.opened(inner, marked=True) as box:
                yield box


class Box:
    """The two folders of a Maildir through which a message comes in, open."""

    __slots__ = ("new", "tmp")

    def __init__(self, tmp: int, new: int) -> None:
        self.tmp = tmp
        self.new = new

    @classmethod
    @contextmanager
    def opened(cls, mailbox: int, *, marked: bool = False) -> Iterator[Box]:
        """The box of an open mailbox folder; `marked` puts Maildir++'s sign into a new one."""
        try:
            new = os.open("new", _DIRECTORY, dir_fd=mailbox)
        except FileNotFoundError:
            # `new` is made last: where it is, the rest is.
            for part in ("cur", "tmp", "new"):
                with suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=mailbox)
            if marked:
                with suppress(FileExistsError):
                    os.close(os.open("maildirfolder", _NEW_FILE, 0o600, dir_fd=mailbox))
            os.fsync(mailbox)
            new = os.open("new", _DIRECTORY, dir_fd=mailbox)
        try:
            try:
                tmp = os.open("tmp", _DIRECTORY, dir_fd=mailbox)
            except FileNotFoundError:  # somebody tidied up
                with suppress(FileExistsError):
                    os.mkdir("tmp", 0o700, dir_fd=mailbox)
                tmp = os.open("tmp", _DIRECTORY, dir_fd=mailbox)
        except BaseException:
            os.close(new)
            raise
        try:
            yield cls(tmp, new)
        finally:
            os.close(tmp)
            os.close(new)

    def write(self, unique: str, pieces: Sequence[bytes]) -> int:
        """A new file in `tmp`, flushed; its size. Raises OSError; then it is gone."""
        descriptor = os.open(unique, _NEW_FILE, 0o600, dir_fd=self.tmp)
        try:
            size = sum(_write_all(descriptor, piece) for piece in pieces)
            os.fsync(descriptor)
        except BaseException:
            _unlink(unique, self.tmp)
            raise
        finally:
            os.close(descriptor)
        return size

    def publish(self, written: Sequence[tuple[str, str]]) -> None:
        """Move files (name in `tmp`, name in `new`) and flush the folder once. Raises OSError; then all are gone."""
        try:
            for unique, name in written:
                os.rename(unique, name, src_dir_fd=self.tmp, dst_dir_fd=self.new)
            if written:
                os.fsync(self.new)
        except BaseException:
            # What is not known to be durable must not be seen either, or it would be there twice later.
            self.remove_all(written)
            raise

    def remove_all(self, written: Sequence[tuple[str, str]]) -> None:
        """Take files away, wherever they are."""
        for unique, name in written:
            _unlink(unique, self.tmp)
            _unlink(name, self.new)


class Writing:
    """One large message on its way in; see mailbox.contract."""

    def __init__(self, box: Box, unique: str) -> None:
        self._unique = unique
        self._size = 0
        self._descriptors: list[int] = []
        try:
            for descriptor in (box.tmp, box.new):
                self._descriptors.append(os.dup(descriptor))
            self._box = Box(*self._descriptors)
            self._file = os.open(unique, _NEW_FILE, 0o600, dir_fd=self._box.tmp)
            self._descriptors.append(self._file)
        except BaseException:
            self._close()
            raise

    def write(self, piece: bytes) -> None:
        """Append. Raises OSError."""
        self._size += _write_all(self._file, piece)

    def finish(self) -> str:
        """Flush, move, flush the folder. Raises OSError; then nothing is left behind."""
        name = f"{self._unique},S={self._size}"
        try:
            os.fsync(self._file)
            self._box.publish([(self._unique, name)])
        except BaseException:
            self.abandon()
            raise
        self._close()
        return name

    def abandon(self) -> None:
        """Leave nothing behind."""
        if self._descriptors:
            _unlink(self._unique, self._box.tmp)
            self._close()

    def _close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())


def _write_all(descriptor: int, piece: bytes) -> int:
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]
    return len(piece)


def _unlink(name: str, folder: int) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=folder)


@contextmanager
def _opened_root(root: Path) -> Iterator[int]:
    """The root, which may be a link (the operator's), made with its parents where it is missing."""
    try:
        descriptor = os.open(root, _ROOT)
    except FileNotFoundError:
        _make_durably(root)
        descriptor = os.open(root, _ROOT)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _make_durably(path: Path) -> None:
    """Make a folder and what is missing above it, flushing each parent after its child was made."""
    missing = [path]
    while not missing[-1].parent.is_dir():
        missing.append(missing[-1].parent)
    for folder in reversed(missing):
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        descriptor = os.open(folder.parent, _ROOT)
        try:
            os.fsync(descriptor)
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
