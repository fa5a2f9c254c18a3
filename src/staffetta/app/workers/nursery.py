"""The process that makes door workers: forked while the relay has neither threads nor a loop, so it may fork for ever.

It holds the imported code and nothing else, so its children share memory with it and with the main process, and one
that crashed is replaced at once. When the main process ends, whatever the reason, it and all workers end with it
(the end of the socket, and PR_SET_PDEATHSIG of prctl(2)), so that nothing keeps a port.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_ORDER: Final = struct.Struct("<I")
_END: Final = struct.Struct("<ii")
_FIRST_FILE: Final = 3

Work = Callable[[socket.socket, int], int]
"""What a child does with its wire and its place; its exit status."""


class NurseryGone(Exception):
    """The process that makes workers has ended."""


class Nursery:
    """The main process's end."""

    def __init__(self, sock: socket.socket, pid: int) -> None:
        self.pid = pid
        self._socket = sock

    @classmethod
    def open(cls, work: Work, begin: Callable[[], None]) -> Nursery:
        """Fork it. `begin` runs in it first, and may give up root. The caller has no threads and no loop."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        gc.collect()
        gc.freeze()  # what is shared stays shared: the collector does not write to it in any of the processes
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                ours.close()
                _live(theirs, parent, work, begin)
                status = 0
            finally:
                os._exit(status)
        theirs.close()
        ours.setblocking(False)
        return cls(ours, pid)

    def fileno(self) -> int:
        """Readable when a worker has ended, or the nursery itself."""
        return self._socket.fileno()

    def fork(self, place: int, wire: socket.socket) -> None:
        """Make a worker for a place, at the other end of `wire`. Raises NurseryGone."""
        try:
            socket.send_fds(self._socket, [_ORDER.pack(place)], [wire.fileno()])
        except OSError as error:
            raise NurseryGone(str(error)) from error

    def ended(self) -> Iterator[tuple[int, int]]:
        """Process ids and wait statuses of workers that have ended. Raises NurseryGone."""
        while True:
            try:
                data = self._socket.recv(_END.size)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                raise NurseryGone(str(error)) from error
            if len(data) != _END.size:
                raise NurseryGone("it has ended")
            pid, status = _END.unpack(data)
            yield pid, status

    def close(self) -> None:
        """End it, and all workers that are left."""
        if self._socket.fileno() < 0:
            return
        self._socket.close()
        with suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
        with suppress(OSError):
            os.waitpid(self.pid, 0)


def _live(orders: socket.socket, parent: int, work: Work, begin: Callable[[], None]) -> None:
    """The nursery: fork when asked, until nobody can ask any more."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # those who stop the relay may ask all its processes; the first decides
    _close_files_but(orders.fileno())
    begin()
    _end_with(parent)  # after `begin`: becoming another account would undo it
    signal.signal(signal.SIGCHLD, lambda *_: _bury(orders))
    mine = os.getpid()
    while True:
        data, files, _, _ = socket.recv_fds(orders, _ORDER.size, 1)
        if not data:
            return
        (place,) = _ORDER.unpack(data)
        if os.fork() == 0:
            status = 1
            try:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                orders.close()
                _end_with(mine)
                status = work(socket.socket(fileno=files[0]), place)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(status)
        os.close(files[0])


def _bury(orders: socket.socket) -> None:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with suppress(OSError):
                orders.send(_END.pack(pid, status))


def _end_with(parent: int) -> None:
    """Be killed when the parent ends. Where the system cannot do that, the end of the socket has to do."""
    if sys.platform == "linux":
        with suppress(ImportError, OSError, MemoryError, AttributeError):  # a sandbox may allow no foreign functions
            import ctypes  # noqa: PLC0415

            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has ended meanwhile
        os._exit(1)


def _close_files_but(kept: int) -> None:
    """Sockets that a service manager handed over are the main process's to close."""
    listing = "/proc/self/fd"
    end = max(map(int, os.listdir(listing))) if os.path.isdir(listing) else os.sysconf("SC_OPEN_MAX")
    os.closerange(_FIRST_FILE, kept)
    os.closerange(kept + 1, end + 1)
