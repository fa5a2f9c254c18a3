"""Certificates that change, tickets that stay at their door, old devices, and what clients verify."""

from __future__ import annotations

import os
import ssl
import warnings
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as form

from staffetta.net.engine import TlsEngine, TlsFailed
from staffetta.net.tls import CHECK_SECONDS, TICKET_KEY_SECONDS, CertificateFault, ClientContexts, ServerCertificate
from staffetta.testing.authority import Authority, Issued

NAME = "mx.example.org"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None = NAME) -> TlsEngine:
    """A handshake without a wire; the client's engine. Raises TlsFailed."""
    near = TlsEngine(client, server_side=False, server_name=name)
    far = TlsEngine(server, server_side=True, server_name=None)
    for _ in range(5):
        near_done = near.handshake()
        far.feed(near.flush())
        far_done = far.handshake()
        near.feed(far.flush())
        if near_done and far_done:
            return near
    raise AssertionError("no end of the handshake")


def serial(engine: TlsEngine) -> bytes:
    certificate = engine.peer_certificate()
    assert certificate
    return certificate


@pytest.fixture
def own(tmp_path: Path) -> tuple[Authority, Issued]:
    authority = Authority(tmp_path)
    return authority, authority.issue(NAME, stem="own")


def test_new_files_are_used_without_restart(own: tuple[Authority, Issued]) -> None:
    authority, issued = own
    client = ClientContexts().verified(authority.ca)
    clock = Clock()
    store = ServerCertificate(issued.certificate, issued.key, clock=clock)
    before = store.context("mx")
    first = serial(shake(before, client))
    assert store.context("mx") is before
    authority.issue(NAME, stem="own")
    assert store.context("mx") is before, "looked at most once a second"
    clock.now += CHECK_SECONDS
    after = store.context("mx")
    assert after is not before
    assert serial(shake(after, client)) != first
    assert serial(shake(before, client)) == first, "a handshake in flight is not disturbed"


def test_broken_new_files_keep_the_old_ones(own: tuple[Authority, Issued]) -> None:
    authority, issued = own
    client = ClientContexts().verified(authority.ca)
    clock = Clock()
    told: list[str] = []
    store = ServerCertificate(issued.certificate, issued.key, clock=clock, report=told.append)
    before = store.context("mx")
    good = issued.key.read_bytes()
    issued.key.write_bytes(authority.issue(NAME, stem="else").key.read_bytes())
    for _ in range(3):
        clock.now += CHECK_SECONDS
        assert store.context("mx") is before
    assert len(told) == 1
    assert "does not belong" in told[0]
    assert store.fault == told[0]
    issued.key.unlink()
    for _ in range(3):
        clock.now += CHECK_SECONDS
        assert store.context("mx") is before
    assert len(told) == 2, "each fault is told once"
    issued.key.write_bytes(good)
    clock.now += CHECK_SECONDS
    assert store.context("mx") is not before
    assert store.fault is None
    shake(store.context("mx"), client)


@pytest.mark.parametrize("broken", ["missing", "empty", "garbage", "mismatch", "encrypted"])
def test_unusable_at_the_start(own: tuple[Authority, Issued], broken: str) -> None:
    authority, issued = own
    if broken == "missing":
        issued.key.unlink()
    elif broken == "empty":
        issued.certificate.write_bytes(b"")
    elif broken == "garbage":
        issued.key.write_bytes(os.urandom(200))
    elif broken == "mismatch":
        issued.key.write_bytes(authority.issue(NAME, stem="else").key.read_bytes())
    else:
        key = form.load_pem_private_key(issued.key.read_bytes(), None)
        issued.key.write_bytes(
            key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"secret"))
        )
    with pytest.raises(CertificateFault) as caught:
        ServerCertificate(issued.certificate, issued.key)
    assert str(issued.certificate) in str(caught.value) or str(issued.key) in str(caught.value) or broken == "encrypted"


def resumed(first: ssl.SSLContext, second: ssl.SSLContext, client: ssl.SSLContext) -> bool:
    near = shake(first, client)
    assert near.read() is None  # takes the ticket that follows the handshake
    session = near._object.session
    assert session is not None
    assert session.has_ticket
    again = TlsEngine(client, server_side=False, server_name=NAME)
    again._object.session = session
    far = TlsEngine(second, server_side=True, server_name=None)
    for _ in range(3):
        again.handshake()
        far.feed(again.flush())
        far.handshake()
        again.feed(far.flush())
    assert again.handshake()
    return bool(again._object.session_reused)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_ticket_opens_only_its_own_door(issued: Issued, ca: Path, version: ssl.TLSVersion) -> None:
    clock = Clock()
    store = ServerCertificate(issued.certificate, issued.key, clock=clock)
    client = ClientContexts().verified(ca)
    client.maximum_version = version
    door = store.context("mx")
    assert resumed(door, door, client)
    assert not resumed(door, store.context("submission"), client)
    clock.now += TICKET_KEY_SECONDS
    assert not resumed(door, store.context("mx"), client), "ticket keys do not live for ever"


