"""A Message-ID is found whenever it came by: in any stretch of messages, and in rows older than stretches."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from staffetta.spool.contract import JournalEntry
from staffetta.spool.database import open_database
from staffetta.spool.sqlite import SqliteSpool
from staffetta.spool.sqlite_batch import Batch
from staffetta.spool.sqlite_journal import rows_of_header
from staffetta.spool.sqlite_schema import CHECKSUM_BITS, MIGRATIONS, STRETCH_BITS, message_checksum, message_hash

STRETCH = 1 << STRETCH_BITS
NAME = "1234.5678@source.example"


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    opened = open_database(tmp_path / "spool.db", MIGRATIONS)
    yield opened
    opened.close()


def write(connection: apsw.Connection, next_seq: int, *names: str) -> None:
    batch = Batch(1, next_seq)
    for name in names:
        batch.add_journal(JournalEntry(name.encode(), 1.0, "id", "session", name))
    batch.write(connection, None)
    connection.execute("UPDATE store SET next_seq=?", (next_seq,))


def found(connection: apsw.Connection, name: str = NAME) -> list[int]:
    rows = rows_of_header(connection, name)
    assert {entry.message_id for _, entry in rows} <= {name}
    return [number for number, _ in rows]


@pytest.mark.parametrize(
    "numbers",
    [
        [1],
        [STRETCH - 1, STRETCH],
        [1, 1, STRETCH, 7 * STRETCH - 1, 7 * STRETCH, 7 * STRETCH],
        [900 * STRETCH + 5, 1000 * STRETCH],
        [1 << 38],
    ],
)
def test_it_is_found_in_every_stretch(connection: apsw.Connection, numbers: list[int]) -> None:
    for number in numbers:
        write(connection, number, NAME, f"{number}@source.example")
    assert found(connection) == [1 + 2 * place for place in range(len(numbers))]
    assert found(connection, "none@source.example") == []


def test_others_with_the_same_checksum_are_left_out(connection: apsw.Connection) -> None:
    names = ["plumless", "buckeroo"]
    assert message_checksum(names[0]) == message_checksum(names[1])
    write(connection, 1, *names)
    assert [found(connection, name) for name in names] == [[1], [2]]


def test_it_is_found_where_the_first_stretches_were_forgotten(connection: apsw.Connection) -> None:
    for number in range(0, 20 * STRETCH, STRETCH // 2):
        write(connection, number, NAME)
    connection.execute("DELETE FROM journal WHERE seq <= 33")
    assert found(connection) == list(range(34, 41))
    connection.execute("DELETE FROM journal")
    assert found(connection) == []


def test_what_comes_together_stands_together(connection: apsw.Connection) -> None:
    write(connection, 5 * STRETCH, *[f"{number}@source.example" for number in range(500)])
    [bounds] = connection.execute("SELECT min(message_key), max(message_key) FROM journal").fetchall()
    assert [key >> CHECKSUM_BITS for key in bounds] == [5, 5]


def test_rows_from_before_stretches_are_found_after_the_upgrade(tmp_path: Path) -> None:
    old = open_database(tmp_path / "spool.db", MIGRATIONS[:1])
    old.execute("UPDATE store SET next_seq=?", (3 * STRETCH,))
    names = [NAME, *[f"{number}@source.example" for number in range(50)]]
    rows = [(name.encode(), name, message_hash(name)) for name in names]
    old.executemany("INSERT INTO journal(time, lines, message_id, message_key) VALUES(1.0, ?, ?, ?)", rows)
    old.close()

    async def later() -> None:
        spool = await SqliteSpool.open(tmp_path / "spool.db", lambda: 2.0)
        await spool.append_journal([JournalEntry(b"again", 2.0, "", "session", NAME)])
        await spool.close()

    asyncio.run(later())
    new = apsw.Connection(str(tmp_path / "spool.db"))
    assert new.execute("PRAGMA user_version").fetchall() == [(len(MIGRATIONS),)]
    assert found(new) == [1, 52]
    assert [found(new, name) for name in names[1:]] == [[number] for number in range(2, 52)]
    new.close()
