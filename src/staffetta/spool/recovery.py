"""Where the store lives, who may run a relay on it, and whether one is alive.

One relay per store: it holds an exclusive lock on a file for as long as it lives; the kernel lets go when it dies, so
nothing is left to clean up. Commands need no lock, only to know whether what a relay claimed is still worked on.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

STORE_NAME: Final = "spool.db"
"""The spool's file in `data_dir`."""

LOCK_NAME: Final = "relay.lock"
"""The file in `data_dir` that the running relay holds."""


class AlreadyRunning(Exception):
    """Another relay works on this data directory. `pid` is what it wrote down, 0 when unknown."""

    def __init__(self, path: Path, pid: int) -> None:
        super().__init__(f"another relay runs on {path.parent}" + (f" (process {pid})" if pid else ""))
        self.pid = pid


class RelayLock:
    """The right to deliver from a store. Held until `release` or the end of the process.

    `flock`, not `lockf`: a POSIX lock would be lost when any part of this process closes the same file.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, data_dir: Path) -> RelayLock:
        """Take the lock. Raises AlreadyRunning, OSError.

        May fail for the instant in which a command looks at the lock; the caller tries again for a second.
        """
        path = data_dir / LOCK_NAME
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = _pid(descriptor)
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                raise
            raise AlreadyRunning(path, pid) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Let another relay have it."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1


def relay_alive(data_dir: Path) -> bool:
    """True while a relay holds the lock of this data directory."""
    return relay_pid(data_dir) is not None


def relay_pid(data_dir: Path) -> int | None:
    """The process of the relay that is alive, 0 when it did not say; None when none is."""
    try:
        descriptor = os.open(data_dir / LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid(descriptor)
    else:
        return None
    finally:
        os.close(descriptor)


def _pid(descriptor: int) -> int:
    text = os.pread(descriptor, 20, 0).strip()
    return int(text) if text.isascii() and text.isdigit() else 0
