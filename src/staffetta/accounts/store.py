"""The file of accounts: `accounts.sqlite` in the data directory, read and written by the relay and by commands alike.

One row per account; the key is the folded address. Reads are point queries of a few microseconds on the event loop and
see at once what another process has committed. This module refuses to know how passwords are checked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Self

import apsw
import msgspec

from staffetta.accounts.passwords import Hasher, Kept
from staffetta.mail.address import AddressError, Mailbox, parse_mailbox
from staffetta.mail.domain import Domain, DomainError, parse_domain
from staffetta.protocol.sasl import ScramKeys
from staffetta.spool.database import StoreError, open_database

STORE_NAME: Final = "accounts.sqlite"

GRANTS: Final = 1000
"""How many grants one account may have."""

NO_GRANTS: Final = "[]"
"""How the grants of an account without any are written."""

MIGRATIONS: Final = (
    """
    CREATE TABLE account (
        address TEXT PRIMARY KEY,
        spelling TEXT NOT NULL,
        hash TEXT NOT NULL,
        scram_salt BLOB NOT NULL,
        scram_iterations INTEGER NOT NULL,
        scram_stored_key BLOB NOT NULL,
        scram_server_key BLOB NOT NULL,
        may_send TEXT NOT NULL,
        created_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE secret (value BLOB NOT NULL) STRICT;
    INSERT INTO secret VALUES (randomblob(32));
    """,
)

Grant = Mailbox | Domain
"""What else an account may send as: one address, or every address of a domain."""


class AccountExists(Exception):
    """There is an account of that address."""


class NoSuchAccount(Exception):
    """There is no account of that address."""


class AccountsUnavailable(Exception):
    """The file could not be read or written now."""


class GrantError(ValueError):
    """The text is not a grant; the message says why."""


class Account(msgspec.Struct, frozen=True):
    """One login and mailbox. `address` is spelled as it was added; compare it folded."""

    address: Mailbox
    may_send: tuple[Grant, ...]
    created_at: float


class Credentials(msgspec.Struct, frozen=True):
    """An account with what is kept of its password."""

    account: Account
    kept: Kept


def parse_grant(text: str) -> Grant:
    """`user@d` or `@d`. Raises GrantError."""
    try:
        if text.startswith("@"):
            return parse_domain(text[1:])
        return parse_mailbox(text, smtputf8=True)
    except (AddressError, DomainError) as error:
        raise GrantError(f"a grant is `user@domain` or `@domain`: {error}") from error


def write_grant(grant: Grant) -> str:
    """The text that `parse_grant` reads."""
    return f"@{grant}" if isinstance(grant, Domain) else str(grant)


class AccountStore:
    """The accounts. Methods block: reads for microseconds, changes for a flush of the disk and a password hash."""

    def __init__(self, connection: apsw.Connection, hasher: Hasher, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._clock = clock
        self.hasher = hasher
        self.secret = bytes(_one(connection, "SELECT value FROM secret", ())[0])
        """Known to this store only; made with it."""

    @classmethod
    def open(cls, data_dir: Path, *, hasher: Hasher | None = None, clock: Callable[[], float] = time.time) -> Self:
        """The store of a data directory, made where it is missing. Raises StoreError."""
        connection = open_database(data_dir / STORE_NAME, MIGRATIONS)
        try:
            return cls(connection, hasher or Hasher(os.urandom), clock)
        except AccountsUnavailable as error:
            connection.close()
            raise StoreError(str(error)) from error

    def exists(self, mailbox: Mailbox) -> bool:
        """True when there is an account of that address. Raises AccountsUnavailable."""
        return bool(self._rows("SELECT 1 FROM account WHERE address = ?", (_key(mailbox),)))

    def get(self, mailbox: Mailbox) -> Account | None:
        """The account of that address. Raises AccountsUnavailable."""
        own = mailbox.folded()
        rows = self._rows("SELECT spelling, may_send, created_at FROM account WHERE address = ?", (str(own),))
        if not rows:
            return None
        spelling, may_send, created_at = rows[0]
        return _account(spelling, may_send, created_at, own)

    def credentials(self, mailbox: Mailbox) -> Credentials | None:
        """The account and what is kept of its password. Raises AccountsUnavailable."""
        own = mailbox.folded()
        rows = self._rows(
            "SELECT spelling, may_send, created_at, hash, scram_salt, scram_iterations, scram_stored_key,"
            " scram_server_key FROM account WHERE address = ?",
            (str(own),),
        )
        if not rows:
            return None
        spelling, may_send, created_at, hashed, *scram = rows[0]
        return Credentials(_account(spelling, may_send, created_at, own), Kept(hashed, ScramKeys(*scram)))

    def add(self, address: Mailbox, password: str, may_send: Iterable[Grant] = ()) -> Account:
        """A new account. Raises AccountExists, PasswordRefused, GrantError, AccountsUnavailable."""
        grants = tuple(dict.fromkeys(may_send))
        if len(grants) > GRANTS:
            raise GrantError(f"more than {GRANTS} grants")
        if self.exists(address):
            raise AccountExists(str(address))
        kept = self.hasher.keep(password)
        account = Account(address, grants, self._clock())
        scram = kept.scram
        self._change(
            "INSERT INTO account VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                _key(address),
                str(address),
                kept.hash,
                scram.salt,
                scram.iterations,
                scram.stored_key,
                scram.server_key,
                _encode_grants(grants),
                account.created_at,
            ),
            AccountExists(str(address)),
        )
        return account

    def set_password(self, address: Mailbox, password: str) -> None:
        """A new password; the old one is worth nothing from now on, in every process.

        Raises NoSuchAccount, PasswordRefused, AccountsUnavailable.
        """
        kept = self.hasher.keep(password)
        scram = kept.scram
        self._change(
            "UPDATE account SET hash = ?, scram_salt = ?, scram_iterations = ?, scram_stored_key = ?,"
            " scram_server_key = ? WHERE address = ?",
            (kept.hash, scram.salt, scram.iterations, scram.stored_key, scram.server_key, _key(address)),
            NoSuchAccount(str(address)),
        )

    def set_may_send(self, address: Mailbox, may_send: Iterable[Grant]) -> None:
        """New grants in place of the old ones. Raises NoSuchAccount, GrantError, AccountsUnavailable."""
        grants = tuple(dict.fromkeys(may_send))
        if len(grants) > GRANTS:
            raise GrantError(f"more than {GRANTS} grants")
        self._change(
            "UPDATE account SET may_send = ? WHERE address = ?",
            (_encode_grants(grants), _key(address)),
            NoSuchAccount(str(address)),
        )

    def remove(self, address: Mailbox) -> None:
        """No more logins, no more mail; the mailbox's folder stays. Raises NoSuchAccount, AccountsUnavailable."""
        self._change("DELETE FROM account WHERE address = ?", (_key(address),), NoSuchAccount(str(address)))

    def list(self) -> tuple[Account, ...]:
        """All accounts by address. Raises AccountsUnavailable."""
        rows = self._rows("SELECT spelling, may_send, created_at FROM account ORDER BY address", ())
        return tuple(_account(*row) for row in rows)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _rows(self, sql: str, values: tuple[str, ...]) -> tuple[tuple[Any, ...], ...]:
        try:
            return tuple(self._connection.execute(sql, values).fetchall())
        except apsw.Error as error:
            raise AccountsUnavailable(f"accounts cannot be read: {error}") from error

    def _change(self, sql: str, values: tuple[apsw.SQLiteValue, ...], otherwise: Exception) -> None:
        """One change of one row; `otherwise` is raised when there was none to change."""
        try:
            self._connection.execute(sql, values)
            if self._connection.changes() == 0:
                raise otherwise
        except apsw.Error as error:
            raise AccountsUnavailable(f"accounts cannot be changed: {error}") from None


def _one(connection: apsw.Connection, sql: str, values: tuple[str, ...]) -> tuple[Any, ...]:
    try:
        row = connection.execute(sql, values).fetchone()
    except apsw.Error as error:
        raise AccountsUnavailable(f"accounts cannot be read: {error}") from error
    if row is None:
        raise AccountsUnavailable("the store of accounts has lost its secret")
    return tuple(row)


def _key(mailbox: Mailbox) -> str:
    return str(mailbox.folded())


def _encode_grants(grants: tuple[Grant, ...]) -> str:
    return msgspec.json.encode([write_grant(grant) for grant in grants]).decode()


def _account(spelling: str, may_send: str, created_at: float, own: Mailbox | None = None) -> Account:
    """The account of a row; most are spelled as their key, `own`, and granted nothing. Raises AccountsUnavailable."""
    try:
        address = own if own is not None and spelling == str(own) else parse_mailbox(spelling, smtputf8=True)
        grants = () if may_send == NO_GRANTS else msgspec.json.decode(may_send, type=tuple[str, ...])
        return Account(address, tuple([parse_grant(grant) for grant in grants]), created_at)
    except (AddressError, GrantError, msgspec.MsgspecError) as error:
        raise AccountsUnavailable(f"the row of the account {own or spelling!s} is damaged: {error}") from error
