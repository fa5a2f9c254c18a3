"""The start script of the container, without an engine: in a folder instead of a volume, with the real program."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from staffetta.spool.recovery import STORE_NAME

ENTRY = Path(__file__).parents[3] / "packaging" / "entry.sh"
SMARTHOST = {
    "STAFFETTA_HOSTNAME": "relay.example.org",
    "STAFFETTA_ROUTE_DEFAULT_VIA": "smtp.provider.example, smtp2.provider.example",
    "STAFFETTA_LISTEN_RELAY_BIND": "127.0.0.1:0",
    "STAFFETTA_CONSOLE_BIND": "off",
}
DOMAIN = {
    "STAFFETTA_INIT_DOMAIN": "example.org",
    "STAFFETTA_LISTEN_MX_BIND": "127.0.0.1:0",
    "STAFFETTA_LISTEN_SUBMISSION_BIND": "127.0.0.1:0",
    "STAFFETTA_LISTEN_SUBMISSIONS_BIND": "127.0.0.1:0",
    "STAFFETTA_CONSOLE_BIND": "off",
}


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """What is mounted at /data."""
    path = tmp_path / "volume"
    path.mkdir(mode=0o700)
    return path


def environment(volume: Path, environ: dict[str, str]) -> dict[str, str]:
    """What the image sets, and what is given to the container; nothing of this machine."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    ours = {"STAFFETTA_CONFIG": str(volume / "staffetta.toml"), "STAFFETTA_DATA_DIR": str(volume)}
    return {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8", **ours, **environ}


def start(volume: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A container that ends by itself."""
    return subprocess.run(
        ["sh", str(ENTRY), *words],
        env=environment(volume, environ),
        cwd=volume,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextlib.contextmanager
def container(volume: Path, **environ: str) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """A container that serves, and its first event; it is stopped as an engine stops it, and must end well."""
    process = subprocess.Popen(
        ["sh", str(ENTRY), "run"],
        env=environment(volume, environ),
        cwd=volume,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            while line and not line.startswith(b"{"):  # the records to publish, at the first start
                line = process.stdout.readline()
            assert line, process.communicate(timeout=20)[1]
            yield process, json.loads(line)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            _, complaints = process.communicate(timeout=40)
        assert process.returncode == 0, complaints


def client_of(ready: dict[str, Any], door: str) -> smtplib.SMTP:
    port = next(int(one.rpartition(":")[2]) for one in ready["listeners"] if one.startswith(f"{door} "))
    return smtplib.SMTP("127.0.0.1", port, timeout=20)


def test_a_smarthost_from_variables_alone(volume: Path) -> None:
    with container(volume, **SMARTHOST) as (process, ready):
        with client_of(ready, "relay") as client:
            assert client.ehlo()[0] == 250
            client.mail("anna@office.example")
            assert client.rcpt("ben@x.example")[0] == 250
        # The shell has become the relay: nothing stands between it and a signal.
        assert b"staffetta" in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"entry.sh" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        # What the image asks to know that it is well, and what people ask in it.
        assert start(volume, "health", **SMARTHOST).returncode == 0
        assert start(volume, "queue", "list", "--json", **SMARTHOST).returncode == 0
    assert start(volume, "health", **SMARTHOST).returncode == 4
    assert 'via = "smtp.provider.example:25"' in (volume / "staffetta.toml").read_text()
    assert (volume / STORE_NAME).exists()


def test_a_domain_from_variables_alone(volume: Path) -> None:
    with container(volume, **DOMAIN) as (_, ready), client_of(ready, "mx") as client:
        client.ehlo()
        client.mail("ben@x.example")
        assert client.rcpt("nobody@example.org")[0] == 550
    assert '[domain."example.org"]' in (volume / "staffetta.toml").read_text()


def test_the_second_start_changes_nothing(volume: Path) -> None:
    with container(volume, **SMARTHOST):
        pass
    kept = {path.name: path.read_bytes() for path in volume.iterdir() if path.suffix in {".toml", ".key", ".pem"}}
    assert len(kept) == 3
    other = {**SMARTHOST, "STAFFETTA_HOSTNAME": "other.example.org"}
    with container(volume, **other) as (_, ready), client_of(ready, "relay") as client:
        assert b"other.example.org" in client.ehlo()[1]  # the variable holds over the file
    assert {name: (volume / name).read_bytes() for name in kept} == kept


def test_a_first_start_that_was_cut_off_begins_again(volume: Path) -> None:
    (volume / "self-signed.key").write_text("half")
    with container(volume, **SMARTHOST):
        pass
    assert "half" not in (volume / "self-signed.key").read_text()


@pytest.mark.parametrize("as_file", [False, True])
def test_secrets_are_read_and_not_copied(volume: Path, tmp_path: Path, as_file: bool) -> None:
    secret = tmp_path / "office"
    secret.write_text("hunter2\n")
    secret.chmod(0o400)
    name = "STAFFETTA_ROUTE_DEFAULT_PASSWORD"
    given = {**SMARTHOST, "STAFFETTA_ROUTE_DEFAULT_LOGIN": "office"}
    given |= {f"{name}_FILE": str(secret)} if as_file else {name: "hunter2"}
    with container(volume, **given):
        shown = start(volume, "config", "show", **given)
        assert shown.returncode == 0, shown.stderr
        assert f"environment {name}{'_FILE' if as_file else ''}" in shown.stdout
    everything = b"".join(path.read_bytes() for path in volume.rglob("*") if path.is_file())
    assert b"hunter2" not in everything
    assert "hunter2" not in shown.stdout + shown.stderr


@pytest.mark.parametrize(
    ("environ", "status", "words"),
    [
        ({}, 8, "STAFFETTA_ROUTE_DEFAULT_VIA"),
        ({"STAFFETTA_ROUTE_DEFAULT_VIA": "mx"}, 8, "STAFFETTA_INIT_DOMAIN"),
        ({"STAFFETTA_INIT_DOMAIN": "a b"}, 2, "a b"),
        ({**SMARTHOST, "STAFFETTA_LOG_LEVLE": "debug"}, 8, "did you mean STAFFETTA_LOG_LEVEL?"),
        ({**SMARTHOST, "STAFFETTA_LISTEN_RELAY_TRUST": "0.0.0.0/0"}, 8, "open relay"),
        (
            {**SMARTHOST, "STAFFETTA_ROUTE_DEFAULT_PASSWORD": "a", "STAFFETTA_ROUTE_DEFAULT_PASSWORD_FILE": "b"},
            8,
            "only one of the two",
        ),
        ({**SMARTHOST, "STAFFETTA_ROUTE_DEFAULT_LOGIN": "office"}, 2, "STAFFETTA_ROUTE_DEFAULT_PASSWORD_FILE"),
    ],
)
def test_what_is_missing_or_wrong_is_said_and_nothing_starts(
    volume: Path, environ: dict[str, str], status: int, words: str
) -> None:
    result = start(volume, **environ)
    assert result.returncode == status, result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not (volume / "staffetta.toml").exists()


def test_a_mounted_file_is_used_as_it_is(volume: Path) -> None:
    text = (
        'version = 1\nhostname = "mounted.example"\n[listen.a]\nbind = ["127.0.0.1:0"]\nrole = "relay"\nauth = false\n'
    )
    (volume / "staffetta.toml").write_text(text)
    with container(volume, STAFFETTA_CONSOLE_BIND="off") as (_, ready):
        assert ready["listeners"][0].startswith("a 127.0.0.1:")
    assert (volume / "staffetta.toml").read_text() == text


def test_a_volume_that_is_not_ours_is_said(volume: Path) -> None:
    missing = start(volume, **SMARTHOST, STAFFETTA_DATA_DIR=str(volume / "nothing"))
    assert missing.returncode == 5
    assert "mount a volume" in missing.stderr
    if os.geteuid() != 0:
        volume.chmod(0o500)
        assert start(volume, **SMARTHOST).returncode == 5


def test_other_verbs_need_no_configuration(volume: Path) -> None:
    assert start(volume, "--version").stdout.startswith("staffetta ")
    assert start(volume, "staffetta", "help", "C103").returncode == 0
    assert list(volume.iterdir()) == []
