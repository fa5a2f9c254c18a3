"""A DNS server on loopback, UDP and TCP, for tests and for `staffetta demo`: real packets, and every kind of trouble.

    zones = {"example.com": {"MX": ["10 mx.example.com"]}, "mx.example.com": {"A": ["192.0.2.1"]}}
    async with ZoneServer(zones) as zone:
        settings = ResolverSettings(servers=((zone.address, zone.port),))

A name with no records (`{}`), and a name above another, exists without data (NODATA); what is not there is NXDOMAIN.
TXT is the text itself; other records are as in a zone file, with whole names. `*.example.com` is a wildcard. CNAMEs are
followed. `zone.zones` may be changed at any time (also with `put` and `remove`); `zone.asked` counts questions by name
and type. `authenticated` sets the AD bit.

Trouble comes by the first label of the name, or for any name through `zone.faults["example.com"] = "servfail"`. Data
for a faulty name are its own, or else those of the name without the faulty label (`slow.example.com` has the MX of
`example.com`):

    servfail refused notimp formerr    that response code, always
    noedns                             FORMERR to whoever speaks EDNS, else an answer
    timeout                            no response at all          flaky     none to the first question, then an answer
    truncate                           TC over UDP, the answer over TCP
    truncate-always                    TC over UDP, and over TCP the connection is closed
    truncate-forever                   TC over UDP and over TCP
    junk                               random octets after the right id and question
    cut                                the answer, cut in the middle
    badid wrongquestion                responses that match nothing, and no other
    forged-first                       forged answers (203.0.113.66, mx.forged.example), then the right one
    lowercase                          the question comes back in lower case
    compression                        a name that points to itself
    lame                               a referral, no answer       loop      a circle of CNAMEs
    chain-N                            N CNAMEs to the name without this label
    partial-N                          the same, one response for each CNAME, with a TTL of 20 seconds
    slow                               the answer after `slow_seconds`
    manymx manymx-N                    N (100) MX hosts, each with an address
    biganswer biganswer-N              N (400) A, AAAA or MX records, TXT of N * 100 octets
    badnames                           MX hosts with NUL, space, dot, quote, 8-bit octets; one is good
    shortrecords                       records that are too short for their type

Run as `python -m staffetta.testing.zone` it reads such a table as JSON from standard input, prints `ADDRESS:PORT`, and
serves until standard input ends. Responses are written by dnspython, so that our decoder meets somebody else's work.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self, cast

from staffetta.testing.zone_answers import Response, Zone, respond

__all__ = ["ZoneServer"]

Client = tuple[str, int]

BIND_TRIES = 20
"""How often another port is tried when the one for UDP is taken for TCP."""


class ZoneServer(Zone):
    """Serves `zones` while used as an async context manager."""

    def __init__(
        self, zones: Mapping[str, Mapping[str, Sequence[str]]], *, address: str = "127.0.0.1", port: int = 0
    ) -> None:
        super().__init__(zones)
        self.address = address
        self.port = port
        self.slow_seconds = 0.2
        self.asked_over_tcp = 0
        """How many of the questions in `asked` came over TCP."""
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._streams: set[asyncio.StreamWriter] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._questions = asyncio.Event()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for left in reversed(range(BIND_TRIES)):
            udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=(self.address, self.port))
            port = cast(int, udp.get_extra_info("sockname")[1])
            try:
                self._tcp = await asyncio.start_server(self._serve_stream, self.address, port)
            except OSError:
                udp.close()
                if self.port or not left:
                    raise
                continue
            self._udp, self.port = udp, port
            break
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for timer in self._timers:
            timer.cancel()
        if self._udp is not None:
            self._udp.close()
        for writer in tuple(self._streams):
            writer.transport.abort()
        if self._tcp is not None:
            self._tcp.close()
            await self._tcp.wait_closed()
        await asyncio.sleep(0)

    async def until_asked(self, name: str, kind: str, count: int = 1) -> None:
        """Wait until this was asked so often, `until_asked("example.com", "MX")`. Put a time limit around it."""
        while self.asked[name, kind] < count:
            self._questions.clear()
            await self._questions.wait()

    def datagram(self, data: bytes, client: Client) -> None:
        """One question over UDP."""
        response = respond(self, data, over_tcp=False)
        self._questions.set()
        if response is None:
            return
        for packet in response.packets:
            self._later(response, packet, client)

    def _later(self, response: Response, packet: bytes, client: Client) -> None:
        if not response.slow:
            self._send(packet, client)
            return
        timer = asyncio.get_running_loop().call_later(self.slow_seconds, self._send, packet, client)
        self._timers.add(timer)

    def _send(self, packet: bytes, client: Client) -> None:
        if self._udp is not None and not self._udp.is_closing():
            self._udp.sendto(packet, client)

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams.add(writer)
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(2), "big")
                self.asked_over_tcp += 1
                response = respond(self, await reader.readexactly(length), over_tcp=True)
                self._questions.set()
                if response is None:
                    return
                if response.slow:
                    await asyncio.sleep(self.slow_seconds)
                for packet in response.packets:
                    writer.write(len(packet).to_bytes(2, "big") + packet)
                await writer.drain()
        except (OSError, EOFError):
            return
        finally:
            self._streams.discard(writer)
            writer.transport.abort()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, zone: ZoneServer) -> None:
        self._zone = zone

    def datagram_received(self, data: bytes, addr: Client) -> None:
        self._zone.datagram(data, addr)


async def _serve(zones: Mapping[str, Mapping[str, Sequence[str]]], port: int, address: str) -> None:
    async with ZoneServer(zones, port=port, address=address) as zone:
        sys.stdout.write(f"{zone.address}:{zone.port}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)


def main() -> None:
    """`[PORT [ADDRESS]]`. One line of JSON in, the address out, then serve until the input ends."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
    asyncio.run(_serve(json.loads(sys.stdin.readline()), port, address))


if __name__ == "__main__":
    main()
