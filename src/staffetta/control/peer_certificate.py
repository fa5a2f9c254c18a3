"""What a certificate that a server showed says of itself. Its texts come from outside: whoever prints them escapes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec
from cryptography import x509

NAMES: Final = 20
"""Names of a certificate that are told."""


class CertificateFacts(msgspec.Struct, frozen=True, gc=False):
    """Whose certificate, given by whom, for which names, and until when."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_after: datetime
    self_signed: bool

    def days_left(self, now: float) -> int:
        """Whole days until it ends; negative when it has."""
        return (self.not_after - datetime.fromtimestamp(now, UTC)).days


def certificate_facts(der: bytes) -> CertificateFacts | None:
    """The facts of a certificate in DER; None when it cannot be read."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        subject, issuer = certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string()
        not_after = certificate.not_valid_after_utc
    except ValueError:
        return None
    return CertificateFacts(subject, issuer, _names(certificate), not_after, subject == issuer)


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    names = [
        str(name.value) for name in extension.value if isinstance(name, x509.DNSName | x509.IPAddress)
    ]  # fmt: skip
    return tuple(names[:NAMES])
