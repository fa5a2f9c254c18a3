"""Asking the relay that runs: one JSON line to `control.sock` in its data directory, one JSON line back.

A request is a tagged struct, so that others can add theirs: derive from `Request` here or elsewhere, and register it
with the server of `app.control_socket`. Only root and the account of the relay are let in, by the permissions of the
folder and again by the server. This side is synchronous and never waits longer than it is told.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from staffetta.control.place import NotAllowed, NothingThere, as_owner, who_may
from staffetta.spool.recovery import relay_pid

SOCKET_NAME: Final = "control.sock"
"""The file in `data_dir`."""

LONGEST_REQUEST_OCTETS: Final = 64 * 1024
"""Octets of a request line that the server reads."""

LONGEST_ANSWER_OCTETS: Final = 4 << 20
"""Octets of an answer that a command reads."""

LONGEST_PATH_OCTETS: Final = 107
"""What the system takes as the path of a socket (sun_path, less its end)."""

ANSWER_SECONDS: Final = 5.0
"""How long an answer may take that needs no work."""

Wanted = TypeVar("Wanted")


class Request(msgspec.Struct, frozen=True, gc=False, tag_field="ask", tag=str.lower):
    """What a command asks of the relay."""


class Ping(Request, frozen=True, gc=False):
    """Are you there? Answered by Pong."""


class Status(Request, frozen=True, gc=False):
    """How are you? Answered by control.status.Running."""


class Reload(Request, frozen=True, gc=False):
    """Read your configuration again. Answered by ReloadReport. `by` is who asks."""

    by: str = ""


class Wake(Request, frozen=True, gc=False):
    """The store was changed: look at it now. Answered by Pong."""


class Pong(msgspec.Struct, frozen=True, gc=False):
    """The relay is there, and its doors are open. `listeners` as in the event `ready`; `file` is what it was read from,
    `digest` the first 8 hexadecimal digits of its SHA-256."""

    pid: int
    version: str
    hostname: str
    listeners: tuple[str, ...]
    file: str
    digest: str


class ReloadReport(msgspec.Struct, frozen=True, gc=False):
    """What became of a reload. `digest` names the configuration that is in force after it; `reason` says what changed,
    or why it was refused; `problems` are mistakes and warnings of the file."""

    at: datetime
    done: bool
    reason: str
    digest: str
    by: str
    problems: tuple[str, ...] = ()


class Done(msgspec.Struct, frozen=True, gc=False, tag_field="result", tag="done"):
    """The request was carried out."""

    answer: msgspec.Raw


class Failed(msgspec.Struct, frozen=True, gc=False, tag_field="result", tag="failed"):
    """The request was not. `code` is `malformed` (no such request either) or `internal`."""

    code: str
    message: str


Reply = Done | Failed


class NotReachable(Exception):
    """No relay answers; the message says why. `pid` is that of one that is alive all the same."""

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class RequestFailed(Exception):
    """The relay answered that it could not; `code` as in Failed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def ask(data_dir: Path, request: Request, answer: type[Wanted], seconds: float = ANSWER_SECONDS) -> Wanted:
    """Ask the relay of a data directory. Raises NotReachable, RequestFailed, place.NotAllowed."""
    try:
        with as_owner(data_dir):
            line = _exchange(data_dir, msgspec.json.encode(request) + b"\n", time.monotonic() + seconds)
        reply: Reply = msgspec.json.decode(line, type=Reply)
        if isinstance(reply, Failed):
            raise RequestFailed(reply.code, reply.message)
        return msgspec.json.decode(reply.answer, type=answer)
    except NothingThere as error:
        raise NotReachable(f"no relay runs: {error}") from error
    except TimeoutError as error:
        raise _unreachable(data_dir, f"it did not answer within {seconds:g} s") from error
    except PermissionError as error:
        raise NotAllowed(f"only {who_may(data_dir)} may ask a relay on {data_dir}") from error
    except OSError as error:
        raise _unreachable(data_dir, f"{SOCKET_NAME}: {error.strerror or error}") from error
    except msgspec.MsgspecError as error:
        raise _unreachable(data_dir, f"its answer makes no sense: {error}") from error


def _unreachable(data_dir: Path, why: str) -> NotReachable:
    pid = relay_pid(data_dir)
    if pid is None:
        return NotReachable(f"no relay runs on {data_dir}")
    return NotReachable(f"the relay on {data_dir} (process {pid or 'unknown'}) cannot be asked: {why}", pid)


def _exchange(data_dir: Path, request: bytes, deadline: float) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line, short_path(data_dir) as path:
        line.settimeout(_left(deadline))
        line.connect(path)
        line.sendall(request)
        heard = bytearray()
        while b"\n" not in heard:
            line.settimeout(_left(deadline))
            piece = line.recv(65536)
            heard += piece
            if not piece or len(heard) > LONGEST_ANSWER_OCTETS:
                raise ConnectionError("it hung up")
        return bytes(heard)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


@contextlib.contextmanager
def short_path(data_dir: Path) -> Iterator[str]:
    """A path of the socket that is short enough for the system, also where the folder's own is not. Raises OSError."""
    path = str(data_dir / SOCKET_NAME)
    if len(os.fsencode(path)) <= LONGEST_PATH_OCTETS:
        yield path
        return
    descriptor = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        way = f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
        if not os.path.isdir(os.path.dirname(way)):
            raise OSError(f"the path {path} is longer than {LONGEST_PATH_OCTETS} octets, too long for a socket")
        yield way
    finally:
        os.close(descriptor)
