"""Opening a SQLite file so that what it acknowledges survives power loss, and so that versions never mix.

WAL with `synchronous=FULL`: with NORMAL an acknowledged commit can vanish. The schema version is SQLite's
`user_version`; migrations run in one transaction each, and a file newer than this program is refused, not guessed at.
This module refuses to know tables: each store brings its own migrations.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import apsw

BUSY_TIMEOUT_MILLISECONDS = 5000
"""How long a writer waits for another process's transaction."""


class StoreError(Exception):
    """The file cannot be used; the message says why and what to do."""


class StoreTooNew(StoreError):
    """The file was written by a newer Staffetta; nothing was changed."""


def open_database(path: Path, migrations: Sequence[str], *, page_octets: int = 4096) -> apsw.Connection:
    """A connection to the database at `path`, created (mode 0600) or brought up to `len(migrations)`.

    `page_octets` counts only when the file is new.

    Raises StoreTooNew for a newer file, StoreError for one that cannot be opened.
    """
    try:
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW)
        connection.set_busy_timeout(BUSY_TIMEOUT_MILLISECONDS)
        connection.execute(f"PRAGMA page_size={page_octets}")
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute("PRAGMA trusted_schema=OFF")
        _migrate(connection, path, migrations)
    except (apsw.Error, OSError) as error:
        raise StoreError(f"cannot open {path}: {error}") from error
    return connection


def open_reader(path: Path) -> apsw.Connection:
    """A second connection for reading only; the file must exist. Raises StoreError."""
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_NOFOLLOW)
        connection.set_busy_timeout(BUSY_TIMEOUT_MILLISECONDS)
        connection.execute("PRAGMA query_only=ON")
    except apsw.Error as error:
        raise StoreError(f"cannot open {path}: {error}") from error
    return connection


def _version(connection: apsw.Connection) -> int:
    row = connection.execute("PRAGMA user_version").fetchone()
    return int(row[0]) if row else 0


def _migrate(connection: apsw.Connection, path: Path, migrations: Sequence[str]) -> None:
    if _version(connection) > len(migrations):
        raise StoreTooNew(f"{path} was written by a newer Staffetta (schema {_version(connection)})")
    while _version(connection) < len(migrations):
        # Two processes may open a new file together: the version is read again under the write lock.
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = _version(connection)
            if version < len(migrations):
                connection.execute(migrations[version])
                connection.execute(f"PRAGMA user_version={version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
