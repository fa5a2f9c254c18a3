"""What an operator may ask of the DKIM keys and order for them, with and without a running relay.

Keys are read and made as the owner of the data directory; the DNS is asked in between. A running relay sees a change
when it looks after its keys, at the latest within the hour, or when it is reloaded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from staffetta.config.schema import Config, DkimKey, DkimMode, LocalDomain
from staffetta.control.answer import Answer
from staffetta.control.place import NothingThere, as_owner, make
from staffetta.mail.domain import Domain
from staffetta.mailauth.dkim.keys import DomainKeys, KeyChange, KeyEntry, KeyPhase, KeySettings, may_go_at
from staffetta.mailauth.dkim.keystore import KeyStore, read_key
from staffetta.mailauth.dkim.publication import Publication, Published, look_up_all
from staffetta.mailauth.dkim.record import Algorithm, record_name, write_record
from staffetta.mailauth.dkim.sign import SigningKey
from staffetta.mailauth.dkim.signers import OwnKey

STRING_OCTETS = 255
"""Longest string of a TXT record, RFC 1035 section 3.3.14."""

SETTINGS = KeySettings()


class DkimKeyAnswer(Answer, frozen=True, gc=False):
    """`dkim list`, one key. `created_at` is None for a key that the operator made."""

    domain: str
    selector: str
    algorithm: str
    bits: int
    state: KeyPhase
    created_at: datetime | None


class DkimRecordAnswer(Answer, frozen=True, gc=False):
    """`dkim publish`, one record. `state` is `published`, `missing` or `different`; None: the DNS does not say."""

    name: str
    type: str
    value: str
    state: Published | None


class NoKeysHere(Exception):
    """The domain does not sign; the message says why."""


class NotOurKey(Exception):
    """The key is the operator's, and only the operator changes it; the message says how."""


class HeldKey(msgspec.Struct, frozen=True, gc=False):
    """A key and its state. `record_may_go_at`: until when the record of a retired key has to stay."""

    key: SigningKey
    state: KeyPhase
    record_may_go_at: datetime | None = None


class Rotation(msgspec.Struct, frozen=True, gc=False):
    """What rotating comes to: selectors that go on signing, those that wait already, and keys that were made now."""

    signing: tuple[str, ...]
    waiting: tuple[str, ...]
    made: tuple[SigningKey, ...] = ()


def signing_sources(config: Config) -> dict[str, OwnKey | None]:
    """The domains that sign, as `mailauth.dkim.signers.Signers` wants them."""
    return {
        local.domain.ascii: OwnKey(local.dkim.selector, local.dkim.key) if isinstance(local.dkim, DkimKey) else None
        for local in config.domains
        if local.dkim is not DkimMode.OFF
    }


def find(config: Config, domain: Domain) -> LocalDomain:
    """The domain, when it signs. Raises NoKeysHere."""
    local = next((one for one in config.domains if one.domain == domain), None)
    if local is None:
        raise NoKeysHere(f"{domain} is not a domain of this relay: there is no [domain.{domain}] in the configuration")
    if local.dkim is DkimMode.OFF:
        raise NoKeysHere(f'{domain} does not sign: its configuration says dkim = "off"')
    return local


def list_keys(config: Config) -> tuple[DkimKeyAnswer, ...]:
    """The keys of all domains that sign. Raises KeysUnusable, place.NotAllowed."""
    found: list[DkimKeyAnswer] = []
    for local in config.domains:
        if isinstance(local.dkim, DkimKey):
            found += [_answer_of(key) for key in _own_key(config, local.domain, local.dkim)]
        elif local.dkim is DkimMode.AUTO:
            keys = _read(config, local.domain)
            found += [_answer(local.domain, entry) for entry in keys.entries]
    return tuple(found)


def held_keys(config: Config, local: LocalDomain, now: float) -> tuple[HeldKey, ...]:
    """The keys of a domain with their private parts; those of `dkim = "auto"` are made where there are none.

    Raises KeysUnusable, place.NotAllowed.
    """
    if isinstance(local.dkim, DkimKey):
        return tuple([HeldKey(key, KeyPhase.ACTIVE) for key in _own_key(config, local.domain, local.dkim)])
    make(config.data_dir, config.user)
    store, domain = KeyStore(config.data_dir), local.domain.ascii
    with as_owner(config.data_dir):
        keys = store.make(domain, _moment(now))
        return tuple([_held(store, domain, entry) for entry in keys.entries])


