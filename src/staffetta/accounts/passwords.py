"""What is kept of a password: an Argon2id hash for passwords that are sent, SCRAM keys for those that are proven.

RFC 9106 (Argon2), RFC 5802 section 3 and RFC 7677 (SCRAM-SHA-256), RFC 4013 (SASLprep). The password itself stays in
no attribute, repr or exception. Hashing takes milliseconds on purpose: run it in a thread (both libraries release the
interpreter lock).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Final

import argon2
import msgspec
from argon2.exceptions import InvalidHashError, VerificationError

from staffetta.protocol.sasl import ScramKeys
from staffetta.protocol.saslprep import SaslprepError, saslprep

PASSWORD_OCTETS: Final = 1024
"""Longest password, prepared and in UTF-8. Longer ones are refused before they cost anything."""

SALT_OCTETS: Final = 16

SCRAM_ITERATIONS: Final = 32_768
"""RFC 7677 asks for 4096 at least. The client pays for this too (about 10 ms), so it is not as dear as Argon2."""


class PasswordRefused(ValueError):
    """This cannot be a password; the message says why, without echoing it."""


class Cost(msgspec.Struct, frozen=True, gc=False):
    """A named set of Argon2id parameters."""

    name: str
    memory_kib: int
    passes: int
    lanes: int


INTERACTIVE: Final = Cost("argon2id-19m-2", memory_kib=19_456, passes=2, lanes=1)
"""About 20 ms and 19 MiB: what guidance for password storage asks at least, and two at a time fit a small machine."""


class Kept(msgspec.Struct, frozen=True, gc=False):
    """What the store holds of one password."""

    hash: str
    scram: ScramKeys

    def __repr__(self) -> str:
        return "Kept(...)"


def prepared(password: str) -> str:
    """The password in its one form. Raises PasswordRefused."""
    try:
        text = saslprep(password)
    except SaslprepError:
        raise PasswordRefused("the password has a character that cannot be typed everywhere") from None
    if not text:
        raise PasswordRefused("the password is empty")
    if len(text.encode("utf-8", "surrogatepass")) > PASSWORD_OCTETS:
        raise PasswordRefused(f"the password is longer than {PASSWORD_OCTETS} octets")
    return text


class Hasher:
    """Makes and checks what is kept. `random_bytes` gives salts."""

    __slots__ = ("_argon", "_random_bytes", "iterations")

    def __init__(
        self, random_bytes: Callable[[int], bytes], cost: Cost = INTERACTIVE, iterations: int = SCRAM_ITERATIONS
    ) -> None:
        self._random_bytes = random_bytes
        self._argon = argon2.PasswordHasher(
            time_cost=cost.passes,
            memory_cost=cost.memory_kib,
            parallelism=cost.lanes,
            salt_len=SALT_OCTETS,
            type=argon2.Type.ID,
        )
        self.iterations = iterations

    def keep(self, password: str) -> Kept:
        """What to store for a new password. Raises PasswordRefused."""
        text = prepared(password)
        hashed = self._argon.hash(text, salt=self._random_bytes(SALT_OCTETS))
        return Kept(hashed, self._scram(text, self._random_bytes(SALT_OCTETS)))

    def decoy(self) -> str:
        """A hash that costs what a real one costs, of a password that nobody knows."""
        return self._argon.hash(self._random_bytes(32), salt=self._random_bytes(SALT_OCTETS))

    def matches(self, hashed: str, password: str) -> bool:
        """True when `password`, prepared already, is the one that was hashed. Always costs one hash."""
        try:
            return self._argon.verify(hashed, password)
        except (VerificationError, InvalidHashError, UnicodeEncodeError):
            return False

    def _scram(self, text: str, salt: bytes) -> ScramKeys:
        salted = hashlib.pbkdf2_hmac("sha256", text.encode(), salt, self.iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        return ScramKeys(salt, self.iterations, hashlib.sha256(client_key).digest(), server_key)


def decoy_keys(secret: bytes, name: str, iterations: int) -> ScramKeys:
    """SCRAM keys for a user who does not exist: the same salt for the same name every time, and no password fits.

    Without a stable salt, asking twice would tell who exists (RFC 5802 section 9).
    """
    octets = name.encode("utf-8", "surrogatepass")
    salt = hmac.digest(secret, b"scram salt\0" + octets, "sha256")[:SALT_OCTETS]
    stored_key = hmac.digest(secret, b"scram stored key\0" + octets, "sha256")
    server_key = hmac.digest(secret, b"scram server key\0" + octets, "sha256")
    return ScramKeys(salt, iterations, stored_key, server_key)
