"""Room on the disk: what is admitted, what the ballast is for."""

from __future__ import annotations

import os
from pathlib import Path

from staffetta.spool.sqlite_room import LOG_FACTOR, ROW_OCTETS, Room, fitting

MEBIBYTE = 1 << 20


def free(path: Path) -> int:
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


def test_the_ballast_is_loaded_once_there_is_room_and_thrown_once(tmp_path: Path) -> None:
    room = Room(tmp_path / "spool.db", MEBIBYTE, MEBIBYTE)
    assert room.admit(1000, 0.0)
    ballast = tmp_path / "spool.ballast"
    assert ballast.stat().st_size == MEBIBYTE
    assert ballast.stat().st_blocks * 512 >= MEBIBYTE
    room.jettison()
    assert not ballast.exists()
    room.jettison()
    room.forget()
    assert room.admit(1000, 0.0)
    assert ballast.exists()


def test_below_the_reserve_only_room_inside_the_database_counts(tmp_path: Path) -> None:
    spare = 0
    reserve = free(tmp_path) + 1000 * MEBIBYTE
    room = Room(tmp_path / "spool.db", reserve, MEBIBYTE)
    room.watch(lambda: spare)
    assert not room.admit(0, 0.0)
    spare = 10_000 * MEBIBYTE
    assert room.admit(MEBIBYTE, 0.0)
    assert not (tmp_path / "spool.ballast").exists()


def test_what_was_admitted_counts_before_the_disk_is_looked_at_again(tmp_path: Path) -> None:
    spare = 0
    room = Room(tmp_path / "spool.db", free(tmp_path) + 1000 * MEBIBYTE, MEBIBYTE)
    room.watch(lambda: spare)
    spare = 1200 * MEBIBYTE
    assert room.admit(10 * MEBIBYTE, 0.0)
    left = room._left
    assert room.admit(10 * MEBIBYTE, 0.1)
    assert room._left == left - 10 * MEBIBYTE * LOG_FACTOR - ROW_OCTETS
    spare = 0
    assert not room.admit(MEBIBYTE, 9.0)


def test_a_small_disk_gets_a_share(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    whole = disk.f_blocks * disk.f_frsize
    assert fitting(tmp_path, 1 << 62, 8) == whole // 8
    assert fitting(tmp_path, 5, 8) == 5
    assert fitting(tmp_path / "none", 5, 8) == 5
