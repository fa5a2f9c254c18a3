"""What the file names outside itself: certificates, keys, accounts, folders. Looked at, never changed."""

from __future__ import annotations

import datetime
import pwd
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Final

from staffetta.config.positions import Path
from staffetta.config.reader import Reader, label
from staffetta.config.schema import Config, DkimKey
from staffetta.config.secret import read_file
from staffetta.config.values import quoted

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_SMALLEST_RSA: Final = 2048
_NAMES_SHOWN: Final = 3


def check_files(reader: Reader, config: Config, now: float) -> None:
    """Report files that are not there, not readable, or not what they should be. `now` in seconds since the epoch."""
    _tls(reader, config, now)
    for route in config.routes:
        if route.ca is not None:
            _certificates(reader, ("route", route.name, "ca"), route.ca)
    for domain in config.domains:
        if isinstance(domain.dkim, DkimKey):
            _private_key(reader, (*reader.domain_path(domain.domain), "dkim", "key"), domain.dkim.key)
    _account(reader, config)
    if config.data_dir.exists() and not config.data_dir.is_dir() and reader.written("data_dir"):
        reader.report("C315", ("data_dir",), "data_dir is a file", "name a folder")


def _tls(reader: Reader, config: Config, now: float) -> None:
    written = {name: reader.written("tls", name) for name in ("certificate", "key")}
    if reader.written("tls") and not all(written.values()):
        if not any(written.values()):
            reader.report("C306", ("tls",), "[tls] has no certificate and no key", "write both", at="key")
            return
        there, missing = ("certificate", "key") if written["certificate"] else ("key", "certificate")
        message = f"[tls] has {there} without {missing}"
        reader.report("C306", ("tls", there), message, f"write {missing} too", at="key")
    if config.tls is None:
        return
    chain = _certificates(reader, ("tls", "certificate"), config.tls.certificate)
    key = _private_key(reader, ("tls", "key"), config.tls.key)
    if not chain:
        return
    if key is not None and chain[0].public_key() != key.public_key():
        later = any(one.public_key() == key.public_key() for one in chain[1:])
        cure = "put the server's own certificate first in the file" if later else "name the key it was made for"
        reader.report("C304", ("tls", "key"), "[tls] key is not the key of the certificate", cure)
    _validity(reader, chain[0], now)
    _names(reader, chain[0], config)


def _written_name(reader: Reader, path: Path, file: FilePath) -> str:
    try:
        return str(file.relative_to(reader.base))
    except ValueError:
        return str(file)


def _certificates(reader: Reader, path: Path, file: FilePath) -> list[x509.Certificate]:
    from cryptography import x509  # noqa: PLC0415  (slow to import, needed only here)

    name = _written_name(reader, path, file)
    data = read_file(reader, path, file, name)
    if data is None:
        return []
    try:
        return list(x509.load_pem_x509_certificates(data))
    except ValueError:
        holds = "holds a private key, not a certificate" if b"PRIVATE KEY-----" in data else "is no PEM certificate"
        reader.report("C303", path, f"{label(path)}: {name} {holds}", _pem_words(data, "CERTIFICATE"))
        return []


def _private_key(reader: Reader, path: Path, file: FilePath) -> PrivateKeyTypes | None:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    name = _written_name(reader, path, file)
    data = read_file(reader, path, file, name)
    if data is None:
        return None
    try:
        key = load_pem_private_key(data, None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        reader.report("C316", path, f"{label(path)}: {name} needs a passphrase", "store it without one, chmod 600")
        return None
    except (ValueError, UnsupportedAlgorithm):
        holds = "is no PEM private key"
        if b"BEGIN CERTIFICATE-----" in data and b"PRIVATE KEY-----" not in data:
            holds = "holds a certificate, not a private key"
        reader.report("C303", path, f"{label(path)}: {name} {holds}", _pem_words(data, "PRIVATE KEY"))
        return None
    if isinstance(key, RSAPrivateKey) and key.key_size < _SMALLEST_RSA:
        message = f"{label(path)}: {name} is an RSA key of {key.key_size} bits"
        reader.report("C313", path, message, "make one of 2048 bits, or an elliptic one")
    return key


def _pem_words(data: bytes, kind: str) -> str:
    if data[:1] == b"\x30":
        return "it is DER; convert it with openssl: -inform der -outform pem"
    return f"it should have a line -----BEGIN {kind}-----"


def _validity(reader: Reader, certificate: x509.Certificate, now: float) -> None:
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    path = ("tls", "certificate")
    if certificate.not_valid_after_utc < moment:
        day = certificate.not_valid_after_utc.date()
        reader.report("C305", path, f"[tls] certificate expired on {day}", "renew it")
    elif certificate.not_valid_before_utc > moment:
        day = certificate.not_valid_before_utc.date()
        reader.report("C305", path, f"[tls] certificate begins on {day}", "is the clock of this machine right?")


def _names(reader: Reader, certificate: x509.Certificate, config: Config) -> None:
    from cryptography import x509  # noqa: PLC0415

    if not reader.sound("hostname"):
        return
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = [name.lower() for name in extension.value.get_values_for_type(x509.DNSName)]
    except (x509.ExtensionNotFound, ValueError):
        names = []
    host = config.hostname.ascii
    if host in names or "*." + host.partition(".")[2] in names:
        return
    shown = ", ".join(quoted(name) for name in names[:_NAMES_SHOWN]) or "no name"
    message = f"[tls] certificate is for {shown}, not for {quoted(host)}"
    reader.report("C312", ("tls", "certificate"), message, "add the hostname to it, if clients connect to that name")


def _account(reader: Reader, config: Config) -> None:
    if config.user is None:
        return
    try:
        pwd.getpwnam(config.user)
    except (KeyError, ValueError):
        message = f"user: there is no account {quoted(config.user)} on this machine"
        reader.report("C314", ("user",), message, "make it, or name another")
