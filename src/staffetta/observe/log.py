"""Event lines on standard output, and how they can never stop mail.

The loop only appends to a bounded list; a thread of its own renders and writes. When the reader of the output stops
reading, or the disk is full, lines are dropped and counted, and said so when there is room again.
One event is one line, whatever a peer put into its fields: control characters, line separators of any alphabet and
broken UTF-8 are escaped. Addresses can be masked or hashed (HMAC with a key of the installation).
This module refuses to know what an event means; words and fields are `observe.events`.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from staffetta.observe.events import (
    AlarmRaised,
    Bounce,
    Event,
    Expire,
    Junk,
    LoginRefused,
    Refuse,
    ReloadRefused,
)
from staffetta.observe.privacy import Privacy, private
from staffetta.observe.render import Render, json_line, text_line

WAITING_LINES: Final = 8192
"""Events that wait for the writer; more are dropped and counted."""

WAITING_STRETCHES: Final = 1024
"""With so much waiting no stretch of several lines is taken any more."""

GATHER_SECONDS: Final = 0.02
"""How long lines are gathered before the writer is woken: waking it for each would cost more than the lines."""

_BATCH_LINES: Final = 256
_LINE_END: Final = 10
_POLL_MILLISECONDS: Final = 100

Level = Literal["info", "warning", "error"]
_WARNINGS: Final = (Refuse, LoginRefused, Bounce, Expire, Junk, ReloadRefused, AlarmRaised)
_ERRORS: Final = (ReloadRefused, AlarmRaised)


class LogDropped(Event, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="log_dropped"):
    """The output could not be written for a while; `lines` events are missing before this line."""

    lines: int


class LogSettings(msgspec.Struct, frozen=True, gc=False):
    """`[log]`. `key` is the secret of `privacy = "hashed"`."""

    format: Literal["auto", "text", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"
    privacy: Privacy = "full"
    key: bytes = b""


class LineMaker:
    """What `[log]` makes of an event. `descriptor` is where lines will end up. Never raises."""

    def __init__(self, settings: LogSettings, descriptor: int = 1) -> None:
        self.render: Render = _renderer(settings, descriptor)
        self.as_encoded = self.render is json_line
        """True when a line is the JSON of the event and nothing else, so that who has it need not make it again."""
        self._wanted = _wanted(settings)

    def wants(self, event: Event) -> bool:
        """False when the level leaves it out."""
        return self._wanted is None or isinstance(event, self._wanted)


class EventLog:
    """Writes events to a descriptor (standard output). `emit` never blocks and never raises."""

    def __init__(self, settings: LogSettings, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._lines = LineMaker(settings, descriptor)
        self._waiting: deque[Event | bytes] = (
            deque()
        )  # the only thing both threads touch: append and popleft are atomic
        self._overflown = 0  # counted by those who emit
        self._unwritten = 0  # counted by the writer, as are the next two
        self._told_missing = 0
        self._torn = False
        self._scheduled = False
        self._closing = False
        self._give_up_at = 0.0
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Events that never reached the output."""
        return self._overflown + self._unwritten

    def adopt(self, settings: LogSettings) -> None:
        """Write by other settings from the next line on."""
        self._lines = LineMaker(settings, self._descriptor)

    def emit(self, event: Event) -> None:
        """Queue one event; from any thread, cheapest from the loop's."""
        if not self._lines.wants(event):
            return
        if len(self._waiting) >= WAITING_LINES:
            self._overflown += 1
            return
        self._queue(event)

    def pass_on(self, lines: bytes, count: int, dropped: int = 0) -> None:
        """Queue `count` lines that another process of ours made (LineMaker); it has `dropped` others. From the loop's
        thread."""
        self._overflown += dropped
        if len(self._waiting) >= (WAITING_LINES if count == 1 else WAITING_STRETCHES):
            self._overflown += count
        elif count:
            self._queue(lines)

    def _queue(self, item: Event | bytes) -> None:
        self._waiting.append(item)
        if not self._scheduled:
            self._scheduled = True
            try:
                asyncio.get_running_loop().call_later(GATHER_SECONDS, self._hand_over)
            except RuntimeError:  # no loop here: a command, or a thread
                self._hand_over()

    def close(self, seconds: float = 2.0) -> None:
        """Write what waits, for at most about `seconds`; then give up."""
        self._give_up_at = time.monotonic() + seconds
        self._closing = True
        self._wake.set()
        self._thread.join(seconds + 0.5)

    def _hand_over(self) -> None:
        self._scheduled = False
        self._wake.set()

    def _work(self) -> None:
        waiting = self._waiting
        while True:
            self._wake.wait()
            self._wake.clear()
            while waiting:
                self._write_batch([waiting.popleft() for _ in range(min(len(waiting), _BATCH_LINES))])
            if self._closing:
                return

    def _write_batch(self, batch: list[Event | bytes]) -> None:
        dropped = self.dropped
        missing = dropped - self._told_missing
        render = self._lines.render
        lines = [item if isinstance(item, bytes) else render(item) for item in batch]
        if missing:
            lines.insert(0, render(LogDropped(time=datetime.now(UTC), lines=missing)))
        if self._torn:  # half a line stands there; it must not swallow the next
            lines.insert(0, b"\n")
        if self._write(b"".join(lines)):
            self._told_missing = dropped
        else:
            self._unwritten += len(batch)

    def _write(self, data: bytes) -> bool:
        view = memoryview(data)
        while view:
            try:
                if self._closing and not self._writable():
                    break
                # When we are closing a write must not block: a pipe that has room takes this much at once.
                done = os.write(self._descriptor, view[: select.PIPE_BUF] if self._closing else view)
            except BlockingIOError:  # somebody made our output non-blocking; we wait on our own
                if not self._writable():
                    break
                continue
            except OSError:
                break
            self._torn = view[done - 1] != _LINE_END
            view = view[done:]
        return not view

    def _writable(self) -> bool:
        """Wait for room until the time of `close` is used up."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        while not poll.poll(_POLL_MILLISECONDS):
            if self._closing and time.monotonic() >= self._give_up_at:
                return False
        return True


def _wanted(settings: LogSettings) -> tuple[type[Event], ...] | None:
    return {"warning": _WARNINGS, "error": _ERRORS}.get(settings.level)


def _renderer(settings: LogSettings, descriptor: int) -> Render:
    chosen = settings.format
    if chosen == "auto":
        chosen = "text" if _is_terminal(descriptor) else "json"
    line: Render = text_line if chosen == "text" else json_line
    if settings.privacy == "full":
        return line
    veil = private(settings.privacy, settings.key)

    def veiled(event: Event) -> bytes:
        return line(veil(event))

    return veiled


def _is_terminal(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor)
    except OSError:
        return False
