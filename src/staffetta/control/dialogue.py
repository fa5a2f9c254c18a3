"""The client's side of a session with one of our own doors: a line said, a reply heard. For dry runs and for mail that
commands on this machine bring. This module refuses to know what a reply means.
"""

from __future__ import annotations

import asyncio
from typing import Final

from staffetta.mail.reply import Reply
from staffetta.net.channel import Channel, ChannelClosed, ChannelTimeout
from staffetta.protocol.replies import ReplyError, ReplyReader

PATIENCE_SECONDS: Final = 60.0
"""How long one reply may take: a door of ours answers at once, or when the disk has what it was given."""


class DialogueOver(Exception):
    """The door has hung up, or does not answer."""


class Dialogue:
    """One session. Methods that wait raise DialogueOver."""

    __slots__ = ("_channel", "_loop", "_reader")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._reader = ReplyReader()
        self._loop = asyncio.get_running_loop()

    async def hear(self) -> Reply:
        """The next reply."""
        deadline = self._loop.time() + PATIENCE_SECONDS
        try:
            while (reply := self._reader.next()) is None:
                data = await self._channel.read(deadline)
                if not data:
                    raise DialogueOver("the door has hung up")
                self._reader.feed(data)
        except (ChannelClosed, ChannelTimeout, ReplyError) as error:
            raise DialogueOver(str(error) or "no answer in time") from error
        return reply

    async def say(self, line: str | bytes) -> Reply:
        """One line, its end added; the reply to it. Text is said in UTF-8."""
        octets = line if isinstance(line, bytes) else line.encode("utf-8", "surrogateescape")
        self._channel.write(octets + b"\r\n")
        return await self.hear()

    async def write(self, octets: bytes) -> None:
        """Octets as they are; returns when the door has room for more."""
        self._channel.write(octets)
        try:
            await self._channel.drain(self._loop.time() + PATIENCE_SECONDS)
        except (ChannelClosed, ChannelTimeout) as error:
            raise DialogueOver(str(error) or "the door takes no more") from error

    def close(self) -> None:
        """Hang up."""
        self._channel.close()