async def ask(config: Config, keys: Iterable[HeldKey]) -> tuple[Publication, ...]:
    """What the DNS says of the records of these keys."""
    from staffetta.control.mx import resolver_settings  # noqa: PLC0415 - not for verbs that ask nobody
    from staffetta.dns.live import LiveResolver  # noqa: PLC0415

    resolver = LiveResolver(resolver_settings(config))
    try:
        return await look_up_all(resolver, [held.key for held in keys])
    finally:
        await resolver.close()


def go_on(config: Config, local: LocalDomain, found: Iterable[Publication], now: float) -> tuple[KeyChange, ...]:
    """Let keys begin or cease to sign by what was seen in the DNS. Raises KeysUnusable, place.NotAllowed."""
    if isinstance(local.dkim, DkimKey):
        return ()
    seen = frozenset(one.selector for one in found if one.state is Published.PUBLISHED)
    with as_owner(config.data_dir):
        return KeyStore(config.data_dir).advance(local.domain.ascii, seen, _moment(now), SETTINGS)


def rotation(config: Config, local: LocalDomain) -> Rotation:
    """What rotating would find, with nothing done. Raises NotOurKey, KeysUnusable, place.NotAllowed."""
    if isinstance(local.dkim, DkimKey):
        raise NotOurKey(
            f"{local.domain} signs with a key of your own, {local.dkim.key}: make a new one, publish its record, then "
            "name its selector and file in the configuration"
        )
    return _rotation(_read(config, local.domain))


def rotate(config: Config, local: LocalDomain, now: float) -> Rotation:
    """Make new keys, which wait for their records. A domain without any gets its first, which sign at once.

    Raises KeysUnusable, place.NotAllowed.
    """
    make(config.data_dir, config.user)
    store, domain = KeyStore(config.data_dir), local.domain.ascii
    with as_owner(config.data_dir):
        if store.read(domain) is None:
            keys = store.make(domain, _moment(now))
            made = keys.entries
        else:
            keys, made = store.rotate(domain, _moment(now))
        return msgspec.structs.replace(_rotation(keys), made=tuple([store.key(domain, entry) for entry in made]))


def record_of(key: SigningKey) -> tuple[str, str]:
    """Name and value of a key's record."""
    return record_name(key.selector, key.domain), write_record(key.private.public_key())


def record_answer(found: Publication) -> DkimRecordAnswer:
    """A record as operators see it."""
    state = None if found.state is Published.UNKNOWN else found.state
    return DkimRecordAnswer(found.name, "TXT", found.value, state)


def zone_lines(name: str, value: str) -> str:
    """A TXT record as it stands in a zone file, its strings short enough (RFC 1035 section 5.1)."""
    strings = [f'"{value[at : at + STRING_OCTETS]}"' for at in range(0, len(value), STRING_OCTETS)]
    text = strings[0] if len(strings) == 1 else "(\n\t" + "\n\t".join(strings) + " )"
    return f"{name}. IN TXT {text}"


def _rotation(keys: DomainKeys) -> Rotation:
    signing, waiting = (
        tuple([entry.selector for entry in keys.in_state(state)]) for state in (KeyPhase.ACTIVE, KeyPhase.NEXT)
    )
    return Rotation(signing, waiting)


def _read(config: Config, domain: Domain) -> DomainKeys:
    """The keys of a domain, as far as there are any."""
    with contextlib.suppress(NothingThere), as_owner(config.data_dir):
        return KeyStore(config.data_dir).read(domain.ascii) or DomainKeys(domain.ascii)
    return DomainKeys(domain.ascii)


def _own_key(config: Config, domain: Domain, own: DkimKey) -> tuple[SigningKey]:
    """The operator's key, read as the relay reads it."""
    with contextlib.suppress(NothingThere), as_owner(config.data_dir):
        return (_read_own(domain, own.selector, own.key),)
    return (_read_own(domain, own.selector, own.key),)


def _read_own(domain: Domain, selector: str, path: Path) -> SigningKey:
    return read_key(path, domain.ascii, selector)


def _held(store: KeyStore, domain: str, entry: KeyEntry) -> HeldKey:
    may_go = may_go_at(entry, SETTINGS) if entry.state is KeyPhase.RETIRED else None
    return HeldKey(store.key(domain, entry), entry.state, may_go)


def _answer(domain: Domain, entry: KeyEntry) -> DkimKeyAnswer:
    return DkimKeyAnswer(domain.ascii, entry.selector, entry.algorithm.value, entry.bits, entry.state, entry.created_at)


def _answer_of(key: SigningKey) -> DkimKeyAnswer:
    bits = 256 if key.algorithm is Algorithm.ED25519_SHA256 else getattr(key.private, "key_size", 0)
    return DkimKeyAnswer(key.domain, key.selector, key.algorithm.value, bits, KeyPhase.ACTIVE, None)


def _moment(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC)
