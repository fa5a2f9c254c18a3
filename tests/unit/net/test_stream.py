"""Streams with and without TLS, over a wire in memory, where every split and order can be chosen."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from staffetta.net.contract import Endpoint
from staffetta.net.engine import TlsEngine, TlsFailed
from staffetta.net.memory import MemoryNetwork, MemoryTransport, single_octets, whole
from staffetta.net.stream import HIGH_WATER_OCTETS, TcpStream
from staffetta.net.turn import WriteBatch
from staffetta.testing.recorder import Recorder

Run = Callable[[Coroutine[Any, Any, None]], None]
DOOR = Endpoint("198.51.100.1", 25)
NAME = "mx.example.org"


def joined(server: Recorder, client: Recorder, **options: Any) -> MemoryTransport:
    network = MemoryNetwork(**options)
    network.listen(DOOR, server.accept)
    return network.open(DOOR, client.accept)


class ByHand:
    """A TLS client over a stream that itself knows no TLS: octets can be held back, split and added to."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.engine = TlsEngine(context, server_side=False, server_name=NAME)
        self.recorder = Recorder(act=self.receive)
        self.plain = b""

    def hello(self) -> bytes:
        assert not self.engine.handshake()
        return self.engine.flush()

    def receive(self, recorder: Recorder, data: bytes) -> None:
        self.engine.feed(data)
        with contextlib.suppress(TlsFailed):
            if not self.engine.established and not self.engine.handshake():
                return
            while piece := self.engine.read():
                self.plain += piece

    async def shake(self, server: Recorder) -> None:
        await self.recorder.until(lambda _: self.engine.established)
        self.recorder.stream.write(self.engine.flush())
        await server.until(lambda recorder: recorder.tls)


def tls_at_once(context: ssl.SSLContext) -> Callable[[Recorder], None]:
    return lambda recorder: recorder.stream.start_tls(context, server_side=True)


def test_plain_octets_arrive_in_order_and_fin_comes_last(run: Run) -> None:
    async def main() -> None:
        server = Recorder(act=lambda recorder, data: recorder.stream.write(data.upper()))
        client = Recorder()
        joined(server, client)
        client.stream.write(b"one ")
        client.stream.write(b"two")
        await client.until(lambda recorder: recorder.data == b"ONE TWO")
        client.stream.close()
        await server.until(lambda recorder: "finished" in recorder.happened)
        server.stream.close()
        await server.closed()
        await client.closed()
        assert server.happened == ["connected", "data", "finished", "closed"]
        assert server.error is None
        assert client.happened == ["connected", "data", "closed"]
        assert server.stream.peer == Endpoint("192.0.2.1", 49152)
        assert server.stream.local == DOOR == client.stream.peer

    run(main())


@pytest.mark.parametrize("shape", [whole, single_octets])
def test_starttls_in_place(run: Run, server: ssl.SSLContext, client: ssl.SSLContext, shape: Any) -> None:
    def act(recorder: Recorder, data: bytes) -> None:
        if recorder.data == b"STARTTLS\r\n":
            recorder.data = b""
            recorder.stream.write(b"220 go\r\n")
            recorder.stream.start_tls(server, server_side=True)
        elif recorder.tls:
            recorder.stream.write(data)

    def answer(recorder: Recorder, data: bytes) -> None:
        if recorder.data == b"220 go\r\n":
            recorder.stream.start_tls(client, server_side=False, server_name=NAME)
            recorder.stream.write(b"EHLO early\r\n")  # kept through the handshake

    async def main() -> None:
        ours, theirs = Recorder(act), Recorder(answer)
        joined(ours, theirs, shape=shape)
        theirs.stream.write(b"STARTTLS\r\n")
        await theirs.until(lambda recorder: recorder.data.endswith(b"EHLO early\r\n"))
        assert theirs.tls is not None
        assert theirs.tls.verified
        assert theirs.tls.version == "TLSv1.3"
        assert ours.tls is not None
        assert (ours.tls.server_name, ours.tls.verified) == (NAME, False)
        assert ours.stream.tls == ours.tls
        assert theirs.stream.peer_certificate
        theirs.stream.close()
        await ours.until(lambda recorder: "finished" in recorder.happened)
        ours.stream.close()
        await ours.closed()
        assert ours.error is None

    run(main())


