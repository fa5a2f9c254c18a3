"""TLS contexts: what a door shows to clients, and what we ask of servers.

Server side: one certificate, one context per listener, so that a session ticket of one door opens no other (tickets
are sealed with a key of the context). Files are looked at again on new connections, at most once a second; broken new
files keep the old ones and say so. Client side: two levels, verified or not; which one a host needs is `tlspolicy`'s.
TLS 1.2 up (RFC 9325), but for doors that are `legacy` (RFC 8996 notwithstanding: old devices).
"""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

CHECK_SECONDS: Final = 1.0
"""How often the files are looked at, at most."""

TICKET_KEY_SECONDS: Final = 12 * 3600.0
"""How long a server context, and so its session ticket key, lives."""

TRUST_SECONDS: Final = 3600.0
"""How long a client context, and so its view of the trusted authorities, lives."""

LARGEST_OCTETS: Final = 1 << 20
"""How much of a certificate or key file is read."""

Files = tuple[bytes, bytes]
"""Certificate and key, in PEM."""

_Signature = tuple[tuple[int, ...], ...]


class CertificateFault(Exception):
    """A certificate, key or authority file cannot be used; the message says which and why."""


class HeldCertificate:
    """A certificate and its key in memory, and the context of each listener that shows them.

    `files` are the two in PEM, `where` names them in errors. Raises CertificateFault when they are not usable.
    """

    def __init__(self, files: Files, where: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.fault: str | None = None
        self._where = where
        self._clock = clock
        self._contexts: dict[tuple[str, bool], ssl.SSLContext] = {}
        self._files = files
        self._renew_at = clock() + TICKET_KEY_SECONDS
        self._build(files, legacy=False)

    @property
    def files(self) -> Files:
        """What is in use."""
        return self._files

    @property
    def pem(self) -> bytes:
        """The certificate file that is in use."""
        return self._files[0]

    def context(self, listener: str, *, legacy: bool = False) -> ssl.SSLContext:
        """The context for a new connection at `listener`."""
        self._look_after()
        context = self._contexts.get((listener, legacy))
        if context is None:
            context = self._contexts[listener, legacy] = self._build(self._files, legacy=legacy)
        return context

    def take(self, files: Files) -> None:
        """Show these from now on. Raises CertificateFault; then the old ones stay."""
        self._renew(files)
        self._files = files

    def _look_after(self) -> None:
        if self._clock() >= self._renew_at:
            self._renew(self._files)

    def _renew(self, files: Files) -> None:
        """New contexts, with new ticket keys. Raises CertificateFault; then the old ones stay."""
        self._build(files, legacy=False)
        self._contexts = {name: self._build(files, legacy=name[1]) for name in self._contexts}
        self._renew_at = self._clock() + TICKET_KEY_SECONDS

    def _build(self, files: Files, *, legacy: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if legacy:
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
        else:
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.num_tickets = 1
        context.sni_callback = _note_server_name
        try:
            with _as_file(files[0]) as certificate, _as_file(files[1]) as key:
                context.load_cert_chain(certificate, key, password=_refuse_password)
        except ssl.SSLError as error:
            raise CertificateFault(f"{self._where}: {_words(error)}") from error
        except OSError as error:
            raise CertificateFault(f"{self._where}: {error.strerror or error}") from error
        return context


class ServerCertificate(HeldCertificate):
    """Certificate and key files, looked at again while they are in use.

    Both files are kept in memory as they were read: a relay that has given up root may not be able to read its key
    again, and still needs contexts. Raises CertificateFault when the files are not usable at the start. Later faults
    are given to `report` once each, and `fault` holds the one that lasts.
    """

    def __init__(
        self,
        certificate: Path,
        key: Path,
        *,
        report: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.certificate = certificate
        self.key = key
        self._report = report
        self._tried = self._used = self._look()
        super().__init__(self._read(), f"{certificate} with {key}", clock)
        self._check_at = clock() + CHECK_SECONDS

    def check(self) -> bool:
        """Look at the files now. True when they changed and are in use."""
        now = self._clock()
        self._check_at = now + CHECK_SECONDS
        changed = False
        try:
            changed = self._take_changes()
        except CertificateFault as fault:
            if str(fault) != self.fault and self._report is not None:
                self._report(str(fault))
            self.fault = str(fault)
        super()._look_after()
        return changed

    def _look_after(self) -> None:
        if self._clock() >= self._check_at:
            self.check()

    def _take_changes(self) -> bool:
        """True when the files changed and are in use now. Raises CertificateFault for new ones that cannot be used."""
        signature = self._look()
        if signature == self._used:
            self.fault = None
            return False
        if signature == self._tried and self.fault is not None:
            return False
        self._tried = signature
        self.take(self._read())
        self._used, self.fault = signature, None
        return True

    def _look(self) -> _Signature:
        found = []
        for path in (self.certificate, self.key):
            try:
                status = os.stat(path)
            except OSError as error:
                raise CertificateFault(f"{path}: {error.strerror}") from error
            # The time of change too: permission to read may be what was missing.
            found.append((status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size))
        return tuple(found)

    def _read(self) -> Files:
        found = []
        for path in (self.certificate, self.key):
            try:
                with path.open("rb") as stream:
                    found.append(stream.read(LARGEST_OCTETS))
            except OSError as error:
                raise CertificateFault(f"{path}: {error.strerror or error}") from error
        return found[0], found[1]


@contextlib.contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A path under which the ssl module, which loads from files only, finds `data`; it touches no disk where it can."""
    if not os.path.isdir("/proc/self/fd"):  # a system without; then it has to touch one
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            yield file.name
        return
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


class ClientContexts:
    """Contexts for outgoing connections, made once and shared. Raises CertificateFault for an unusable `ca`."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._unverified: ssl.SSLContext | None = None
        self._verified: dict[Path | None, tuple[float, ssl.SSLContext]] = {}

    def unverified(self) -> ssl.SSLContext:
        """Encrypts and checks nothing: the levels `opportunistic` and `require`. RFC 7435."""
        if self._unverified is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            # Weak keys of strangers are still better than no encryption, which is the alternative here.
            context.set_ciphers("DEFAULT:@SECLEVEL=1")
            self._unverified = _as_client(context)
        return self._unverified

    def verified(self, ca: Path | None = None) -> ssl.SSLContext:
        """Checks chain and name: by the authorities in `ca`, else by the system's (SSL_CERT_FILE is honoured)."""
        held = self._verified.get(ca)
        now = self._clock()
        if held is not None and now < held[0]:
            return held[1]
        try:
            context = _verifying(ca)
        except CertificateFault:
            if held is None:
                raise
            context = held[1]
        self._verified[ca] = (now + TRUST_SECONDS, context)
        return context


def _verifying(ca: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False  # RFC 9525 section 2
    if ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return _as_client(context)
    # An operator who names an intermediate authority, or the server's own certificate, means exactly that.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise CertificateFault(f"{ca}: no certificate in it: {_words(error)}") from error
    except OSError as error:
        raise CertificateFault(f"{ca}: {error.strerror or error}") from error
    return _as_client(context)


def _as_client(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def _note_server_name(
    connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext
) -> int | None:
    """Keep the name that the client asked for; `net.engine` reads it. It came from outside: printable ASCII only."""
    if name and name.isascii() and name.isprintable():
        connection.requested_name = name  # type: ignore[union-attr]
    return None


def _refuse_password() -> str:
    # Without this OpenSSL asks on the terminal, and a daemon has none.
    raise OSError("the key is encrypted; store it without a passphrase, readable by the relay only")


def _words(error: ssl.SSLError) -> str:
    reason = error.reason or str(error)
    if reason == "KEY_VALUES_MISMATCH":
        return "the key does not belong to the certificate"
    return reason.lower().replace("_", " ")
