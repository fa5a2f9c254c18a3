"""How the relay stands: what the running one says of itself, what store and disk say, put together as one answer.

The running relay answers from memory only, so asking costs it nothing; counting the queue is the asker's work, on a
connection of its own. Without a running relay the store still tells its half. What is a problem is judged here, once.
"""

from __future__ import annotations

import datetime as dates
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from staffetta import __version__
from staffetta.config.schema import Config
from staffetta.control.answer import Answer, moment
from staffetta.control.channel import NotReachable, ReloadReport, Status, ask
from staffetta.control.filters import route_of
from staffetta.observe.alarms import Alarm
from staffetta.spool.contract import Ledger, State
from staffetta.spool.operator import Down, Standing, Store, standing

if TYPE_CHECKING:
    from cryptography import x509

NAMES_SHOWN: Final = 20
"""Names of a certificate that are told."""

LOW_DISK_OCTETS: Final = 256 << 20
"""Less free space than this is nearly full: the store keeps 32 MiB for finishing what is queued, and refuses before."""

LOW_DISK_SHARE: Final = 0.05
"""Less than this share is nearly full, on disks where that is less than LOW_SHARE_OCTETS."""

LOW_SHARE_OCTETS: Final = 4 << 30
SMALL_DISK_SHARE: Final = 0.2
"""On a disk smaller than a few times LOW_DISK_OCTETS this share counts instead."""


class Listening(msgspec.Struct, frozen=True, gc=False):
    """One address at which the relay listens, and how many clients are there now."""

    name: str
    address: str
    role: str
    tls: str
    sessions: int


class WorkerFacts(msgspec.Struct, frozen=True, gc=False):
    """A process that takes mail in, and how many clients it has."""

    pid: int
    sessions: int


class CertificateFacts(msgspec.Struct, frozen=True, gc=False):
    """A certificate that doors show. `days_left` is below 0 when it is over; `fault`: why it cannot be read again."""

    subject: str
    names: tuple[str, ...]
    file: str
    expires_at: datetime | None
    days_left: int | None
    fault: str | None = None


class Running(msgspec.Struct, frozen=True, gc=False):
    """What a running relay says of itself. `file` is its configuration, `digest` names the text in force."""

    version: str
    hostname: str
    pid: int
    started_at: datetime
    file: str
    digest: str
    listeners: tuple[Listening, ...]
    certificates: tuple[CertificateFacts, ...]
    reload: ReloadReport | None
    alarms: tuple[Alarm, ...]
    workers: tuple[WorkerFacts, ...] = ()


class QueueCounts(msgspec.Struct, frozen=True, gc=False):
    """Recipients by state."""

    queued: int
    active: int
    deferred: int
    held: int


class QueueOldest(msgspec.Struct, frozen=True, gc=False):
    """When the longest waiting recipient of each state arrived."""

    queued: datetime | None
    active: datetime | None
    deferred: datetime | None
    held: datetime | None


class Books(msgspec.Struct, frozen=True, gc=False):
    """The ledger; `unaccounted` is zero, or there is a bug."""

    accepted: int
    delivered: int
    bounced: int
    dropped: int
    queued: int
    unaccounted: int


class Trouble(msgspec.Struct, frozen=True, gc=False):
    """A destination that is down: nothing is tried before `down_until`."""

    destination: str
    route: str
    down_until: datetime
    failures: int
    waiting: int
    last_reply: str


class Disk(msgspec.Struct, frozen=True, gc=False):
    """The disk of the data directory, and what the queue takes of it, in octets."""

    path: str
    free: int
    total: int
    queue: int


class StatusAnswer(Answer, frozen=True, gc=False):
    """One screen of health. Without a running relay `started_at` is None and `listeners` is empty.

    `problems` are sentences for people: with none of them all is well."""

    version: str
    hostname: str
    started_at: datetime | None
    listeners: tuple[Listening, ...]
    queue: QueueCounts
    ledger: Books
    oldest: QueueOldest
    destinations: tuple[Trouble, ...]
    certificates: tuple[CertificateFacts, ...]
    disk: Disk
    reload: ReloadReport | None
    alarms: tuple[Alarm, ...]
    problems: tuple[str, ...]
    pid: int | None
    file: str
    configuration: str
    workers: tuple[WorkerFacts, ...] = ()


class Known(msgspec.Struct, frozen=True):
    """Where to ask when nobody answers: the hostname and the certificates that the configuration names."""

    hostname: str
    certificates: tuple[CertificateFacts, ...]


def running(data_dir: Path) -> Running | NotReachable:
    """What the relay of a data directory says, or why it says nothing. Raises RequestFailed, place.NotAllowed."""
    try:
        return ask(data_dir, Status(), Running)
    except NotReachable as error:
        return error


