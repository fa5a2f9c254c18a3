"""Logins from the client's side, by the vectors of the RFCs."""

from __future__ import annotations

import base64

import pytest

from staffetta.protocol.client_sasl import (
    Credentials,
    Login,
    Plain,
    SaslFailed,
    Scram,
    decode_challenge,
    encode_auth,
    mechanisms,
)
from staffetta.protocol.saslprep import SaslprepError, saslprep

# RFC 7677 section 3.
PENCIL = Credentials("user", "pencil")
NONCE = "rOprNGfwEbeRWgbNEkqO"
FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
FINAL = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
PROOF = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_scram_by_the_rfc() -> None:
    scram = Scram(PENCIL, NONCE)
    assert scram.initial() == b"n,,n=user,r=" + NONCE.encode()
    assert scram.respond(FIRST) == FINAL
    assert not scram.finished
    assert scram.respond(PROOF) == b""
    assert scram.finished


@pytest.mark.parametrize(
    "proof", [b"", b"v=", b"v=!", b"e=invalid-proof", PROOF[:-2] + b"A=", b"v=" + base64.b64encode(bytes(32))]
)
def test_a_server_must_prove_itself(proof: bytes) -> None:
    scram = Scram(PENCIL, NONCE)
    scram.respond(FIRST)
    with pytest.raises(SaslFailed):
        scram.respond(proof)
    assert not scram.finished


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        FIRST.replace(b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", b""),
        FIRST.replace(b"i=4096", b"i=4095"),
        FIRST.replace(b"i=4096", b"i=2000000000"),
        FIRST.replace(b"i=4096", b"i=-1"),
        FIRST.replace(b"i=4096", b"i=4_096"),
        FIRST.replace(b"s=W22ZaJ0SNY7soEsUEjb6gQ==", b"s="),
        b"m=ext," + FIRST,
    ],
)
def test_scram_refuses(first: bytes) -> None:
    with pytest.raises(SaslFailed):
        Scram(PENCIL, NONCE).respond(first)


def test_scram_escapes_the_name() -> None:
    assert Scram(Credentials("a=b,c", "x"), "n").initial() == b"n,,n=a=3Db=2Cc,r=n"


def test_plain_and_login() -> None:
    assert encode_auth(Plain(Credentials("anna", "s3cret"))) == b"AUTH PLAIN AGFubmEAczNjcmV0\r\n"
    login = Login(Credentials("anna", "s3cret"))
    assert encode_auth(login) == b"AUTH LOGIN\r\n"
    assert (login.respond(b"Username:"), login.respond(b"Password:")) == (b"anna", b"s3cret")
    assert login.finished
    with pytest.raises(SaslFailed):
        login.respond(b"once more")


def test_the_best_comes_first() -> None:
    found = mechanisms(("LOGIN", "CRAM-MD5", "PLAIN", "SCRAM-SHA-256"), PENCIL, "n")
    assert [one.name for one in found] == ["SCRAM-SHA-256", "PLAIN", "LOGIN"]


def test_the_password_is_not_shown() -> None:
    assert "pencil" not in repr(PENCIL)
    assert "pencil" not in str(PENCIL)


@pytest.mark.parametrize("text", ["x", "abc=d", "\u00e9", "A" * 4000])
def test_challenges_that_are_none(text: str) -> None:
    with pytest.raises(SaslFailed):
        decode_challenge(text)


# RFC 4013 section 3.
@pytest.mark.parametrize(
    ("text", "prepared"),
    [("I\u00adX", "IX"), ("user", "user"), ("USER", "USER"), ("\u00aa", "a"), ("\u2168", "IX"), ("a\u00a0b", "a b")],
)
def test_saslprep(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize("text", ["\u0007", "\u06271", "a\x7f", "\ue000"])
def test_saslprep_refuses(text: str) -> None:
    with pytest.raises(SaslprepError):
        saslprep(text)
