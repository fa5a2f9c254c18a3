"""Files that configurations in tests name: certificates, keys, secrets, made once and copied."""

from __future__ import annotations

import datetime
import functools
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from staffetta.config.load import Loaded, Problems, load
from staffetta.config.problems import Problem, render

NOW = datetime.datetime(2025, 6, 1, tzinfo=datetime.UTC).timestamp()
"""The time at which all test configurations are read."""

_PERIODS = {"": (2024, 2044), "expired": (2019, 2020), "future": (2030, 2040)}
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@functools.cache
def private_key(name: str) -> PrivateKey:
    """The key of that name; `weak` is RSA of 1024 bits."""
    if name == "weak":
        return rsa.generate_private_key(65537, 1024)
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(name: str, passphrase: bytes = b"") -> bytes:
    """A private key as PEM."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    form = serialization.PrivateFormat.PKCS8
    return private_key(name).private_bytes(serialization.Encoding.PEM, form, encryption)


@functools.cache
def certificate(key: str, host: str, period: str = "") -> x509.Certificate:
    """A self-signed certificate for `host`."""
    first, last = _PERIODS[period]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key(key).public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(first, 1, 2, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(last, 1, 2, tzinfo=datetime.UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(private_key(key), hashes.SHA256())
    )


def certificate_pem(key: str, host: str, period: str = "") -> bytes:
    """The same as PEM."""
    return certificate(key, host, period).public_bytes(serialization.Encoding.PEM)


def make_file(folder: Path, path: str, what: str, mode: str = "600") -> None:
    """Make one file of a configuration. `what`:

    `certificate:KEY:HOST[:PERIOD]`, `der:KEY:HOST`, `chain:KEY,KEY:HOST`, `key:KEY`, `locked:KEY`, `folder`, `empty`,
    `mode` (only change it), or `text:TEXT`.
    """
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    kind, _, rest = what.partition(":")
    if kind == "folder":
        file.mkdir()
        return
    if kind != "mode":
        file.write_bytes(_content(kind, rest))
    file.chmod(int(mode, 8))


def _content(kind: str, rest: str) -> bytes:
    words = rest.split(":")
    if kind == "certificate":
        return certificate_pem(*words)
    if kind == "chain":
        return b"".join(certificate_pem(key, words[1]) for key in words[0].split(","))
    if kind == "der":
        return certificate(*words).public_bytes(serialization.Encoding.DER)
    if kind == "key":
        return key_pem(rest)
    if kind == "locked":
        return key_pem(rest, b"open sesame")
    if kind == "both":
        return key_pem(words[0]) + certificate_pem(*words)
    assert kind in {"text", "empty"}, kind
    return rest.replace("\\n", "\n").encode()


class Workshop:
    """Reads configurations as they would be read on a machine called `box.example.net`, in 2025."""

    now = NOW
    make_file = staticmethod(make_file)

    def load(self, file: Path, **environ: str) -> Loaded | Problems:
        """What the loader says of a file."""
        return load(file, environ, machine_name="box.example.net", now=NOW)

    def loaded(self, folder: Path, text: str, mode: int = 0o600) -> Loaded:
        """The configuration that `text` is; it must be right."""
        found = self.load(self._written(folder, text, mode))
        assert isinstance(found, Loaded), render(found.problems)
        return found

    def problems(self, folder: Path, text: str, mode: int = 0o600) -> tuple[Problem, ...]:
        """Everything that is said against `text`."""
        found = self.load(self._written(folder, text, mode))
        return found.warnings if isinstance(found, Loaded) else found.problems

    def _written(self, folder: Path, text: str, mode: int) -> Path:
        file = folder / "staffetta.toml"
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)
        return file


@pytest.fixture
def workshop() -> Workshop:
    """See Workshop."""
    return Workshop()
