"""The server's half of SASL: what the client says becomes a question to the owner, never a decision about a password.

PLAIN (RFC 4616), LOGIN (never standardised), SCRAM-SHA-256 (RFC 5802, 7677; without channel binding), inside AUTH of
RFC 4954. Names and passwords are prepared with SASLprep. This module refuses to know accounts, and has no randomness.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from base64 import b64encode
from typing import Final, Protocol

import msgspec

from staffetta.mail.reply import Reply, reply
from staffetta.protocol.events import LoginFailed, LoginProven, PasswordOffered, ScramNeeded, Secret
from staffetta.protocol.saslprep import SaslprepError, saslprep

USERNAME_OCTETS: Final = 320
"""Longest user name: a whole address (RFC 5321 section 4.5.3.1)."""

BAD_BASE64: Final = reply(501, "5.5.2", "not base64")
BAD_RESPONSE: Final = reply(501, "5.5.2", "malformed response")
CANCELLED: Final = reply(501, "5.7.0", "authentication cancelled")
INVALID: Final = reply(535, "5.7.8", "authentication credentials invalid")
NO_BINDING: Final = reply(501, "5.5.4", "channel binding is not supported")

_SCRAM_FIRST = re.compile(r"((n|y|p=[A-Za-z0-9.-]+),(?:a=([^,]+))?,)(n=([^,]+),r=([!-+\x2d-~]+)(?:,[A-Za-z]=[^,]*)*)")
_SCRAM_ESCAPE = re.compile(r"=2C|=3D|=")
_NONCE = re.compile(r"[!-+\x2d-~]{18,200}")

Question = PasswordOffered | ScramNeeded | LoginProven | LoginFailed


class SaslError(Exception):
    """The exchange is over, with `reply`; `rule` names why."""

    def __init__(self, reply: Reply, rule: str) -> None:
        super().__init__(rule)
        self.reply: Final = reply
        self.rule: Final = rule


class ScramKeys(msgspec.Struct, frozen=True, gc=False):
    """What the store knows of a password, RFC 5802 section 3. For unknown users: keys made up, the same every time."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return "ScramKeys(...)"


class Exchange(Protocol):
    """One AUTH command. `respond` takes a decoded response (None: there was no initial one) and returns the next
    challenge, not yet in base64, or the question for the owner. Raises SaslError."""

    def respond(self, response: bytes | None) -> bytes | Question:
        """The next step."""


