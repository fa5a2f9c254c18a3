"""The drop directory: where any user of the machine leaves mail, and the form of a file in it.

A file is one line of sizes and a digest, the content with CRLF line ends, and the envelope as JSON. The first line is
written last; a file that was cut short or changed anywhere does not match it. Files appear under their name when they
are complete and flushed, and not before. The directory (mode 3733) can be written to by all and listed by none: names
cannot be guessed, and the group that files inherit lets the relay read them.

This module refuses to know what a relay does with a file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from pathlib import Path
from typing import Final

import msgspec

from staffetta.mail.identity import IdentitySource
from staffetta.sendmail.statuses import TRY_LATER, Stop

DEFAULT: Final = Path("/var/lib/staffetta-drop")
"""Beside the default data directory."""

MODE: Final = 0o3733
"""Write and enter for all, list for the owner only; sticky, and files get the directory's group."""

UNFINISHED: Final = "."
"""How names of files begin that are being written."""

ENVELOPE_OCTETS: Final = 4 << 20
"""Largest envelope: ten thousand recipients of the longest kind."""

LARGEST_CONTENT: Final = 1 << 40
_FRONT: Final = b"staffetta-drop 1 %016d %08d %b\n"
FRONT_OCTETS: Final = 108
_FRONT_LINE = re.compile(rb"staffetta-drop 1 ([0-9]{16}) ([0-9]{8}) ([0-9a-f]{64})\n")
_ROOM: Final = b" " * (FRONT_OCTETS - 1) + b"\n"
_FILE_MODE: Final = 0o640
_FILE_MODE_WITHOUT_GROUP: Final = 0o644


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """Who sends to whom. Names without a domain are names on this machine.

    `sender` None: the user who owns the file; "": the null path. `full_name` None: what the system says.
    """

    recipients: tuple[str, ...]
    sender: str | None = None
    full_name: str | None = None
    notify: tuple[str, ...] = ()
    ret: str | None = None
    envid: str | None = None


class Front(msgspec.Struct, frozen=True, gc=False):
    """The first line: sizes in octets, and the SHA-256 of all that follows it."""

    content: int
    envelope: int
    digest: bytes


class Damaged(Exception):
    """The file is not what `sendmail` wrote; the message says why."""


class DropFile:
    """One message on its way into the directory: `write` the content, then `commit`, or `discard`. Raises Stop."""

    def __init__(self, directory: Path) -> None:
        self.name = IdentitySource(os.urandom).new(time.time())
        self._directory = directory
        self._unfinished = directory / f"{UNFINISHED}{self.name}"
        self._digest = hashlib.sha256()
        self._octets = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._file = os.open(self._unfinished, flags, 0o600)
        except FileNotFoundError:
            raise Stop(f"there is no {directory}: the relay makes it when it starts", TRY_LATER) from None
        except OSError as error:
            raise _cannot(directory, error) from error
        self._write(_ROOM)

    def write(self, content: bytes) -> None:
        """More of the content."""
        self._digest.update(content)
        self._octets += len(content)
        self._write(content)

    def commit(self, envelope: Envelope) -> None:
        """Complete, on disk, and there for the relay."""
        text = msgspec.json.encode(envelope)
        self._digest.update(text)
        self._write(text)
        front = _FRONT % (self._octets, len(text), self._digest.hexdigest().encode())
        try:
            if os.pwrite(self._file, front, 0) != len(front):
                raise OSError("a short write")
            os.fchmod(self._file, self._mode())
            os.fsync(self._file)
            os.rename(self._unfinished, self._directory / self.name)
        except OSError as error:
            self.discard()
            raise _cannot(self._directory, error) from error
        self._flush_name()

    def discard(self) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(OSError):
            os.close(self._file)
        with contextlib.suppress(OSError):
            self._unfinished.unlink()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            self.discard()
            raise _cannot(self._directory, error) from error

    def _mode(self) -> int:
        """Readable by the group where the directory has given its own, else by all who can guess the name."""
        given = os.fstat(self._file).st_gid == self._directory.stat().st_gid
        return _FILE_MODE if given else _FILE_MODE_WITHOUT_GROUP

    def _flush_name(self) -> None:
        try:
            opened = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            # Who may not list the directory cannot open it to flush it. The name is in the same transaction of the
            # file system as the file's own change by the renaming, so flushing the file again flushes it too.
            opened = os.dup(self._file)
        try:
            os.fsync(opened)
        except OSError as error:
            raise _cannot(self._directory, error) from error
        finally:
            os.close(opened)
            os.close(self._file)


def read_front(line: bytes, size: int) -> Front:
    """The first line of a file of `size` octets. Raises Damaged."""
    match = _FRONT_LINE.fullmatch(line)
    if match is None:
        raise Damaged("it does not begin as a file of sendmail does")
    content, envelope = int(match[1]), int(match[2])
    if FRONT_OCTETS + content + envelope != size:
        raise Damaged(f"{size} octets, where {FRONT_OCTETS + content + envelope} were written")
    if envelope > ENVELOPE_OCTETS:
        raise Damaged("the envelope is too large")
    return Front(content, envelope, bytes.fromhex(match[3].decode()))


def read_envelope(text: bytes) -> Envelope:
    """The envelope at the end of a file. Raises Damaged."""
    try:
        return msgspec.json.decode(text, type=Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged("its envelope cannot be read") from error


def _cannot(directory: Path, error: OSError) -> Stop:
    return Stop(f"the message cannot be stored in {directory}: {error.strerror or error}", TRY_LATER)
