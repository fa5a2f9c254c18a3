"""The file that uses every key: it loads, nothing is forgotten, and its explanation is a file that means the same."""

from __future__ import annotations

import shutil
import time
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from staffetta.config.explain import explain, fields
from staffetta.config.keys import TABLES
from staffetta.config.load import Loaded
from staffetta.config.schema import Config, Discover, DkimKey, DoorTls, Hop, HopTls, Maildir
from staffetta.mail.domain import Domain

EVERY_KEY = Path(__file__).parent / "every_key.toml"
SMALL = """\
version = 1
hostname = "mail.example.org"
[listen.lan]
bind = ["*:25"]
role = "relay"
trust = ["192.168.0.0/24"]
[route.office]
via = "smtp.provider.example"
login = "relay@example.org"
password = "env:OFFICE"
"""


@pytest.fixture
def every_key(tmp_path: Path, workshop: Any) -> Loaded:
    """The big example, loaded."""
    return load_copy(tmp_path, workshop, EVERY_KEY.read_text())


def load_copy(folder: Path, workshop: Any, text: str) -> Loaded:
    for path, what in (
        ("tls/mail.pem", "certificate:mail:mail.example.org"),
        ("tls/mail.key", "key:mail"),
        ("tls/dkim.key", "key:dkim"),
        ("tls/authority.pem", "certificate:authority:authority.example"),
        ("provider.secret", "text:open sesame\\n"),
    ):
        workshop.make_file(folder, path, what)
    loaded = workshop.loaded(folder, text)
    assert isinstance(loaded, Loaded)
    return loaded


def test_the_example_uses_every_key() -> None:
    document = tomllib.loads(EVERY_KEY.read_text())
    for table in TABLES:
        raw: Any = document
        for name in table.path:
            raw = raw[name]
        tables = [raw] if table.shape == "one" else list(raw.values()) if table.shape == "named" else raw
        assert {name for inside in tables for name in inside} >= set(table.keys), table.header


def test_it_loads_without_a_warning(every_key: Loaded) -> None:
    assert every_key.warnings == ()


def test_values_arrive_as_types(every_key: Loaded, tmp_path: Path) -> None:
    config = every_key.config
    mx, submission, printers = config.listeners
    assert [str(bind) for bind in submission.bind] == ["192.0.2.1:587", "[2001:db8::1]:465"]
    assert [submission.tls_at(bind.port) for bind in submission.bind] == [DoorTls.STARTTLS, DoorTls.IMPLICIT]
    assert (mx.auth, submission.auth, printers.auth) == (False, True, False)
    assert printers.tls is DoorTls.LEGACY
    assert [str(network) for network in printers.trust] == ["10.0.0.0/24", "10.0.2.10-10.0.2.20"]
    assert [str(sender) for sender in submission.from_] == ["example.org", "robot@xn--bcher-kva.example"]
    first, second = config.domains[:2]
    assert first.deliver == Maildir(tmp_path / "mail")
    assert first.dkim == DkimKey("s2025", tmp_path / "tls/dkim.key")
    assert first.aliases[1] == ("first.last", ("anna",))
    assert second.domain == Domain("xn--bcher-kva.example")
    assert first.discover == Discover(Hop("imap.example.org", 993), Hop("2001:db8::5", 110))
    assert second.discover == Discover()
    assert config.domains[2].discover is None
    partners, office, default = config.routes
    assert [str(hop) for hop in partners.via] == [
        "mx1.partner.example:25",
        "mx2.partner.example:26",
        "[2001:db8::3]:2525",
    ]
    assert [str(pattern) for pattern in partners.to] == ["partner.example", ".partner.example"]
    assert office.tls_to(office.via[0]) is HopTls.IMPLICIT
    assert office.password is not None
    assert office.password.value == "open sesame"
    assert "sesame" not in repr(config)
    assert (default.name, default.via) == ("default", ())
    assert config.queue.delay_notice_seconds is None
    assert config.limits.message_size == 50 * 1024 * 1024
    assert len(config.checks.blocklist) == 2


def test_the_explanation_is_a_file_that_means_the_same(every_key: Loaded, tmp_path: Path, workshop: Any) -> None:
    text = explain(every_key)
    assert text.count("staffetta.toml:") > 50
    again = load_copy(tmp_path / "again", workshop, text)
    shutil.rmtree(tmp_path / "again")
    assert spelled_out(again.config) == rebased(spelled_out(every_key.config), tmp_path, spelled_out(again.config))


