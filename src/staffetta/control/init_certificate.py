"""A certificate for trying: signed by itself, and saying so to everybody who looks at it."""

from __future__ import annotations

import datetime
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SAYS: Final = "Self-signed by staffetta init, for trying only"
"""The organisation in subject and issuer."""

VALID_DAYS: Final = 365

_LONGEST_COMMON_NAME: Final = 64
"""X.520's bound; the name that counts stands in the alternative names anyway."""


class Pair(msgspec.Struct, frozen=True, gc=False):
    """Certificate and private key, PEM."""

    certificate: bytes
    key: bytes


def self_signed(hostname: str, now: datetime.datetime) -> Pair:
    """A pair for one name, an A-label, valid from a day before `now` for VALID_DAYS."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, SAYS)]
    if len(hostname) <= _LONGEST_COMMON_NAME:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, hostname))
    name = x509.Name(attributes)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain),
    )
