"""Logins: who gets in, what it costs, and that nobody can tell who exists. Costs are counted, not timed."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from staffetta.accounts.login import (
    REMEMBERED_LOGINS,
    REMEMBERED_SECONDS,
    LoginResult,
    Logins,
    LoginVerdict,
    Unhashed,
    login_name,
)
from staffetta.accounts.passwords import Cost, Hasher
from staffetta.accounts.store import STORE_NAME, AccountStore
from staffetta.mail.address import parse_mailbox

ANNA = parse_mailbox("Anna@example.com")


class CountingHasher(Hasher):
    """Counts what is hashed against what; `gate` holds hashing back."""

    def __init__(self) -> None:
        super().__init__(os.urandom, Cost("cheap", memory_kib=8, passes=1, lanes=1), 4096)
        self.checked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def matches(self, hashed: str, password: str) -> bool:
        self.checked.append(hashed)
        assert self.gate.wait(10)
        return super().matches(hashed, password)


class House:
    def __init__(self, path: Path) -> None:
        self.hasher = CountingHasher()
        self.store = AccountStore.open(path, hasher=self.hasher)
        self.store.add(ANNA, "secret")
        self.now = 100.0
        self.logins = Logins(self.store, waiting=5, monotonic=lambda: self.now)

    def verify(self, username: str, password: str) -> LoginVerdict:
        return asyncio.run(self.logins.verify(username, password))

    def close(self) -> None:
        self.logins.close()
        self.store.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("username", "password", "accepted"),
    [
        ("Anna@example.com", "secret", True),
        ("anna@example.com", "secret", True),
        ("ANNA@EXAMPLE.COM", "secret", True),
        ("anna@example.com", "s\u00adecret", True),
        ("anna@example.com", "Secret", False),
        ("anna@example.com", "secret ", False),
        ("anna@example.com", "", False),
        ("anna@example.com", "x" * 100_000, False),
        ("anna@example.com", "secret\0", False),
        ("anna@example.com", "\ud800", False),
        ("anna", "secret", False),
        ("", "secret", False),
        ("@example.com", "secret", False),
        ("anna@example.org", "secret", False),
        ("anna+x@example.com", "secret", False),
        ("bob@example.com", "secret", False),
        ("' OR 1=1 --", "secret", False),
        ("anna@example.com\0x", "secret", False),
        ("anna\r\n@example.com", "secret", False),
        ("\ud800@example.com", "secret", False),
        ("x" * 100_000 + "@example.com", "secret", False),
    ],
)
def test_every_first_login_costs_one_hash_whoever_asks(
    house: House, username: str, password: str, accepted: bool
) -> None:
    verdict = house.verify(username, password)
    assert (verdict.result is LoginResult.ACCEPTED) is accepted
    assert bool(verdict) is accepted
    assert (verdict.account is not None) is accepted
    assert len(house.hasher.checked) == 1
    if password not in {"", "secret"}:
        assert password not in repr(verdict)


def test_unknown_users_are_checked_against_a_hash_of_the_same_cost(house: House) -> None:
    house.verify("anna@example.com", "wrong")
    house.verify("bob@example.com", "wrong")
    house.verify("not an address", "wrong")
    real, decoy, other = (hashed.split("$")[1:4] for hashed in house.hasher.checked)
    assert real == decoy == other


def test_a_success_spares_the_next_hash_for_a_minute(house: House) -> None:
    assert house.verify("anna@example.com", "secret")
    for name in ("anna@example.com", "ANNA@example.com"):
        assert house.verify(name, "secret").result is LoginResult.ACCEPTED
    assert len(house.hasher.checked) == 1
    house.now += REMEMBERED_SECONDS + 0.1
    assert house.verify("anna@example.com", "secret")
    assert len(house.hasher.checked) == 2


def test_a_wrong_password_costs_a_hash_also_beside_a_remembered_success(house: House) -> None:
    assert house.verify("anna@example.com", "secret")
    assert not house.verify("anna@example.com", "wrong")
    assert not house.verify("anna@example.com", "wrong")
    assert len(house.hasher.checked) == 3
    assert house.verify("anna@example.com", "secret")
    assert len(house.hasher.checked) == 3


def test_a_changed_password_is_worth_nothing_at_once(house: House) -> None:
    assert house.verify("anna@example.com", "secret")
    house.store.set_password(ANNA, "new")
    assert not house.verify("anna@example.com", "secret")
    assert house.verify("anna@example.com", "new")
    house.store.remove(ANNA)
    assert not house.verify("anna@example.com", "new")
    house.store.add(ANNA, "third")
    assert not house.verify("anna@example.com", "new")
    assert house.verify("anna@example.com", "third")


def test_what_is_remembered_is_bounded_and_holds_no_password(house: House) -> None:
    assert house.verify("anna@example.com", "a password".replace("a password", "secret"))
    assert "secret" not in repr(house.logins._remembered)
    for number in range(REMEMBERED_LOGINS + 10):
        house.logins._remember(f"u{number}", "hash", b"digest")
    assert len(house.logins._remembered) == REMEMBERED_LOGINS


def test_a_flood_is_put_off_and_the_cores_are_not_all_taken(house: House) -> None:
    house.hasher.gate.clear()

    async def flood() -> list[LoginVerdict]:
        tasks = [asyncio.create_task(house.logins.verify(f"u{n}@example.com", "x")) for n in range(8)]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        assert len(done) == 3
        assert len(house.hasher.checked) <= 2
        house.hasher.gate.set()
        return list(await asyncio.gather(*tasks))

    results = [verdict.result for verdict in asyncio.run(flood())]
    assert results.count(LoginResult.PUT_OFF) == 3
    assert results.count(LoginResult.REFUSED) == 5
    assert house.verify("anna@example.com", "secret")


def test_a_client_that_leaves_gives_its_place_back(house: House) -> None:
    async def leave() -> None:
        house.hasher.gate.clear()
        tasks = [asyncio.create_task(house.logins.verify(f"u{n}@example.com", "x")) for n in range(5)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        house.hasher.gate.set()
        assert (await house.logins.verify("anna@example.com", "secret")).result is LoginResult.ACCEPTED

    asyncio.run(leave())


def test_scram_keys_do_not_tell_who_exists(house: House) -> None:
    real = house.logins.scram_keys("ANNA@example.com")
    kept = house.store.credentials(ANNA)
    assert kept is not None
    assert real == kept.kept.scram
    unknown = house.logins.scram_keys("bob@example.com")
    assert unknown == house.logins.scram_keys("BOB@example.com")
    assert unknown.iterations == real.iterations
    assert len(unknown.salt) == len(real.salt)
    assert house.logins.scram_keys("not an address") == house.logins.scram_keys("not an address")
    again = Logins(house.store)
    assert again.scram_keys("bob@example.com") == unknown
    again.close()
    assert house.hasher.checked == []


def test_a_proof_counts_only_while_the_account_is_there(house: House) -> None:
    verdict = house.logins.proven("ANNA@example.com")
    assert verdict.result is LoginResult.ACCEPTED
    assert verdict.account is not None
    assert verdict.name == "anna@example.com"
    house.store.remove(ANNA)
    assert house.logins.proven("anna@example.com").result is LoginResult.REFUSED
    assert house.logins.proven("nobody").result is LoginResult.REFUSED


def test_a_store_that_cannot_be_read_is_nobodys_fault(house: House, tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / STORE_NAME))
    connection.execute("DROP TABLE account")
    connection.close()
    verdict = house.verify("anna@example.com", "secret")
    assert verdict.result is LoginResult.PUT_OFF
    assert not verdict
    assert house.logins.proven("anna@example.com").result is LoginResult.PUT_OFF
    assert house.hasher.checked == []


@pytest.mark.parametrize(
    ("text", "name"), [("A.B@Ex.COM", "a.b@ex.com"), ("a", None), ("a@b@c", None), ("\u212aim@e.com", None)]
)
def test_login_names(text: str, name: str | None) -> None:
    found = login_name(text)
    assert (None if found is None else str(found)) == name


def test_only_a_remembered_password_is_judged_without_a_hash(house: House) -> None:
    """Whoever is not there and whoever guesses wrong go the same way: to a hash."""
    anna = login_name("anna@example.com")
    for mailbox, password in ((anna, "secret"), (anna, "wrong"), (login_name("bob@example.com"), "x"), (None, "x")):
        assert isinstance(house.logins.look(mailbox, password), Unhashed)
    assert house.verify("anna@example.com", "secret")
    looked = house.logins.look(anna, "secret")
    assert isinstance(looked, LoginVerdict)
    assert looked.account is not None
    assert looked.account.address == ANNA
    assert isinstance(house.logins.look(anna, "wrong"), Unhashed)
    house.store.set_password(ANNA, "new")
    assert isinstance(house.logins.look(anna, "secret"), Unhashed)


def test_what_waits_for_its_hash_does_not_show_the_password(house: House) -> None:
    assert "secret" not in repr(house.logins.look(login_name("anna@example.com"), "secret"))


def test_a_decoy_that_is_given_is_not_made(house: House) -> None:
    logins = Logins(house.store, decoy="")
    assert not asyncio.run(logins.verify("bob@example.com", "x"))
    logins.close()
    assert house.hasher.checked == [""]
