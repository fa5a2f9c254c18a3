"""Variables of the environment: which stand for which key, what they hold over, and what is said of wrong ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from staffetta.config import explain
from staffetta.config.environment import Variables, variable_of
from staffetta.config.keys import LISTEN, ROUTE, TABLES
from staffetta.config.load import Loaded, Problems, load
from staffetta.config.problems import Level, render

TEXT = """\
version = 1
hostname = "mail.example.org"

[listen.lan]
bind = ["*:25"]
role = "relay"
auth = false

[log]
level = "warning"
"""


def read(folder: Path, environ: dict[str, str], text: str = TEXT, mode: int = 0o600) -> Loaded | Problems:
    file = folder / "staffetta.toml"
    file.write_text(text)
    file.chmod(mode)
    return load(file, environ, machine_name="box.example.net", now=0)


def right(folder: Path, environ: dict[str, str], text: str = TEXT) -> Loaded:
    found = read(folder, environ, text)
    assert isinstance(found, Loaded), render(found.problems)
    return found


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("STAFFETTA_HOSTNAME", "mx.example.net", lambda c: c.hostname.ascii == "mx.example.net"),
        ("STAFFETTA_DATA_DIR", "/data", lambda c: c.data_dir == Path("/data")),
        ("STAFFETTA_POSTMASTER", "anna@example.org", lambda c: str(c.postmaster) == "anna@example.org"),
        ("STAFFETTA_LOG_LEVEL", "debug", lambda c: c.log.level == "debug"),
        ("STAFFETTA_LOG_FORMAT", "json", lambda c: c.log.format == "json"),
        ("STAFFETTA_LOG_PRIVACY", "masked", lambda c: c.log.privacy == "masked"),
        ("STAFFETTA_CONSOLE_BIND", "off", lambda c: c.console.bind is None),
        (
            "STAFFETTA_DNS_SERVERS",
            "192.0.2.1, [2001:db8::1]:5353",
            lambda c: [s.port for s in c.dns.servers] == [53, 5353],
        ),
        ("STAFFETTA_LIMITS_RECIPIENTS", "250", lambda c: c.limits.recipients == 250),
        ("STAFFETTA_LIMITS_MESSAGE_SIZE", "1MiB", lambda c: c.limits.message_size == 1 << 20),
        ("STAFFETTA_QUEUE_RETRY", "1m 2m", lambda c: c.queue.retry_seconds == (60, 120)),
        ("STAFFETTA_OUTBOUND_PORT", "2525", lambda c: c.outbound.port == 2525),
        ("STAFFETTA_LISTEN_LAN_TRUST", "10.0.0.0/8", lambda c: len(c.listeners[0].trust) == 1),
        ("STAFFETTA_LISTEN_LAN_BIND", "127.0.0.1:2525", lambda c: c.listeners[0].bind[0].port == 2525),
        (
            "STAFFETTA_ROUTE_DEFAULT_VIA",
            "smtp.a.example:26",
            lambda c: [*map(str, c.routes[-1].via)] == ["smtp.a.example:26"],
        ),
        ("STAFFETTA_ROUTE_DEFAULT_VIA", "mx", lambda c: c.routes[-1].via == ()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_variable_is_a_key(tmp_path: Path, variable: str, text: str, value: Any) -> None:
    assert not value(right(tmp_path, {}).config) or text == "mx"
    assert value(right(tmp_path, {variable: text}).config)


def test_switches_are_read(tmp_path: Path) -> None:
    assert not right(tmp_path, {}).config.listeners[0].auth
    found = read(tmp_path, {"STAFFETTA_LISTEN_LAN_AUTH": "true"})
    assert isinstance(found, Problems)
    assert [(problem.file, problem.code) for problem in found.problems] == [("STAFFETTA_LISTEN_LAN_AUTH", "C307")]


def test_default_then_file_then_environment(tmp_path: Path) -> None:
    without = TEXT.partition("[log]")[0]
    for text, environ, level, origin in [
        (without, {}, "info", "default"),
        (TEXT, {}, "warning", "staffetta.toml:10"),
        (TEXT, {"STAFFETTA_LOG_LEVEL": "debug"}, "debug", "environment STAFFETTA_LOG_LEVEL"),
        (without, {"STAFFETTA_LOG_LEVEL": "debug"}, "debug", "environment STAFFETTA_LOG_LEVEL"),
        (TEXT, {"STAFFETTA_LOG_LEVEL": ""}, "warning", "staffetta.toml:10"),
    ]:
        loaded = right(tmp_path, environ, text)
        assert loaded.config.log.level == level
        assert {row["key"]: row["origin"] for row in explain.fields(loaded)}["log.level"] == origin


def test_a_smarthost_comes_from_the_environment_alone(tmp_path: Path) -> None:
    (tmp_path / "office.pw").write_text("hunter2\n")
    (tmp_path / "office.pw").chmod(0o600)
    environ = {
        "STAFFETTA_ROUTE_DEFAULT_VIA": "smtp.provider.example",
        "STAFFETTA_ROUTE_DEFAULT_LOGIN": "office",
        "STAFFETTA_ROUTE_DEFAULT_PASSWORD_FILE": "office.pw",
    }
    route = right(tmp_path, environ).config.routes[-1]
    assert (route.login, route.password and route.password.value, str(route.via[0])) == (
        "office",
        "hunter2",
        "smtp.provider.example:587",
    )


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_password_in_a_variable_is_never_shown(tmp_path: Path, mode: int) -> None:
    text = TEXT + '[route.default]\nvia = "smtp.provider.example"\nlogin = "office"\n'
    loaded = read(tmp_path, {"STAFFETTA_ROUTE_DEFAULT_PASSWORD": "hunter2"}, text, mode)
    assert isinstance(loaded, Loaded)
    assert loaded.warnings == ()
    assert "hunter2" not in explain.explain(loaded)
    assert 'route.default.password = "***"' in explain.explain(loaded)


def test_quotes_in_a_password_are_pointed_out(tmp_path: Path) -> None:
    text = TEXT + '[route.default]\nvia = "smtp.provider.example"\nlogin = "office"\n'
    found = right(tmp_path, {"STAFFETTA_ROUTE_DEFAULT_PASSWORD": "'hunter2'"}, text)
    assert [(one.code, one.file) for one in found.warnings] == [("C317", "STAFFETTA_ROUTE_DEFAULT_PASSWORD")]
    assert "hunter2" not in render(found.warnings)


def test_a_secret_that_the_engine_mounted_is_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "office"
    secret.write_text("hunter2")
    secret.chmod(0o444)
    text = TEXT + '[route.default]\nvia = "smtp.provider.example"\nlogin = "office"\n'
    environ = {"STAFFETTA_ROUTE_DEFAULT_PASSWORD_FILE": str(secret)}
    assert [one.code for one in right(tmp_path, environ, text).warnings] == ["C308"]
    monkeypatch.setattr("staffetta.config.secret._OF_THE_CONTAINER", f"{tmp_path}/")
    assert right(tmp_path, environ, text).warnings == ()


@given(
    st.dictionaries(
        st.one_of(
            st.sampled_from(sorted(Variables({"listen": {"lan": {}}}).keys)),
            st.text(st.characters(exclude_characters="\0="), min_size=1).map("STAFFETTA_".__add__),
        ),
        st.one_of(
            st.text(st.characters(exclude_characters="\0")), st.sampled_from(["mx", "5", "true", "off", "*:25", '"'])
        ),
        max_size=5,
    )
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_environment_is_judged(tmp_path: Path, environ: dict[str, str]) -> None:
    found = read(tmp_path, environ)
    said = found.problems if isinstance(found, Problems) else found.warnings
    shown = render(said)
    assert shown.replace("\n", "").isprintable()
    assert isinstance(found, Loaded) or any(one.level is Level.ERROR for one in said)
    if isinstance(found, Loaded):
        explain.explain(found).encode()


def test_a_value_that_is_not_utf_8_is_an_error(tmp_path: Path) -> None:
    for name in ("STAFFETTA_HOSTNAME", "STAFFETTA_ROUTE_DEFAULT_PASSWORD"):
        found = read(tmp_path, {name: "\udcff"})
        assert isinstance(found, Problems)
        assert found.problems[0].code == "C106"
        render(found.problems).encode()


def test_names_cannot_move_a_terminal(tmp_path: Path) -> None:
    found = read(tmp_path, {"STAFFETTA_\x1b[2J\udcff": "1"})
    assert isinstance(found, Problems)
    assert render(found.problems).replace("\n", "").isprintable()


def test_other_programs_variables_are_not_ours(tmp_path: Path) -> None:
    assert right(tmp_path, {"PATH": "/bin", "STAFFETTA": "x", "STAFFETTA_CONFIG": "x", "STAFFETTA_INIT_DOMAIN": "x"})


@pytest.mark.parametrize("text", ["log = 5", "[[log]]\nlevel = 5", "[listen]\nlan = 5", "route = 7", "[listen.lan.x]"])
def test_a_file_of_another_shape_is_reported_not_broken(tmp_path: Path, text: str) -> None:
    environ = {"STAFFETTA_LOG_LEVEL": "debug", "STAFFETTA_ROUTE_DEFAULT_VIA": "mx"}
    assert isinstance(read(tmp_path, environ, f"version = 1\n{text}\n"), Problems)


def test_every_plain_key_has_a_variable_of_its_own() -> None:
    known = Variables({"listen": {"lan": {}}, "route": {"office": {}}})
    assert not known.ambiguous
    tables = {(): (), LISTEN.path: ("lan",), ROUTE.path: ("office",)}
    for table in TABLES:
        if table.shape == "one" or table in (LISTEN, ROUTE):
            for name in table.keys:
                path = (*table.path, *tables.get(table.path, ()), name)
                assert (variable_of(path) in known.keys) == (name != "version"), path


def test_a_list_in_a_variable_replaces_the_list_of_the_file(tmp_path: Path) -> None:
    text = TEXT.replace("auth = false", 'auth = false\ntrust = ["10.0.0.0/8", "192.0.2.0/24"]')
    found = read(tmp_path, {"STAFFETTA_LISTEN_LAN_TRUST": "nonsense"}, text)
    assert isinstance(found, Problems)
    assert [problem.file for problem in found.problems] == ["STAFFETTA_LISTEN_LAN_TRUST"]


def command(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "staffetta", *words],
        cwd=folder,
        env={**os.environ, "STAFFETTA_CONFIG": "", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_reads_them(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    right(elsewhere, {})
    shown = command(
        tmp_path, "config", "show", STAFFETTA_CONFIG="elsewhere/staffetta.toml", STAFFETTA_LOG_LEVEL="debug"
    )
    assert shown.returncode == 0, shown.stderr
    assert any(
        line.startswith('log.level = "debug"') and line.endswith("# environment STAFFETTA_LOG_LEVEL")
        for line in shown.stdout.split("\n")
    )
    wrong = command(elsewhere, "config", "check", "--json", STAFFETTA_LOG_LEVLE="debug")
    assert wrong.returncode == 8
    assert '"code":"C114"' in wrong.stdout
    assert '"file":"STAFFETTA_LOG_LEVLE"' in wrong.stdout
