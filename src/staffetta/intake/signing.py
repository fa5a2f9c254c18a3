"""Signing what our own users send: the body is hashed while it streams in, the calculation is done in a thread.

Messages that come while the thread is busy go into its next batch, so that under load few hand-overs serve many
signatures. What cannot be signed now is put off (451), never sent without: its receivers may refuse it for that.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Final, Protocol

import msgspec

from staffetta.mail.domain import Domain
from staffetta.mail.reply import reply
from staffetta.mailauth.dkim.canonical import BodyHash
from staffetta.mailauth.dkim.keystore import KeysUnusable
from staffetta.mailauth.dkim.sign import Signer, new_body_hash
from staffetta.mailauth.dkim.signers import Signers
from staffetta.message.header import Header

CANNOT_SIGN: Final = reply(451, "4.7.5", "the message cannot be signed now, try again later")

BATCH: Final = 32
"""Messages that the thread signs before it answers for all of them."""


class CannotSign(Exception):
    """The keys of a domain of ours cannot be used; the message says why, for the operator."""


class Calculation(Protocol):
    """What lacks nothing but the calculation: a message's signatures, or a seal."""

    def sign(self) -> bytes:
        """The fields, each with its CRLF. Runs in the thread."""


class SigningRoom:
    """Signs in a thread, in batches. Belongs to one event loop."""

    __slots__ = ("_busy", "_executor", "_loop", "_waiting", "signers")

    def __init__(self, signers: Signers, executor: Executor, loop: asyncio.AbstractEventLoop) -> None:
        self.signers = signers
        self._executor = executor
        self._loop = loop
        self._busy = False
        self._waiting: list[tuple[Calculation, asyncio.Future[bytes]]] = []

    async def sign(self, unsigned: Calculation) -> bytes:
        """The signature fields. Raises CannotSign."""
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting.append((unsigned, answer))
        if not self._busy:
            self._begin()
        return await answer

    async def load(self, domain: str) -> Signer | None:
        """The signer of a domain that is asked for the first time, its keys read or made. Raises CannotSign."""
        if not self.signers.signs(domain):
            return None
        try:
            return await self._loop.run_in_executor(self._executor, self.signers.signer, domain)
        except KeysUnusable as error:
            raise CannotSign(str(error)) from error

    def _begin(self) -> None:
        self._busy = True
        batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        work = self._loop.run_in_executor(self._executor, _sign_all, [unsigned for unsigned, _ in batch])
        work.add_done_callback(lambda done: self._finished(batch, done))

    def _finished(
        self,
        batch: list[tuple[Calculation, asyncio.Future[bytes]]],
        done: asyncio.Future[list[bytes | Exception]],
    ) -> None:
        self._busy = False
        fault = None if done.cancelled() else done.exception()
        found = [] if done.cancelled() or fault is not None else done.result()
        for position, (_, answer) in enumerate(batch):
            if answer.done():
                continue
            one = found[position] if found else CannotSign(f"the signing thread failed: {fault}")
            if isinstance(one, bytes):
                answer.set_result(one)
            else:
                answer.set_exception(one)
        if self._waiting:
            self._begin()


class BodyToSign(msgspec.Struct):
    """The body of a message that may have to be signed, watched while it streams past."""

    hasher: BodyHash
    skip: int = 2

    def after_header(self, data: bytes) -> None:
        """What follows the header, with the empty line that ends it."""
        skip = self.skip
        if skip:
            self.skip = skip - min(skip, len(data))
            data = data[skip:]
        self.hasher.feed(data)


def body_to_sign() -> BodyToSign:
    """What watches the next body."""
    return BodyToSign(new_body_hash())


async def signatures(room: SigningRoom, domain: Domain, block: bytes, body: BodyToSign, now: float) -> bytes:
    """The fields to put in front of a header block; b"" when mail of this domain is not signed. Raises CannotSign."""
    signer = room.signers.ready(domain.ascii) or await room.load(domain.ascii)
    if signer is None:
        return b""
    return await room.sign(signer.prepare(Header(block).fields, body.hasher.finish(), now))


def _sign_all(batch: list[Calculation]) -> list[bytes | Exception]:
    """In the thread: each message's fields, or why it has none."""
    found: list[bytes | Exception] = []
    for unsigned in batch:
        try:
            found.append(unsigned.sign())
        except Exception as error:
            found.append(CannotSign(f"{type(error).__name__}: {error}"))
    return found
