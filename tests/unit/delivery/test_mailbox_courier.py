"""The courier into mailboxes: trace fields, loops, what the disk's answers mean, and sharing of work."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from staffetta.delivery.transports.mailbox import (
    Gatherer,
    MailboxCourier,
    MailboxTools,
    outcome_of,
    was_delivered_to,
)
from staffetta.mail.address import NULL_PATH, Mailbox, ReversePath, parse_mailbox
from staffetta.mail.envelope import Sender
from staffetta.mail.outcome import Outcome, Result, Scope
from staffetta.mailbox.contract import Letter, MailboxNameError
from staffetta.mailbox.maildir import Maildir, MaildirSettings
from staffetta.spool.contract import Claim, Message, WaitingRecipient

CONTENT = b"Received: by x\r\nSubject: hello\r\n\r\nbody\r\n"
BOB = parse_mailbox("Bob@sender.example")


class Stream:
    """A spool that can only be read."""

    def __init__(self, *chunks: bytes, broken: bool = False) -> None:
        self.chunks = chunks
        self.broken = broken

    async def content(self, message_id: str) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk
        if self.broken:
            raise OSError(errno.EIO, "cannot read")


def owner(mailbox: Mailbox) -> Mailbox:
    folded = mailbox.folded()
    return Mailbox(folded.local_part.partition("+")[0], folded.domain)


def claim(content: bytes | None, *names: str, sender: ReversePath = BOB) -> Claim:
    message = Message("01ARZ3NDEKTSV4RRFFQ69G5FAV", Sender(sender), len(content or b""), 0.0)
    recipients = [
        WaitingRecipient(message.id, index, parse_mailbox(name), "local:example.com")
        for index, name in enumerate(names)
    ]
    return Claim(message, tuple(recipients), content)


def carry(path: Path, parcel: Claim, stream: Stream | None = None) -> list[Outcome]:
    store = Maildir(MaildirSettings(path, "mx.example.com"), 1)
    tools = MailboxTools(stream or Stream(), lambda _: store, owner, lambda: 1_800_000_000.0)  # type: ignore[arg-type]
    report = asyncio.run(MailboxCourier(tools, "local").deliver(parcel))
    return list(report.outcomes)


def files(path: Path) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for file in sorted(path.glob("*/new/*")):
        found.setdefault(file.parent.parent.name, []).append(file.read_bytes())
    return found


@pytest.mark.parametrize("streamed", [False, True])
def test_trace_fields_stand_on_top_and_the_rest_is_untouched(tmp_path: Path, streamed: bool) -> None:
    stream = Stream(CONTENT[:10], CONTENT[10:])
    outcomes = carry(tmp_path, claim(None if streamed else CONTENT, "Anna+list@example.com"), stream)
    assert [one.result for one in outcomes] == [Result.DELIVERED]
    assert files(tmp_path) == {
        "anna": [b"Return-Path: <Bob@sender.example>\r\nDelivered-To: Anna+list@example.com\r\n" + CONTENT]
    }


def test_the_null_path_and_several_recipients(tmp_path: Path) -> None:
    outcomes = carry(tmp_path, claim(CONTENT, "anna@example.com", "carl@example.com", sender=NULL_PATH))
    assert [one.result for one in outcomes] == [Result.DELIVERED] * 2
    found = files(tmp_path)
    assert list(found) == ["anna", "carl"]
    assert found["carl"][0].startswith(b"Return-Path: <>\r\nDelivered-To: carl@example.com\r\nReceived: by x\r\n")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("header", "looped"),
    [
        (b"Delivered-To: anna@example.com\r\n", True),
        (b"delivered-TO:   ANNA@example.com  \r\n", True),
        (b"Delivered-To: <anna@example.com>\r\n", True),
        (b"Delivered-To:\r\n anna@example.com\r\n", True),
        (b"Delivered-To: other@example.com\r\nDelivered-To: anna@example.com\r\n", True),
        (b"Delivered-To: other@example.com\r\n", False),
        (b"Delivered-To: anna@example.com.evil.example\r\n", False),
        (b"X-Delivered-To: anna@example.com\r\n", False),
        (b"Subject: Delivered-To: anna@example.com\r\n", False),
    ],
)
def test_a_message_that_was_here_before_is_in_a_loop(
    tmp_path: Path, header: bytes, looped: bool, streamed: bool
) -> None:
    content = b"Received: by x\r\n" + header + b"\r\nDelivered-To: anna@example.com\r\n"
    parcel = claim(None if streamed else content, "anna@example.com", "carl@example.com")
    outcomes = carry(tmp_path, parcel, Stream(content[:5], content[5:]))
    first, second = outcomes
    assert second.result is Result.DELIVERED
    if looped:
        assert (first.result, str(first.reply.enhanced)) == (Result.FAILED, "5.4.6")
        assert list(files(tmp_path)) == ["carl"]
    else:
        assert first.result is Result.DELIVERED


def test_a_sub_address_is_another_name() -> None:
    header = b"Delivered-To: anna+a@example.com\r\n"
    assert was_delivered_to(header, parse_mailbox("Anna+A@example.com"))
    assert not was_delivered_to(header, parse_mailbox("anna@example.com"))


@pytest.mark.parametrize(
    ("answer", "result", "status", "scope"),
    [
        (OSError(errno.ENOSPC, "No space"), Result.DEFERRED, "452 4.3.1", Scope.DESTINATION),
        (OSError(errno.EDQUOT, "Quota"), Result.DEFERRED, "452 4.2.2", Scope.RECIPIENT),
        (OSError(errno.EACCES, "Permission denied"), Result.DEFERRED, "451 4.3.0", Scope.RECIPIENT),
        (OSError(errno.EROFS, "Read-only"), Result.DEFERRED, "451 4.3.0", Scope.DESTINATION),
        (OSError(errno.EIO, "Input/output error"), Result.DEFERRED, "451 4.3.0", Scope.DESTINATION),
        (OSError(errno.ELOOP, "Too many links"), Result.DEFERRED, "451 4.3.0", Scope.RECIPIENT),
        (OSError(errno.ENOTDIR, "Not a directory"), Result.DEFERRED, "451 4.3.0", Scope.RECIPIENT),
        (OSError("without a number"), Result.DEFERRED, "451 4.3.0", Scope.RECIPIENT),
        (MailboxNameError("too long"), Result.FAILED, "550 5.1.3", Scope.RECIPIENT),
        ("1800000000.M0P1Q1.mx,S=1", Result.DELIVERED, "250 2.0.0", Scope.RECIPIENT),
    ],
)
def test_what_the_disk_says(
    answer: str | OSError | MailboxNameError, result: Result, status: str, scope: Scope
) -> None:
    outcome = outcome_of(answer)
    assert (outcome.result, outcome.scope, outcome.stage, outcome.remote) == (result, scope, "local", False)
    assert f"{outcome.reply.code} {outcome.reply.enhanced}" == status


def test_a_store_that_cannot_be_read_leaves_no_half_message(tmp_path: Path) -> None:
    outcomes = carry(tmp_path, claim(None, "anna@example.com"), Stream(CONTENT, broken=True))
    assert [one.result for one in outcomes] == [Result.DEFERRED]
    assert not [one for one in tmp_path.rglob("*") if one.is_file()]


class SlowStore:
    """Holds the first batch until told, and notes the size of each."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.gate = threading.Event()

    def deliver(self, letters: Sequence[Letter]) -> list[str | OSError | MailboxNameError]:
        self.batches.append(len(letters))
        assert self.gate.wait(10)
        if letters[0].local_part == "bug":
            raise RuntimeError("a bug")
        return [f"{letter.local_part}" for letter in letters]

    def begin(self, local_part: str, now: float, folder: str = "") -> Maildir:
        raise NotImplementedError


def test_what_comes_while_threads_are_busy_goes_together_and_in_order() -> None:
    store = SlowStore()

    async def run() -> list[str | OSError | MailboxNameError]:
        gatherer = Gatherer()
        tasks = []
        for number in range(200):
            tasks.append(asyncio.create_task(gatherer.put(store, Letter(f"u{number}", (), 0.0))))  # type: ignore[arg-type]
            if number < 8:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
        store.gate.set()
        return list(await asyncio.gather(*tasks))

    assert asyncio.run(run()) == [f"u{number}" for number in range(200)]
    assert sum(store.batches) == 200
    assert len(store.batches) <= 12
    assert max(store.batches) <= 64


def test_a_bug_reaches_who_waits_and_the_next_letter_is_carried() -> None:
    store = SlowStore()
    store.gate.set()

    async def run() -> None:
        gatherer = Gatherer()
        with pytest.raises(RuntimeError, match="a bug"):
            await gatherer.put(store, Letter("bug", (), 0.0))  # type: ignore[arg-type]
        assert await gatherer.put(store, Letter("anna", (), 0.0)) == "anna"  # type: ignore[arg-type]
        assert gatherer._busy <= 1

    asyncio.run(run())
