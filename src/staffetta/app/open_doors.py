"""The doors that stand open: one for each address, kept over a reload when its address is still wanted.

A door whose table in the file did not change keeps its socket and its sessions. One that changed keeps its socket; its
sessions end at their next command boundary, so that nobody goes on by rules that are gone. One that is gone closes.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from staffetta.app.doors import doors_of
from staffetta.config.schema import Config, Listen
from staffetta.intake.door import DoorSettings, House
from staffetta.intake.session import Session
from staffetta.net.endpoint import Bind
from staffetta.net.listener import BACKLOG, BindFailed, Listener
from staffetta.net.stream import TcpStream
from staffetta.net.tls import HeldCertificate

BindTo = Callable[[Bind], list[socket.socket]]


class Opening(msgspec.Struct, frozen=True):
    """A door as a configuration wants it: where, its table in the file, and what that means for its sessions."""

    where: Bind
    listen: Listen
    settings: DoorSettings


def openings_of(config: Config, certificate: HeldCertificate | None) -> list[Opening]:
    """The doors that a configuration wants. Their contexts are made here, while we are still root. Raises
    CertificateFault."""
    tables = {listen.name: listen for listen in config.listeners}
    found = [Opening(where, tables[settings.name], settings) for where, settings in doors_of(config, certificate)]
    for opening in found:
        if opening.settings.context is not None:
            opening.settings.context()
    return found


class OpenDoor:
    """One address at which we listen. `opening` is changed by a reload, for sessions that come after it.

    `elsewhere` are clients of it in other processes of ours. `divert` may take a connection before it is a session.
    """

    def __init__(self, opening: Opening, sockets: Sequence[socket.socket], house: House) -> None:
        self.opening = opening
        self.elsewhere = 0
        self.divert: Callable[[TcpStream], bool] | None = None
        self.listener = Listener(opening.settings.name, sockets, self.greet)
        self._house = house
        self._sessions: set[Session] = set()

    @property
    def name(self) -> str:
        """The name of its table."""
        return self.opening.settings.name

    @property
    def sessions(self) -> list[Session]:
        """Who is there now."""
        return list(self._sessions)

    @property
    def clients(self) -> int:
        """How many are there now, in whichever process."""
        return len(self._sessions) + self.elsewhere

    def addresses(self) -> tuple[str, ...]:
        """`mx 127.0.0.1:25`, for each socket."""
        return tuple(f"{self.name} {endpoint}" for endpoint in self.listener.endpoints)

    def end_sessions(self) -> None:
        """421 at the next command boundary, to everybody (RFC 5321 section 3.8)."""
        for session in self.sessions:
            try:
                session.stop()
            except Exception as error:  # one session's bug must not keep the others
                self._house.report(error)

    def greet(self, stream: TcpStream) -> Session | None:
        """A client has come; None when somebody else takes it."""
        if self.divert is not None and self.divert(stream):
            return None
        return Session(stream, self._house, self.opening.settings, self._sessions)


class DoorChange(msgspec.Struct, frozen=True):
    """What a reload does to the doors. `kept` are pairs of a door and what is wanted of it now."""

    kept: tuple[tuple[OpenDoor, Opening], ...]
    added: tuple[Opening, ...]
    gone: tuple[OpenDoor, ...]

    def adopt(self) -> None:
        """New sessions see the new settings; sessions of doors that changed or are gone come to their end."""
        for door, opening in self.kept:
            changed = same_door(door.opening.listen) != same_door(opening.listen)
            door.opening = opening
            if changed:
                door.end_sessions()
        for door in self.gone:
            door.listener.stop()
            door.end_sessions()


_NOWHERE: Final[tuple[Bind, ...]] = ()


def same_door(listen: Listen) -> Listen:
    """A door's table without its addresses: whether one more is listened at changes nothing for the others."""
    return msgspec.structs.replace(listen, bind=_NOWHERE)


def compare(doors: Iterable[OpenDoor], wanted: Sequence[Opening]) -> DoorChange:
    """Which doors stay, by name and address, or by address alone where a door was given another name."""
    left = list(doors)
    kept: dict[int, OpenDoor] = {}
    for by_name in (True, False):
        for place, opening in enumerate(wanted):
            if place not in kept and (found := _find(left, opening, by_name)) is not None:
                kept[place] = found
                left.remove(found)
    pairs = tuple((kept[place], opening) for place, opening in enumerate(wanted) if place in kept)
    added = tuple(opening for place, opening in enumerate(wanted) if place not in kept)
    return DoorChange(pairs, added, tuple(left))


def bind_added(change: DoorChange, house: House, bind: BindTo) -> list[OpenDoor]:
    """Doors for what is added: bound and listening, but with nobody at them yet. Raises BindFailed; then none is."""
    made: list[OpenDoor] = []
    try:
        for opening in change.added:
            made.append(OpenDoor(opening, _listening(opening, change, bind), house))  # noqa: PERF401 - what was made is undone
    except BaseException:
        for door in made:
            door.listener.stop()
        raise
    return made


def in_order(openings: Iterable[Opening], change: DoorChange, added: Iterable[OpenDoor]) -> list[OpenDoor]:
    """The doors of a change, in the order of the openings that it was made from."""
    found = {id(opening): door for door, opening in change.kept}
    found.update((id(door.opening), door) for door in added)
    return [found[id(opening)] for opening in openings]


def _listening(opening: Opening, change: DoorChange, bind: BindTo) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        sockets = bind(opening.where)
        for sock in sockets:
            sock.listen(BACKLOG)
    except (BindFailed, OSError) as error:
        for sock in sockets:
            sock.close()
        why = error if isinstance(error, BindFailed) else BindFailed(f"{opening.where}: {error.strerror or error}")
        raise _explained(why, error, opening, change) from error
    return sockets


def _explained(why: BindFailed, error: Exception, opening: Opening, change: DoorChange) -> BindFailed:
    """Where a door of our own is in the way, say so: it cannot make place before we know that all goes well."""
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, PermissionError):
        return BindFailed(f"{why}; a relay that started as root can do it at its start only: restart it")
    if isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE:
        ours = [*change.gone, *(door for door, _ in change.kept)]
        for door in ours:
            if door.opening.where.port == opening.where.port and not opening.where.path:
                return BindFailed(
                    f"{opening.where}: this relay's own door {door.name} at {door.opening.where} is in the way;"
                    " restart to replace it"
                )
    return why


def _find(doors: Iterable[OpenDoor], opening: Opening, by_name: bool) -> OpenDoor | None:
    anonymous = not opening.where.port and not opening.where.path  # of port 0 there may be many
    for door in doors:
        if door.opening.where != opening.where:
            continue
        if door.name == opening.settings.name if by_name else not anonymous:
            return door
    return None
