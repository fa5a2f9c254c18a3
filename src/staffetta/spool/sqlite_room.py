"""Room on the disk of the store: nothing new is taken when it runs low, and what is there can always be finished.

Two provisions. A reserve: below it new mail is refused while ends of attempts are still recorded. And ballast, a file
of the log's size that is thrown overboard when the disk is full to the last block (others fill disks too): then the
log can be moved into the database and written again from its front, which needs no further space.
Room is what the disk has left and what the database has left inside: it never shrinks, its free pages are used again.
This module refuses to know SQL.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

ROOM_SECONDS: Final = 0.25
"""How long an answer about free space is believed, less what was taken since."""

LOG_FACTOR: Final = 2
"""What is stored is written twice: into the log, then into the database."""

ROW_OCTETS: Final = 8192
"""What a message costs besides its content, generously."""


class Room:
    """How much may still be taken. `admit` on the event loop, `jettison` in the writer's thread."""

    def __init__(self, store: Path, reserve_octets: int, ballast_octets: int) -> None:
        self._folder = store.parent
        self._ballast = store.with_suffix(".ballast")
        self._reserve = reserve_octets
        self._ballast_octets = ballast_octets
        self._left = 0
        self._known_until = -1.0
        self._spare: Callable[[], int] | None = None

    def watch(self, spare_octets: Callable[[], int]) -> None:
        """Ask this for the free space inside the database."""
        self._spare = spare_octets

    def admit(self, octets: int, now: float) -> bool:
        """True when that much more content may be taken; it then counts as taken. `now` in monotonic seconds."""
        cost = octets * LOG_FACTOR + ROW_OCTETS
        if now >= self._known_until or cost > self._left:
            self._look()
            self._known_until = now + ROOM_SECONDS
        if cost > self._left:
            return False
        self._left -= cost
        return True

    def jettison(self) -> None:
        """Give the ballast's space to the store."""
        with suppress(OSError):
            self._ballast.unlink()

    def forget(self) -> None:
        """The store ran full: what was known of its room is wrong."""
        self._left = 0
        self._known_until = -1.0

    def _look(self) -> None:
        try:
            disk = os.statvfs(self._folder)
            self._left = disk.f_bavail * disk.f_frsize - self._reserve
            if self._left > 2 * self._ballast_octets and not self._ballast.exists():
                self._load()
                self._left -= self._ballast_octets
            if self._spare is not None:
                self._left += self._spare()
        except OSError:
            self._left = 1 << 40  # the write itself will tell

    def _load(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._ballast, flags, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._ballast_octets)
        finally:
            os.close(descriptor)


def fitting(folder: Path, octets: int, share: int) -> int:
    """`octets`, or a `share`-th of a disk that is too small for it."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return octets
    return min(octets, disk.f_blocks * disk.f_frsize // share)
