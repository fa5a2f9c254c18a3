"""Maildirs on a real disk: what is there afterwards, in which order it was flushed, and what cannot be led astray."""

from __future__ import annotations

import errno
import mailbox
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staffetta.mail.address import fold_local_part
from staffetta.mailbox.contract import Letter, MailboxNameError
from staffetta.mailbox.maildir import NAME_OCTETS, Maildir, MaildirSettings, folder_name

NOW = 1_800_000_000.25
MESSAGE = b"Return-Path: <a@b.example>\r\nSubject: x\r\n\r\n.dot\r\n\xff\x80 8-bit\r\n"


def maildir(path: Path) -> Maildir:
    return Maildir(MaildirSettings(path / "mail" / "example.com", "mx.example.com"), 4711)


def letter(local_part: str = "anna", content: bytes = MESSAGE, folder: str = "") -> Letter:
    return Letter(local_part, (content[:20], content[20:]), NOW, folder)


def put(store: Maildir, *letters: Letter) -> list[str]:
    names = store.deliver(letters)
    assert all(isinstance(name, str) for name in names), names
    return [str(name) for name in names]


def everything(path: Path) -> list[str]:
    return sorted(str(one.relative_to(path)) for one in path.rglob("*"))


def test_a_letter_lies_in_new_octet_for_octet(tmp_path: Path) -> None:
    (name,) = put(maildir(tmp_path), letter())
    box = tmp_path / "mail/example.com/anna"
    assert (box / "new" / name).read_bytes() == MESSAGE
    assert everything(box) == ["cur", "new", f"new/{name}", "tmp"]
    assert name == f"1800000000.M250000P4711Q1.mx.example.com,S={len(MESSAGE)}"


def test_other_programs_read_it(tmp_path: Path) -> None:
    put(maildir(tmp_path), letter(), letter(content=b"Subject: two\r\n\r\n"), letter(folder="Junk"))
    box = mailbox.Maildir(str(tmp_path / "mail/example.com/anna"), create=False)
    assert sorted(str(message["Subject"]) for message in box) == ["two", "x"]
    assert box.list_folders() == ["Junk"]
    assert len(box.get_folder("Junk")) == 1
    box.close()


