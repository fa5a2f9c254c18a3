"""The life of keys: the pure decision as a table, the files under crashes and races, and the DNS that moves them."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from dkim_examples import BODY, FIELDS, NOW, words

from staffetta.dns.resolver import Unavailable
from staffetta.dns.table import TableResolver
from staffetta.mailauth.dkim import keystore
from staffetta.mailauth.dkim.keys import DomainKeys, KeyEntry, KeyPhase, KeySettings, advance, new_selector
from staffetta.mailauth.dkim.keystore import KeyStore, KeysUnusable, read_key
from staffetta.mailauth.dkim.publication import Published, look_after, look_up
from staffetta.mailauth.dkim.record import Algorithm, record_name, write_record
from staffetta.mailauth.dkim.sign import Signer, SigningKey, new_body_hash
from staffetta.mailauth.dkim.signers import LOOK_SECONDS, OwnKey, Signers
from staffetta.message.header import Header

DAY = timedelta(days=1)
TODAY = datetime(2026, 11, 24, 12, tzinfo=UTC)
DOMAIN = "example.org"
RSA, ED25519 = Algorithm.RSA_SHA256, Algorithm.ED25519_SHA256
ACTIVE, NEXT, RETIRED = KeyPhase.ACTIVE, KeyPhase.NEXT, KeyPhase.RETIRED
SETTINGS = KeySettings(retired_for=14 * DAY)


def entry(selector: str, state: KeyPhase, retired_at: datetime | None = None) -> KeyEntry:
    algorithm = ED25519 if "e" in selector else RSA
    return KeyEntry(selector, algorithm, 2048, state, TODAY - 100 * DAY, retired_at)


LIVES: list[tuple[str, list[KeyEntry], set[str], dict[str, KeyPhase], list[tuple[str, KeyPhase | None]]]] = [
    ("nothing", [], set(), {}, []),
    ("nothing to do", [entry("r1", ACTIVE)], {"r1"}, {"r1": ACTIVE}, []),
    ("not seen", [entry("r1", ACTIVE), entry("r2", NEXT)], {"r1"}, {"r1": ACTIVE, "r2": NEXT}, []),
    (
        "seen",
        [entry("r1", ACTIVE), entry("r2", NEXT)],
        {"r2"},
        {"r1": RETIRED, "r2": ACTIVE},
        [("r1", RETIRED), ("r2", ACTIVE)],
    ),
    (
        "one algorithm before the other",
        [entry("r1", ACTIVE), entry("e1", ACTIVE), entry("r2", NEXT), entry("e2", NEXT)],
        {"e2"},
        {"r1": ACTIVE, "e1": RETIRED, "r2": NEXT, "e2": ACTIVE},
        [("e1", RETIRED), ("e2", ACTIVE)],
    ),
    (
        "first of its kind",
        [entry("r1", ACTIVE), entry("e2", NEXT)],
        {"e2"},
        {"r1": ACTIVE, "e2": ACTIVE},
        [("e2", ACTIVE)],
    ),
    ("has to stay", [entry("r0", RETIRED, TODAY - 13 * DAY)], set(), {"r0": RETIRED}, []),
    ("may go", [entry("r0", RETIRED, TODAY - 14 * DAY)], {"r0"}, {}, [("r0", None)]),
    ("an active key never goes by age", [entry("r1", ACTIVE)], set(), {"r1": ACTIVE}, []),
]


@pytest.mark.parametrize(("what", "entries", "seen", "states", "changes"), LIVES, ids=[life[0] for life in LIVES])
def test_lives(what: str, entries: Any, seen: set[str], states: Any, changes: Any) -> None:
    before = DomainKeys(DOMAIN, tuple(entries), tuple(one.selector for one in entries))
    after, told = advance(before, frozenset(seen), TODAY, SETTINGS)
    assert {one.selector: one.state for one in after.entries} == states
    assert [(change.selector, change.state) for change in told] == changes
    assert after.used == before.used
    assert advance(after, frozenset(seen), TODAY, SETTINGS) == (after, ())
    assert {one.retired_at for one in after.entries if one.state is RETIRED and ("", RETIRED) in changes} <= {TODAY}


def test_retiring_begins_today() -> None:
    keys = DomainKeys(DOMAIN, (entry("r1", ACTIVE), entry("r2", NEXT)))
    after, _ = advance(keys, frozenset({"r2"}), TODAY, SETTINGS)
    assert [one.retired_at for one in after.entries] == [TODAY, None]
    gone, changes = advance(after, frozenset(), TODAY + 14 * DAY, SETTINGS)
    assert [one.selector for one in gone.entries] == ["r2"]
    assert len(changes) == 1


def test_selectors() -> None:
    assert new_selector(RSA, TODAY, frozenset()) == "s202611r"
    assert new_selector(ED25519, TODAY, frozenset({"s202611r"})) == "s202611e"
    assert new_selector(RSA, TODAY, frozenset({"s202611r", "s202611r2"})) == "s202611r3"


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path)


def files(store: KeyStore) -> dict[str, bytes]:
    return {
        str(path.relative_to(store.directory)): path.read_bytes()
        for path in store.directory.rglob("*.*")
        if path.is_file()
    }


def test_first_keys(store: KeyStore) -> None:
    assert store.domains() == ()
    assert store.read(DOMAIN) is None
    assert store.signing_keys(DOMAIN) == ()
    keys = store.make(DOMAIN, TODAY)
    assert [(one.selector, one.algorithm, one.bits, one.state) for one in keys.entries] == [
        ("s202611r", RSA, 2048, ACTIVE),
        ("s202611e", ED25519, 256, ACTIVE),
    ]
    assert {one.created_at for one in keys.entries} == {TODAY}
    assert store.read(DOMAIN) == store.make(DOMAIN, TODAY + DAY) == keys
    assert store.domains() == (DOMAIN,)
    assert [key.algorithm for key in store.signing_keys(DOMAIN)] == [RSA, ED25519]
    state = json.loads((store.directory / DOMAIN / "state.json").read_bytes())
    assert state["version"] == 1


def test_nobody_else_may_look(store: KeyStore) -> None:
    before = os.umask(0)
    try:
        store.make(DOMAIN, TODAY)
        store.rotate(DOMAIN, TODAY)
    finally:
        os.umask(before)
    for path in (store.directory, *store.directory.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_whole_rotation(store: KeyStore) -> None:
    store.make(DOMAIN, TODAY)
    first = files(store)
    keys, made = store.rotate(DOMAIN, TODAY + DAY)
    assert [one.selector for one in made] == ["s202611r2", "s202611e2"]
    assert {one.state for one in made} == {NEXT}
    assert store.rotate(DOMAIN, TODAY + 2 * DAY) == (keys, ())
    assert [key.selector for key in store.signing_keys(DOMAIN)] == ["s202611r", "s202611e"]
    assert store.advance(DOMAIN, frozenset(), TODAY + 2 * DAY, SETTINGS) == ()
    changes = store.advance(DOMAIN, frozenset({"s202611r2", "s202611e2"}), TODAY + 3 * DAY, SETTINGS)
    assert len(changes) == 4
    assert [key.selector for key in store.signing_keys(DOMAIN)] == ["s202611r2", "s202611e2"]
    for name, octets in first.items():
        assert name.endswith(".json") or files(store)[name] == octets
    gone = store.advance(DOMAIN, frozenset(), TODAY + 17 * DAY, SETTINGS)
    assert [(change.selector, change.state) for change in gone] == [("s202611r", None), ("s202611e", None)]
    assert sorted(files(store)) == [f"{DOMAIN}/{name}" for name in ("s202611e2.pem", "s202611r2.pem", "state.json")]
    # A name that was used is not used again, though its file is gone.
    assert [one.selector for one in store.rotate(DOMAIN, TODAY + 5 * DAY)[1]] == ["s202611r3", "s202611e3"]


def test_a_file_that_is_there_is_never_overwritten(store: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.make(DOMAIN, TODAY)
    before = files(store)
    monkeypatch.setattr(keystore, "new_selector", lambda *_: "s202611r")
    with pytest.raises(KeysUnusable):
        store.rotate(DOMAIN, TODAY)
    assert files(store) == before


def test_a_crash_at_every_write_leaves_a_store_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk stops taking flushes after so many: what is there then is what a crash would leave."""
    flush = os.fsync
    for allowed in range(40):
        store = KeyStore(tmp_path / str(allowed))
        store.directory.parent.mkdir()
        left = [allowed]

        def fsync(descriptor: int, left: list[int] = left) -> None:
            if not left[0]:
                raise OSError(5, "Input/output error")
            left[0] -= 1
            flush(descriptor)

        broken = False
        monkeypatch.setattr(os, "fsync", fsync)
        try:
            store.make(DOMAIN, TODAY)
            store.rotate(DOMAIN, TODAY)
        except KeysUnusable:
            broken = True
        monkeypatch.setattr(os, "fsync", flush)
        store.make(DOMAIN, TODAY)
        keys, _ = store.rotate(DOMAIN, TODAY)
        assert sorted((one.algorithm, one.state) for one in keys.entries) == [
            (ED25519, ACTIVE),
            (ED25519, NEXT),
            (RSA, ACTIVE),
            (RSA, NEXT),
        ]
        assert [store.key(DOMAIN, one).selector for one in keys.entries] == [one.selector for one in keys.entries]
        assert not list(store.directory.rglob(".*"))
        if not broken:
            assert allowed > 8
            return
    pytest.fail("it never came through")


