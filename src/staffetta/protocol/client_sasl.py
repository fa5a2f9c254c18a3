"""SMTP AUTH from the client's side: SCRAM-SHA-256, PLAIN, LOGIN. RFC 4954, 5802, 7677, 4616.

A mechanism is given challenges and returns responses, both decoded; `finished` says whether it may take a success for
one. SCRAM does so only after the server has proved that it knows the password too.
This module refuses to know TLS: whoever calls it has checked that nobody listens.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from staffetta.protocol.saslprep import SaslprepError, saslprep

ITERATIONS_LEAST: Final = 4096
"""RFC 7677 section 4."""

ITERATIONS_MOST: Final = 1_000_000
"""About a third of a second of a core. A server that asks for more keeps us busy rather than safe."""

NONCE_OCTETS: Final = 18
"""Randomness of a client nonce; 24 characters of base64."""

CHALLENGE_OCTETS: Final = 2048
"""Longest challenge that is looked at."""


class SaslFailed(Exception):
    """The exchange cannot go on. `unproven`: the server could not show that it knows the password."""

    def __init__(self, reason: str, *, unproven: bool = False) -> None:
        super().__init__(reason)
        self.unproven = unproven


class Credentials(msgspec.Struct, frozen=True, gc=False):
    """A login. Its text form hides the password, so that no trace or log can show it."""

    login: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials({self.login!r}, ...)"


class Mechanism(Protocol):
    """One exchange."""

    @property
    def name(self) -> str:
        """As it stands behind AUTH."""

    @property
    def finished(self) -> bool:
        """True when a positive reply may now be believed."""

    def initial(self) -> bytes | None:
        """The initial response; None where the server speaks first."""

    def respond(self, challenge: bytes) -> bytes:
        """The response to a challenge. Raises SaslFailed. May compute for long (SCRAM)."""


class Plain:
    """RFC 4616."""

    name: Final = "PLAIN"
    finished: Final = True

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def initial(self) -> bytes | None:
        """Everything."""
        return b"\0" + self._credentials.login.encode() + b"\0" + self._credentials.password.encode()

    def respond(self, challenge: bytes) -> bytes:
        """There is nothing to ask."""
        raise SaslFailed("PLAIN knows no challenge")


class Login:
    """The mechanism without an RFC: user name and password, each when asked. What is asked is not looked at."""

    name: Final = "LOGIN"

    def __init__(self, credentials: Credentials) -> None:
        self._answers = [credentials.password.encode(), credentials.login.encode()]

    @property
    def finished(self) -> bool:
        """When both were given."""
        return not self._answers

    def initial(self) -> bytes | None:
        """The server speaks first."""
        return None

    def respond(self, challenge: bytes) -> bytes:
        """User name, then password."""
        if not self._answers:
            raise SaslFailed("LOGIN knows two challenges")
        return self._answers.pop()


class Scram:
    """SCRAM-SHA-256 without channel binding, RFC 5802 section 5. `nonce` is printable and without commas."""

    name: Final = "SCRAM-SHA-256"

    def __init__(self, credentials: Credentials, nonce: str) -> None:
        try:
            user = saslprep(credentials.login)
            self._password = saslprep(credentials.password).encode()
        except SaslprepError as error:
            raise SaslFailed(str(error)) from error
        escaped = user.replace("=", "=3D").replace(",", "=2C")
        self._nonce = nonce.encode("ascii")
        self._first = b"n=" + escaped.encode() + b",r=" + self._nonce
        self._signature: bytes | None = None
        self.finished = False

    def initial(self) -> bytes | None:
        """client-first-message; the header says that we know of no channel binding."""
        return b"n,," + self._first

    def respond(self, challenge: bytes) -> bytes:
        """client-final-message for server-first-message; nothing for server-final-message."""
        if self._signature is None:
            return self._prove(challenge)
        fields = _fields(challenge)
        verifier = fields.get(b"v")
        if self.finished or verifier is None or not hmac.compare_digest(_decoded(verifier), self._signature):
            raise SaslFailed("the server's signature is wrong", unproven=True)
        self.finished = True
        return b""

    def _prove(self, challenge: bytes) -> bytes:
        fields = _fields(challenge)
        nonce, salt, count = fields.get(b"r", b""), _decoded(fields.get(b"s", b"")), fields.get(b"i", b"")
        if b"m" in fields or not nonce.startswith(self._nonce) or len(nonce) <= len(self._nonce) or not salt:
            raise SaslFailed("the server's first SCRAM message is malformed", unproven=True)
        if not count.isdigit() or len(count) > 9 or not ITERATIONS_LEAST <= int(count) <= ITERATIONS_MOST:
            raise SaslFailed("the server's SCRAM iteration count is out of bounds", unproven=True)
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, int(count))
        client_key = _hmac(salted, b"Client Key")
        bare = b"c=biws,r=" + nonce
        signed = b",".join((self._first, challenge, bare))
        client_signature = _hmac(hashlib.sha256(client_key).digest(), signed)
        proof = bytes(one ^ other for one, other in zip(client_key, client_signature, strict=True))
        self._signature = _hmac(_hmac(salted, b"Server Key"), signed)
        return bare + b",p=" + base64.b64encode(proof)


def mechanisms(offered: Sequence[str], credentials: Credentials, nonce: str) -> list[Mechanism]:
    """What may be tried, best first. SCRAM leaves the password at home, so what it refused is not tried in clear."""
    found: list[Mechanism] = []
    if "SCRAM-SHA-256" in offered:
        found.append(Scram(credentials, nonce))
    if "PLAIN" in offered:
        found.append(Plain(credentials))
    if "LOGIN" in offered:
        found.append(Login(credentials))
    return found


def encode_response(response: bytes) -> bytes:
    """A response on a line of its own, CRLF included."""
    return base64.b64encode(response) + b"\r\n"


def encode_auth(mechanism: Mechanism) -> bytes:
    """The AUTH command, RFC 4954 section 4; an empty initial response is `=`."""
    command = b"AUTH " + mechanism.name.encode()
    initial = mechanism.initial()
    return command + (b"\r\n" if initial is None else b" " + (base64.b64encode(initial) or b"=") + b"\r\n")


def decode_challenge(text: str) -> bytes:
    """The challenge in the text of a 334 reply. Raises SaslFailed."""
    text = text.strip(" ")
    if len(text) > CHALLENGE_OCTETS:
        raise SaslFailed("a challenge is too long")
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise SaslFailed("a challenge is not base64") from None


def _fields(message: bytes) -> dict[bytes, bytes]:
    return {part[:1]: part[2:] for part in message.split(b",") if part[1:2] == b"="}


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return b""


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