def test_only_the_owner_may_look(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        put(maildir(tmp_path), letter(), letter(folder="Junk"))
    finally:
        os.umask(old)
    for one in (tmp_path / "mail").rglob("*"):
        assert stat.S_IMODE(one.stat().st_mode) == (0o700 if one.is_dir() else 0o600), one
    assert stat.S_IMODE((tmp_path / "mail").stat().st_mode) == 0o700


def test_a_junk_folder_is_maildir_plus_plus(tmp_path: Path) -> None:
    (name,) = put(maildir(tmp_path), letter(folder="Junk"))
    box = tmp_path / "mail/example.com/anna"
    assert (box / ".Junk" / "new" / name).read_bytes() == MESSAGE
    assert (box / ".Junk" / "maildirfolder").is_file()
    assert (box / "cur").is_dir()
    assert not (box / "maildirfolder").exists()


@pytest.mark.parametrize(
    "folder", ["/", "a/b", "..", ".", ".x", "a..b", "a.", "\0", "a\n", "a\r", "\u202e", "x" * 201, "../../etc", "%2e"]
)
def test_folders_that_could_lead_elsewhere_are_refused(tmp_path: Path, folder: str) -> None:
    (answer,) = maildir(tmp_path).deliver([letter(folder=folder)])
    assert isinstance(answer, MailboxNameError)
    with pytest.raises(MailboxNameError):
        maildir(tmp_path).begin("anna", NOW, folder)
    assert everything(tmp_path) == []


@pytest.mark.parametrize(
    ("local_part", "name"),
    [
        ("anna", "anna"),
        ("anna.b-c_d+e=f", "anna.b-c_d+e=f"),
        ("..", "%2E."),
        (".", "%2E"),
        (".ssh", "%2Essh"),
        ("-rf", "%2Drf"),
        ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
        ("a/b", "a%2Fb"),
        ("a\0b", "a%00b"),
        ("a\nb", "a%0Ab"),
        ("a\\b", "a%5Cb"),
        ("%2e%2e", "%252e%252e"),
        ("Anna", "%41nna"),
        ("a b", "a%20b"),
        ("$(id)", "%24%28id%29"),
        ("a:b", "a%3Ab"),
        ("\u00fc", "%C3%BC"),
        ("x" * 200, "x" * 200),
    ],
)
def test_folder_names(local_part: str, name: str) -> None:
    assert folder_name(local_part) == name


@pytest.mark.parametrize("local_part", ["", "x" * 201, "/" * 67, "\u00fc" * 34])
def test_names_that_do_not_fit_are_refused_not_cut(tmp_path: Path, local_part: str) -> None:
    with pytest.raises(MailboxNameError):
        folder_name(local_part)
    first, second = maildir(tmp_path).deliver([letter(local_part), letter()])
    assert isinstance(first, MailboxNameError)
    assert isinstance(second, str)


@given(st.text(min_size=1, max_size=66), st.text(min_size=1, max_size=66))
def test_two_mailboxes_never_share_a_folder(one: str, other: str) -> None:
    names = []
    for text in (one, other):
        try:
            name = folder_name(fold_local_part(text))
        except MailboxNameError:
            return
        assert "/" not in name
        assert "\0" not in name
        assert name[0] not in ".-"
        assert name.isascii()
        assert len(name) <= NAME_OCTETS
        names.append(name)
    # also on a disk that does not tell cases apart
    assert (names[0].lower() == names[1].lower()) == (fold_local_part(one) == fold_local_part(other))


def links(tmp_path: Path) -> list[tuple[str, Callable[[Path], None]]]:
    outside = tmp_path / "outside"
    for part in ("tmp", "new", "cur"):
        (outside / part).mkdir(parents=True)

    def instead_of(name: str, plant: Callable[[Path], None]) -> Callable[[Path], None]:
        def act(box: Path) -> None:
            box.parent.mkdir(parents=True, exist_ok=True)
            if name:
                for part in ("tmp", "new", "cur"):
                    (box / part).mkdir(parents=True, exist_ok=True)
                if (box / name).exists():
                    (box / name).rmdir()
            plant(box / name if name else box)

        return act

    def link(path: Path) -> None:
        path.symlink_to(outside, target_is_directory=True)

    rows: list[tuple[str, Callable[[Path], None]]] = []
    for name in ("", "tmp", "new"):
        rows += [
            (name, instead_of(name, link)),
            (name, instead_of(name, os.mkfifo)),
            (name, instead_of(name, lambda path: path.write_bytes(b""))),
        ]
    rows.append((".Junk", instead_of(".Junk", link)))
    return rows


@pytest.mark.parametrize("row", range(10))
def test_what_is_planted_in_a_mailbox_leads_nowhere(tmp_path: Path, row: int) -> None:
    name, plant = links(tmp_path)[row]
    plant(tmp_path / "mail/example.com/anna")
    folder = "Junk" if name == ".Junk" else ""
    (answer,) = maildir(tmp_path).deliver([letter(folder=folder)])
    assert isinstance(answer, OSError)
    assert answer.errno in {errno.ELOOP, errno.ENOTDIR}
    with pytest.raises(OSError, match=r"^\[Errno"):
        maildir(tmp_path).begin("anna", NOW, folder)
    assert not [one for one in (tmp_path / "outside").rglob("*") if one.is_file()]


def test_the_root_itself_may_be_the_operators_link(tmp_path: Path) -> None:
    (tmp_path / "big-disk").mkdir()
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail/example.com").symlink_to(tmp_path / "big-disk")
    put(maildir(tmp_path), letter())
    assert (tmp_path / "big-disk/anna/new").is_dir()


class Recorder:
    """Notes renames and flushes with the path behind each descriptor, and fails where it is told."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, top: Path, fail: Callable[[str], bool] = lambda _: False
    ) -> None:
        self.acts: list[str] = []
        self._top = str(top)
        real_fsync, real_rename = os.fsync, os.rename

        def fsync(descriptor: int) -> None:
            self.note(f"fsync {self._where(descriptor)}", fail)
            real_fsync(descriptor)

        def rename(src: str, dst: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
            self.note(f"rename {self._where(dst_dir_fd)}", fail)
            real_rename(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "rename", rename)

    def note(self, act: str, fail: Callable[[str], bool]) -> None:
        self.acts.append(act)
        if fail(act):
            raise OSError(errno.EIO, "injected")

    def _where(self, descriptor: int) -> str:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        kind = path if path.is_dir() else path.parent / "*"
        return str(kind).removeprefix(self._top).lstrip("/") or "."


def test_everything_is_flushed_before_a_name_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = maildir(tmp_path)
    recorder = Recorder(monkeypatch, tmp_path)
    put(store, letter())
    box = "mail/example.com/anna"
    assert recorder.acts == [
        "fsync .",  # mail
        "fsync mail",  # example.com
        "fsync mail/example.com",  # anna
        f"fsync {box}",  # cur, tmp, new
        f"fsync {box}/tmp/*",
        f"rename {box}/new",
        f"fsync {box}/new",
    ]
    recorder.acts.clear()
    put(store, letter())
    assert recorder.acts == [f"fsync {box}/tmp/*", f"rename {box}/new", f"fsync {box}/new"]


def test_letters_of_one_mailbox_share_the_flush_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = maildir(tmp_path)
    put(store, letter("anna"), letter("bob"))
    recorder = Recorder(monkeypatch, tmp_path)
    names = put(store, letter("anna"), letter("bob"), letter("anna"), letter("anna"))
    assert len(set(names)) == 4
    new = "fsync mail/example.com/anna/new"
    assert recorder.acts.count(new) == 1
    assert recorder.acts.count("fsync mail/example.com/anna/tmp/*") == 3
    last_rename = max(place for place, act in enumerate(recorder.acts) if act == "rename mail/example.com/anna/new")
    assert recorder.acts.index(new) > last_rename


@pytest.mark.parametrize("act", ["tmp/*", "rename", "/new"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_failure_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str, streamed: bool
) -> None:
    store = maildir(tmp_path)
    put(store, letter())
    before = everything(tmp_path)
    Recorder(monkeypatch, tmp_path, lambda done: act in done and (act != "/new" or done.startswith("fsync")))
    if streamed:
        writing = store.begin("anna", NOW)
        writing.write(MESSAGE)
        with pytest.raises(OSError, match="injected"):
            writing.finish()
        writing.abandon()
    else:
        answers = store.deliver([letter(), letter()])
        assert [isinstance(answer, OSError) for answer in answers] == [True, True]
    assert everything(tmp_path) == before


def test_one_letter_that_fails_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = maildir(tmp_path)
    put(store, letter())
    failed: list[str] = []

    def second(act: str) -> bool:
        failed.append(act)
        return failed.count("fsync mail/example.com/anna/tmp/*") == 2 and act.endswith("*")

    Recorder(monkeypatch, tmp_path, second)
    answers = store.deliver([letter(), letter(), letter()])
    assert [isinstance(answer, str) for answer in answers] == [True, False, True]
    assert len(list((tmp_path / "mail/example.com/anna/new").iterdir())) == 3
    assert not list((tmp_path / "mail/example.com/anna/tmp").iterdir())


def test_a_streamed_message_is_invisible_until_it_is_whole(tmp_path: Path) -> None:
    store = maildir(tmp_path)
    writing = store.begin("anna", NOW, "Junk")
    new = tmp_path / "mail/example.com/anna/.Junk/new"
    for octet in range(0, len(MESSAGE), 7):
        writing.write(MESSAGE[octet : octet + 7])
        assert not list(new.iterdir())
    name = writing.finish()
    assert (new / name).read_bytes() == MESSAGE
    abandoned = store.begin("anna", NOW)
    abandoned.write(b"half")
    abandoned.abandon()
    abandoned.abandon()
    assert not [
        one for one in (tmp_path / "mail/example.com/anna").glob("*/*") if one.is_file() and one.parent.name != ".Junk"
    ]


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    store = maildir(tmp_path)
    put(store, letter())
    before = len(list(Path("/proc/self/fd").iterdir()))
    put(store, letter(), letter("bob"), letter(folder="Junk"))
    store.deliver([letter("x" * 300)])
    store.begin("anna", NOW).abandon()
    (tmp_path / "mail/example.com/eve").symlink_to("/tmp")
    store.deliver([letter("eve")])
    assert len(list(Path("/proc/self/fd").iterdir())) == before
