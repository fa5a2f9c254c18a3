"""A client of a house in memory: sends octets, hears replies, shakes hands; a wire for dialogues and for scenarios."""

from __future__ import annotations

import base64
import ssl
from typing import TYPE_CHECKING, Final

from staffetta.net.contract import TlsFacts
from staffetta.net.stream import TcpStream
from staffetta.net.tls import ClientContexts

if TYPE_CHECKING:
    from staffetta.testing.house import House

SERVER_NAME: Final = "mx.example.org"


class HouseWire:
    """One connection to a door. `heard` is every octet that the relay said and nobody has taken yet."""

    def __init__(self, house: House, door: str, *, client: str | None = None, tls: bool = False) -> None:
        self.house = house
        self.heard = b""
        self.ended = False
        self.error: Exception | None = None
        self.tls: TlsFacts | None = None
        self._before = len(house.spool.contents)
        house.network.open(house.doors[door], self._own, client=client)
        if tls:
            self._shake_hands()

    async def send(self, octets: bytes) -> None:
        """Send."""
        self.stream.write(octets)

    async def receive_until_quiet(self) -> bytes:
        """What the relay said until it waits for us."""
        await self.house.quiet()
        heard, self.heard = self.heard, b""
        return heard

    async def overhear(self) -> bytes:
        """The same: nothing takes time here."""
        return await self.receive_until_quiet()

    async def start_tls(self) -> None:
        """Shake hands."""
        self._shake_hands()
        await self.house.quiet()

    async def is_closed(self) -> bool:
        """True when the relay has closed."""
        await self.house.quiet()
        return self.ended

    async def accepted(self) -> list[bytes]:
        """Contents of the messages that the relay has accepted since this wire was made."""
        return self.house.spool.contents[self._before :]

    async def say(self, *lines: str | bytes) -> list[str]:
        """Send lines, each with CRLF, in one piece; the reply lines that came."""
        return await self.raw(b"".join([_octets(line) + b"\r\n" for line in lines]))

    async def raw(self, octets: bytes) -> list[str]:
        """Send octets as they are; the reply lines that came."""
        self.stream.write(octets)
        heard = await self.receive_until_quiet()
        return heard.decode("utf-8").split("\r\n")[:-1]

    async def begin(self, name: str = "client.example") -> list[str]:
        """Hear the greeting and say EHLO."""
        return await self.say(f"EHLO {name}")

    async def login(self, username: str, password: str) -> list[str]:
        """AUTH PLAIN."""
        response = base64.b64encode(f"\0{username}\0{password}".encode()).decode()
        return await self.say(f"AUTH PLAIN {response}")

    async def mail(self, sender: str, recipients: list[str], content: bytes) -> list[str]:
        """One transaction, pipelined; the codes of MAIL, every RCPT, DATA and the end of content."""
        commands = [f"MAIL FROM:{sender}", *[f"RCPT TO:{recipient}" for recipient in recipients], "DATA"]
        replies = await self.say(*commands)
        if replies[-1][:3] == "354":
            replies += await self.raw(content + b".\r\n")
        else:
            await self.say("RSET")
        return [reply[:3] for reply in replies]

    def leave(self) -> None:
        """Hang up."""
        self.stream.close()

    def cut(self) -> None:
        """Hang up without a word."""
        self.stream.abort()

    def _own(self, stream: TcpStream) -> HouseWire:
        self.stream = stream
        return self

    def _shake_hands(self) -> None:
        self.stream.start_tls(self.context(), server_side=False, server_name=SERVER_NAME)

    def context(self) -> ssl.SSLContext:
        """What a mail client trusts: the authority of this house."""
        return ClientContexts().verified(self.house.authority.ca)

    # What the stream says.

    def bytes_received(self, data: bytes) -> None:
        """Octets."""
        self.heard += data

    def peer_finished(self) -> None:
        """The relay closes."""
        self.ended = True
        self.stream.close()

    def tls_established(self, facts: TlsFacts) -> None:
        """The handshake is done."""
        self.tls = facts

    def write_blocked(self, blocked: bool) -> None:
        """Of no interest."""

    def stream_closed(self, error: Exception | None) -> None:
        """Gone."""
        self.ended = True
        self.error = error


def _octets(line: str | bytes) -> bytes:
    return line if isinstance(line, bytes) else line.encode("utf-8", "surrogateescape")
