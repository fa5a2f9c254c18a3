"""Keys on disk: `keys/DOMAIN/SELECTOR.pem`, and beside them `state.json` that says what each is for.

Directories are 0700, files 0600. A key is written whole and flushed before its name exists, never overwritten, and on
disk before the state mentions it; the state is replaced atomically. Commands and the relay may work at the same time:
who changes something holds a lock on the directory. Methods block, for milliseconds, or for the making of an RSA key.
This module refuses to know the DNS and when a key changes its state.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from staffetta.mail.domain import DomainError, parse_domain
from staffetta.mailauth.dkim.keys import (
    ALGORITHMS,
    RSA_BITS,
    STATE_VERSION,
    DomainKeys,
    KeyChange,
    KeyEntry,
    KeyPhase,
    KeySettings,
    advance,
    new_selector,
)
from staffetta.mailauth.dkim.record import LEAST_BITS, Algorithm
from staffetta.mailauth.dkim.sign import PrivateKey, SigningKey

DIRECTORY_NAME: Final = "keys"
"""Under the data directory."""

STATE_NAME: Final = "state.json"

FILE_OCTETS: Final = 256 * 1024
"""Largest file that is read."""

_SELECTOR = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_DIRECTORY_MODE: Final = 0o700
_FILE_MODE: Final = 0o600


class KeysUnusable(Exception):
    """A key or the state of a domain's keys cannot be read or written. Mail that would be signed waits (4yz): sent
    unsigned it could be refused for good."""


class KeyStore:
    """The keys of all domains under one data directory. Domains are A-labels in lower case."""

    __slots__ = ("directory",)

    def __init__(self, data_dir: Path) -> None:
        self.directory = data_dir / DIRECTORY_NAME

    def domains(self) -> tuple[str, ...]:
        """The domains that have keys, sorted. Raises KeysUnusable."""
        try:
            names = sorted(path.name for path in self.directory.iterdir() if (path / STATE_NAME).exists())
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise _unusable(self.directory, error) from error
        return tuple([name for name in names if _is_domain(name)])

    def read(self, domain: str) -> DomainKeys | None:
        """The keys of a domain; None when none were made. Raises KeysUnusable."""
        path = self._place(domain) / STATE_NAME
        try:
            octets = _read_file(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            keys = msgspec.json.decode(octets, type=DomainKeys)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise KeysUnusable(f"{path} is damaged: {error}") from error
        if keys.version != STATE_VERSION or keys.domain != domain:
            raise KeysUnusable(f"{path} is of another version or domain")
        return keys

    def make(self, domain: str, now: datetime) -> DomainKeys:
        """The keys of a domain, made where there are none; they are active at once. Raises KeysUnusable."""
        known = self.read(domain)
        if known is not None:
            return known
        with self._locked(domain):
            known = self.read(domain)
            if known is None:
                known = self._add(DomainKeys(domain), KeyPhase.ACTIVE, now)
        return known

    def rotate(self, domain: str, now: datetime) -> tuple[DomainKeys, tuple[KeyEntry, ...]]:
        """Make a `next` key for each algorithm that has none waiting. All keys, and the new ones.

        Raises KeysUnusable.
        """
        with self._locked(domain):
            before = self.read(domain) or DomainKeys(domain)
            after = self._add(before, KeyPhase.NEXT, now)
        return after, after.entries[len(before.entries) :]

    def advance(self, domain: str, seen: frozenset[str], now: datetime, settings: KeySettings) -> tuple[KeyChange, ...]:
        """Carry out what `keys.advance` decides: on disk before it is told. Raises KeysUnusable."""
        with self._locked(domain):
            before = self.read(domain)
            if before is None:
                return ()
            after, changes = advance(before, seen, now, settings)
            if changes:
                self._write_state(after)
            for change in changes:
                if change.state is None:
                    with contextlib.suppress(OSError):  # no more than a file that nobody reads
                        self.path(domain, change.selector).unlink()
        return changes

    def version(self, domain: str) -> tuple[int, int]:
        """Something that is another after each change of the state; (0, 0) when there is none."""
        try:
            found = (self._place(domain) / STATE_NAME).stat()
        except OSError:
            return 0, 0
        return found.st_ino, found.st_mtime_ns

    def path(self, domain: str, selector: str) -> Path:
        """Where a private key is. Raises KeysUnusable for a selector that is no name."""
        if not _SELECTOR.fullmatch(selector):
            raise KeysUnusable(f"the keys of {domain} have a selector that is no name")
        return self._place(domain) / f"{selector}.pem"

    def key(self, domain: str, entry: KeyEntry) -> SigningKey:
        """A private key, read from disk. Raises KeysUnusable."""
        path = self.path(domain, entry.selector)
        key = read_key(path, domain, entry.selector)
        if key.algorithm is not entry.algorithm:
            raise KeysUnusable(f"{path} is not the {entry.algorithm.key_type} key that it should be")
        return key

    def signing_keys(self, domain: str) -> tuple[SigningKey, ...]:
        """The keys that sign now; empty when none were made. Raises KeysUnusable."""
        keys = self.read(domain)
        if keys is None:
            return ()
        return tuple([self.key(domain, entry) for entry in keys.in_state(KeyPhase.ACTIVE)])

    def _place(self, domain: str) -> Path:
        if not _is_domain(domain):
            raise KeysUnusable("not a domain")
        return self.directory / domain

    def _add(self, keys: DomainKeys, state: KeyPhase, now: datetime) -> DomainKeys:
        waiting = {entry.algorithm for entry in keys.in_state(KeyPhase.NEXT)}
        missing = [algorithm for algorithm in ALGORITHMS if algorithm not in waiting]
        made: list[KeyEntry] = []
        for algorithm in missing:
            # A file without an entry is left over from a crash: its name is taken too.
            taken = frozenset(keys.used) | {path.stem for path in self._place(keys.domain).glob("*.pem")}
            selector = new_selector(algorithm, now, taken)
            self._write_key(keys.domain, selector, _generate(algorithm))
            bits = RSA_BITS if algorithm is Algorithm.RSA_SHA256 else 256
            made.append(KeyEntry(selector, algorithm, bits, state, now))
        if not made:
            return keys
        after = keys.with_new(tuple(made))
        self._write_state(after)
        return after

    def _write_key(self, domain: str, selector: str, private: PrivateKey) -> None:
        octets = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path = self.path(domain, selector)
        try:
            with _flushed(path, octets) as temporary:
                os.link(temporary, path, follow_symlinks=False)  # fails where a file is: no key is ever overwritten
                temporary.unlink()
        except OSError as error:
            raise _unusable(path, error) from error

    def _write_state(self, keys: DomainKeys) -> None:
        path = self._place(keys.domain) / STATE_NAME
        try:
            with _flushed(path, msgspec.json.format(msgspec.json.encode(keys)) + b"\n") as temporary:
                temporary.replace(path)
        except OSError as error:
            raise _unusable(path, error) from error

    @contextlib.contextmanager
    def _locked(self, domain: str) -> Iterator[None]:
        place = self._place(domain)
        try:
            for directory in (self.directory, place):
                if not directory.is_dir():
                    directory.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
                    _flush_directory(directory.parent)
            lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise _unusable(place, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def read_key(path: Path, domain: str, selector: str) -> SigningKey:
    """The private key in a PEM file: RSA of at least 1024 bits, or Ed25519, without a passphrase.

    Raises KeysUnusable.
    """
    try:
        # To check that an RSA key's numbers fit together takes 30 ms; this is not a stranger's key.
        private = load_pem_private_key(_read_file(path), None, unsafe_skip_rsa_key_validation=True)
    except OSError as error:
        raise _unusable(path, error) from error
    except TypeError:
        raise KeysUnusable(f"{path} needs a passphrase; store the key without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeysUnusable(f"{path} is not a private key in PEM form") from None
    if isinstance(private, Ed25519PrivateKey):
        return SigningKey(domain, selector, Algorithm.ED25519_SHA256, private)
    if not isinstance(private, rsa.RSAPrivateKey):
        raise KeysUnusable(f"{path} is neither an RSA nor an Ed25519 key")
    if private.key_size < LEAST_BITS:
        raise KeysUnusable(f"{path} is an RSA key of {private.key_size} bits; receivers ignore what it signs")
    return SigningKey(domain, selector, Algorithm.RSA_SHA256, private)


def _generate(algorithm: Algorithm) -> PrivateKey:
    if algorithm is Algorithm.RSA_SHA256:
        return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    return Ed25519PrivateKey.generate()


def _is_domain(name: str) -> bool:
    try:
        return parse_domain(name).ascii == name
    except DomainError:
        return False


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        octets = file.read(FILE_OCTETS + 1)
    if len(octets) > FILE_OCTETS:
        raise OSError(None, f"larger than {FILE_OCTETS} octets")
    return octets


@contextlib.contextmanager
def _flushed(path: Path, octets: bytes) -> Iterator[Path]:
    """A flushed temporary file beside `path`; what the body makes of it is flushed too."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)  # left over from a crash: the lock is ours
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _FILE_MODE)
    try:
        with open(descriptor, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
    _flush_directory(path.parent)


def _flush_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(path: Path, error: OSError) -> KeysUnusable:
    return KeysUnusable(f"{path} cannot be used: {error.strerror or error}")


__all__ = ["DIRECTORY_NAME", "STATE_NAME", "KeyStore", "KeysUnusable", "read_key"]
