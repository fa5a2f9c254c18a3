"""Whose files a command makes, and what it says to those who may not look."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from staffetta.control.place import NotAllowed, NothingThere, as_owner, make, owner_of, require, who_asks

NOBODY = pwd.getpwnam("nobody")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can work for another account")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every account can reach, unlike tmp_path."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def foreign(open_folder: Path, relay: Any) -> Any:
    """The relay's data directory belongs to another account."""
    place = type(relay)(open_folder)
    shutil.copytree(relay.data_dir, place.data_dir)
    for path in (place.data_dir, *place.data_dir.iterdir()):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    place.data_dir.chmod(0o700)
    return place


def owners(directory: Path) -> set[tuple[int, int]]:
    return {(path.stat().st_uid, path.stat().st_gid) for path in (directory, *directory.rglob("*"))}


@as_root
def test_root_leaves_only_files_of_the_owner(foreign: Any) -> None:
    # A living connection keeps the files beside the database in being, so that their owner can be seen.
    with as_owner(foreign.data_dir):
        pass
    assert foreign.run("queue", "list").exit_code == 0
    assert foreign.run("queue", "hold", foreign.TRIED, "--yes").exit_code == 0
    assert foreign.run("trace", foreign.TRIED).exit_code == 0
    assert owners(foreign.data_dir) == {(NOBODY.pw_uid, NOBODY.pw_gid)}
    assert os.geteuid() == 0


@as_root
def test_new_files_belong_to_the_owner_while_the_store_is_open(foreign: Any) -> None:
    from staffetta.control.queue import open_queue  # noqa: PLC0415

    with open_queue(foreign.data_dir) as store:
        store.connection.execute("UPDATE store SET one = 1")
        assert (foreign.data_dir / "spool.db-wal").exists()
        assert owners(foreign.data_dir) == {(NOBODY.pw_uid, NOBODY.pw_gid)}


@as_root
def test_root_is_root_again_afterwards_even_after_an_error(open_folder: Path) -> None:
    os.chown(open_folder, NOBODY.pw_uid, NOBODY.pw_gid)
    before = (os.getresuid(), os.getresgid(), os.getgroups())
    with pytest.raises(RuntimeError), as_owner(open_folder):  # noqa: PT012
        assert (os.geteuid(), os.getegid(), os.getgroups()) == (NOBODY.pw_uid, NOBODY.pw_gid, [NOBODY.pw_gid])
        raise RuntimeError
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before


@as_root
def test_a_link_that_the_owner_planted_reaches_no_further_than_the_owner(foreign: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root's")
    for name in ("spool.db", "spool.db-wal", "spool.db-shm"):
        (foreign.data_dir / name).unlink(missing_ok=True)
        (foreign.data_dir / name).symlink_to(secret)
    assert foreign.run("queue", "list").exit_code == 5
    assert secret.read_text() == "root's"
    assert secret.stat().st_uid == 0


@as_root
def test_who_may_look_into_the_directory_but_not_read_the_file_is_told_who_may(foreign: Any) -> None:
    foreign.data_dir.chmod(0o755)
    os.seteuid(12345)
    try:
        result = foreign.run("queue", "list")
    finally:
        os.seteuid(0)
    assert result.exit_code == 5
    assert "only nobody and root may use" in result.stderr


@as_root
@pytest.mark.parametrize("verb", [("reload",), ("health",), ("status",), ("dkim", "list")], ids=" ".join)
def test_who_may_not_ask_is_not_told_that_no_relay_runs(foreign: Any, verb: tuple[str, ...]) -> None:
    if verb[0] == "dkim":
        (foreign.data_dir / "keys" / "example.org").mkdir(parents=True)
        foreign.data_dir.chmod(0o755)
        (foreign.data_dir / "keys" / "example.org").chmod(0)
    os.seteuid(12345)
    try:
        result = foreign.run(*verb)
    finally:
        os.seteuid(0)
    assert result.exit_code == 5, result.stderr
    assert "no relay runs" not in result.stderr


@as_root
def test_who_may_not_even_look_into_the_directory_is_refused(foreign: Any) -> None:
    os.seteuid(12345)
    try:
        with pytest.raises(NotAllowed), as_owner(foreign.data_dir):
            require(foreign.data_dir / "spool.db")
        assert foreign.run("queue", "list").exit_code == 5
    finally:
        os.seteuid(0)


@as_root
def test_a_new_directory_belongs_to_the_configured_user(open_folder: Path) -> None:
    make(open_folder / "a" / "data", "nobody")
    status = (open_folder / "a" / "data").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (NOBODY.pw_uid, NOBODY.pw_gid, 0o700)


def test_a_new_directory_is_closed_and_an_old_one_is_left_as_it_is(tmp_path: Path) -> None:
    make(tmp_path / "new", None)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    (tmp_path / "old").mkdir(mode=0o750)
    make(tmp_path / "old", None)
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o750


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NothingThere), as_owner(tmp_path / "none"):
        pass
    with pytest.raises(NothingThere):
        require(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotAllowed):
        require(tmp_path / "file" / "x")


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    assert owner_of(tmp_path) == me
    monkeypatch.setenv("SUDO_USER", "anna")
    assert who_asks() == ("anna" if os.getuid() == 0 else me)
    monkeypatch.setenv("SUDO_USER", "\x1b[31m")
    assert who_asks() == me
