"""The signing keys of a running relay: made before they are needed, looked after while it runs.

A key that was made by `dkim rotate` signs as soon as its record is seen in the DNS; one that signs without a record
that receivers can find is an alarm, since its signatures prove nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from staffetta.mailauth.dkim.keys import KeyPhase
from staffetta.mailauth.dkim.keystore import KeyStore, KeysUnusable
from staffetta.mailauth.dkim.publication import Published, look_after, look_up_all

if TYPE_CHECKING:
    from staffetta.app.relay import Relay

FIRST_SECONDS: Final = 5.0
"""When keys are looked after for the first time: a start has other things to do."""

PAUSE_SECONDS: Final = 900.0
"""How often they are looked after. Commands may change them at any time, and the DNS takes its time anyway."""


async def care_for_keys(relay: Relay) -> None:
    """Until cancelled."""
    pause = FIRST_SECONDS
    while True:
        try:
            await _look(relay, make=pause == FIRST_SECONDS)
        except Exception as error:  # one bad turn must not be the last
            relay.parts.house.report(error)
        await asyncio.sleep(pause)
        pause = PAUSE_SECONDS


async def _look(relay: Relay, *, make: bool) -> None:
    parts = relay.parts
    room = parts.house.signing
    if room is None:
        return
    if make:
        try:
            await asyncio.to_thread(room.signers.make_keys)
        except KeysUnusable as error:
            parts.alarms.sound("dkim", f"mail of our domains waits, because its keys cannot be made: {error}")
        return
    store = KeyStore(relay.config.data_dir)
    looked = await look_after(store, parts.world.resolver, parts.world.clock())
    room.signers.refresh()
    if relay.staff is not None:
        relay.staff.read_keys()
    if looked.problems:
        parts.alarms.sound("dkim", "; ".join(looked.problems))
    else:
        parts.alarms.clear("dkim")
    for domain in room.signers.domains:
        await _judge_records(relay, store, domain)


async def _judge_records(relay: Relay, store: KeyStore, domain: str) -> None:
    """An alarm for keys that sign and cannot be found; a DNS that does not answer proves nothing."""
    try:
        keys = await asyncio.to_thread(store.read, domain)
        active = [store.key(domain, one) for one in keys.in_state(KeyPhase.ACTIVE)] if keys is not None else []
    except KeysUnusable:
        return  # `look_after` has named it
    found = await look_up_all(relay.parts.world.resolver, active)
    missing = [one.selector for one in found if one.state in {Published.MISSING, Published.DIFFERENT}]
    name = f"dkim {domain}"
    if missing:
        text = f"{domain} signs with {', '.join(missing)}, whose record receivers cannot find or read"
        relay.parts.alarms.sound(name, f"{text}: staffetta dkim publish {domain} shows it")
    elif all(one.state is Published.PUBLISHED for one in found):
        relay.parts.alarms.clear(name)
