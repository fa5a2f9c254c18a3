"""A byte-exact SMTP and LMTP sink with scriptable faults, over real sockets: for tests, the demo and measurements.

It keeps every octet of every message and every command line, and misbehaves as its script says, at each stage of a
session. It is independent of `protocol/`, so that it can catch mistakes made there.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import struct
from contextlib import suppress

from staffetta.testing.sink_login import authenticate
from staffetta.testing.sink_script import Fault, Kind, Received, Script, unstuff

ENDLESS_OCTETS = 1 << 26
"""Where even an endless reply ends, should nobody stop it."""


class _Leave(Exception):
    """The session is over."""


class Sink:
    """Listens on loopback. `messages` in the order of arrival, `commands` of all sessions as (session, tls, line)."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or Script()
        self.messages: list[Received] = []
        self.commands: list[tuple[int, bool, bytes]] = []
        self.count = 0
        self.sessions = 0
        self.wrong: list[str] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Event()

    async def start(self, path: str | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen on a port (the system's choice), or on a Unix socket."""
        context = self.script.context if self.script.implicit else None
        if path is not None:
            self._server = await asyncio.start_unix_server(self._serve, path)
            return
        # asyncio turns Nagle's delay off only for sockets that say that they are TCP.
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        if self.script.receive_buffer_octets:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.script.receive_buffer_octets)
        self.port = listening.getsockname()[1]
        self._server = await asyncio.start_server(self._serve, sock=listening, ssl=context, backlog=1024)

    async def stop(self) -> None:
        """Cut all sessions, listen no more."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def __aenter__(self) -> Sink:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def arrived(self, count: int, seconds: float = 10.0) -> None:
        """Wait until so many messages have come. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while self.count < count:
                self._arrived.clear()
                await self._arrived.wait()

    async def heard(self, verb: str, seconds: float = 10.0) -> None:
        """Wait until somebody said `verb`. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while verb not in self.verbs():
                self._arrived.clear()
                await self._arrived.wait()

    def verbs(self, session: int | None = None) -> list[str]:
        """The first words of all commands, of one session or all."""
        return [
            line.split(b" ")[0].strip().decode("latin-1").upper()
            for number, _, line in self.commands
            if session in (None, number)
        ]

    def hear(self, session: int, tls: bool, line: bytes) -> None:
        """A command line came."""
        if self.script.keep:
            self.commands.append((session, tls, line))
            self._arrived.set()

    def take(self, received: Received) -> None:
        """A message was acknowledged, or its acknowledgement was about to be."""
        self.count += 1
        if self.script.keep:
            self.messages.append(received)
        self._arrived.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        self.sessions += 1
        session = _Session(self, self.sessions, reader, writer)
        try:
            await session.run()
        except (_Leave, OSError, ssl.SSLError, EOFError, asyncio.CancelledError):
            pass
        except Exception as error:
            self.wrong.append(f"session {session.number}: {type(error).__name__}: {error}")
        finally:
            if task is not None:
                self._tasks.discard(task)
            writer.transport.abort()


class _Session:
    def __init__(self, sink: Sink, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sink = sink
        self.script = sink.script
        self.number = number
        self.reader = reader
        self.writer = writer
        self.buffer = bytearray()
        self.tls = sink.script.implicit
        self.login = ""
        self.mail = b""
        self.rcpts: list[bytes] = []
        self.chunk_list: list[bytes] = []

    async def run(self) -> None:
        if await self.meet("connect") is None and await self.meet("greeting") is None:
            await self.say(b"220 " + self.script.name.encode() + b" ESMTP\r\n")
        while True:
            line = await self.line()
            self.sink.hear(self.number, self.tls, line)
            verb, _, rest = line.rstrip(b"\r\n").partition(b" ")
            act = _VERBS.get(verb.upper())
            await (act(self, rest) if act is not None else self.say(b"500 5.5.2 what?\r\n"))
            if self.script.discards_pipelined:
                await asyncio.sleep(0)
                self.buffer.clear()

    # Octets.

    async def say(self, octets: bytes) -> None:
        self.writer.write(octets)
        if not self.buffer:
            await self.writer.drain()

    async def fill(self) -> None:
        data = await self.reader.read(65536)
        if not data:
            raise _Leave
        self.buffer += data

    async def line(self) -> bytes:
        while (end := self.buffer.find(b"\n")) < 0:
            await self.fill()
        line = bytes(self.buffer[: end + 1])
        del self.buffer[: end + 1]
        if line[-2:] != b"\r\n" or b"\0" in line or b"\r" in line[:-2]:
            self.sink.wrong.append(f"a command with a bare line end or NUL: {line!r}")
        return line

    # Faults.

    async def meet(self, stage: str) -> Fault | None:
        """Do what the script says for this stage; a fault is returned when it took the place of the usual reply."""
        for fault in self.script.faults:
            if fault.stage == stage and fault.strikes():
                return await self.strike(fault)
        return None

    async def strike(self, fault: Fault) -> Fault | None:
        kind = fault.kind
        if kind is Kind.DELAY and fault.until is not None:
            await fault.until.wait()
            return None
        if kind is Kind.BEFORE or kind is Kind.BEHIND:
            self.writer.write(fault.octets)
            return None
        if kind is Kind.REPLY:
            await self.say(fault.octets)
            return fault
        if kind is Kind.SILENCE:
            self.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.Event().wait()
        if kind is Kind.LAST_WORDS:
            self.writer.write(fault.octets)
            await self.close()
        if kind is Kind.ENDLESS:
            block = fault.octets * max(1, 4096 // len(fault.octets))
            for _ in range(0, ENDLESS_OCTETS, len(block)):
                await self.say(block)
                await asyncio.sleep(0)
        if kind is Kind.DROP:
            await self.close()
        # What remains is RESET: with no time to linger, the system sends RST in place of FIN.
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _Leave

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError, ssl.SSLError):
            await self.writer.wait_closed()
        raise _Leave

    # Commands.

    async def hello(self, rest: bytes) -> None:
        self.forget()
        if await self.meet("ehlo") is not None:
            return
        script = self.script
        lines = [script.name]
        tls_only = script.extensions_tls if self.tls else None
        lines += script.extensions if tls_only is None else tls_only
        if script.context is not None and not self.tls:
            lines.append("STARTTLS")
        if script.login is not None and (self.tls or script.context is None):
            lines.append("AUTH " + " ".join(script.mechanisms))
        head = "".join([f"250-{line}\r\n" for line in lines[:-1]])
        await self.say(f"{head}250 {lines[-1]}\r\n".encode())

    async def helo(self, rest: bytes) -> None:
        self.forget()
        if await self.meet("helo") is None:
            await self.say(b"250 " + self.script.name.encode() + b"\r\n")

    async def starttls(self, rest: bytes) -> None:
        context = self.script.context
        behind = b""
        for fault in self.script.faults:
            if fault.stage == "starttls" and fault.strikes():
                if fault.kind is not Kind.BEHIND:
                    if await self.strike(fault) is not None:
                        return
                else:
                    behind = fault.octets
        if context is None:
            await self.say(b"502 5.5.1 no TLS here\r\n")
            return
        if self.buffer:
            self.sink.wrong.append("something was pipelined behind STARTTLS")
        await self.say(b"220 2.0.0 go ahead\r\n" + behind)
        await self.writer.start_tls(context)
        self.tls = True
        self.forget()

    async def auth(self, rest: bytes) -> None:
        if await self.meet("auth") is not None:
            return
        script = self.script
        if script.login is None:
            await self.say(b"503 5.5.1 no login here\r\n")
        elif await authenticate(rest.split(b" "), self.ask, script.login, forget_proof=script.forgets_scram_proof):
            self.login = script.login[0]
            await self.say(b"235 2.7.0 welcome\r\n")
        else:
            await self.say(b"535 5.7.8 wrong\r\n")

    async def ask(self, challenge: bytes) -> bytes:
        await self.say(b"334 " + base64.b64encode(challenge) + b"\r\n")
        return base64.b64decode(await self.line())

    async def take_mail(self, rest: bytes) -> None:
        if await self.meet("mail") is not None:
            return
        if self.mail:
            await self.say(b"503 5.5.1 one at a time\r\n")
            return
        self.mail = rest
        await self.say(b"250 2.1.0 Ok\r\n")

    async def take_rcpt(self, rest: bytes) -> None:
        if await self.meet("rcpt") is not None:
            return
        address = rest.partition(b"<")[2].partition(b">")[0]
        limit = self.script.recipients_max
        if not self.mail:
            await self.say(b"503 5.5.1 MAIL first\r\n")
        elif limit and len(self.rcpts) >= limit:
            await self.say(b"452 4.5.3 too many recipients\r\n")
        else:
            answer = self.script.rcpt.get(address, b"250 2.1.5 Ok\r\n")
            if answer[:1] == b"2":
                self.rcpts.append(rest)
            await self.say(answer)

    async def data(self, rest: bytes) -> None:
        if await self.meet("data") is not None:
            return
        if not self.rcpts and not self.script.takes_empty_data:
            await self.say(b"503 5.5.1 RCPT first\r\n" if not self.mail else b"554 5.5.1 no valid recipients\r\n")
            return
        await self.say(b"354 go ahead\r\n")
        raw = await self.content()
        await self.finish(raw, unstuff(raw))

    async def content(self) -> bytes:
        buffer = self.buffer
        begun = False
        start = 0
        while buffer[:3] != b".\r\n" and (end := buffer.find(b"\r\n.\r\n", start)) < 0:
            start = max(0, len(buffer) - 4)
            await self.fill()
            if not begun:
                begun = True
                await self.meet("content")
        length = 3 if buffer[:3] == b".\r\n" else end + 5
        raw = bytes(buffer[:length])
        del buffer[:length]
        return raw

    async def bdat(self, rest: bytes) -> None:
        words = rest.split(b" ")
        size = int(words[0])
        while len(self.buffer) < size:
            await self.fill()
        self.chunk_list.append(bytes(self.buffer[:size]))
        del self.buffer[:size]
        if not self.rcpts:
            await self.say(b"503 5.5.1 RCPT first\r\n")
        elif words[1:] == [b"LAST"]:
            whole = b"".join(self.chunk_list)
            await self.finish(whole, whole)
        elif await self.meet("content") is None:
            await self.say(b"250 2.0.0 chunk\r\n")

    async def finish(self, raw: bytes, content: bytes) -> None:
        got = Received(
            self.number, self.mail, self.rcpts, raw, content, self.tls, chunks=len(self.chunk_list), login=self.login
        )
        self.forget()
        if await self.meet("dot") is not None:
            return
        self.sink.take(got)
        if not self.script.lmtp:
            await self.say(self.script.dot.get(b"", b"250 2.0.0 Ok: taken\r\n"))
            return
        for rcpt in got.rcpts:
            address = rcpt.partition(b"<")[2].partition(b">")[0]
            answer = self.script.dot.get(address, b"250 2.0.0 Ok: taken\r\n")
            await self.say(answer)
            if answer[:4] == b"421 " or not answer:
                await self.close()

    async def rset(self, rest: bytes) -> None:
        self.forget()
        await self.say(b"250 2.0.0 Ok\r\n")

    async def noop(self, rest: bytes) -> None:
        await self.say(b"250 2.0.0 Ok\r\n")

    async def quit(self, rest: bytes) -> None:
        if await self.meet("quit") is not None:
            return
        await self.say(b"221 2.0.0 Bye\r\n")
        await self.close()

    def forget(self) -> None:
        self.mail = b""
        self.rcpts = []
        self.chunk_list = []


_VERBS = {
    b"EHLO": _Session.hello,
    b"LHLO": _Session.hello,
    b"HELO": _Session.helo,
    b"STARTTLS": _Session.starttls,
    b"AUTH": _Session.auth,
    b"MAIL": _Session.take_mail,
    b"RCPT": _Session.take_rcpt,
    b"DATA": _Session.data,
    b"BDAT": _Session.bdat,
    b"RSET": _Session.rset,
    b"NOOP": _Session.noop,
    b"QUIT": _Session.quit,
}
