"""`account`: the round trip of an account, its password, and who may read what."""

from __future__ import annotations

import os
import pty
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from staffetta.accounts.store import STORE_NAME, AccountStore
from staffetta.mail.address import parse_mailbox

ANNA = "anna@example.org"


def add(place: Any, address: str, password: str, *more: str) -> Any:
    return place.run("account", "add", address, "--password-stdin", *more, stdin=f"{password}\n")


def knows(place: Any, address: str, password: str) -> bool:
    store = AccountStore.open(place.data_dir)
    try:
        found = store.credentials(parse_mailbox(address, smtputf8=True))
        return found is not None and store.hasher.matches(found.kept.hash, password)
    finally:
        store.close()


def test_round_trip(place: Any) -> None:
    assert place.run("account", "list").exit_code == 0
    assert not place.data_dir.exists()
    result = add(place, ANNA, "correct horse", "--may-send", "@news.example", "--may-send", "team@example.org")
    assert (result.exit_code, result.stdout) == (0, "")
    assert knows(place, ANNA, "correct horse")
    (entry,) = place.lines("account", "list")
    assert list(entry) == ["schema", "address", "may_send", "created_at"]
    assert (entry["schema"], entry["address"]) == (1, ANNA)
    assert entry["may_send"] == ["@news.example", "team@example.org"]
    assert entry["created_at"].endswith("Z")
    changed = place.run("account", "passwd", "ANNA@example.org", "--password-stdin", stdin="battery staple\n")
    assert changed.exit_code == 0
    assert knows(place, ANNA, "battery staple")
    assert not knows(place, ANNA, "correct horse")
    assert place.run("account", "remove", ANNA, "--yes").exit_code == 0
    assert place.lines("account", "list") == []


def test_the_list_is_in_order_and_plain_without_a_terminal(place: Any) -> None:
    add(place, "zoe@example.org", "x")
    add(place, ANNA, "x", "--may-send", "@d.example")
    rows = [row.split("\t") for row in place.run("account", "list").stdout.split("\n")[:-1]]
    assert [row[:2] for row in rows] == [[ANNA, "@d.example"], ["zoe@example.org", ""]]


@pytest.mark.parametrize(
    ("typed", "password"),
    [
        ("with space \n", "with space "),
        ("no line end", "no line end"),
        ("first\nsecond\n", "first"),
        (" lead\n", " lead"),
        ("пароль\n", "пароль"),
    ],
)
def test_one_line_without_its_line_end_is_the_password(place: Any, typed: str, password: str) -> None:
    assert place.run("account", "add", ANNA, "--password-stdin", stdin=typed).exit_code == 0
    assert knows(place, ANNA, password)


@pytest.mark.parametrize("typed", [b"", b"\n", b"\n\nx\n", b"a\x00b\n", b"windows\r\n", b"\xff\n", b"x" * 5000 + b"\n"])
def test_what_cannot_be_a_password_is_2_and_adds_nothing(place: Any, typed: bytes) -> None:
    result = place.run("account", "add", ANNA, "--password-stdin", stdin=typed)
    assert result.exit_code == 2
    assert "password" in result.stderr
    assert place.lines("account", "list") == []


def test_without_a_terminal_the_password_must_come_by_standard_input(place: Any) -> None:
    result = place.run("account", "add", ANNA, stdin="x\n")
    assert result.exit_code == 2
    assert "--password-stdin" in result.stderr


def test_exists_already_is_1_in_any_case_of_letters(place: Any) -> None:
    add(place, ANNA, "first")
    assert add(place, "Anna@Example.ORG", "second").exit_code == 1
    assert knows(place, ANNA, "first")


@pytest.mark.parametrize("verb", [["passwd", "--password-stdin"], ["remove", "--yes"], ["remove"]])
@pytest.mark.parametrize("with_store", [False, True])
def test_no_such_account_is_3(place: Any, verb: list[str], with_store: bool) -> None:
    if with_store:
        add(place, ANNA, "x")
    result = place.run("account", verb[0], "nobody@example.org", *verb[1:], stdin="x\n")
    assert result.exit_code == 3
    assert with_store == (place.data_dir / STORE_NAME).exists()


def test_remove_asks(place: Any) -> None:
    add(place, ANNA, "x")
    assert place.run("account", "remove", ANNA).exit_code == 2
    assert len(place.lines("account", "list")) == 1


