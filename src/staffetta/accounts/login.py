"""Is this the owner? Passwords that are sent, and keys for passwords that are proven.

RFC 4616 section 2 and RFC 5802 section 9: who does not exist looks and lasts the same as a wrong password: one hash,
one answer. Hashing runs in a few threads, and a bounded number of logins may wait for them. A success is remembered
for a minute, as a keyed digest, so that a client that opens a connection per message pays once; it is forgotten in the
moment the stored hash changes.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Final

import msgspec

from staffetta.accounts.passwords import PasswordRefused, decoy_keys, prepared
from staffetta.accounts.store import Account, AccountStore, AccountsUnavailable, Credentials
from staffetta.mail.address import AddressError, Mailbox, parse_mailbox
from staffetta.protocol.sasl import ScramKeys

HASHING_THREADS: Final = 2
"""Passwords that are hashed at the same time: each takes a core and 19 MiB."""

WAITING_LOGINS: Final = 200
"""Logins that may wait for a thread; more are put off."""

REMEMBERED_SECONDS: Final = 60.0
"""How long a success spares the next hash."""

REMEMBERED_LOGINS: Final = 4096
"""How many successes are remembered."""

USERNAME_CHARACTERS: Final = 320
"""Longer names are nobody's: 64 and 255 octets, and the @."""


class LoginResult(StrEnum):
    """How a login ended."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    PUT_OFF = "put_off"
    """Nothing was decided: the store cannot be read, or too many wait. Not the client's fault."""


class LoginVerdict(msgspec.Struct, frozen=True):
    """`account` is there when accepted. `name` is the folded login name, "" when it is no address; for counting.

    `reason` is for the operator only: the peer must not learn it.
    """

    result: LoginResult
    name: str
    reason: str = ""
    account: Account | None = None

    def __bool__(self) -> bool:
        """True when accepted, so that a verdict taken for a yes or no is never a yes by mistake."""
        return self.result is LoginResult.ACCEPTED


class Unhashed(msgspec.Struct, frozen=True):
    """A password, prepared, that must be hashed before there is a verdict; `found` None: against the decoy."""

    name: str
    text: str
    digest: bytes
    found: Credentials | None

    def __repr__(self) -> str:
        return "Unhashed(...)"


def login_name(username: str) -> Mailbox | None:
    """The folded mailbox that a login name is; None when it is no full address, so nobody's."""
    if len(username) > USERNAME_CHARACTERS:
        return None
    try:
        return parse_mailbox(username, smtputf8=True).folded()
    except AddressError:
        return None


class Logins:
    """Checks logins against the store. One per relay; belongs to its event loop.

    `decoy` is hashed against for who does not exist; None: one is made, which takes as long as a login.
    """

    def __init__(
        self,
        store: AccountStore,
        *,
        threads: int = HASHING_THREADS,
        waiting: int = WAITING_LOGINS,
        monotonic: Callable[[], float] = time.monotonic,
        decoy: str | None = None,
    ) -> None:
        self._store = store
        self._most_waiting = waiting
        self._monotonic = monotonic
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="password")
        self._waiting = 0
        self._decoy = store.hasher.decoy() if decoy is None else decoy
        self._key = secrets.token_bytes(32)
        self._remembered: OrderedDict[str, tuple[str, bytes, float]] = OrderedDict()

    async def verify(self, username: str, password: str) -> LoginVerdict:
        """Does `password` open the account of `username`?"""
        looked = self.look(login_name(username), password)
        return looked if isinstance(looked, LoginVerdict) else await self.hash(looked)

    def look(self, mailbox: Mailbox | None, password: str) -> LoginVerdict | Unhashed:
        """The verdict where the password was right within a minute or the store cannot be read; else what to hash.

        `mailbox` is what `login_name` made of the user name.
        """
        name = str(mailbox) if mailbox is not None else ""
        try:
            found = self._store.credentials(mailbox) if mailbox is not None else None
        except AccountsUnavailable as error:
            return LoginVerdict(LoginResult.PUT_OFF, name, str(error))
        try:
            text = prepared(password)
        except PasswordRefused:
            text, found = "", None  # checked against the decoy all the same: it has to last as long
        # Keyed BLAKE2 (RFC 7693): a twentieth of what an HMAC through OpenSSL takes to set up.
        secret = f"{name}\0{text}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(secret, key=self._key, digest_size=32).digest()
        if found is not None and self._is_remembered(name, found, digest):
            return LoginVerdict(LoginResult.ACCEPTED, name, "", found.account)
        return Unhashed(name, text, digest, found)

    async def hash(self, unhashed: Unhashed) -> LoginVerdict:
        """The verdict on what `look` could not decide: one hash, whether there is such an account or not."""
        name, found = unhashed.name, unhashed.found
        if self._waiting >= self._most_waiting:
            return LoginVerdict(LoginResult.PUT_OFF, name, "too many logins wait for their password check")
        hashed = found.kept.hash if found is not None else self._decoy
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(self._pool, self._store.hasher.matches, hashed, unhashed.text)
        finally:
            self._waiting -= 1
        if found is None:
            return LoginVerdict(LoginResult.REFUSED, name, "no such account")
        if not right:
            return LoginVerdict(LoginResult.REFUSED, name, "wrong password")
        self._remember(name, hashed, unhashed.digest)
        return LoginVerdict(LoginResult.ACCEPTED, name, "", found.account)

    def scram_keys(self, username: str) -> ScramKeys:
        """The keys to challenge `username` with; made up, and the same every time, for who does not exist.

        Raises AccountsUnavailable.
        """
        mailbox = login_name(username)
        found = self._store.credentials(mailbox) if mailbox is not None else None
        if found is not None:
            return found.kept.scram
        name = str(mailbox) if mailbox is not None else username
        return decoy_keys(self._store.secret, name, self._store.hasher.iterations)

    def proven(self, username: str) -> LoginVerdict:
        """SCRAM proved the password of `username`: the verdict, unless the account went away meanwhile."""
        mailbox = login_name(username)
        name = str(mailbox) if mailbox is not None else ""
        try:
            account = self._store.get(mailbox) if mailbox is not None else None
        except AccountsUnavailable as error:
            return LoginVerdict(LoginResult.PUT_OFF, name, str(error))
        if account is None:
            return LoginVerdict(LoginResult.REFUSED, name, "no such account")
        return LoginVerdict(LoginResult.ACCEPTED, name, "", account)

    def close(self) -> None:
        """Let go of the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _is_remembered(self, name: str, found: Credentials, digest: bytes) -> bool:
        remembered = self._remembered.get(name)
        if remembered is None:
            return False
        hashed, right, at = remembered
        if hashed != found.kept.hash or self._monotonic() - at > REMEMBERED_SECONDS:
            del self._remembered[name]
            return False
        return hmac.compare_digest(right, digest)

    def _remember(self, name: str, hashed: str, digest: bytes) -> None:
        self._remembered[name] = (hashed, digest, self._monotonic())
        self._remembered.move_to_end(name)
        if len(self._remembered) > REMEMBERED_LOGINS:
            self._remembered.popitem(last=False)
