"""What the service manager is told: ready, busy with a reload, stopping, still alive. The protocol of sd_notify(3).

Where no service manager listens every word is dropped. Nothing here ever raises: a relay does not stop because nobody
wants to hear that it works. The sign of life is given by the event loop itself, so a loop that hangs is seen.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

LONGEST_STATUS: Final = 200
"""Characters of a status line; it stands on one line of `systemctl status`."""

_PATIENCE_SECONDS: Final = 0.2
"""How long a word may wait for a full socket. READY must not get lost for one busy moment of the service manager."""

_LONGEST_NUMBER: Final = 18
"""Digits of a number that is believed."""


class Notify:
    """The line to the service manager. `environ` has NOTIFY_SOCKET, a path or `@NAME`, and WATCHDOG_USEC."""

    def __init__(self, environ: Mapping[str, str], pid: int | None = None) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._interval = _watchdog_seconds(environ, os.getpid() if pid is None else pid)
        self._timer: asyncio.TimerHandle | None = None

    @property
    def listening(self) -> bool:
        """True when there is somebody to tell."""
        return self._address is not None

    def ready(self, status: str) -> None:
        """The doors are open, after a start or a reload."""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        """How things are, for people."""
        self._send(f"STATUS={_line(status)}")

    def reloading(self) -> None:
        """The configuration is being read again; `ready` must follow, also when it was refused."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS=Reading the configuration again")

    def stopping(self, reason: str) -> None:
        """No more sessions; those that are there come to their end."""
        self._send(f"STOPPING=1\nSTATUS=Stopping: {_line(reason)}")

    def keep_alive(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give a sign of life at half the interval that is asked for, until `close`."""
        if self._interval is not None and self._address is not None:
            self._send("WATCHDOG=1")
            self._timer = loop.call_later(self._interval / 2, self.keep_alive, loop)

    def close(self) -> None:
        """No more signs of life."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send(self, words: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
                line.settimeout(_PATIENCE_SECONDS)
                line.sendto(words.encode("utf-8", "backslashreplace"), self._address)
        except OSError:
            return


def _address(text: str) -> str | None:
    """The address of the socket; an abstract name begins with `@`. Other kinds, such as vsock, are not spoken."""
    if len(text) < 2 or text[0] not in "/@" or "\x00" in text:
        return None
    return "\x00" + text[1:] if text[0] == "@" else text


def _watchdog_seconds(environ: Mapping[str, str], pid: int) -> float | None:
    meant = environ.get("WATCHDOG_PID")
    if meant is not None and number(meant) != pid:
        return None
    microseconds = number(environ.get("WATCHDOG_USEC", ""))
    return microseconds / 1_000_000 if microseconds else None


def number(text: str) -> int | None:
    """The whole number that a variable of the service manager says; None when it says none."""
    if text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER:
        return int(text)
    return None


def _line(text: str) -> str:
    shown = text if len(text) <= LONGEST_STATUS else text[: LONGEST_STATUS - 1] + "…"
    return "".join(character if character.isprintable() else " " for character in shown)
