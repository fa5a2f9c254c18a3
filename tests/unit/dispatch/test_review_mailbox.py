"""Large messages on their way into mailboxes, when the store or the stop comes in between."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from staffetta.accounts.store import AccountsUnavailable
from staffetta.delivery.transports.mailbox import MailboxCourier, MailboxTools
from staffetta.mail.address import Mailbox
from staffetta.mail.outcome import Result
from staffetta.spool.contract import Claim, SpoolUnavailable
from staffetta.spool.memory import MemorySpool
from staffetta.testing.spooled import START, Letter, new_message


class Store:
    """A store of mailboxes that writes nothing; `gate` holds a write up, `calls` are in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.writing = threading.Event()

    def deliver(self, letters: Sequence[object]) -> list[Any]:
        return ["name"] * len(letters)

    def begin(self, local_part: str, now: float, folder: str = "") -> Any:
        self.calls.append(f"begin {local_part}")
        return self

    def write(self, piece: bytes) -> None:
        self.writing.set()
        self.gate.wait(5)
        self.calls.append("write")

    def finish(self) -> str:
        self.calls.append("finish")
        return "name"

    def abandon(self) -> None:
        self.calls.append("abandon")


class ReadOnce(MemorySpool):
    """Its disk fails when content is read for the third time (once for the header, once for each recipient)."""

    reads = 0

    async def content(self, message_id: str) -> AsyncIterator[bytes]:
        self.reads += 1
        if self.reads == 3:
            raise SpoolUnavailable("the disk fails")
        async for chunk in super().content(message_id):
            yield chunk


async def claimed(spool: MemorySpool) -> Claim:
    letter = Letter("one", ("ben@example.net", "dora@example.net"), body=b"Subject: big\r\n\r\n" + b"x" * 70_000)
    new = new_message(letter)
    await spool.commit(new)
    return Claim(new.message, new.recipients)


def test_a_store_that_fails_for_one_recipient_repeats_no_other() -> None:
    async def main() -> None:
        spool = ReadOnce(lambda: START)
        store = Store()
        tools = MailboxTools(spool, lambda _: store, lambda mailbox: mailbox, lambda: START)
        report = await MailboxCourier(tools, "local").deliver(await claimed(spool))
        assert [outcome.result for outcome in report.outcomes] == [Result.DELIVERED, Result.DEFERRED]
        assert store.calls == ["begin ben", "write", "write", "finish", "begin dora", "write", "abandon"]

    asyncio.run(main())


@pytest.mark.parametrize("error", [AccountsUnavailable("locked"), KeyError("a bug"), OSError(5, "no")])
@pytest.mark.parametrize("at_hand", [True, False])
def test_a_fault_at_one_mailbox_repeats_no_other(error: Exception, at_hand: bool) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        spool = MemorySpool(lambda: START)
        store = Store()

        def owner(mailbox: Mailbox) -> Mailbox:
            if mailbox.local_part == "dora":
                raise error
            return mailbox

        one = await claimed(spool)
        if at_hand:
            one = msgspec.structs.replace(one, content=b"Subject: x\r\n\r\nsmall\r\n")
        report = await MailboxCourier(MailboxTools(spool, lambda _: store, owner, lambda: START), "local").deliver(one)
        assert [outcome.result for outcome in report.outcomes] == [Result.DELIVERED, Result.DEFERRED]

    asyncio.run(main())


def test_nothing_is_closed_under_a_thread_that_writes() -> None:
    async def main() -> None:
        spool = MemorySpool(lambda: START)
        store = Store()
        store.gate.clear()
        tools = MailboxTools(spool, lambda _: store, lambda mailbox: mailbox, lambda: START)
        task = asyncio.create_task(MailboxCourier(tools, "local").deliver(await claimed(spool)))
        await asyncio.to_thread(store.writing.wait, 5)
        task.cancel()
        await asyncio.sleep(0.05)
        assert store.calls == ["begin ben"]
        store.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert store.calls == ["begin ben", "write", "abandon"]

    asyncio.run(main())