def test_clear_text_after_starttls_is_never_delivered(run: Run, server: ssl.SSLContext) -> None:
    """CVE-2011-0411: what is pipelined behind STARTTLS must not be taken for something said under TLS."""

    def act(recorder: Recorder, data: bytes) -> None:
        recorder.stream.write(b"220 go\r\n")
        recorder.stream.start_tls(server, server_side=True)

    async def main() -> None:
        ours, theirs = Recorder(act), Recorder()
        joined(ours, theirs)
        theirs.stream.write(b"STARTTLS\r\n")
        theirs.stream.write(b"MAIL FROM:<mallory@example.com>\r\n")
        await ours.closed()
        assert ours.data == b"STARTTLS\r\n"
        assert isinstance(ours.error, TlsFailed)
        await theirs.until(lambda recorder: "finished" in recorder.happened)
        assert b"mallory" not in theirs.data

    run(main())


def test_clear_text_handed_to_the_handshake_fails_it(run: Run, server: ssl.SSLContext) -> None:
    def act(recorder: Recorder, data: bytes) -> None:
        _command, _, rest = data.partition(b"\r\n")
        recorder.stream.start_tls(server, server_side=True, received=rest)

    async def main() -> None:
        ours, theirs = Recorder(act), Recorder()
        joined(ours, theirs)
        theirs.stream.write(b"STARTTLS\r\nEHLO injected\r\n")
        await ours.closed()
        assert isinstance(ours.error, TlsFailed)
        assert ours.happened == ["connected", "data", "closed"]

    run(main())


