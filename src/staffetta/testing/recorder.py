"""A stream handler that writes down what happens to its stream, in order, for tests to look at and wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from staffetta.net.contract import TlsFacts
from staffetta.net.stream import TcpStream

Act = Callable[["Recorder", bytes], None]


class Recorder:
    """Give `accept` to a listener or wire. `act` is called with each piece of data, as a session would act on it."""

    def __init__(self, act: Act | None = None, greet: Callable[[Recorder], None] | None = None) -> None:
        self.stream: TcpStream
        self.happened: list[str] = []
        self.data = b""
        self.tls: TlsFacts | None = None
        self.error: Exception | None = None
        self._act = act
        self._greet = greet
        self._changed: asyncio.Future[None] | None = None

    def accept(self, stream: TcpStream) -> Recorder:
        """Own this stream."""
        self.stream = stream
        self._note("connected")
        if self._greet is not None:
            self._greet(self)
        return self

    async def until(self, true: Callable[[Recorder], object], seconds: float = 5.0) -> None:
        """Wait until `true` of this recorder. Raises TimeoutError with what happened instead."""
        try:
            async with asyncio.timeout(seconds):
                while not true(self):
                    self._changed = asyncio.get_running_loop().create_future()
                    await self._changed
        except TimeoutError:
            raise TimeoutError(f"{self.happened} {self.data[-200:]!r} {self.error!r}") from None

    async def closed(self, seconds: float = 5.0) -> None:
        """Wait for the end of the stream."""
        await self.until(lambda recorder: "closed" in recorder.happened, seconds)

    def bytes_received(self, data: bytes) -> None:
        """Data."""
        self.data += data
        self._note("data")
        if self._act is not None:
            self._act(self, data)

    def peer_finished(self) -> None:
        """FIN or close_notify."""
        self._note("finished")

    def tls_established(self, facts: TlsFacts) -> None:
        """Handshake done."""
        self.tls = facts
        self._note("tls")

    def write_blocked(self, blocked: bool) -> None:
        """Flow control."""
        self._note("blocked" if blocked else "flowing")

    def stream_closed(self, error: Exception | None) -> None:
        """The end."""
        self.error = error
        self._note("closed")

    def _note(self, what: str) -> None:
        if what != "data" or not self.happened or self.happened[-1] != "data":
            self.happened.append(what)
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
