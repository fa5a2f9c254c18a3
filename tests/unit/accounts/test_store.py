"""The file of accounts: what is kept, what other processes see, and what never shows."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from staffetta.accounts.passwords import Cost, Hasher, PasswordRefused
from staffetta.accounts.store import (
    GRANTS,
    MIGRATIONS,
    STORE_NAME,
    AccountExists,
    AccountStore,
    AccountsUnavailable,
    GrantError,
    NoSuchAccount,
    parse_grant,
    write_grant,
)
from staffetta.mail.address import Mailbox, parse_mailbox
from staffetta.mail.domain import parse_domain
from staffetta.spool.database import StoreTooNew, open_database

ANNA = parse_mailbox("Anna@example.com")
CHEAP = Cost("cheap", memory_kib=8, passes=1, lanes=1)


def open_store(path: Path) -> AccountStore:
    return AccountStore.open(path, hasher=Hasher(os.urandom, CHEAP, 4096), clock=lambda: 1_800_000_000.0)


def test_an_account_is_kept_as_it_was_added_and_found_in_any_case(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    grants = (parse_domain("shop.example"), parse_mailbox("Boss@partner.example"))
    store.add(ANNA, "secret", grants)
    store.close()
    store = open_store(tmp_path)
    for name in ("anna@example.com", "ANNA@EXAMPLE.COM", "Anna@example.com"):
        assert store.exists(parse_mailbox(name))
        account = store.get(parse_mailbox(name))
        assert account is not None
        assert (account.address, account.may_send, account.created_at) == (ANNA, grants, 1_800_000_000.0)
    assert not store.exists(parse_mailbox("anna@example.org"))
    assert store.get(parse_mailbox("ann@example.com")) is None
    assert store.credentials(parse_mailbox("ann@example.com")) is None
    store.close()


def test_two_accounts_cannot_differ_in_case_only(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.add(ANNA, "secret")
    before = store.credentials(ANNA)
    with pytest.raises(AccountExists):
        store.add(parse_mailbox("aNNA@example.com"), "other")
    assert store.credentials(ANNA) == before
    store.close()


def test_change_and_remove(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.add(ANNA, "secret")
    first = store.credentials(ANNA)
    store.set_password(ANNA, "secret")
    second = store.credentials(ANNA)
    assert first is not None
    assert second is not None
    assert first.kept.hash != second.kept.hash
    assert first.kept.scram.salt != second.kept.scram.salt
    store.set_may_send(ANNA, [parse_domain("shop.example")])
    account = store.get(ANNA)
    assert account is not None
    assert account.may_send == (parse_domain("shop.example"),)
    store.remove(ANNA)
    assert not store.exists(ANNA)
    for act in (
        lambda: store.remove(ANNA),
        lambda: store.set_password(ANNA, "x"),
        lambda: store.set_may_send(ANNA, ()),
    ):
        with pytest.raises(NoSuchAccount):
            act()
    store.close()


@pytest.mark.parametrize("damage", ["may_send='nonsense'", "may_send='[\"@\"]'", "spelling='nobody'"])
def test_a_damaged_row_is_no_account_and_no_crash(tmp_path: Path, damage: str) -> None:
    store = open_store(tmp_path)
    mailbox = parse_mailbox("anna@example.org")
    store.add(mailbox, "correct horse battery 1")
    store._connection.execute(f"UPDATE account SET {damage}")
    for question in (lambda: store.get(mailbox), lambda: store.credentials(mailbox), store.list):
        with pytest.raises(AccountsUnavailable, match="damaged"):
            question()


def test_the_list_is_in_order(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for name in ("c@example.com", "A@example.com", "b@example.com"):
        store.add(parse_mailbox(name), "secret")
    assert [str(account.address) for account in store.list()] == ["A@example.com", "b@example.com", "c@example.com"]
    store.close()


def test_another_process_changes_accounts_and_the_relay_sees_it_at_once(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert not store.exists(ANNA)
    program = (
        "import sys; from pathlib import Path; from staffetta.accounts.store import AccountStore;"
        "from staffetta.mail.address import parse_mailbox;"
        "s = AccountStore.open(Path(sys.argv[1])); s.add(parse_mailbox('anna@example.com'), 'secret'); s.close()"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=60)
    assert store.exists(ANNA)
    other = open_store(tmp_path)
    assert other.secret == store.secret
    other.remove(ANNA)
    assert not store.exists(ANNA)
    other.close()
    store.close()


def test_the_file_is_private_and_holds_no_password(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store = open_store(tmp_path)
        store.add(ANNA, "correct horse battery staple")
        for file in tmp_path.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
            assert b"battery" not in file.read_bytes()
    finally:
        os.umask(old)
    store.close()
    assert b"battery" not in (tmp_path / STORE_NAME).read_bytes()


@pytest.mark.parametrize("password", ["", "\u00ad", "x\x07y", "y" * 1025, "\u0627x"])
def test_passwords_that_are_refused_are_not_echoed(tmp_path: Path, password: str) -> None:
    store = open_store(tmp_path)
    with pytest.raises(PasswordRefused) as caught:
        store.add(ANNA, password)
    assert not password or password not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert not store.exists(ANNA)
    store.add(ANNA, "x")
    with pytest.raises(PasswordRefused):
        store.set_password(ANNA, password)
    store.close()


def test_nothing_secret_in_any_repr(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.add(ANNA, "secret")
    kept = store.credentials(ANNA)
    assert kept is not None
    for text in (repr(kept), str(kept), repr(store), repr(store.get(ANNA))):
        assert "argon2" not in text
        assert repr(kept.kept.scram.stored_key) not in text
    store.close()


@pytest.mark.parametrize(
    "name",
    [
        Mailbox("' OR 1=1 --", parse_domain("example.com")),
        Mailbox("%", parse_domain("example.com")),
        Mailbox("a\0b", parse_domain("example.com")),
        Mailbox('"; DROP TABLE account; --', parse_domain("example.com")),
    ],
)
def test_names_are_data_never_queries(tmp_path: Path, name: Mailbox) -> None:
    store = open_store(tmp_path)
    store.add(ANNA, "secret")
    assert not store.exists(name)
    assert store.credentials(name) is None
    assert len(store.list()) == 1
    store.close()


@pytest.mark.parametrize(
    ("text", "grant"),
    [
        ("@shop.example", parse_domain("shop.example")),
        ("@SHOP.example", parse_domain("shop.example")),
        ("boss@shop.example", parse_mailbox("boss@shop.example")),
        ('"a b"@shop.example', parse_mailbox('"a b"@shop.example')),
    ],
)
def test_grants(text: str, grant: object) -> None:
    assert parse_grant(text) == grant
    assert parse_grant(write_grant(parse_grant(text))) == grant


@pytest.mark.parametrize(
    "text", ["", "@", "shop.example", "*", "@*", "@.shop.example", "@*.example", "a@b@c", "@[1.2.3.4]"]
)
def test_what_is_no_grant(text: str) -> None:
    with pytest.raises(GrantError):
        parse_grant(text)


def test_grants_are_bounded(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    many = [parse_domain(f"d{number}.example") for number in range(GRANTS + 1)]
    with pytest.raises(GrantError):
        store.add(ANNA, "secret", many)
    store.add(ANNA, "secret", many[:GRANTS])
    with pytest.raises(GrantError):
        store.set_may_send(ANNA, many)
    store.close()


def test_a_newer_file_is_refused_untouched(tmp_path: Path) -> None:
    connection = open_database(tmp_path / STORE_NAME, [*MIGRATIONS, "CREATE TABLE later (x)"])
    connection.close()
    with pytest.raises(StoreTooNew):
        open_store(tmp_path)


def test_a_broken_file_is_unavailable_not_a_crash(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.add(ANNA, "secret")
    connection = apsw.Connection(str(tmp_path / STORE_NAME))
    connection.execute("DROP TABLE account")
    connection.close()
    with pytest.raises(AccountsUnavailable):
        store.exists(ANNA)
    with pytest.raises(AccountsUnavailable):
        store.credentials(ANNA)
    with pytest.raises(AccountsUnavailable) as caught:
        store.set_password(ANNA, "hunter2")
    assert "hunter2" not in repr(caught.value)
    store.close()
