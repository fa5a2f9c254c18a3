"""What a running relay says of itself when it is asked by its control socket, from memory alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

from staffetta import __version__
from staffetta.app.control_socket import ControlSocket
from staffetta.app.open_doors import OpenDoor
from staffetta.app.relay import Relay
from staffetta.app.reload import Reloads
from staffetta.control.channel import Ping, Pong, Reload, ReloadReport, Status, Wake
from staffetta.control.status import CertificateFacts, Listening, Running, WorkerFacts, certificate_facts
from staffetta.observe.events import moment


class Standing:
    """The answers of one relay to `ping`, `status`, `reload` and `wake`. `file` is its configuration."""

    def __init__(self, relay: Relay, reloads: Reloads, file: Path) -> None:
        self._relay = relay
        self._reloads = reloads
        self._file = str(file)

    def register(self, control: ControlSocket) -> None:
        """Answer at this socket."""
        control.register(Ping, self.ping)
        control.register(Status, self.status)
        control.register(Reload, self.reload)
        control.register(Wake, self.wake)

    async def ping(self, _: Ping) -> Pong:
        """Here we are; the socket opens after the doors."""
        relay = self._relay
        return Pong(os.getpid(), __version__, relay.config.hostname.ascii, relay.addresses(), self._file, relay.digest)

    async def wake(self, _: Wake) -> Pong:
        """Look at the store now."""
        self._relay.parts.dispatcher.wake()
        return await self.ping(Ping())

    async def reload(self, request: Reload) -> ReloadReport:
        """Read the file again, and say what became of it."""
        return await self._reloads.reload(request.by or "a command")

    async def status(self, _: Status) -> Running:
        """How we are."""
        relay, staff = self._relay, self._relay.staff
        if staff is not None:
            await staff.count()
        return Running(
            __version__,
            relay.config.hostname.ascii,
            os.getpid(),
            moment(relay.started_at),
            self._file,
            relay.digest,
            tuple(one for door in relay.doors for one in _listening(door)),
            _certificates(relay),
            self._reloads.last,
            relay.parts.alarms.active(),
            () if staff is None else tuple(WorkerFacts(pid, sessions) for pid, sessions in staff.workers),
        )


def _listening(door: OpenDoor) -> list[Listening]:
    """A door's sockets; who came by which is not known, so the first of them shows all."""
    settings = door.opening.settings
    tls = "off" if settings.context is None else door.opening.listen.tls_at(door.opening.where.port).value
    sessions = door.clients
    return [
        Listening(door.name, str(endpoint), settings.door.role.value, tls, 0 if place else sessions)
        for place, endpoint in enumerate(door.listener.endpoints)
    ]


def _certificates(relay: Relay) -> tuple[CertificateFacts, ...]:
    certificate = relay.certificate
    if certificate is None:
        return ()
    certificate.check()
    return (certificate_facts(certificate.pem, certificate.certificate, time.time(), certificate.fault),)