def test_what_a_crash_left_half_written_is_in_nobodys_way(store: KeyStore) -> None:
    place = store.directory / DOMAIN
    place.mkdir(parents=True)
    for name in (".state.json.new", ".s202611r.pem.new"):
        (place / name).write_bytes(b"half")
    keys = store.make(DOMAIN, TODAY)
    assert [key.selector for key in store.signing_keys(DOMAIN)] == [one.selector for one in keys.entries]
    assert not list(store.directory.rglob(".*"))


def test_two_at_once_make_one_set(store: KeyStore) -> None:
    threads = [threading.Thread(target=KeyStore(store.directory.parent).make, args=(DOMAIN, TODAY)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(files(store)) == 3


DAMAGE: list[bytes] = [
    b"",
    b"{",
    b"[]",
    b"\xff",
    b"null",
    b'{"domain":"example.org","version":2}',
    b'{"domain":"example.com"}',
    b'{"domain":"example.org","entries":[{"selector":"../x"}]}',
    b"[" * 100_000,
    b" " * (keystore.FILE_OCTETS + 1),
]


@pytest.mark.parametrize("octets", DAMAGE, ids=range(len(DAMAGE)))
def test_a_damaged_state_is_said_clearly(store: KeyStore, octets: bytes) -> None:
    store.make(DOMAIN, TODAY)
    path = store.directory / DOMAIN / "state.json"
    path.write_bytes(octets)
    for act in (store.read, store.signing_keys, lambda domain: store.rotate(domain, TODAY)):
        with pytest.raises(KeysUnusable, match=r"state\.json"):
            act(DOMAIN)
    assert path.read_bytes() == octets


def test_a_selector_leads_to_no_other_folder(store: KeyStore) -> None:
    keys = store.make(DOMAIN, TODAY)
    bad = tuple(msgspec.structs.replace(one, selector="../../x") for one in keys.entries)
    (store.directory / DOMAIN / "state.json").write_bytes(
        msgspec.json.encode(msgspec.structs.replace(keys, entries=bad))
    )
    with pytest.raises(KeysUnusable, match="no name"):
        store.signing_keys(DOMAIN)
    for domain in ("..", "a/b", "", "EXAMPLE.org", "."):
        with pytest.raises(KeysUnusable):
            store.make(domain, TODAY)


@pytest.mark.parametrize(
    ("make", "words_"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
        (lambda path: path.write_bytes(b""), "not a private key"),
        (lambda path: path.write_bytes(path.read_bytes()[:-300]), "not a private key"),
        (lambda path: path.write_bytes(pem(ec.generate_private_key(ec.SECP256R1()))), "neither an RSA nor"),
        (lambda path: path.write_bytes(pem(rsa.generate_private_key(65537, 2048), b"secret")), "passphrase"),
        (lambda path: path.write_bytes((path.parent / "s202611e.pem").read_bytes()), "not the rsa key"),
    ],
)
def test_an_unusable_key_is_said_clearly(store: KeyStore, make: Any, words_: str) -> None:
    store.make(DOMAIN, TODAY)
    path = store.path(DOMAIN, "s202611r")
    make(path)
    signers = Signers(store, {DOMAIN: None}, TODAY.timestamp)
    for act in (lambda: store.signing_keys(DOMAIN), lambda: signers.signer(DOMAIN)):
        with pytest.raises(KeysUnusable, match=words_) as caught:
            act()
        assert "s202611r.pem" in str(caught.value)


def pem(private: Any, password: bytes | None = None) -> bytes:
    lock = BestAvailableEncryption(password) if password else NoEncryption()
    return bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))


