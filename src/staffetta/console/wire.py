"""One HTTP connection: one request, one answer, and the end.

RFC 9112 by h11, over the streams of `net`. A connection takes a single request, whatever the client would like: what
follows the first one is thrown away unread, so there is no second request to smuggle in, and nothing to keep alive.
Everything has a limit: octets of the head and of the body, seconds for the request and for taking the answer, and
connections. When those are used up, the one that has kept us waiting longest goes, so that slow clients cannot shut
anybody out. This module refuses to know what is asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import h11

from staffetta.console.request import LARGEST_HEAD_OCTETS, Request, Response, judge, sentence
from staffetta.net.contract import Stream, StreamHandler, TlsFacts

MOST_CONNECTIONS: Final = 64
"""Connections at a time: people, a monitoring system, a proxy."""

REQUEST_SECONDS: Final = 10.0
"""How long a request may take to arrive, whole."""

ANSWER_SECONDS: Final = 15.0
"""How long finding an answer may take."""

TAKE_SECONDS: Final = 10.0
"""How long a client may take to read its answer and to close."""

_ALWAYS: Final = (
    ("Connection", "close"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
)
_VERSIONS: Final = frozenset({b"1.0", b"1.1"})
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

Answer = Callable[[Request], Awaitable[Response]]


class Reception:
    """Everybody who is connected. `answer` finds answers; `report` gets what is our own bug."""

    def __init__(self, answer: Answer, report: Callable[[Exception], None]) -> None:
        self.answer = answer
        self.report = report
        self.connections: dict[Connection, None] = {}

    def accept(self, stream: Stream) -> StreamHandler:
        """Take a connection; makes room for it when there is none."""
        if len(self.connections) >= MOST_CONNECTIONS:
            oldest = next((one for one in self.connections if one.waits_for_client), next(iter(self.connections)))
            oldest.end()
        connection = Connection(stream, self)
        self.connections[connection] = None
        return connection

    def close(self) -> None:
        """End all."""
        for connection in list(self.connections):
            connection.end()


class Connection:
    """One connection; see the module."""

    def __init__(self, stream: Stream, reception: Reception) -> None:
        self._stream = stream
        self._reception = reception
        self._http = h11.Connection(h11.SERVER, LARGEST_HEAD_OCTETS)
        self._request: Request | None = None
        self._octets = 0
        self._body = b""
        self._task: asyncio.Task[None] | None = None
        self._answered = False
        self._timer = self._after(REQUEST_SECONDS)

    @property
    def waits_for_client(self) -> bool:
        """True while the request is not whole, or its answer not taken."""
        return self._task is None or self._answered

    def end(self) -> None:
        """Now."""
        self._reception.connections.pop(self, None)
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._stream.abort()

    # What the stream says.

    def bytes_received(self, data: bytes) -> None:
        """Octets of the request; those behind it are thrown away."""
        if self._answered or self._task is not None:
            return
        try:
            self._http.receive_data(data)
            self._read()
        except h11.RemoteProtocolError as error:
            self._turn_away(error.error_status_hint)

    def peer_finished(self) -> None:
        """A client that has sent its request may still want the answer."""
        if self._answered or self._task is None:
            self._stream.close()

    def tls_established(self, facts: TlsFacts) -> None:
        """Never: this port is plain."""

    def write_blocked(self, blocked: bool) -> None:
        """One answer is all there is, and it is written."""

    def stream_closed(self, error: Exception | None) -> None:
        """Gone."""
        self._reception.connections.pop(self, None)
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    # The dialogue.

    def _read(self) -> None:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                judged = judge(event.method, event.target, list(event.headers))
                if event.http_version not in _VERSIONS:
                    judged = sentence(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
                if isinstance(judged, Response):
                    self._send(judged)
                    return
                self._request, self._octets = judged.request, judged.octets
                if self._octets and self._http.they_are_waiting_for_100_continue:
                    self._write(h11.InformationalResponse(status_code=100, headers=[]))
            elif isinstance(event, h11.Data):
                self._body += event.data  # never more than was announced and allowed: h11 counts
            elif isinstance(event, h11.EndOfMessage):
                self._ask()
                return
            else:
                return

    def _ask(self) -> None:
        request = self._request
        if request is None:
            return
        if self._body:
            request = Request(request.method, request.path, request.host, request.parameters, self._body)
        self._timer.cancel()
        self._timer = self._after(ANSWER_SECONDS + TAKE_SECONDS)
        self._task = asyncio.get_running_loop().create_task(self._find(request))

    async def _find(self, request: Request) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._reception.answer(request)
        except TimeoutError:
            answer = sentence(503, "it takes too long; try again later")
        except Exception as error:
            self._reception.report(error)
            answer = sentence(500, "a bug in this program; its log says more")
        self._send(answer)

    def _turn_away(self, status: int) -> None:
        status = status if 400 <= status < 600 else 400
        self._send(sentence(status, "this is no request that is understood here"))

    def _send(self, answer: Response) -> None:
        """Write the answer. The client closes when it has it; what it still sends is not looked at."""
        self._answered = True
        self._timer.cancel()
        self._timer = self._after(TAKE_SECONDS)
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self._stream.close()
            return
        fields = [("Date", http_date(time.time())), ("Content-Type", answer.kind), *_ALWAYS, *answer.fields]
        fields.append(("Content-Length", str(len(answer.body))))
        head = h11.Response(status_code=answer.status, headers=fields, reason=HTTPStatus(answer.status).phrase)
        body = b"" if self._request is not None and self._request.method == "HEAD" else answer.body
        self._write(head, h11.Data(data=body), h11.EndOfMessage())
        # Closing at once would reset the connection when there is something unread, and take the answer with it.
        if self._request is not None and self._task is not None:
            self._stream.close()

    def _write(self, *events: h11.Response | h11.InformationalResponse | h11.Data | h11.EndOfMessage) -> None:
        self._stream.write(b"".join([self._http.send(event) or b"" for event in events]))

    def _after(self, seconds: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, self.end)


def http_date(now: float) -> str:
    """Seconds since the epoch as a Date field says them, RFC 9110 section 5.6.7, in every locale."""
    at = time.gmtime(now)
    day = f"{_DAYS[at.tm_wday]}, {at.tm_mday:02d} {_MONTHS[at.tm_mon - 1]} {at.tm_year:04d}"
    return f"{day} {at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d} GMT"
