"""Sockets that a service manager bound before we started: which door each of them is.

LISTEN_FDS and its kin as in sd_listen_fds(3). A socket belongs to the door whose address it has, else to the door that
its name means. What belongs to no door is an error: a port that is open and answers nothing would go unnoticed.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from staffetta.net.endpoint import Bind, endpoint_of
from staffetta.net.listener import BindFailed
from staffetta.net.notify import number

FIRST_DESCRIPTOR: Final = 3
"""Where handed-over descriptors begin, by sd_listen_fds(3)."""

_MOST: Final = 256
"""Sockets that are taken; far more than anybody has doors."""


class Doorway(msgspec.Struct, frozen=True, gc=False):
    """What matters of a door here: its name, the address it is configured with, and what it is by custom."""

    name: str
    where: Bind
    takes_logins: bool
    implicit_tls: bool

    @property
    def custom(self) -> str:
        """The name of the service, RFC 6409 and RFC 8314: `smtp`, `submission` or `submissions`."""
        if self.implicit_tls:
            return "submissions"
        return "submission" if self.takes_logins else "smtp"


class Handed(msgspec.Struct, frozen=True):
    """One socket and the name that the service manager calls it by, often empty or `unknown`."""

    name: str
    socket: socket.socket

    def __str__(self) -> str:
        where = endpoint_of(self.socket.getsockname())
        return f"{where or 'a socket'}" + (f" ({self.name})" if self.name else "")


def handed_over(environ: Mapping[str, str], pid: int) -> list[Handed]:
    """The sockets that were handed to this process; none when they are meant for another. Raises BindFailed."""
    if number(environ.get("LISTEN_PID", "")) != pid:
        return []
    count = number(environ.get("LISTEN_FDS", ""))
    if count is None or count > _MOST:
        raise BindFailed(f"LISTEN_FDS is {environ.get('LISTEN_FDS', '')!r}, which is no number of sockets")
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: list[Handed] = []
    try:
        for place in range(count):
            name = names[place] if place < len(names) else ""
            found.append(Handed("" if name == "unknown" else name, _socket(FIRST_DESCRIPTOR + place)))
    except BindFailed:
        for one in found:
            one.socket.close()
        raise
    return found


def assign(handed: Sequence[Handed], doors: Sequence[Doorway]) -> list[list[socket.socket]]:
    """For each door the sockets that are its own, none for a door that has to bind itself. Raises BindFailed."""
    found: list[list[socket.socket]] = [[] for _ in doors]
    for one in handed:
        exact = [place for place, door in enumerate(doors) if _is_at(one.socket, door.where)]
        named = [place for place, door in enumerate(doors) if one.name and door.name == one.name]
        custom = [place for place, door in enumerate(doors) if one.name and door.custom == one.name]
        places = next((places for places in (exact, named, custom) if places), [])
        if len(places) != 1:
            raise BindFailed(f"the service manager handed over {one}, which {_why(places, doors)}")
        found[places[0]].append(one.socket)
    return found


def take_over(environ: Mapping[str, str], pid: int, doors: Sequence[Doorway]) -> list[list[socket.socket]]:
    """Both steps; when it fails nothing stays open. Raises BindFailed."""
    handed = handed_over(environ, pid)
    try:
        return assign(handed, doors)
    except BindFailed:
        for one in handed:
            one.socket.close()
        raise


def _why(places: Sequence[int], doors: Sequence[Doorway]) -> str:
    if places:
        fits = ", ".join(f"{doors[place].name} {doors[place].where}" for place in places)
        return f"may be any of {fits}: give the socket the address of its door, or the door's name"
    known = ", ".join(f"{door.name} {door.where}" for door in doors) or "none"
    return f"is no door of the configuration; doors are: {known}"


def _is_at(sock: socket.socket, where: Bind) -> bool:
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return bool(where.path) and name == where.path
    end = endpoint_of(name)
    if where.path or end is None or end.port != where.port:
        return False
    if where.host == "*":
        return end.address in {"0.0.0.0", "::"}
    return end.address == where.host or (where.host == "localhost" and end.address in {"127.0.0.1", "::1"})


def _socket(descriptor: int) -> socket.socket:
    """The listening stream socket at a descriptor. Raises BindFailed."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise BindFailed(f"the service manager handed over descriptor {descriptor}, which is no socket")
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        message = f"the service manager handed over descriptor {descriptor}, which cannot be used: {error.strerror}"
        raise BindFailed(message) from error
    sock.setblocking(False)
    listens = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if not listens or sock.family not in {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX}:
        sock.close()
        raise BindFailed(f"the service manager handed over descriptor {descriptor}, which does not listen (Accept=no)")
    return sock