def test_a_short_key_of_the_operator_is_refused(tmp_path: Path) -> None:
    # Nothing makes keys of less than 1024 bits any more: this one was written by OpenSSL.
    path = tmp_path / "own.pem"
    path.write_text(SHORT)
    with pytest.raises(KeysUnusable, match="768 bits"):
        read_key(path, DOMAIN, "s")


def record(key: SigningKey) -> tuple[str, str]:
    return record_name(key.selector, key.domain), write_record(key.private.public_key())


@pytest.mark.parametrize(
    ("change", "state", "problem"),
    [
        (lambda text: [text], "published", ""),
        (lambda text: [text.replace("v=DKIM1; ", "").replace("; ", " ;")], "published", ""),
        (lambda text: [], "missing", ""),
        (lambda text: [text, text], "different", "2 records"),
        (lambda text: [text.replace("p=", "p=A")], "different", "cannot be read"),
        (lambda text: ["v=DKIM1; p="], "different", "revoked"),
        (lambda text: ["v=spf1 -all"], "different", "not a DKIM key"),
        (lambda text: [text + "; t=y"], "different", "t=y"),
        (lambda text: [write_record(ec_like().public_key())], "different", "another key"),
    ],
)
def test_what_counts_as_published(store: KeyStore, change: Any, state: str, problem: str) -> None:
    store.make(DOMAIN, TODAY)
    key = store.signing_keys(DOMAIN)[1]
    name, value = record(key)
    found = asyncio.run(look_up(TableResolver({name: {"TXT": change(value)}}), key))
    assert (found.selector, found.name, found.value, found.state) == (key.selector, name, value, state)
    assert problem in found.problem


