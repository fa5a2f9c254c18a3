"""What lies in the drop directory: nothing but whole files of sendmail's is mail, and nothing else is ever followed."""

from __future__ import annotations

import os
import pwd
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from staffetta.app.pickup_folder import DAMAGED, UNFINISHED_SECONDS, Folder, Unusable, prepare
from staffetta.control.place import drop_of
from staffetta.sendmail.drop import MODE, Damaged, DropFile, Envelope
from staffetta.sendmail.statuses import Stop

ENVELOPE = Envelope(("anna", "ben@b.example"), "root", "Root", ("NEVER",), "HDRS", "e")
CONTENT = b"Subject: x\r\n\r\nhello\r\n"
LARGEST = 1000


def leave(drop: Path, content: bytes = CONTENT, envelope: Envelope = ENVELOPE) -> str:
    file = DropFile(drop)
    file.write(content[:5])
    file.write(content[5:])
    file.commit(envelope)
    return file.name


def judge(folder: Folder, name: str) -> str:
    """Why a file is no mail; "" when it is."""
    try:
        dropped = folder.open(name, LARGEST)
    except Damaged as error:
        return str(error)
    try:
        return "" if b"".join(dropped.content()) == CONTENT and dropped.envelope == ENVELOPE else "different"
    except Damaged as error:
        return str(error)
    finally:
        dropped.close()


def test_what_is_left_is_found(drop: Path) -> None:
    name = leave(drop)
    folder = Folder(drop)
    assert folder.names(time.time()) == [name]
    dropped = folder.open(name, LARGEST)
    assert (dropped.uid, dropped.envelope, b"".join(dropped.content())) == (os.getuid(), ENVELOPE, CONTENT)
    dropped.close()
    assert folder.open(name, LARGEST).identity == dropped.identity
    folder.remove(name)
    assert folder.names(time.time()) == []
    with pytest.raises(FileNotFoundError):
        folder.open(name, LARGEST)
    folder.close()


def test_a_file_cut_at_any_octet_or_with_one_changed_is_no_mail(drop: Path) -> None:
    name = leave(drop)
    whole = (drop / name).read_bytes()
    folder = Folder(drop)
    assert judge(folder, name) == ""
    for size in range(len(whole)):
        (drop / name).write_bytes(whole[:size])
        assert judge(folder, name)
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1
        (drop / name).write_bytes(changed)
        assert judge(folder, name), f"octet {at} changed"
    (drop / name).write_bytes(whole + b"x")
    assert judge(folder, name)
    (drop / name).write_bytes(whole)
    assert judge(folder, name) == ""
    folder.close()


def test_a_file_that_shrinks_while_it_is_read_is_no_mail(drop: Path) -> None:
    name = leave(drop)
    folder = Folder(drop)
    dropped = folder.open(name, LARGEST)
    os.truncate(drop / name, 110)
    with pytest.raises(Damaged):
        b"".join(dropped.content())
    dropped.close()
    folder.close()


def test_too_large_is_seen_before_it_is_read(drop: Path) -> None:
    name = leave(drop, b"x" * (LARGEST + 1))
    os.truncate(drop / leave(drop), 10 << 30)
    folder = Folder(drop)
    assert sorted(judge(folder, one).split()[-1] for one in folder.names(time.time())) == ["have", "written"]
    assert "more than a message may have" in judge(folder, name)
    folder.close()


def test_what_is_no_file_of_ours_is_put_out_of_the_way(drop: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    name = leave(drop)
    good = (drop / name).read_bytes()
    (drop / "link").symlink_to(secret)
    os.mkfifo(drop / "fifo")
    (drop / "folder" / "more").mkdir(parents=True)
    (drop / "line\nbreak").write_bytes(good)
    (drop / "01M86VEKT67JPB4XF1QGH5VVBZ").hardlink_to(drop / name)
    (drop / os.fsdecode(b"\xff")).write_bytes(b"")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(drop / "socket"))
    folder = Folder(drop)
    names = folder.names(time.time())
    assert len(names) == 8
    for one in names:
        assert judge(folder, one)
        assert folder.put_aside(one).startswith(("kept", "removed"))
    assert folder.names(time.time()) == []
    assert secret.read_bytes() == b"secret"
    kept = sorted(path.name for path in (drop / DAMAGED).iterdir())
    assert len(kept) == 5
    assert all(len(one) == 26 and one.isalnum() for one in kept)
    folder.close()


