"""The server's half of SASL: vectors of RFC 7677, malformed responses, and secrets that never show."""

from __future__ import annotations

import hashlib
import hmac
import pickle
from base64 import b64decode, b64encode

import pytest

from staffetta.mail.reply import reply
from staffetta.protocol import events, sasl
from staffetta.protocol.extensions import ServerSettings
from staffetta.protocol.server import ServerConnection
from staffetta.testing.core_wire import HOSTNAME, NONCE, PASSWORD, CoreWire, scram_keys

SALT = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)


def keys(password: bytes, salt: bytes = SALT) -> sasl.ScramKeys:
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, 4096)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(client_key).digest()
    return sasl.ScramKeys(salt, 4096, stored, hmac.digest(salted, b"Server Key", "sha256"))


def test_scram_vector() -> None:
    """RFC 7677 section 3."""
    exchange = sasl.ScramExchange()
    assert exchange.respond(None) == b""
    assert exchange.respond(CLIENT_FIRST) == events.ScramNeeded("user")
    challenge = exchange.server_first(keys(b"pencil"), SERVER_NONCE)
    assert challenge == b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    assert exchange.respond(CLIENT_FINAL) == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    assert exchange.respond(b"") == events.LoginProven("SCRAM-SHA-256", "user")


@pytest.mark.parametrize(
    "final",
    [
        CLIENT_FINAL.replace(b"c=biws", b"c=eSws"),
        CLIENT_FINAL.replace(b"k0,p", b"k1,p"),
        CLIENT_FINAL[:-4] + b"AAA=",
        CLIENT_FINAL[: CLIENT_FINAL.index(b"p=") + 2],
        CLIENT_FINAL.replace(b",p=", b",x=1,p="),
        CLIENT_FINAL.replace(b"p=dHzb", b"p=AAAAdHzb"),
    ],
)
def test_scram_disproven(final: bytes) -> None:
    exchange = sasl.ScramExchange()
    exchange.respond(CLIENT_FIRST)
    exchange.server_first(keys(b"pencil"), SERVER_NONCE)
    assert exchange.respond(final) == events.LoginFailed("SCRAM-SHA-256", "user")


def test_scram_wrong_password() -> None:
    exchange = sasl.ScramExchange()
    exchange.respond(CLIENT_FIRST)
    exchange.server_first(keys(b"crayon"), SERVER_NONCE)
    assert exchange.respond(CLIENT_FINAL) == events.LoginFailed("SCRAM-SHA-256", "user")


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n,,",
        b"n,,n=user",
        b"n,,n=,r=abc",
        b"n,,n=us=er,r=abc",
        b"n,,n=user,r=",
        b"n,,m=1,n=user,r=abc",
        b"x,,n=user,r=abc",
        b"p=tls-unique,,n=user,r=abc",
        b"n,a=root,n=user,r=abc",
        b"n,,n=user,r=a\x00bc",
        b"n,,n=us\ner,r=abc",
        b"n,,n=" + b"u" * 321 + b",r=abc",
        b"\xff\xfe",
    ],
)
def test_scram_first_refused(first: bytes) -> None:
    with pytest.raises(sasl.SaslError):
        sasl.ScramExchange().respond(first)


@pytest.mark.parametrize(
    ("first", "username"),
    [
        (b"y,,n=user,r=abc", "user"),
        (b"n,a=user,n=user,r=abc,x=ignored", "user"),
        (b"n,,n=a=2Cb=3Dc,r=abc", "a,b=c"),
        ("n,,n=ü,r=abc".encode(), "ü"),
    ],
)
def test_scram_first_accepted(first: bytes, username: str) -> None:
    assert sasl.ScramExchange().respond(first) == events.ScramNeeded(username)


@pytest.mark.parametrize(
    "final", [b"", b"c=biws", b"c=biws,p=AAAA", b"r=x,c=biws,p=AAAA", b"\xff,p=AAAA", b"c=biws,r=x,p=*"]
)
def test_scram_final_malformed(final: bytes) -> None:
    exchange = sasl.ScramExchange()
    exchange.respond(CLIENT_FIRST)
    exchange.server_first(keys(b"pencil"), SERVER_NONCE)
    with pytest.raises(sasl.SaslError):
        exchange.respond(final)


@pytest.mark.parametrize("nonce", ["", "short", "x" * 17, "x" * 18 + ",", "x" * 18 + " ", "x" * 201])
def test_scram_needs_a_good_nonce(nonce: str) -> None:
    exchange = sasl.ScramExchange()
    exchange.respond(CLIENT_FIRST)
    with pytest.raises(ValueError, match="nonce"):
        exchange.server_first(keys(b"pencil"), nonce)


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"\0",
        b"\0\0",
        b"\0user\0",
        b"\0\0password",
        b"user\0password",
        b"\0user\0pass\0word",
        b"root\0user\0password",
        b"\0us\ner\0password",
        b"\0user\0pass\x07word",
        b"\xff\0user\0password",
        b"\0" + b"u" * 321 + b"\0password",
    ],
)
def test_plain_refused(response: bytes) -> None:
    with pytest.raises(sasl.SaslError):
        sasl.PlainExchange().respond(response)


def test_plain_accepted() -> None:
    offered = sasl.PlainExchange().respond(b"user\0user\0p")
    assert isinstance(offered, events.PasswordOffered)
    assert (offered.authorization_id, offered.username, offered.password.reveal()) == ("user", "user", "p")


def test_plain_is_prepared() -> None:
    """RFC 4013: what looks the same is the same, on both sides of the comparison."""
    offered = sasl.PlainExchange().respond("Ⅸ\0I\u00adX\0a\u00a0b".encode())
    assert isinstance(offered, events.PasswordOffered)
    assert (offered.username, offered.password.reveal()) == ("IX", "a b")