def ec_like() -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    return Ed25519PrivateKey.generate()


def test_nothing_is_concluded_from_a_dead_dns(store: KeyStore) -> None:
    store.make(DOMAIN, TODAY)
    _, made = store.rotate(DOMAIN, TODAY)
    name, _ = record(store.key(DOMAIN, made[0]))
    resolver = TableResolver({name: Unavailable("SERVFAIL")})
    found = asyncio.run(look_up(resolver, store.key(DOMAIN, made[0])))
    assert (found.state, found.problem) == (Published.UNKNOWN, "SERVFAIL")
    assert asyncio.run(look_after(store, resolver, TODAY.timestamp())).changes == ()


def test_the_relay_goes_over_to_new_keys_by_itself(store: KeyStore) -> None:
    resolver = TableResolver({})
    moment = [TODAY.timestamp()]
    signers = Signers(store, {DOMAIN: None, "b.example": None}, lambda: moment[0])
    signers.make_keys()
    assert store.domains() == ("b.example", DOMAIN)

    def publish(*selectors: str) -> None:
        for domain in store.domains():
            for one in store.read(domain).entries:  # type: ignore[union-attr]
                if one.selector in selectors:
                    name, value = record(store.key(domain, one))
                    resolver.put(name, {"TXT": [value]})

    def look() -> list[tuple[str, str, KeyPhase | None]]:
        looked = asyncio.run(look_after(store, resolver, moment[0]))
        signers.refresh()
        assert looked.problems == ()
        return [(change.domain, change.selector, change.state) for change in looked.changes]

    def signing() -> list[str]:
        signer = signers.signer(DOMAIN)
        assert signer is not None
        return [key.selector for key in signer.keys]

    assert look() == []
    assert not resolver.asked  # with nothing waiting there is nothing to ask
    assert signing() == ["s202611r", "s202611e"]
    store.rotate(DOMAIN, TODAY)
    assert look() == []
    assert signing() == ["s202611r", "s202611e"]
    publish("s202611e2")
    assert look() == [(DOMAIN, "s202611e", RETIRED), (DOMAIN, "s202611e2", ACTIVE)]
    assert signing() == ["s202611r", "s202611e2"]
    publish("s202611r2")
    assert look() == [(DOMAIN, "s202611r", RETIRED), (DOMAIN, "s202611r2", ACTIVE)]
    assert signing() == ["s202611r2", "s202611e2"]
    moment[0] += 15 * 86400
    assert look() == [(DOMAIN, "s202611r", None), (DOMAIN, "s202611e", None)]
    assert signing() == ["s202611r2", "s202611e2"]