def decode_response(text: str) -> bytes:
    """A response line. Raises SaslError for `*` and for what is not base64."""
    if text == "*":
        raise SaslError(CANCELLED, "auth_cancelled")
    try:
        octets = text.encode("ascii")
        decoded = binascii.a2b_base64(octets, strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise SaslError(BAD_BASE64, "auth_syntax") from error
    if b64encode(decoded) != octets:  # binascii overlooks padding too many
        raise SaslError(BAD_BASE64, "auth_syntax")
    return decoded


def encode_challenge(challenge: bytes) -> bytes:
    """The 334 line."""
    return b"334 %b\r\n" % b64encode(challenge)


def begin(mechanism: str) -> Exchange | None:
    """An exchange of this mechanism, named in upper case; None when there is no such mechanism."""
    if mechanism == "PLAIN":
        return PlainExchange()
    if mechanism == "LOGIN":
        return LoginExchange()
    return ScramExchange() if mechanism == "SCRAM-SHA-256" else None


class PlainExchange:
    """RFC 4616: one response."""

    __slots__ = ()

    def respond(self, response: bytes | None) -> bytes | Question:
        """The next step."""
        if response is None:
            return b""
        parts = _text(response).split("\0")
        if len(parts) != 3:
            raise SaslError(BAD_RESPONSE, "auth_syntax")
        authorization_id = _prepared(parts[0]) if parts[0] else ""
        username = _prepared(parts[1])
        if authorization_id not in {"", username}:
            raise SaslError(INVALID, "authorization_id")
        return PasswordOffered("PLAIN", authorization_id, username, Secret(_prepared(parts[2], octets=0)))


class LoginExchange:
    """Two prompts: many clients know nothing better."""

    __slots__ = ("_username",)

    def __init__(self) -> None:
        self._username = ""

    def respond(self, response: bytes | None) -> bytes | Question:
        """The next step."""
        if response is None:
            return b"Username:"
        if not self._username:
            self._username = _prepared(_text(response))
            return b"Password:"
        return PasswordOffered("LOGIN", "", self._username, Secret(_prepared(_text(response), octets=0)))


class ScramExchange:
    """RFC 5802. After ScramNeeded, `server_first` makes the challenge from the keys."""

    __slots__ = ("_bare", "_gs2_header", "_keys", "_nonce", "_proven", "_server_first", "_username")

    def __init__(self) -> None:
        self._username = ""
        self._gs2_header = ""
        self._bare = ""
        self._nonce = ""
        self._server_first = ""
        self._keys: ScramKeys | None = None
        self._proven = False

    def respond(self, response: bytes | None) -> bytes | Question:
        """The next step."""
        if response is None:
            return b""
        if self._keys is None:
            return self._client_first(_text(response))
        if not self._proven:
            return self._client_final(_text(response))
        if response:
            raise SaslError(BAD_RESPONSE, "auth_syntax")
        return LoginProven("SCRAM-SHA-256", self._username)

    def _client_first(self, text: str) -> Question:
        match = _SCRAM_FIRST.fullmatch(text)
        if match is None:
            raise SaslError(BAD_RESPONSE, "auth_syntax")
        self._gs2_header, binding, authorization_id, self._bare, name, self._nonce = match.groups()
        if binding[0] == "p":
            raise SaslError(NO_BINDING, "auth_channel_binding")
        self._username = _prepared(_unescape(name))
        if authorization_id is not None and _prepared(_unescape(authorization_id)) != self._username:
            raise SaslError(INVALID, "authorization_id")
        return ScramNeeded(self._username)

    def server_first(self, keys: ScramKeys, nonce: str) -> bytes:
        """The challenge. `nonce` is fresh: 18 to 200 random printable ASCII characters but the comma."""
        if not _NONCE.fullmatch(nonce):
            raise ValueError("a SCRAM nonce is 18 to 200 printable characters without comma")
        self._keys = keys
        self._nonce += nonce
        salt = b64encode(keys.salt).decode("ascii")
        self._server_first = f"r={self._nonce},s={salt},i={keys.iterations}"
        return self._server_first.encode("ascii")

    def _client_final(self, text: str) -> bytes | Question:
        keys = self._keys
        without_proof, separator, encoded = text.rpartition(",p=")
        parts = without_proof.split(",")
        if keys is None or not separator or len(parts) < 2 or parts[0][:2] != "c=" or parts[1][:2] != "r=":
            raise SaslError(BAD_RESPONSE, "auth_syntax")
        proof = decode_response(encoded)
        binding = b64encode(self._gs2_header.encode()).decode("ascii")
        exact = parts[0] == f"c={binding}" and parts[1] == f"r={self._nonce}"
        message = f"{self._bare},{self._server_first},{without_proof}".encode()
        signature = hmac.digest(keys.stored_key, message, "sha256")
        client_key = bytes([one ^ other for one, other in zip(proof, signature, strict=False)])
        known = hmac.compare_digest(hashlib.sha256(client_key).digest(), keys.stored_key)
        if not (known and exact and len(proof) == len(signature)):
            return LoginFailed("SCRAM-SHA-256", self._username)
        self._proven = True
        return b"v=" + b64encode(hmac.digest(keys.server_key, message, "sha256"))


def _text(response: bytes) -> str:
    try:
        return response.decode()
    except UnicodeDecodeError as error:
        raise SaslError(BAD_RESPONSE, "auth_syntax") from error


def _prepared(text: str, octets: int = USERNAME_OCTETS) -> str:
    """A name (of at most `octets`), or a password (0: any length). What cannot be one cannot be right either."""
    try:
        prepared = saslprep(text)
    except SaslprepError as error:
        raise SaslError(INVALID, "auth_characters") from error
    if not prepared or (octets and len(prepared.encode()) > octets):
        raise SaslError(INVALID, "auth_characters")
    return prepared


def _unescape(name: str) -> str:
    """A saslname of RFC 5802 section 5.1."""

    def replacement(match: re.Match[str]) -> str:
        if match[0] == "=":
            raise SaslError(BAD_RESPONSE, "auth_syntax")
        return "," if match[0] == "=2C" else "="

    return _SCRAM_ESCAPE.sub(replacement, name)