@pytest.mark.parametrize(
    "address", ["anna", "@example.org", "a b@example.org", "anna@", "anna@-", "\x1b@x", "\udcff@x"]
)
def test_what_is_no_address_is_2(place: Any, address: str) -> None:
    result = add(place, address, "x")
    assert result.exit_code == 2
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize("grant", ["@", "example.org", "a@b@c", "@-x", ""])
def test_what_is_no_grant_is_2(place: Any, grant: str) -> None:
    assert add(place, ANNA, "x", "--may-send", grant).exit_code == 2
    assert not place.data_dir.exists()


def test_a_foreign_domain_is_allowed_and_said(place: Any) -> None:
    assert "not a local domain" in add(place, "anna@else.example", "x").stderr
    assert "not a local domain" not in add(place, ANNA, "x").stderr


def test_only_the_owner_can_read_the_file(place: Any) -> None:
    add(place, ANNA, "x")
    assert place.data_dir.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in place.data_dir.iterdir()} == {0}


def test_a_wrong_configuration_is_8(place: Any) -> None:
    place.file.write_text("version = 1\nnonsense = 1\n")
    assert add(place, ANNA, "x").exit_code == 8
    assert place.run("account", "list").exit_code == 8


def test_a_store_that_is_none_is_1(place: Any) -> None:
    place.data_dir.mkdir()
    (place.data_dir / STORE_NAME).write_bytes(b"not a database" * 1000)
    result = place.run("account", "list")
    assert result.exit_code == 1
    assert STORE_NAME in result.stderr


@pytest.fixture
def foreign(place: Any) -> Iterator[Any]:
    """An empty data directory of another account, in a folder that it can reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    other = type(place)(folder)
    other.data_dir.mkdir(mode=0o700)
    nobody = pwd.getpwnam("nobody")
    os.chown(other.data_dir, nobody.pw_uid, nobody.pw_gid)
    yield other
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can work for another account")
def test_what_root_adds_belongs_to_the_owner_of_the_directory(foreign: Any) -> None:
    assert add(foreign, ANNA, "x").exit_code == 0
    nobody = pwd.getpwnam("nobody")
    assert {path.stat().st_uid for path in foreign.data_dir.iterdir()} == {nobody.pw_uid}
    assert (os.geteuid(), os.getegid()) == (0, 0)


def on_a_terminal(place: Any, typed: list[str], *words: str) -> tuple[int, str]:
    """The command on a pseudo terminal; each text of `typed` answers one prompt that ends with `: `."""
    terminal, its_end = pty.openpty()
    arguments = [sys.executable, "-m", "staffetta", *words, "-c", str(place.file)]
    process = subprocess.Popen(
        arguments, stdin=its_end, stdout=its_end, stderr=its_end, start_new_session=True, env={**os.environ}
    )
    os.close(its_end)
    shown = b""
    answers = iter(typed)
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        shown += data
        if shown.endswith(b": "):
            os.write(terminal, next(answers).encode() + b"\n")
    os.close(terminal)
    return process.wait(30), shown.decode()


def test_a_person_types_the_password_twice_and_it_is_not_shown(place: Any) -> None:
    status, shown = on_a_terminal(place, ["hunter2", "hunter3", "hunter2", "hunter2"], "account", "add", ANNA)
    assert status == 0
    assert "hunter" not in shown
    assert knows(place, ANNA, "hunter2")


def test_grants_change_and_nothing_else(place: Any) -> None:
    add(place, ANNA, "correct horse", "--may-send", "@news.example")
    result = place.run("account", "grant", ANNA, "--may-send", "team@example.org", "--revoke", "@news.example")
    assert (result.exit_code, "team@example.org" in result.stderr) == (0, True), result.output
    (line,) = [one for one in place.run("account", "list", "--json").stdout.split("\n") if one]
    assert '"may_send":["team@example.org"]' in line
    assert knows(place, ANNA, "correct horse")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["grant", ANNA], 2),
        (["grant", ANNA, "--may-send", "nonsense"], 2),
        (["grant", ANNA, "--revoke", "@never.example"], 3),
        (["grant", "nobody@example.org", "--may-send", "@a.example"], 3),
    ],
)
def test_what_cannot_be_granted_changes_nothing(place: Any, words: list[str], status: int) -> None:
    add(place, ANNA, "correct horse", "--may-send", "@news.example")
    assert place.run("account", *words).exit_code == status
    assert "@news.example" in place.run("account", "list", "--json").stdout
