"""What is kept of a password, against the published vectors."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

import pytest

from staffetta.accounts.passwords import INTERACTIVE, SCRAM_ITERATIONS, Cost, Hasher, decoy_keys, prepared

CHEAP = Cost("cheap", memory_kib=8, passes=1, lanes=1)


def test_scram_keys_of_rfc_7677() -> None:
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    keys = Hasher(lambda n: salt, CHEAP, 4096).keep("pencil").scram
    assert (keys.salt, keys.iterations) == (salt, 4096)
    auth_message = (
        b"n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    signature = hmac.digest(keys.stored_key, auth_message, "sha256")
    client_key = bytes(one ^ other for one, other in zip(proof, signature, strict=True))
    assert hashlib.sha256(client_key).digest() == keys.stored_key
    server_signature = hmac.digest(keys.server_key, auth_message, "sha256")
    assert base64.b64encode(server_signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_argon2id_with_the_named_cost() -> None:
    hasher = Hasher(os.urandom)
    kept = hasher.keep("secret")
    assert kept.hash.startswith(f"$argon2id$v=19$m={INTERACTIVE.memory_kib},t={INTERACTIVE.passes},p=1$")
    assert kept.scram.iterations == SCRAM_ITERATIONS >= 4096
    assert hasher.matches(kept.hash, "secret")
    assert not hasher.matches(kept.hash, "Secret")
    assert hasher.keep("secret").hash != kept.hash


def test_the_decoy_costs_the_same_and_matches_nothing() -> None:
    hasher = Hasher(os.urandom, CHEAP)
    decoy = hasher.decoy()
    assert decoy.rpartition("$")[0].rpartition("$")[0] == hasher.keep("x").hash.rpartition("$")[0].rpartition("$")[0]
    assert not hasher.matches(decoy, "")
    assert not hasher.matches(decoy, "x")


@pytest.mark.parametrize("hashed", ["", "x", "$argon2id$v=19$m=8,t=1,p=1$$", "$argon2id$broken"])
def test_a_damaged_hash_matches_nothing(hashed: str) -> None:
    assert not Hasher(os.urandom, CHEAP).matches(hashed, "x")


@pytest.mark.parametrize(
    ("typed", "same"), [("I\u00adX", "IX"), ("\u00aa", "a"), ("\u2168", "IX"), ("a\u00a0b", "a b"), ("plain", "plain")]
)
def test_what_looks_the_same_is_the_same_password(typed: str, same: str) -> None:
    assert prepared(typed) == same


def test_made_up_keys_are_stable_per_name_and_secret() -> None:
    one = decoy_keys(b"s" * 32, "nobody@example.com", 4096)
    assert one == decoy_keys(b"s" * 32, "nobody@example.com", 4096)
    assert one.salt != decoy_keys(b"s" * 32, "other@example.com", 4096).salt
    assert one.salt != decoy_keys(b"t" * 32, "nobody@example.com", 4096).salt
    real = Hasher(os.urandom, CHEAP, 4096).keep("x").scram
    shapes = [(len(k.salt), k.iterations, len(k.stored_key), len(k.server_key)) for k in (one, real)]
    assert shapes[0] == shapes[1]