def old_device(ca: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


def test_old_devices_have_their_own_door(issued: Issued, ca: Path) -> None:
    store = ServerCertificate(issued.certificate, issued.key)
    engine = shake(store.context("printer", legacy=True), old_device(ca))
    assert engine.facts(server_side=False, server_name=NAME).version == "TLSv1"
    with pytest.raises(TlsFailed):
        shake(store.context("mx"), old_device(ca))


def test_what_each_level_accepts(authority: Authority, ca: Path, tmp_path: Path) -> None:
    contexts = ClientContexts()
    good = authority.issue(NAME)
    stranger = Authority(tmp_path).issue(NAME)
    expired = authority.issue(NAME, days=-1)
    other = authority.issue("other.example.org")
    for issued, verified in ((good, True), (stranger, False), (expired, False), (other, False)):
        server = ServerCertificate(issued.certificate, issued.key).context("mx")
        engine = shake(server, contexts.unverified())
        assert not engine.facts(server_side=False, server_name=NAME).verified
        if verified:
            assert shake(server, contexts.verified(ca)).facts(server_side=False, server_name=NAME).verified
        else:
            with pytest.raises(TlsFailed, match="certificate"):
                shake(server, contexts.verified(ca))


def test_contexts_are_made_once_and_faults_are_named(ca: Path, tmp_path: Path) -> None:
    contexts = ClientContexts()
    assert contexts.unverified() is contexts.unverified()
    assert contexts.verified(ca) is contexts.verified(ca)
    with pytest.raises(CertificateFault, match=r"none\.pem"):
        contexts.verified(tmp_path / "none.pem")
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(CertificateFault, match=r"bad\.pem"):
        contexts.verified(tmp_path / "bad.pem")


def test_the_systems_store_honours_ssl_cert_file(issued: Issued, ca: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ServerCertificate(issued.certificate, issued.key).context("mx")
    with pytest.raises(TlsFailed):
        shake(server, ClientContexts().verified())
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    shake(server, ClientContexts().verified())


def test_a_server_name_from_outside_is_kept_only_if_printable(server: ssl.SSLContext) -> None:
    client = ClientContexts().unverified()
    far = TlsEngine(server, server_side=True, server_name=None)
    near = TlsEngine(client, server_side=False, server_name=NAME)
    near.handshake()
    hello = near.flush()
    far.feed(hello.replace(NAME.encode(), b"mx\r\nexample.or"))
    try:
        far.handshake()
    except TlsFailed:
        return
    assert far.facts(server_side=True, server_name=None).server_name == ""


def test_openssl_is_not_asked_for_what_has_not_come(server: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    read = ssl.SSLObject.read

    def counted(self: ssl.SSLObject, octets: int) -> bytes:
        asked.append(octets)
        return read(self, octets)  # type: ignore[return-value]

    monkeypatch.setattr(ssl.SSLObject, "read", counted)
    far = TlsEngine(server, server_side=True, server_name=None)
    near = TlsEngine(ClientContexts().unverified(), server_side=False, server_name=NAME)
    while not (near.handshake() and far.established):
        far.feed(near.flush())
        far.handshake()
        near.feed(far.flush())
    assert far.read() is None
    assert asked == []
    far.feed(near.write(b"QUIT\r\n") + near.goodbye())
    assert [far.read(), far.read(), far.read()] == [b"QUIT\r\n", b"", b""]
    assert len(asked) == 2


def test_a_key_that_cannot_be_read_again_still_makes_contexts(
    own: tuple[Authority, Issued], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay that gave up root: contexts of further doors and new ticket keys come from what was read before."""
    authority, issued = own
    clock = Clock()
    told: list[str] = []
    store = ServerCertificate(issued.certificate, issued.key, clock=clock, report=told.append)

    def forbidden(_: Path, *__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    first = store.context("submission")
    clock.now += TICKET_KEY_SECONDS
    assert store.context("submission") is not first
    assert told == []
    assert store.fault is None
    os.utime(issued.key, (1, 1))
    for _ in range(3):
        clock.now += CHECK_SECONDS
        store.context("submission")
    assert told == [f"{issued.certificate}: Permission denied"]
    monkeypatch.undo()
    authority.issue(NAME, stem="own")
    clock.now += CHECK_SECONDS
    assert store.check()
    assert store.fault is None
    assert store.pem == issued.certificate.read_bytes()


def test_files_that_are_back_are_no_fault_any_more(own: tuple[Authority, Issued]) -> None:
    _, issued = own
    clock = Clock()
    store = ServerCertificate(issued.certificate, issued.key, clock=clock)
    aside = issued.key.with_suffix(".aside")
    issued.key.rename(aside)
    store.check()
    assert store.fault is not None
    aside.rename(issued.key)
    store.check()
    assert store.fault is None


def test_where_there_is_no_proc_a_file_is_used(own: tuple[Authority, Issued], monkeypatch: pytest.MonkeyPatch) -> None:
    authority, issued = own
    monkeypatch.setattr(os.path, "isdir", lambda _: False)
    context = ServerCertificate(issued.certificate, issued.key).context("mx")
    shake(context, ClientContexts().verified(authority.ca))
