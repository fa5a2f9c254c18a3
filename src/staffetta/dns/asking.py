"""One question on its way to its answer: attempts, servers, repetition, truncation, chains of aliases.

Driven by callbacks, so that a question costs no task. Whoever waits holds a future of their own: one who gives up does
not take the answer away from the others.
RFC 1034 section 5.3.1, RFC 5452, RFC 6891 section 7 (servers without EDNS), RFC 7766 (truncation).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from staffetta.dns.cache import Key
from staffetta.dns.resolver import CHAIN_LENGTH, Answer, Lookup, NoSuchName, Unavailable
from staffetta.dns.server import Attempt, Ground, Server
from staffetta.dns.wire import Alias, FormatError, Match, Question, Truncated, WireError, decode, make_question

ATTEMPTS: Final = 3
"""Datagrams for one question, at least; with more servers, one for each, up to twice that."""

SHUN_SECONDS: Final = 30.0
"""How long a server that let a question time out is asked only after the others."""

_GROWTH: Final = 1.5
_CASE_OCTETS: Final = 32


class Asking:
    """One question. `lookup` is set when it is over, and `done` is called once with the weight of the answer."""

    __slots__ = (
        "_attempts",
        "_authenticated",
        "_done",
        "_edns",
        "_end",
        "_failed",
        "_ground",
        "_hops",
        "_name",
        "_sent",
        "_spawn",
        "_timer",
        "_ttl",
        "key",
        "lookup",
        "waiters",
    )

    def __init__(
        self,
        ground: Ground,
        key: Key,
        done: Callable[[Asking, int], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self.key = key
        self.lookup: Lookup | None = None
        self.waiters: list[asyncio.Future[Lookup]] = []
        self._ground = ground
        self._done = done
        self._spawn = spawn
        self._name = key[0]
        self._attempts: list[Attempt] = []
        self._failed: dict[Server, str] = {}
        self._sent: dict[Server, int] = {}
        self._edns = True
        self._hops = 0
        self._ttl: int | None = None
        self._authenticated = True
        self._timer: asyncio.TimerHandle | None = None
        self._end = ground.loop.time() + ground.timeout_seconds

    def start(self) -> None:
        """Ask. `lookup` may be set on return already, when nobody can be reached."""
        self._next()

    def give_up(self, reason: str) -> None:
        """End it now."""
        self._finish(Unavailable(reason), 0)

    # -- what the sockets say

    def received(self, attempt: Attempt, packet: bytes, verdict: int) -> None:
        """A response with the right id and question."""
        if self.lookup is not None:
            return
        server = attempt.server
        server.shunned_until = 0.0
        if verdict == Match.OTHER_CASE:
            server.case_misses += 1
            self._over_tcp(server)
            return
        self._read(server, attempt.question, packet, edns=attempt.edns, over_tcp=False)

    def failed(self, attempt: Attempt, reason: str) -> None:
        """No way to the server."""
        if self.lookup is None:
            self._fail(attempt.server, reason)

    def doubted(self, attempt: Attempt) -> None:
        """Forged responses arrive; over TCP nobody can put in theirs."""
        if self.lookup is None:
            self._over_tcp(attempt.server)

    # -- one step

    def _next(self) -> None:
        """Send one more datagram, or give up."""
        self._stop_timer()
        ground = self._ground
        now = ground.loop.time()
        while True:
            server = self._choose(now)
            if server is None:
                self.give_up(self._reason())
                return
            sent = self._sent.get(server, 0)
            self._sent[server] = sent + 1
            try:
                self._send(server)
                break
            except OSError as error:
                self._failed[server] = error.strerror or "not reachable"
        left = max(self._end - now, 0.0)
        more = self._most() - sum(self._sent.values())
        # The waits grow, and together they are what is left: 1.05, 1.6 and 2.4 seconds of five.
        wait = left if more <= 0 else left * (_GROWTH - 1) / (_GROWTH ** (more + 1) - 1)
        self._timer = ground.loop.call_later(wait, self._late)

    def _send(self, server: Server) -> None:
        ground = self._ground
        mixed = ground.mixed_case and server.keeps_case
        chance = ground.random_bytes(3 + _CASE_OCTETS if mixed else 3)
        question = make_question(self._name, self.key[1], chance[3:])
        attempt = Attempt(self, server, question, edns=self._edns)
        server.send(attempt, chance)
        self._attempts.append(attempt)

    def _most(self) -> int:
        return max(ATTEMPTS, min(len(self._ground.servers), 2 * ATTEMPTS))

    def _choose(self, now: float) -> Server | None:
        servers = [server for server in self._ground.servers if server not in self._failed]
        if len(servers) < 2:
            return servers[0] if servers else None
        return min(servers, key=lambda server: (self._sent.get(server, 0), server.shunned_until > now))

    def _late(self) -> None:
        """Nobody answered in time."""
        self._timer = None
        now = self._ground.loop.time()
        self._attempts[-1].server.shunned_until = now + SHUN_SECONDS
        if now >= self._end - 0.001 or sum(self._sent.values()) >= self._most():
            self.give_up(self._reason())
        else:
            self._next()

    def _fail(self, server: Server, reason: str) -> None:
        """This server will not help."""
        self._failed[server] = reason
        untried = any(other not in self._sent for other in self._ground.servers)
        if untried or self._timer is None or len(self._failed) == len(self._ground.servers):
            self._next()

    def _reason(self) -> str:
        failures = [f"{reason} from {server}" for server, reason in self._failed.items()]
        if len(failures) < len(self._ground.servers):
            failures.append(f"no answer within {self._ground.timeout_seconds:g} s")
        return "; ".join(failures) or "no resolver to ask"

    def _read(self, server: Server, question: Question, packet: bytes, *, edns: bool, over_tcp: bool) -> None:
        try:
            reading = decode(packet, question)
        except WireError as error:
            self._fail(server, f"malformed response ({error})")
            return
        match reading:
            case Answer() | NoSuchName():
                self._finish(self._with_chain(reading, server), len(packet))
            case Alias():
                self._follow(reading)
            case Unavailable(reason=reason):
                self._fail(server, reason)
            case Truncated():
                if over_tcp:
                    self._fail(server, "truncated over TCP")
                else:
                    self._over_tcp(server)
            case FormatError():
                if edns:
                    self._edns = False
                    self._next()
                else:
                    self._fail(server, "FORMERR")

    def _follow(self, alias: Alias) -> None:
        self._hops += alias.hops
        if self._hops > CHAIN_LENGTH:
            self.give_up("CNAME chain is a circle or too long")
            return
        self._ttl = alias.ttl_seconds if self._ttl is None else min(self._ttl, alias.ttl_seconds)
        self._authenticated = self._authenticated and alias.authenticated
        self._name = alias.target
        self._forget_attempts()
        self._failed.clear()
        self._sent.clear()
        self._next()

    def _with_chain(self, reading: Answer | NoSuchName, server: Server) -> Lookup:
        authenticated = reading.authenticated and self._authenticated and server.is_local
        ttl = reading.ttl_seconds if self._ttl is None else min(self._ttl, reading.ttl_seconds)
        if authenticated == reading.authenticated and ttl == reading.ttl_seconds:
            return reading
        if isinstance(reading, NoSuchName):
            return NoSuchName(ttl, authenticated)
        return Answer(reading.records, ttl, authenticated, reading.unusable, reading.canonical_name)

    def _over_tcp(self, server: Server) -> None:
        self._stop_timer()
        self._sent[server] = self._sent.get(server, 0) + 1
        self._spawn(self._ask_over_tcp(server))

    async def _ask_over_tcp(self, server: Server) -> None:
        # Half of what is left, so that another server has its chance.
        ground = self._ground
        name, edns = self._name, self._edns
        seconds = max((self._end - ground.loop.time()) / (2 if len(ground.servers) > 1 else 1), 0.01)
        question = make_question(name, self.key[1])
        identifier = int.from_bytes(ground.random_bytes(2), "big")
        try:
            packet = await server.ask_over_tcp(question, identifier, seconds, edns=edns)
        except (OSError, EOFError) as error:
            if self.lookup is None and name == self._name:
                self._fail(server, f"TCP: {_words(error)}")
            return
        if self.lookup is None and name == self._name:
            self._read(server, question, packet, edns=edns, over_tcp=True)

    # -- the end

    def _finish(self, lookup: Lookup, octets: int) -> None:
        if self.lookup is not None:
            return
        self.lookup = lookup
        self._stop_timer()
        self._forget_attempts()
        self._done(self, octets)
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(lookup)
        self.waiters.clear()

    def _forget_attempts(self) -> None:
        for attempt in self._attempts:
            attempt.forget()
        self._attempts.clear()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, EOFError):
        return "closed before the answer"
    return (error.strerror if isinstance(error, OSError) else None) or "connection failed"
