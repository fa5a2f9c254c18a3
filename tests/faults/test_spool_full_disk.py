"""A disk of 16 MiB that really is full: new mail is refused as full, what is queued drains, and then there is room."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from staffetta.spool.contract import Final, JournalEntry, SpoolUnavailable, Step
from staffetta.spool.sqlite import SqliteSpool
from staffetta.testing.spooled import START, Letter, new_message


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("a disk of its own needs root and mount")
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=16m", "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield tmp_path
    # Lazily: a test that failed may have left its store open.
    subprocess.run(["umount", "-l", tmp_path], check=True)


def fill(path: Path) -> None:
    with open(path, "wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 4096)
        except OSError:
            return


def test_a_full_disk_drains_and_comes_back(disk: Path) -> None:
    async def story() -> None:
        spool = await SqliteSpool.open(disk / "spool.db", lambda: START)
        accepted: list[str] = []

        async def accept(name: str) -> None:
            await spool.commit(new_message(Letter(name, body=b"y" * 4000, claim=True)))
            accepted.append(name)

        async def deliver(name: str) -> None:
            await spool.record(name, [Step(0, Final.DELIVERED)], [JournalEntry(b"delivered " * 20, START, name)])

        refusals: list[object] = []
        for start in range(0, 6000, 20):
            tries = [accept(f"M{number:05}") for number in range(start, start + 20)]
            refusals += [one for one in await asyncio.gather(*tries, return_exceptions=True) if one is not None]
            if len(refusals) > 100:
                break
        assert len(accepted) > 500
        assert all(isinstance(one, SpoolUnavailable) and one.full for one in refusals)
        fill(disk / "junk")
        assert os.statvfs(disk).f_bavail == 0
        for start in range(0, len(accepted), 20):
            await asyncio.gather(*[deliver(name) for name in accepted[start : start + 20]])
        books = await spool.ledger()
        assert (books.queued, books.delivered, books.unaccounted) == (0, len(accepted), 0)
        (disk / "junk").unlink()
        await accept("AFTER")
        await spool.close()

    asyncio.run(story())
