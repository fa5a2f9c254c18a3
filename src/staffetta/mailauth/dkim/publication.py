"""What the DNS says of our keys, and what follows for them.

RFC 6376 section 3.6.2. A record counts as published when a receiver would find exactly one, and our key in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import msgspec

from staffetta.dns.resolver import Answer, Lookup, RecordKind, Resolver, Unavailable
from staffetta.mailauth.dkim.keys import KeyChange, KeyPhase, KeySettings
from staffetta.mailauth.dkim.keystore import KeyStore, KeysUnusable
from staffetta.mailauth.dkim.record import KeyRecord, read_record, record_name, write_record
from staffetta.mailauth.dkim.sign import SigningKey

DEFAULTS: Final = KeySettings()


class Published(StrEnum):
    """What the DNS says of a record."""

    PUBLISHED = "published"
    MISSING = "missing"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


class Publication(msgspec.Struct, frozen=True, gc=False):
    """One record of ours as it stands in the DNS. `found` is what stands there, `problem` why it is not right or not
    known; both may hold text from outside."""

    selector: str
    name: str
    value: str
    state: Published
    problem: str = ""
    found: tuple[bytes, ...] = ()


class Looked(msgspec.Struct, frozen=True, gc=False):
    """What looking after the keys came to: what changed, and why some could not be read or written."""

    changes: tuple[KeyChange, ...]
    problems: tuple[str, ...]


async def look_up(resolver: Resolver, key: SigningKey) -> Publication:
    """Ask the DNS for the record of a key."""
    public = key.private.public_key()
    name, value = record_name(key.selector, key.domain), write_record(public)
    return compare(key.selector, name, value, await resolver.query(name, RecordKind.TXT))


def compare(selector: str, name: str, value: str, lookup: Lookup) -> Publication:
    """What an answer says of the record `value`, which is ours. Total."""
    if isinstance(lookup, Unavailable):
        return Publication(selector, name, value, Published.UNKNOWN, lookup.reason)
    texts = lookup.texts if isinstance(lookup, Answer) else ()
    if not texts:
        return Publication(selector, name, value, Published.MISSING)
    problem = _difference(texts, value)
    state = Published.DIFFERENT if problem else Published.PUBLISHED
    return Publication(selector, name, value, state, problem, texts)


async def look_up_all(resolver: Resolver, keys: Iterable[SigningKey]) -> tuple[Publication, ...]:
    """The same for several keys, in their order."""
    import asyncio  # noqa: PLC0415 - takes 30 ms, and verbs that ask nobody import this module too

    return tuple(await asyncio.gather(*(look_up(resolver, key) for key in keys)))


async def look_after(store: KeyStore, resolver: Resolver, now: float, settings: KeySettings = DEFAULTS) -> Looked:
    """Let every key go on in its life: what the relay does from time to time (an hour is often enough). `now` is in
    seconds since the epoch. After a change, `Signers.refresh` makes the relay sign with it.

    Never raises for one domain what would keep the others waiting: see `Looked.problems`. Raises KeysUnusable when
    the domains cannot be listed.
    """
    import asyncio  # noqa: PLC0415

    moment = datetime.fromtimestamp(now, UTC)
    changes: list[KeyChange] = []
    problems: list[str] = []
    for domain in store.domains():
        try:
            seen = await _seen(store, resolver, domain)
            changes += await asyncio.to_thread(store.advance, domain, seen, moment, settings)
        except KeysUnusable as error:
            problems.append(str(error))
    return Looked(tuple(changes), tuple(problems))


async def _seen(store: KeyStore, resolver: Resolver, domain: str) -> frozenset[str]:
    keys = store.read(domain)
    waiting = keys.in_state(KeyPhase.NEXT) if keys is not None else ()
    found = await look_up_all(resolver, [store.key(domain, entry) for entry in waiting])
    return frozenset(one.selector for one in found if one.state is Published.PUBLISHED)


def _difference(texts: tuple[bytes, ...], value: str) -> str:
    """Why these records are not the one that holds the key of `value`; "" when they are."""
    if len(texts) > 1:
        return f"there are {len(texts)} records, and receivers may take any of them"
    record = read_record(texts[0])
    if not isinstance(record, KeyRecord):
        return record.problem
    ours = read_record(value.encode())
    if not isinstance(ours, KeyRecord) or record.key != ours.key:
        return "it holds another key"
    if record.testing:
        return "it says t=y, so receivers treat the mail as not signed"
    return ""


__all__ = ["Looked", "Publication", "Published", "compare", "look_after", "look_up", "look_up_all"]
