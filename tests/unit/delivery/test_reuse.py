"""The pool of idle sessions, with a clock of its own."""

from __future__ import annotations

import asyncio

from staffetta.delivery.reuse import ReuseSettings, SessionKey, SessionPool
from staffetta.tlspolicy.levels import TlsLevel

KEY = SessionKey("route:mx.example", "mx.example", TlsLevel.VERIFY)
OTHERS = [
    SessionKey("other:mx.example", "mx.example", TlsLevel.VERIFY),
    SessionKey("route:mx.example", "mx2.example", TlsLevel.VERIFY),
    SessionKey("route:mx.example", "mx.example", TlsLevel.OPPORTUNISTIC),
]


class FakeSession:
    def __init__(self) -> None:
        self.reusable = True
        self.transactions = 1
        self.dismissed = False

    def dismiss(self) -> None:
        self.dismissed = True


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def pool(clock: Clock, **settings: float) -> SessionPool[FakeSession]:
    return SessionPool(ReuseSettings(**settings), clock)  # type: ignore[arg-type]


def test_last_in_first_out() -> None:
    idle = pool(Clock())
    first, second = FakeSession(), FakeSession()
    idle.checkin(KEY, first)
    idle.checkin(KEY, second)
    assert len(idle) == 2
    assert idle.checkout(KEY) is second
    assert idle.checkout(KEY) is first
    assert idle.checkout(KEY) is None
    assert len(idle) == 0


def test_a_session_serves_its_key_only() -> None:
    idle = pool(Clock())
    idle.checkin(KEY, FakeSession())
    assert [idle.checkout(other) for other in OTHERS] == [None, None, None]
    assert idle.checkout(KEY) is not None


def test_too_old() -> None:
    clock = Clock()
    idle = pool(clock, idle_seconds=5)
    old = FakeSession()
    idle.checkin(KEY, old)
    clock.now += 5
    assert idle.checkout(KEY) is None
    assert old.dismissed
    assert len(idle) == 0


def test_dead_while_waiting() -> None:
    idle = pool(Clock())
    alive, dead = FakeSession(), FakeSession()
    idle.checkin(KEY, alive)
    idle.checkin(KEY, dead)
    dead.reusable = False
    assert idle.checkout(KEY) is alive
    assert dead.dismissed


def test_used_up() -> None:
    idle = pool(Clock(), messages_per_session=3)
    session = FakeSession()
    session.transactions = 2
    idle.checkin(KEY, session)
    assert idle.checkout(KEY) is session
    session.transactions = 3
    idle.checkin(KEY, session)
    assert session.dismissed
    assert idle.checkout(KEY) is None


def test_not_reusable_is_not_kept() -> None:
    idle = pool(Clock())
    session = FakeSession()
    session.reusable = False
    idle.checkin(KEY, session)
    assert session.dismissed
    assert len(idle) == 0


def test_surplus() -> None:
    idle = pool(Clock(), idle_per_key=2, idle_total=3)
    sessions = [FakeSession() for _ in range(6)]
    for session in sessions[:3]:
        idle.checkin(KEY, session)
    assert [one.dismissed for one in sessions[:3]] == [False, False, True]
    for session in sessions[3:5]:
        idle.checkin(OTHERS[0], session)
    assert [one.dismissed for one in sessions[3:5]] == [False, True]
    assert len(idle) == 3


def test_sweep() -> None:
    clock = Clock()
    idle = pool(clock, idle_seconds=10)
    assert idle.sweep() is None
    first, second, dead = FakeSession(), FakeSession(), FakeSession()
    idle.checkin(KEY, first)
    idle.checkin(OTHERS[0], dead)
    clock.now += 4
    idle.checkin(KEY, second)
    dead.reusable = False
    assert idle.sweep() == 6
    assert (first.dismissed, second.dismissed, dead.dismissed) == (False, False, True)
    clock.now += 6
    assert idle.sweep() == 4
    assert (first.dismissed, second.dismissed) == (True, False)
    clock.now += 4
    assert idle.sweep() is None
    assert second.dismissed
    assert len(idle) == 0


def test_close_all() -> None:
    idle = pool(Clock())
    waiting, out = FakeSession(), FakeSession()
    idle.checkin(KEY, out)
    assert idle.checkout(KEY) is out
    idle.checkin(KEY, waiting)
    asyncio.run(idle.close_all())
    assert waiting.dismissed
    idle.checkin(KEY, out)
    assert out.dismissed
    assert len(idle) == 0
