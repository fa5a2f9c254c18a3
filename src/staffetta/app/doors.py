"""The doors: what `[listen.NAME]` means for the dialogue and for the judges."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from staffetta.config.schema import Config, DoorTls, Listen
from staffetta.intake.door import DoorSettings
from staffetta.mail.address import Mailbox
from staffetta.mail.network import NetworkSet
from staffetta.net.endpoint import Bind
from staffetta.net.tls import HeldCertificate
from staffetta.policy.acceptance import AcceptanceSettings
from staffetta.policy.door import Door, Role
from staffetta.protocol.extensions import ServerSettings


def doors_of(config: Config, certificate: HeldCertificate | None) -> list[tuple[Bind, DoorSettings]]:
    """Every address to bind, with the settings of the door behind it."""
    return [
        (where, _door(config, listen, listen.tls_at(where.port), certificate))
        for listen in config.listeners
        for where in listen.bind
    ]


def _door(config: Config, listen: Listen, tls: DoorTls, certificate: HeldCertificate | None) -> DoorSettings:
    role = Role(listen.role.value)
    offers_tls = certificate is not None and tls is not DoorTls.OFF
    auth = listen.auth and offers_tls
    limits = config.limits
    senders = frozenset(sender.folded() if isinstance(sender, Mailbox) else sender for sender in listen.from_)
    return DoorSettings(
        door=Door(listen.name, role, auth, senders, listen.from_fixed),
        core=ServerSettings(
            hostname=config.hostname.ascii,
            message_size=limits.message_size,
            recipients=limits.recipients,
            commands=limits.commands_per_session,
            starttls=offers_tls and tls is not DoorTls.IMPLICIT,
            auth=auth,
            normalise=role is not Role.MX,
        ),
        implicit_tls=tls is DoorTls.IMPLICIT,
        context=_context(certificate, listen.name, legacy=tls is DoorTls.LEGACY) if offers_tls else None,
        trust=NetworkSet(listen.trust) if listen.trust else None,
        proxies=NetworkSet(listen.proxy_protocol) if listen.proxy_protocol else None,
        idle_seconds=limits.idle_seconds,
        acceptance=AcceptanceSettings(limits.message_size, limits.hops),
    )


def _context(certificate: HeldCertificate | None, name: str, *, legacy: bool) -> Callable[[], ssl.SSLContext]:
    if certificate is None:
        raise ValueError("a door with TLS needs a certificate")
    kept = certificate
    return lambda: kept.context(name, legacy=legacy)
