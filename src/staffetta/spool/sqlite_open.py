"""Opening the SQLite spool: its two connections, and the epoch of this process.

This module refuses to know messages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, cast

import apsw
import msgspec

from staffetta.spool.database import StoreError, open_database, open_reader
from staffetta.spool.sqlite_batch import Hook
from staffetta.spool.sqlite_room import Room, fitting
from staffetta.spool.sqlite_schema import MIGRATIONS, PAGE_OCTETS
from staffetta.spool.sqlite_writer import LOCK_PATIENCE_MILLISECONDS

CHECKPOINT_PAGES: Final = 2048
"""The log is moved into the database after this many pages (8 MiB), by the commit that crosses it, in its thread."""

CACHE_KIBIBYTES: Final = 8 * 1024
"""Page cache of each of the two connections, at most."""

DESTINATION_MEMORY_SECONDS: Final = 86400.0
"""A destination that was down this long ago is forgotten at the next start."""


class SqliteSettings(msgspec.Struct, frozen=True):
    """`delivers`: this process claims and delivers (it must hold recovery.RelayLock); otherwise it only adds messages.

    Below `reserve_octets` of free disk (or an eighth of a small one) nothing new is taken, so that what is queued can
    still be recorded and drain. `page_octets` counts for a new store.
    """

    delivers: bool = True
    reserve_octets: int = 32 * 1024 * 1024
    page_octets: int = PAGE_OCTETS
    checkpoint_pages: int = CHECKPOINT_PAGES
    patience_milliseconds: int = LOCK_PATIENCE_MILLISECONDS
    hook: Hook | None = None


class Opened(msgspec.Struct, frozen=True):
    """An open store. `clean`: the process before let go of all its claims."""

    writer: apsw.Connection
    reader: apsw.Connection
    epoch: int
    clean: bool


def connect(path: Path, settings: SqliteSettings) -> apsw.Connection:
    """A connection for writing. Raises StoreError."""
    connection = open_database(path, MIGRATIONS, page_octets=settings.page_octets)
    octets = log_octets(path, settings)
    connection.execute(f"PRAGMA wal_autocheckpoint={octets // settings.page_octets}").fetchall()
    connection.execute(f"PRAGMA journal_size_limit={2 * octets}").fetchall()
    connection.execute(f"PRAGMA cache_size=-{CACHE_KIBIBYTES}")
    return connection


def log_octets(path: Path, settings: SqliteSettings) -> int:
    """How long the log grows before it is moved into the database."""
    return max(fitting(path.parent, settings.checkpoint_pages * settings.page_octets, 16), settings.page_octets)


def room_of(path: Path, settings: SqliteSettings) -> Room:
    """The room on the disk of the store."""
    return Room(path, fitting(path.parent, settings.reserve_octets, 8), log_octets(path, settings))


def open_store(path: Path, settings: SqliteSettings, now: float) -> Opened:
    """Both connections; a process that delivers takes the next epoch. Raises StoreError."""
    connection = connect(path, settings)
    try:
        reader = open_reader(path)
        reader.execute(f"PRAGMA cache_size=-{CACHE_KIBIBYTES}")
        if settings.delivers:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE store SET epoch=epoch+1")
            connection.execute("DELETE FROM destinations WHERE not_before < ?", (now - DESTINATION_MEMORY_SECONDS,))
            connection.execute("COMMIT")
        rows = connection.execute("SELECT epoch, closed_epoch FROM store").fetchall()
    except apsw.Error as error:
        connection.close()
        raise StoreError(f"cannot open {path}: {error}") from error
    epoch, closed = cast(tuple[int, int], rows[0])
    return Opened(connection, reader, epoch, closed == epoch - 1)