def test_prefix_and_client_hello_in_one_segment(run: Run, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """A PROXY header, and the ClientHello in the same packet (cpython #142352 loses it)."""
    prefix = b"PROXY TCP4 192.0.2.9 198.51.100.1 1234 465\r\n"

    def act(recorder: Recorder, data: bytes) -> None:
        if recorder.stream.tls is None:
            assert data.startswith(prefix)
            recorder.stream.start_tls(server, server_side=True, received=data[len(prefix) :])

    async def main() -> None:
        ours, hand = Recorder(act), ByHand(client)
        joined(ours, hand.recorder)
        hand.recorder.stream.write(prefix + hand.hello())
        await hand.shake(ours)
        hand.recorder.stream.write(hand.engine.write(b"EHLO x\r\n"))
        await ours.until(lambda recorder: recorder.data.endswith(b"EHLO x\r\n"))

    run(main())


def test_client_hello_split_at_each_octet(run: Run, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    async def main() -> None:
        length = len(ByHand(client).hello())
        for at in range(1, length, 7):
            ours, hand = Recorder(greet=tls_at_once(server)), ByHand(client)
            joined(ours, hand.recorder)
            hello = hand.hello()
            hand.recorder.stream.write(hello[:at])
            hand.recorder.stream.write(hello[at:])
            await hand.shake(ours)
            hand.recorder.stream.abort()
            await ours.until(lambda recorder: "finished" in recorder.happened)
            ours.stream.abort()
            await ours.closed()

    run(main())


@pytest.mark.parametrize("octets", [0, 1, 100])
def test_fin_during_the_handshake(run: Run, server: ssl.SSLContext, client: ssl.SSLContext, octets: int) -> None:
    async def main() -> None:
        ours, hand = Recorder(greet=tls_at_once(server)), ByHand(client)
        joined(ours, hand.recorder)
        hand.recorder.stream.write(hand.hello()[:octets])
        hand.recorder.stream.close()
        await ours.closed()
        assert isinstance(ours.error, TlsFailed)
        assert ours.happened == ["connected", "closed"]

    run(main())


def test_a_stalled_handshake_is_the_owners_to_abort(run: Run, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    async def main() -> None:
        ours, hand = Recorder(greet=tls_at_once(server)), ByHand(client)
        joined(ours, hand.recorder)
        hand.recorder.stream.write(hand.hello()[:50])
        await asyncio.sleep(0)
        ours.stream.write(b"never sent")
        ours.stream.abort()
        await ours.closed()
        assert ours.error is None
        assert hand.recorder.data == b""

    run(main())


@pytest.mark.parametrize(
    "said",
    [b"EHLO plain\r\n", b"GET / HTTP/1.1\r\nHost: secret-token\r\n\r\n", b"\x00" * 600, b"\x16\x03\x01\x00\x05XXXXX"],
)
def test_clear_text_at_a_tls_door(run: Run, server: ssl.SSLContext, said: bytes) -> None:
    async def main() -> None:
        ours, theirs = Recorder(greet=tls_at_once(server)), Recorder()
        joined(ours, theirs)
        theirs.stream.write(said)
        await ours.closed()
        assert isinstance(ours.error, TlsFailed)
        assert ours.data == b""
        await theirs.until(lambda recorder: "finished" in recorder.happened)
        assert len(theirs.data) <= 7, "an alert at most"
        assert not any(said[at : at + 4] in theirs.data for at in range(len(said) - 4)), "nothing is reflected"

    run(main())


def test_tls_at_a_plain_door_is_just_octets(run: Run, client: ssl.SSLContext) -> None:
    async def main() -> None:
        ours, theirs = Recorder(), Recorder()
        joined(ours, theirs)
        theirs.stream.start_tls(client, server_side=False, server_name=NAME)
        await ours.until(lambda recorder: recorder.data)
        assert ours.data[:2] == b"\x16\x03"
        ours.stream.write(b"554 no\r\n")
        await theirs.closed()
        assert isinstance(theirs.error, TlsFailed)

    run(main())


@pytest.mark.parametrize("together", [True, False])
def test_nothing_is_delivered_after_close_notify(
    run: Run, server: ssl.SSLContext, client: ssl.SSLContext, together: bool
) -> None:
    """CVE-2026-45185: close_notify in mid-BDAT, then one octet in clear; and records behind the close_notify."""

    async def main() -> None:
        ours, hand = Recorder(greet=tls_at_once(server)), ByHand(client)
        joined(ours, hand.recorder)
        hand.recorder.stream.write(hand.hello())
        await hand.shake(ours)
        said = hand.engine.write(b"BDAT 5\r\nabc")
        goodbye = hand.engine.goodbye()
        if together:
            hand.recorder.stream.write(said + goodbye + b"Z" + said)
        else:
            for part in (said, goodbye, b"Z", said):
                hand.recorder.stream.write(part)
        await ours.until(lambda recorder: "finished" in recorder.happened)
        ours.stream.write(b"451 cut off\r\n")  # our direction is still open
        ours.stream.close()
        await ours.closed()
        assert ours.data == b"BDAT 5\r\nabc"
        assert ours.happened.count("finished") == 1
        await hand.recorder.until(lambda recorder: "finished" in recorder.happened)
        assert hand.plain == b"451 cut off\r\n"

    run(main())


def test_the_end_is_told_once(run: Run, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """close_notify and then FIN; what lies between is neither delivered nor kept."""

    async def main() -> None:
        ours, hand = Recorder(greet=tls_at_once(server)), ByHand(client)
        joined(ours, hand.recorder)
        hand.recorder.stream.write(hand.hello())
        await hand.shake(ours)
        hand.recorder.stream.write(hand.engine.goodbye())
        hand.recorder.stream.write(b"x" * (1 << 20))
        hand.recorder.stream.close()
        await hand.recorder.closed()
        for _ in range(5):
            await asyncio.sleep(0)
        engine = ours.stream._engine
        assert engine is not None
        assert engine._incoming.pending == len(engine._held) == 0
        assert ours.happened == ["connected", "tls", "finished"]
        ours.stream.abort()
        await ours.closed()

    run(main())


def test_fin_while_paused_waits_its_turn(run: Run, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """A loop may report FIN although reading is paused; it must not overtake what was sent before it."""

    async def main() -> None:
        ours = Recorder(lambda recorder, data: recorder.stream.pause_reading(), greet=tls_at_once(server))
        hand = ByHand(client)
        joined(ours, hand.recorder)
        hand.recorder.stream.write(hand.hello())
        await hand.shake(ours)
        hand.recorder.stream.write(hand.engine.write(b"1") + hand.engine.write(b"2"))
        await ours.until(lambda recorder: recorder.data)
        ours.stream.eof_received()
        assert (ours.data, ours.happened[-1]) == (b"1", "data")
        ours.stream.resume_reading()
        await ours.until(lambda recorder: recorder.data == b"12")
        assert ours.happened[-1] == "data"
        ours.stream.resume_reading()
        await ours.until(lambda recorder: recorder.happened[-1] == "finished")
        ours.stream.abort()
        await ours.closed()
        hand.recorder.stream.abort()

    run(main())


def test_tcp_fin_without_close_notify_ends_the_stream(run: Run, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    async def main() -> None:
        ours, hand = Recorder(greet=tls_at_once(server)), ByHand(client)
        joined(ours, hand.recorder)
        hand.recorder.stream.write(hand.hello())
        await hand.shake(ours)
        record = hand.engine.write(b"DATA of")
        hand.recorder.stream.write(record + hand.engine.write(b" which the end is missing")[:-1])
        hand.recorder.stream.close()
        await ours.until(lambda recorder: "finished" in recorder.happened)
        assert ours.data == b"DATA of"
        ours.stream.close()
        await ours.closed()

    run(main())


def test_a_changed_record_ends_the_stream(run: Run, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    async def main() -> None:
        ours, hand = Recorder(greet=tls_at_once(server)), ByHand(client)
        joined(ours, hand.recorder)
        hand.recorder.stream.write(hand.hello())
        await hand.shake(ours)
        record = bytearray(hand.engine.write(b"MAIL FROM:<a@example.org>\r\n"))
        record[-1] ^= 1
        hand.recorder.stream.write(bytes(record))
        await ours.closed()
        assert isinstance(ours.error, TlsFailed)
        assert ours.data == b""

    run(main())


@pytest.mark.parametrize("fin", [False, True])
def test_paused_under_tls_keeps_back_what_is_decrypted(
    run: Run, server: ssl.SSLContext, client: ssl.SSLContext, fin: bool
) -> None:
    def act(recorder: Recorder, data: bytes) -> None:
        recorder.stream.pause_reading()

    async def main() -> None:
        ours, hand = Recorder(act, greet=tls_at_once(server)), ByHand(client)
        joined(ours, hand.recorder)
        hand.recorder.stream.write(hand.hello())
        await hand.shake(ours)
        hand.recorder.stream.write(b"".join(hand.engine.write(b"%d" % digit * 9000) for digit in range(8)))
        if fin:
            hand.recorder.stream.close()
        for turn in range(1, 9):
            await ours.until(lambda recorder, octets=turn * 9000: len(recorder.data) == octets)  # type: ignore[misc]
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(ours.data) == turn * 9000, "no more than one piece"
            assert "finished" not in ours.happened, "FIN does not overtake"
            ours.stream.resume_reading()
        if fin:
            await ours.until(lambda recorder: "finished" in recorder.happened)
        assert ours.data == b"".join(b"%d" % digit * 9000 for digit in range(8))
        ours.stream.abort()
        await ours.closed()

    run(main())


@pytest.mark.parametrize("tls", [False, True])
def test_big_writes_stay_bounded_when_the_handler_heeds(
    run: Run, server: ssl.SSLContext, client: ssl.SSLContext, tls: bool
) -> None:
    """8 MiB to a reader that takes its time: unsent octets stay near the high-water mark."""
    total, piece = 8 << 20, b"x" * 32768

    async def main() -> None:
        ours = Recorder(greet=tls_at_once(server) if tls else None)
        theirs = Recorder()
        joined(ours, theirs)
        if tls:
            theirs.stream.start_tls(client, server_side=False, server_name=NAME)
            await ours.until(lambda recorder: recorder.tls)
        written = most = 0
        while written < total:
            if [entry for entry in ours.happened if entry in ("blocked", "flowing")][-1:] == ["blocked"]:
                await ours.until(lambda recorder: recorder.happened[-1] == "flowing")
            ours.stream.write(piece)
            written += len(piece)
            most = max(most, ours.stream.unsent)
        await theirs.until(lambda recorder: len(recorder.data) == total, 20)
        assert HIGH_WATER_OCTETS < most <= HIGH_WATER_OCTETS + len(piece) + 1024

    run(main())


def test_writes_during_the_handshake_are_bounded_too(run: Run, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    async def main() -> None:
        ours, hand = Recorder(greet=tls_at_once(server)), ByHand(client)
        joined(ours, hand.recorder)
        ours.stream.write(b"y" * HIGH_WATER_OCTETS)
        assert "blocked" not in ours.happened
        ours.stream.write(b"y")
        assert ours.happened[-1] == "blocked"
        hand.recorder.stream.write(hand.hello())
        await hand.shake(ours)
        await hand.recorder.until(lambda _: len(hand.plain) == HIGH_WATER_OCTETS + 1)
        assert "flowing" in ours.happened

    run(main())


class Wire(asyncio.Transport):
    """A transport that keeps what is written, write by write."""

    def __init__(self) -> None:
        super().__init__({"peername": (DOOR.address, DOOR.port)})
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


def test_the_last_reply_and_close_notify_go_together(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    async def main() -> None:
        ours, wire, near = Recorder(), Wire(), TlsEngine(client, server_side=False, server_name=NAME)
        stream = TcpStream(ours.accept, WriteBatch(asyncio.get_running_loop()))
        stream.connection_made(wire)
        stream.start_tls(server, server_side=True)
        while not near.handshake():
            stream.data_received(near.flush())
            await asyncio.sleep(0)
            near.feed(b"".join(wire.written))
            wire.written.clear()
        stream.data_received(near.flush())
        await asyncio.sleep(0)
        near.feed(b"".join(wire.written))
        assert near.read() is None  # a session ticket
        wire.written.clear()
        stream.write(b"221 bye\r\n")
        stream.close()
        (last,) = wire.written
        near.feed(last)
        assert [near.read(), near.read()] == [b"221 bye\r\n", b""]

    asyncio.run(main())


def test_closed_once_and_silent_after(run: Run) -> None:
    async def main() -> None:
        ours, theirs = Recorder(), Recorder()
        wire = joined(ours, theirs)
        wire.cut()
        await ours.closed()
        await theirs.closed()
        assert isinstance(ours.error, ConnectionResetError)
        for end in (ours, theirs):
            end.stream.write(b"into the void")
            end.stream.close()
            end.stream.abort()
            end.stream.pause_reading()
            end.stream.resume_reading()
        await asyncio.sleep(0)
        assert ours.happened == theirs.happened == ["connected", "closed"]

    run(main())


def test_tls_begins_once(run: Run, server: ssl.SSLContext) -> None:
    async def main() -> None:
        ours, theirs = Recorder(greet=tls_at_once(server)), Recorder()
        joined(ours, theirs)
        with pytest.raises(RuntimeError):
            ours.stream.start_tls(server, server_side=True)
        ours.stream.abort()
        await ours.closed()

    run(main())


def test_a_name_no_certificate_can_carry(run: Run, client: ssl.SSLContext) -> None:
    async def main() -> None:
        ours, theirs = Recorder(), Recorder()
        joined(ours, theirs)
        theirs.stream.start_tls(client, server_side=False, server_name=".example.org")
        await theirs.closed()
        assert isinstance(theirs.error, TlsFailed)

    run(main())


def test_a_bug_ends_one_stream_and_is_reported() -> None:
    """Rule 9: our bugs are exceptions; they end the session, are counted, and never end the server."""

    def act(recorder: Recorder, data: bytes) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        reported: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
        ours, theirs = Recorder(act), Recorder()
        joined(ours, theirs)
        theirs.stream.write(b"x")
        await ours.closed()
        assert isinstance(ours.error, ZeroDivisionError)
        assert len(reported) == 1

    asyncio.run(main())


def test_refused_at_accept_gets_its_last_words(run: Run) -> None:
    def refuse(stream: TcpStream) -> None:
        stream.write(b"421 too many\r\n")

    async def main() -> None:
        network = MemoryNetwork()
        network.listen(DOOR, refuse)
        theirs = Recorder()
        network.open(DOOR, theirs.accept)
        await theirs.until(lambda recorder: "finished" in recorder.happened)
        assert theirs.data == b"421 too many\r\n"

    run(main())