def test_one_damaged_domain_keeps_no_other_waiting(store: KeyStore) -> None:
    for domain in ("a.example", DOMAIN):
        store.make(domain, TODAY - 100 * DAY)
        store.rotate(domain, TODAY)
    (store.directory / "a.example" / "state.json").write_bytes(b"{")
    zone = {}
    for one in store.read(DOMAIN).entries:  # type: ignore[union-attr]
        name, value = record(store.key(DOMAIN, one))
        zone[name] = {"TXT": [value]}
    looked = asyncio.run(look_after(store, TableResolver(zone), TODAY.timestamp()))
    assert len(looked.changes) == 4
    assert len(looked.problems) == 1
    assert "a.example" in looked.problems[0]


def test_signers(store: KeyStore, tmp_path: Path) -> None:
    path = tmp_path / "own.pem"
    path.write_bytes(pem(rsa.generate_private_key(65537, 2048)))
    sources = {DOMAIN: None, "own.example": OwnKey("20230601", path)}
    signers = Signers(store, sources, TODAY.timestamp)
    own, auto = signers.signer("own.example"), signers.signer(DOMAIN)
    assert own is not None
    assert auto is not None
    assert [key.selector for key in own.keys] == ["20230601"]
    assert [key.selector for key in auto.keys] == ["s202611r", "s202611e"]
    assert signers.signer("off.example") is None
    assert signers.signer(DOMAIN) is auto
    path.unlink()
    assert signers.signer("own.example") is own  # what is known needs no file
    signers.refresh()
    with pytest.raises(KeysUnusable):
        signers.signer("own.example")
    zone = {name: {"TXT": [value]} for name, value in map(record, auto.keys)}
    digest = new_body_hash()
    digest.feed(BODY)
    fields = auto.sign(Header(FIELDS).fields, digest.finish(), NOW)
    assert isinstance(auto, Signer)
    assert words(fields + FIELDS + b"\r\n" + BODY, zone) == ["pass", "pass"]


SHORT = """\
-----BEGIN PRIVATE KEY-----
MIIB4wIBADANBgkqhkiG9w0BAQEFAASCAc0wggHJAgEAAmEAqoIDjsCbiFmgHlqH
aAnnfU1MSpaSnOZQ9pCBSZKhFnPNkCEH5OeE2e8SyNYgfgSXx8yCenDOttkyRisJ
T2bxYZngN9hO8pZA43wCVjRFcTwGGXBg09NcWV08608BTQVNAgMBAAECYBld2lWk
hf8VBmM9qKNrxcq4cz8tg4ZgJW9pNDLT469Jby2gHGKLpxIdJThH0vGskQHdekuN
RIEud/yqsTxN5spy7PNwF0/uW8l9j1NhOJAPxXGdDJ/MhMVhogl5hK3nqQIxAN1m
auLumYvMrEeViBLRuhIeu7pDb82abxHQiFcDOQwTiDD4ckA/fIut7Hkc3Fp9VwIx
AMUni5DMaCV0/kWC0BWxi1JgbeTYzbWqRkviYi8RpbLrv1ru+OYz6xipmwmnjxdH
+wIwE+hysgcsbWKxFxq+CpsrNRfoX35S3lUFqb9rkw9qIMjc1TJx648J3vF7swRC
WCyvAjBqfApooc6adI8lchr7rJJIYubYFLU+qoIfWF2ZeJmbgrMu5SWwCFixUGH5
m/OwKmMCMAV+Nsxt8pJLey1jqjjtm0EfRr6QTwa/QsnnUiOx4KhJiJA9cQhrth+n
Eswe/rQtrw==
-----END PRIVATE KEY-----
"""


def test_a_rotation_by_a_command_is_noticed_while_the_relay_signs(store: KeyStore) -> None:
    moment = [TODAY.timestamp()]
    signers = Signers(store, {DOMAIN: None}, lambda: moment[0])
    first = signers.signer(DOMAIN)
    assert first is not None
    assert signers.ready(DOMAIN) is first
    _, made = store.rotate(DOMAIN, TODAY)
    store.advance(DOMAIN, frozenset(one.selector for one in made), TODAY, SETTINGS)
    assert signers.ready(DOMAIN) is first, "it does not look every time"
    moment[0] += LOOK_SECONDS
    assert signers.ready(DOMAIN) is None
    fresh = signers.signer(DOMAIN)
    assert fresh is not None
    assert {key.selector for key in fresh.keys} == {one.selector for one in made}
    moment[0] += LOOK_SECONDS
    assert signers.ready(DOMAIN) is fresh