def status(store: Store, live: Running | None, known: Known, now: float) -> StatusAnswer:
    """Everything, and what is wrong with it."""
    stands = standing(store, now)
    disk = disk_of(store.data_dir, stands.octets)
    certificates = live.certificates if live else known.certificates
    alarms = live.alarms if live else ()
    reload = live.reload if live else None
    return StatusAnswer(
        live.version if live else __version__,
        live.hostname if live else known.hostname,
        live.started_at if live else None,
        live.listeners if live else (),
        _counts(stands),
        _books(stands.ledger),
        _oldest(stands),
        tuple(map(_trouble, stands.down)),
        certificates,
        disk,
        reload,
        alarms,
        problems_of(stands.ledger, certificates, disk, reload, alarms),
        live.pid if live else None,
        live.file if live else "",
        live.digest if live else "",
        live.workers if live else (),
    )


def problems_of(
    ledger: Ledger,
    certificates: tuple[CertificateFacts, ...],
    disk: Disk,
    reload: ReloadReport | None,
    alarms: tuple[Alarm, ...],
) -> tuple[str, ...]:
    """What somebody has to look at, in sentences; the worst first."""
    found: list[str] = []
    if ledger.unaccounted:
        found.append(f"the books do not balance: {ledger.unaccounted} recipients are unaccounted for; please report it")
    if is_nearly_full(disk):
        found.append(
            f"the disk of {disk.path} is nearly full: {disk.free >> 20} MiB of {disk.total >> 20} MiB are free"
        )
    for one in certificates:
        if one.days_left is not None and one.days_left < 0:
            found.append(f"the certificate of {one.subject} has expired; renew it")
        if one.fault:
            found.append(f"the certificate files cannot be read again, those of before are in use: {one.fault}")
    if reload is not None and not reload.done:
        found.append(f"the last reload was refused, the configuration of before is in force: {reload.reason}")
    found += [f"{alarm.name}: {alarm.text}" for alarm in alarms]
    return tuple(found)


def is_nearly_full(disk: Disk) -> bool:
    """True when new mail will soon be refused."""
    if disk.free < min(LOW_DISK_OCTETS, disk.total * SMALL_DISK_SHARE):
        return True
    return disk.free < min(disk.total * LOW_DISK_SHARE, LOW_SHARE_OCTETS)


def disk_of(data_dir: Path, queue: int) -> Disk:
    """Space as the relay's account may use it."""
    found = os.statvfs(data_dir)
    return Disk(str(data_dir), found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, queue)


def certificate_facts(pem: bytes, file: Path, now: float, fault: str | None = None) -> CertificateFacts:
    """What matters of a certificate file's first certificate."""
    from cryptography import x509  # noqa: PLC0415 - slow to import, needed only here

    try:
        one = x509.load_pem_x509_certificate(pem)
    except ValueError:
        return CertificateFacts("", (), str(file), None, None, fault or "it is no PEM certificate")
    names = _names(one)
    common = one.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    subject = names[0] if names else str(common[0].value) if common else one.subject.rfc4514_string()
    end = one.not_valid_after_utc
    days = (end - moment(now)) // dates.timedelta(days=1)
    return CertificateFacts(subject, names[:NAMES_SHOWN], str(file), end, days, fault)


def known_from(config: Config, now: float) -> Known:
    """What the file alone tells; a certificate that this account may not read is left out."""
    if config.tls is None:
        return Known(config.hostname.ascii, ())
    try:
        pem = config.tls.certificate.read_bytes()
    except OSError:
        return Known(config.hostname.ascii, ())
    return Known(config.hostname.ascii, (certificate_facts(pem, config.tls.certificate, now),))


def _names(one: x509.Certificate) -> tuple[str, ...]:
    from cryptography import x509  # noqa: PLC0415

    try:
        extension = one.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(extension.value.get_values_for_type(x509.DNSName))


def _counts(stands: Standing) -> QueueCounts:
    counts = stands.counts
    return QueueCounts(counts[State.QUEUED], counts[State.ACTIVE], counts[State.DEFERRED], counts[State.HELD])


def _oldest(stands: Standing) -> QueueOldest:
    def when(state: State) -> datetime | None:
        found = stands.oldest.get(state)
        return None if found is None else moment(found)

    return QueueOldest(when(State.QUEUED), when(State.ACTIVE), when(State.DEFERRED), when(State.HELD))


def _books(ledger: Ledger) -> Books:
    return Books(ledger.accepted, ledger.delivered, ledger.bounced, ledger.dropped, ledger.queued, ledger.unaccounted)


def _trouble(down: Down) -> Trouble:
    return Trouble(
        down.destination,
        route_of(down.destination),
        moment(down.not_before),
        down.failures,
        down.waiting,
        down.last_reply,
    )