def spelled_out(config: Config) -> Config:
    # The explanation says the level of TLS that follows from the port; the file may leave it out.
    doors = (
        msgspec.structs.replace(door, tls=level.pop())
        if len(level := {door.tls_at(bind.port) for bind in door.bind if not bind.path}) == 1
        else door
        for door in config.listeners
    )
    routes = (
        msgspec.structs.replace(route, tls=level.pop())
        if len(level := {route.tls_to(hop) for hop in route.via or (None,)}) == 1
        else route
        for route in config.routes
    )
    return msgspec.structs.replace(config, listeners=tuple(doors), routes=tuple(routes))


def rebased(config: Config, old: Path, new: Config) -> str | Config:
    # Paths hold the folder they are read from; it is all that may differ.
    assert repr(config).replace(str(old), "@") == repr(new).replace(str(old / "again"), "@")
    return new


def test_a_small_file_explains_to_the_same(tmp_path: Path, workshop: Any) -> None:
    file = tmp_path / "staffetta.toml"
    file.write_text(SMALL)
    first = workshop.load(file, OFFICE="x")
    file.write_text(explain(first))
    second = workshop.load(file, OFFICE="x")
    assert spelled_out(second.config) == spelled_out(first.config)


def test_origins(tmp_path: Path, workshop: Any) -> None:
    file = tmp_path / "staffetta.toml"
    file.write_text(SMALL)
    rows = {row["key"]: row for row in fields(workshop.load(file, OFFICE="hunter2"))}
    assert rows["listen.lan.role"] == {
        "key": "listen.lan.role",
        "value": '"relay"',
        "origin": "staffetta.toml:5",
        "line": 5,
    }
    assert rows["listen.lan.tls"]["origin"] == "default (no certificate)"
    assert rows["queue.lifetime"] == {"key": "queue.lifetime", "value": '"5d"', "origin": "default", "line": 0}
    assert rows["route.office.via"]["value"] == '["smtp.provider.example:587"]'
    assert rows["route.office.password"]["value"] == '"env:OFFICE"'
    assert rows["route.default.via"]["origin"] == "default (implied)"
    assert "hunter2" not in str(rows)


def test_the_level_of_tls_is_told_where_none_is_written(tmp_path: Path, workshop: Any) -> None:
    for name, what in (("c.pem", "certificate:mail:mail.example.org"), ("k.pem", "key:mail")):
        workshop.make_file(tmp_path, name, what)
    head, route, tail = SMALL.partition("[route.office]")
    tls = '[tls]\ncertificate = "c.pem"\nkey = "k.pem"\n'
    more = '[listen.devices]\nbind = ["*:2525"]\nrole = "relay"\n'
    site = '[route.site]\nto = ["a.example"]\nvia = "10.0.0.1"\n'
    text = head.replace('"*:25"', '"*:25", "*:465"') + tls + more + site + route + tail.replace("env:OFFICE", "x")
    loaded = workshop.loaded(tmp_path, text)
    rows = {row["key"]: (row["value"], row["origin"]) for row in fields(loaded)}
    assert rows["listen.lan.tls"] == ("", "default (starttls at port 25, implicit at port 465)")
    assert rows["listen.devices.tls"] == ('"starttls"', "default (port 2525)")
    assert rows["route.office.tls"] == ('"verify"', "default (smtp.provider.example:587)")
    assert rows["route.site.tls"] == ('"opportunistic"', "default (10.0.0.1:25)")
    assert rows["route.default.tls"] == ("", "default (implied: opportunistic)")
    assert rows["route.office.source"] == ("[]", "default (the system's choice)")


def test_defaults_of_the_table_are_those_of_the_structs(tmp_path: Path, workshop: Any) -> None:
    # Written out, the defaults that the reference prints must give what the structs have without them.
    plain = SMALL.partition("[route")[0] + '[domain."a.example"]\n'
    bare = workshop.loaded(tmp_path, plain).config
    shown = workshop.loaded(tmp_path, explain(workshop.loaded(tmp_path, plain))).config
    assert spelled_out(shown) == spelled_out(bare)
    assert bare == Config(bare.hostname, listeners=bare.listeners, domains=bare.domains)


def test_a_literal_password_is_never_shown(tmp_path: Path, workshop: Any) -> None:
    loaded = workshop.loaded(tmp_path, SMALL.replace("env:OFFICE", "hunter2"))
    assert "hunter2" not in explain(loaded)
    assert "hunter2" not in repr(loaded)


def test_loading_is_quick(tmp_path: Path, workshop: Any) -> None:
    load_copy(tmp_path, workshop, EVERY_KEY.read_text())
    durations = []
    for _ in range(5):
        start = time.perf_counter()
        workshop.load(tmp_path / "staffetta.toml")
        durations.append(time.perf_counter() - start)
    assert min(durations) < 0.02
