"""Writes that have to happen: a peer has had its say, and a claim that is not given back would wait for a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from staffetta.delivery.lifetime import waiting_again
from staffetta.spool.contract import Claim, ClaimLost, Spool, SpoolUnavailable

RECORD_RETRY_SECONDS: Final = 1.0
"""Pause before something is written again that the store could not take."""


async def insist(write: Callable[[], Awaitable[None]]) -> None:
    """Write, however long the store cannot."""
    while True:
        try:
            await write()
        except SpoolUnavailable:
            await asyncio.sleep(RECORD_RETRY_SECONDS)
        else:
            return


async def give_back(spool: Spool, claim: Claim) -> None:
    """Let a claim wait again as it was, under the destinations that it has now."""
    steps = [waiting_again(recipient) for recipient in claim.recipients]
    try:
        await insist(lambda: spool.record(claim.message.id, steps, ()))
    except ClaimLost as error:
        complain(f"{claim.message.id} is not ours any more", error)


def complain(what: str, error: Exception) -> None:
    """Our own bug: the loop's exception handler hears of it, and the relay goes on."""
    asyncio.get_running_loop().call_exception_handler({"message": what, "exception": error})
