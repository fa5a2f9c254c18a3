"""What a dry run pretends, and how little: one login, TLS that is none, and nothing that is kept."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from staffetta.accounts.passwords import Cost, Hasher
from staffetta.accounts.store import AccountStore
from staffetta.app.dry_run import DrySettings, accounts_as_they_are, dry_run
from staffetta.config.load import Loaded, load
from staffetta.config.schema import Config
from staffetta.control.dialogue import DialogueOver
from staffetta.control.dry_run import PRETENDED, DryRun
from staffetta.dns.table import TableResolver
from staffetta.mail.address import Mailbox, parse_mailbox

TOML = """\
version = 1
hostname = "mx.example.org"
data_dir = "data"
[tls]
certificate = "nothing.pem"
key = "nothing.key"
[listen.submission]
bind = ["127.0.0.1:587", "127.0.0.1:465"]
role = "submission"
[domain."example.org"]
"""

ANNA, BEN = parse_mailbox("anna@example.org"), parse_mailbox("ben@example.org")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    file = tmp_path / "staffetta.toml"
    file.write_text(TOML)
    loaded = load(file, {}, files=False)
    assert isinstance(loaded, Loaded)
    loaded.config.data_dir.mkdir(mode=0o700)
    store = AccountStore.open(loaded.config.data_dir, hasher=Hasher(bytes, Cost("cheap", 8, 1, 1), 4096))
    for mailbox in (ANNA, BEN):
        store.add(mailbox, "a good enough password")
    store.close()
    return loaded.config


async def logged_in(dry: DryRun, name: str, password: str = "-") -> str:
    dialogue = dry.connect(dry.doors[0], "203.0.113.7")
    await dialogue.hear()
    for line in ("EHLO x", "STARTTLS", "EHLO x"):
        assert (await dialogue.say(line)).is_positive
    secret = base64.b64encode(f"\0{name}\0{password}".encode()).decode()
    answer = await dialogue.say(f"AUTH PLAIN {secret}")
    dialogue.close()
    return str(answer.code)


@pytest.mark.parametrize(
    ("believed", "name", "code"),
    [
        (ANNA, "anna@example.org", "235"),
        (ANNA, "ANNA@example.org", "235"),
        (ANNA, "ben@example.org", "535"),
        (parse_mailbox("carl@example.org"), "carl@example.org", "535"),
        (None, "anna@example.org", "535"),
        (ANNA, "not an address", "535"),
    ],
)
def test_one_login_is_believed_and_no_other(config: Config, believed: Mailbox | None, name: str, code: str) -> None:
    async def main() -> str:
        with accounts_as_they_are(config) as accounts:
            async with dry_run(config, accounts, DrySettings(TableResolver({}), believed)) as dry:
                return await logged_in(dry, name)

    assert asyncio.run(main()) == code


def test_no_password_is_believed_either(config: Config) -> None:
    """Not even the right one: a dry run must not be a place to guess passwords."""

    async def main() -> str:
        with accounts_as_they_are(config) as accounts:
            async with dry_run(config, accounts, DrySettings(TableResolver({}))) as dry:
                return await logged_in(dry, "anna@example.org", "a good enough password")

    assert asyncio.run(main()) == "535"


def test_doors_once_for_each_kind_of_tls(config: Config) -> None:
    async def main() -> None:
        with accounts_as_they_are(config) as accounts:
            async with dry_run(config, accounts, DrySettings(TableResolver({}))) as dry:
                assert [door.title for door in dry.doors] == ["submission", "submission (TLS from the start)"]
                dialogue, session = dry.meet(dry.doors[1], "2001:db8::7")
                assert (await dialogue.hear()).code == 220
                assert session.stream.tls is PRETENDED
                dialogue.close()
                with pytest.raises(DialogueOver):
                    await dialogue.hear()

    asyncio.run(main())


def test_accounts_are_read_and_never_written(config: Config) -> None:
    with accounts_as_they_are(config) as accounts, pytest.raises(Exception, match=r"readonly|read-only|changed"):
        accounts.remove(ANNA)