def test_leftovers_go_and_what_is_being_written_stays(drop: Path) -> None:
    old, new = DropFile(drop), DropFile(drop)
    long_ago = time.time() - UNFINISHED_SECONDS - 10
    os.utime(drop / f".{old.name}", (long_ago, long_ago))
    (drop / ".folder").mkdir()
    os.utime(drop / ".folder", (long_ago, long_ago))
    folder = Folder(drop)
    assert folder.names(time.time()) == []
    assert sorted(path.name for path in drop.iterdir()) == sorted([".folder", f".{new.name}", DAMAGED])
    new.discard()
    old.discard()
    folder.close()


def test_nothing_is_left_when_writing_fails(drop: Path) -> None:
    file = DropFile(drop)
    os.close(file._file)
    with pytest.raises(Stop) as stop:
        file.write(b"x")
    assert stop.value.status == 75
    assert list(drop.iterdir()) == []
    with pytest.raises(Stop) as stop:
        DropFile(drop / "not there")
    assert stop.value.status == 75


def test_the_directory_is_made_and_mended(tmp_path: Path) -> None:
    data = tmp_path / "data"
    drop = drop_of(data)
    assert prepare(data, None) == ""
    drop.chmod(0o777)
    assert prepare(data, None) == ""
    assert drop.stat().st_mode & 0o7777 == MODE
    drop.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    drop.symlink_to(elsewhere)
    assert prepare(data, None)
    assert elsewhere.stat().st_mode & 0o777 == 0o700
    with pytest.raises(Unusable):
        Folder(drop)
    assert prepare(tmp_path / "no" / "data", None)


def test_a_sandbox_may_forbid_the_inherited_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change = os.fchmod

    def forbidding(file: int, mode: int) -> None:
        if mode & 0o6000:
            raise PermissionError(1, "Operation not permitted")
        change(file, mode)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fchmod", forbidding)
        assert prepare(tmp_path / "data", None) == ""
    assert drop_of(tmp_path / "data").stat().st_mode & 0o7777 == 0o1733


def test_root_makes_it_for_the_account_it_will_become(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("giving a directory away takes root")
    account = pwd.getpwnam("nobody")
    assert prepare(tmp_path / "data", account) == ""
    status = drop_of(tmp_path / "data").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (account.pw_uid, account.pw_gid, MODE)
    assert "does not belong" in prepare(tmp_path / "data", None)


def test_a_user_may_leave_mail_and_do_nothing_else(drop: Path, as_nobody: Callable[[Callable[[], None]], None]) -> None:
    foreign = leave(drop)
    folder = Folder(drop)

    def work() -> None:
        leave(drop)
        for forbidden in (
            lambda: os.listdir(drop),
            (drop / foreign).unlink,
            lambda: (drop / foreign).rename(drop / "mine"),
            lambda: os.truncate(drop / foreign, 0),
            lambda: os.open(drop / foreign, os.O_RDONLY),
            lambda: (drop / DAMAGED).rename(drop / "other"),
            lambda: os.listdir(drop / DAMAGED),
        ):
            with pytest.raises(OSError):  # noqa: PT011
                forbidden()

    as_nobody(work)
    (mine,) = [name for name in folder.names(time.time()) if name != foreign]
    dropped = folder.open(mine, LARGEST)
    assert dropped.uid == 65534
    assert (drop / mine).stat().st_mode & 0o777 == 0o640
    assert (drop / mine).stat().st_gid == drop.stat().st_gid
    dropped.close()
    folder.close()


@pytest.mark.parametrize("kind", ["link", "folder", "file"])
def test_a_planted_folder_for_damaged_files_is_not_used(
    drop: Path, tmp_path: Path, as_nobody: Callable[[Callable[[], None]], None], kind: str
) -> None:
    plant = {
        "link": lambda: (drop / DAMAGED).symlink_to(tmp_path),
        "folder": (drop / DAMAGED).mkdir,
        "file": (drop / DAMAGED).touch,
    }
    as_nobody(plant[kind])
    (drop / "junk").write_bytes(b"x")
    folder = Folder(drop)
    assert folder.put_aside("junk").startswith("left where it is")
    assert (drop / "junk").exists()
    assert list(tmp_path.iterdir()) == []
    assert folder.names(time.time()) == []
    folder.close()


def test_a_directory_of_somebody_else_is_not_served(
    drop: Path, as_nobody: Callable[[Callable[[], None]], None]
) -> None:
    def work() -> None:
        with pytest.raises(Unusable):
            Folder(drop)

    as_nobody(work)
    os.chown(drop, 65534, 65534)
    assert "does not belong" in prepare(drop.parent / "data", None)
