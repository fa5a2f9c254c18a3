"""Who signs for which domain: the running relay asks here, and keys are read once.

This module refuses to know whether somebody may send in the name of a domain: that is decided before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from staffetta.mailauth.dkim.keystore import KeyStore, read_key
from staffetta.mailauth.dkim.sign import Signer

LOOK_SECONDS: Final = 5.0
"""How long a key that a command retired may still sign."""


class OwnKey(msgspec.Struct, frozen=True, gc=False):
    """A key that the operator made: its selector, and its PEM file."""

    selector: str
    key: Path


class Signers:
    """Signers by domain. `sources`: for each domain that signs its own key, or None for those of the store.

    `clock` gives seconds since the epoch. `signer` may be called in one thread beside the one that calls the rest.
    """

    __slots__ = ("_clock", "_known", "_lifetime", "_looked", "_sources", "_store", "_versions")

    def __init__(
        self,
        store: KeyStore,
        sources: Mapping[str, OwnKey | None],
        clock: Callable[[], float],
        lifetime_seconds: int | None = None,
    ) -> None:
        self._store = store
        self._sources = dict(sources)
        self._clock = clock
        self._lifetime = lifetime_seconds
        self._known: dict[str, Signer] = {}
        self._versions: dict[str, tuple[int, int]] = {}
        self._looked: dict[str, float] = {}

    @property
    def any(self) -> bool:
        """Whether mail of any domain is signed."""
        return bool(self._sources)

    def make_keys(self) -> None:
        """Make what is missing, for all domains. Blocks for up to a second for each: to be called before serving, and
        may be called in a thread. Raises KeysUnusable."""
        for domain, own in self._sources.items():
            if own is None:
                self._store.make(domain, self._now())

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that sign with keys of the store."""
        return tuple([domain for domain, own in self._sources.items() if own is None])

    def signs(self, domain: str) -> bool:
        """Whether mail of a domain is signed."""
        return domain in self._sources

    def ready(self, domain: str) -> Signer | None:
        """The signer of a domain whose keys were read before; None: ask `signer`, which may take a while.

        Every LOOK_SECONDS it looks whether a command changed what the keys are for."""
        known = self._known.get(domain)
        if known is not None:
            now = self._clock()
            if abs(now - self._looked.get(domain, 0.0)) >= LOOK_SECONDS:
                self._looked[domain] = now
                if domain in self._versions and self._store.version(domain) != self._versions[domain]:
                    self._known.pop(domain, None)
                    return None
        return known

    def signer(self, domain: str) -> Signer | None:
        """Who signs for a domain; None when nobody does. Reads files the first time, and makes keys that are missing.

        Raises KeysUnusable: then the message has to wait.
        """
        known = self._known.get(domain)
        if known is None and domain in self._sources:
            known = self._known[domain] = self._load(domain, self._sources[domain])
        return known

    def refresh(self) -> None:
        """Read keys again when they are needed next."""
        self._known.clear()

    def _load(self, domain: str, own: OwnKey | None) -> Signer:
        if own is not None:
            return Signer([read_key(own.key, domain, own.selector)], self._lifetime)
        self._store.make(domain, self._now())
        self._versions[domain] = self._store.version(domain)  # before the keys: a change between is seen later
        return Signer(self._store.signing_keys(domain), self._lifetime)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


__all__ = ["OwnKey", "Signers"]