@pytest.mark.parametrize("name", [b"", b"a\nb", b"\xff", b"u" * 321])
def test_login_refused(name: bytes) -> None:
    exchange = sasl.LoginExchange()
    assert exchange.respond(None) == b"Username:"
    with pytest.raises(sasl.SaslError):
        exchange.respond(name)


@pytest.mark.parametrize("text", ["*", "a", "ab", "abc", "QQ==x", "Q Q=", "ü", "QQ=", "====", "=", "-_=="])
def test_not_base64(text: str) -> None:
    with pytest.raises(sasl.SaslError):
        sasl.decode_response(text)


def test_secrets_do_not_show() -> None:
    secret = events.Secret("hunter2")
    offered = events.PasswordOffered("PLAIN", "", "user", secret)
    for shown in (repr(secret), str(secret), f"{secret}", repr(offered), str(offered), repr(keys(b"hunter2"))):
        assert "hunter2" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert "stored" not in repr(keys(b"hunter2"))


def test_violations_hold_no_secret() -> None:
    """Wherever a client puts its password, the record of the refusal does not repeat it."""
    password = b64encode(b"\0user\0hunter2")
    settings = ServerSettings(hostname=HOSTNAME, auth=True, errors=100)
    for tls in (False, True):
        for octets in (
            b"AUTH PLAIN " + password,
            b"AUTH\tPLAIN " + password,
            b"AUTH NOSUCH " + password,
            b"AUTH LOGIN\r\n" + password + b"\r\n" + password,
            b"AUTH PLAIN " + password + b"\x07",
            b"AUTH PLAIN " + password + b"A" * 20000,
            b"auth plain " + password + b"\n" + password,
            b"AUTH NOSUCH\r\n" + password,
        ):
            wire = CoreWire(settings, tls=tls)
            wire.send(b"EHLO c\r\n" + octets + b"\r\nNOOP\r\n")
            shown = repr(wire.said) + repr(wire.receive_until_quiet())
            assert password[:12].decode() not in shown
            assert password[:12].decode().upper() not in shown.upper()
            assert "hunter2" not in shown


def client_final(first: bytes, challenge: str, password: bytes, *, binding: str = "biws", nonce: str = "") -> bytes:
    """An independent client, RFC 5802 section 3."""
    attributes = dict(part.split("=", 1) for part in challenge.split(","))
    salted = hashlib.pbkdf2_hmac("sha256", password, b64decode(attributes["s"]), int(attributes["i"]))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    without_proof = f"c={binding},r={nonce or attributes['r']}"
    message = f"{first.decode()},{challenge},{without_proof}".encode()
    signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
    proof = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
    return f"{without_proof},p={b64encode(proof).decode()}".encode()


@pytest.mark.parametrize(
    ("user", "password", "code"),
    [
        ("anna@example.org", PASSWORD, b"235"),
        ("anna@example.org", "x", b"535"),
        ("nobody@example.org", PASSWORD, b"535"),
    ],
)
def test_scram_session(user: str, password: str, code: bytes) -> None:
    wire = CoreWire(ServerSettings(hostname=HOSTNAME, auth=True), tls=True)
    first = f"n={user},r=fyko+d2lbbFgONRv9qkxdawL".encode()
    wire.send(b"EHLO c\r\nAUTH SCRAM-SHA-256 " + b64encode(b"n,," + first) + b"\r\n")
    challenge = b64decode(wire.receive_until_quiet().rpartition(b"334 ")[2]).decode()
    assert challenge.startswith(f"r=fyko+d2lbbFgONRv9qkxdawL{NONCE},s=")
    wire.send(b64encode(client_final(first, challenge, password.encode())) + b"\r\n")
    answer = wire.receive_until_quiet()
    if code == b"235":
        assert answer.startswith(b"334 ")
        wire.send(b"\r\n")
        answer = wire.receive_until_quiet()
        assert events.LoginProven("SCRAM-SHA-256", user) in wire.said
    else:
        assert events.LoginFailed("SCRAM-SHA-256", user) in wire.said
    assert answer.startswith(code)


def test_owner_may_refuse_instead_of_giving_keys() -> None:
    core = ServerConnection(ServerSettings(hostname=HOSTNAME, auth=True), tls=True)
    core.receive(b"EHLO c\r\nAUTH SCRAM-SHA-256 " + b64encode(CLIENT_FIRST) + b"\r\nNOOP\r\n")
    assert core.next_event() == events.Hello("c", True)
    with pytest.raises(RuntimeError):
        core.scram_keys(scram_keys(), NONCE)
    core.answer(reply(250, "2.0.0", "ok"))
    assert core.next_event() == events.ScramNeeded("user")
    core.answer(reply(454, "4.7.0", "not now"))
    assert core.next_event() is None
    assert core.take_output().endswith(b"454 4.7.0 not now\r\n250 2.0.0 ok\r\n")


@pytest.mark.parametrize(
    ("binding", "nonce", "proven"), [("biws", "", True), ("eSws", "", False), ("biws", "other", False)]
)
def test_scram_proof_over_another_exchange(binding: str, nonce: str, proven: bool) -> None:
    """A downgrade of the binding, or a replayed nonce, with a proof that is right for what it says."""
    exchange = sasl.ScramExchange()
    exchange.respond(CLIENT_FIRST)
    challenge = exchange.server_first(keys(b"pencil"), SERVER_NONCE).decode()
    final = client_final(CLIENT_FIRST[3:], challenge, b"pencil", binding=binding, nonce=nonce)
    assert isinstance(exchange.respond(final), bytes) == proven
