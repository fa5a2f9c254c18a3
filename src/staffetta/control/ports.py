"""May we listen where the file says? All addresses are tried before the first is kept, so all mistakes come at once.

An address is tried by binding it and letting go. Who has a port instead is read from /proc, as far as this account may.
Unix sockets are not tried: trying would make or remove a file.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from staffetta.config.positions import Path as KeyPath
from staffetta.config.reader import Reader, label
from staffetta.config.schema import Config
from staffetta.net.endpoint import Bind
from staffetta.net.listener import BindFailed, bind

_LISTENING: Final = "0A"
"""State of a listening socket in /proc/net/tcp."""

_TABLES: Final = ("/proc/net/tcp", "/proc/net/tcp6")
_LONGEST_NAME: Final = 40


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """One address that the file wants, and the key it stands at."""

    path: KeyPath
    where: Bind


def wanted(reader: Reader, config: Config) -> Iterator[Wanted]:
    """Every address of the file that can be tried: those that were read well, with a port of their own."""
    for listen in config.listeners:
        path = ("listen", listen.name, "bind")
        if not reader.sound(*path):
            continue
        for place, where in enumerate(listen.bind):
            yield Wanted((*path, place), where)
    if config.console.bind is not None and reader.sound("console", "bind"):
        yield Wanted(("console", "bind"), config.console.bind)


def check_ports(reader: Reader, config: Config, *, ours: frozenset[int] = frozenset(), strict: bool = True) -> None:
    """Report addresses that cannot be had. `ours` are ports that our own running relay has.

    Without `strict`, what may be different for the account that serves, and a console that nobody asked for, is left
    out: they are no reason not to start.
    """
    tried: set[Bind] = set()
    for one in wanted(reader, config):
        if one.where.path or not one.where.port or one.where.port in ours or one.where in tried:
            continue
        tried.add(one.where)
        try:
            sockets = bind(one.where)
        except BindFailed as error:
            _report(reader, one, error, strict=strict)
            continue
        for sock in sockets:
            sock.close()


def _report(reader: Reader, one: Wanted, error: BindFailed, *, strict: bool) -> None:
    cause = error.__cause__
    number = cause.errno if isinstance(cause, OSError) else None
    asked_for = reader.written(*one.path[:2])
    message = f"{label(one.path)}: {error}"
    if number == errno.EACCES:
        if strict:
            reader.report("C403", one.path, message, "ask as root")
        return
    if number != errno.EADDRINUSE:
        if asked_for or strict:
            reader.report("C402", one.path, message, _cure(number))
        return
    message += f": {who}" if (who := holder(one.where.port)) else ""
    if asked_for:
        reader.report("C401", one.path, message, "stop it, or write another port")
    elif strict:
        reader.report("C404", one.path, message, 'write another port in [console] bind, or "off"')


def _cure(number: int | None) -> str:
    return "`ip address` shows those it has; * is all of them" if number == errno.EADDRNOTAVAIL else ""


def holder(port: int) -> str:
    """Who listens on a TCP port: `exim4 (process 812)`; empty when this account cannot see it."""
    inodes = {f"socket:[{inode}]" for table in _TABLES for inode in _listening(table, port)}
    if not inodes:
        return ""
    return next(
        (f"{_name(one)} (process {one})" for one in _processes() if not inodes.isdisjoint(_open_files(one))), ""
    )


def _open_files(process: str) -> Iterator[str]:
    """What the descriptors of a process are; nothing of one that is not ours to look at, or has ended."""
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError):
                yield os.readlink(f"/proc/{process}/fd/{name}")


def _listening(table: str, port: int) -> Iterator[str]:
    """Inodes of the sockets of a table that listen on a port (proc_pid_net(5))."""
    try:
        text = Path(table).read_text("ascii")
    except (OSError, ValueError):
        return
    for row in text.split("\n")[1:]:
        fields = row.split()
        if len(fields) > 9 and fields[3] == _LISTENING and fields[1].endswith(f":{port:04X}"):
            yield fields[9]


def _processes() -> list[str]:
    try:
        return [name for name in os.listdir("/proc") if name.isascii() and name.isdigit()]
    except OSError:
        return []


def _name(process: str) -> str:
    try:
        name = Path(f"/proc/{process}/comm").read_text("utf-8", "backslashreplace").strip()
    except OSError:
        name = ""
    return "".join(c for c in name if c.isprintable())[:_LONGEST_NAME] or "a program"
