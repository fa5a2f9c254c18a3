"""What an operator may ask of the accounts and order for them, with and without a running relay.

The relay sees a change at once. This module refuses to know where a password comes from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from staffetta.accounts.store import STORE_NAME, Account, AccountStore, write_grant
from staffetta.config.schema import Config
from staffetta.control.answer import Answer, moment
from staffetta.control.place import as_owner, make, require
from staffetta.mail.address import Mailbox


class AccountEntry(Answer, frozen=True, gc=False):
    """One account. `may_send` is what was granted besides its own addresses: `user@d` or `@d`."""

    address: str
    may_send: tuple[str, ...]
    created_at: datetime


@contextlib.contextmanager
def open_accounts(data_dir: Path) -> Iterator[AccountStore]:
    """The store of accounts, as its owner. Raises place.NothingThere, place.NotAllowed, StoreError."""
    with as_owner(data_dir):
        require(data_dir / STORE_NAME)
        store = AccountStore.open(data_dir)
        try:
            yield store
        finally:
            store.close()


def prepare(config: Config) -> None:
    """Make the data directory and the store of accounts where they are missing.

    Raises place.NotAllowed, StoreError.
    """
    make(config.data_dir, config.user)
    with as_owner(config.data_dir):
        AccountStore.open(config.data_dir).close()


def entry(account: Account) -> AccountEntry:
    """An account as operators see it."""
    return AccountEntry(str(account.address), tuple(map(write_grant, account.may_send)), moment(account.created_at))


def is_local(config: Config, address: Mailbox) -> bool:
    """True when mail to this address is delivered here; another account can only log in."""
    return any(domain.domain == address.domain for domain in config.domains)
