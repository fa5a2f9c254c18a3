"""`service install`: units that systemd accepts, as closed as can be, in which the relay really works."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import smtplib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from staffetta.cli import service
from staffetta.cli.main import cli
from staffetta.config.load import Loaded, load
from staffetta.control.service_unit import Service, units, word

CONFIG = """\
version = 1
hostname = "relay.example"
{top}
[console]
bind = "off"
[log]
format = "json"
[listen.lan]
bind = {bind}
role = "relay"
auth = false
[domain."example.org"]
deliver = "{deliver}"
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is in no home and not in /tmp's private view: what is looked at is the text alone."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def write(folder: Path, *, bind: str = '["*:25"]', top: str = "", deliver: str = "maildir") -> Path:
    file = folder / "staffetta.toml"
    file.write_text(CONFIG.format(bind=bind, top=top, deliver=deliver))
    return file


def install(file: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["service", "install", *words, "-c", str(file)])


def directives(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.split("\n"):
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def unit(file: Path, *words: str) -> dict[str, list[str]]:
    result = install(file, "--print", *words)
    assert result.exit_code == 0, result.output
    return directives(result.stdout)


def systemd_analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("systemd-analyze is not installed (Debian package systemd)")
        pytest.skip("systemd-analyze is not installed (Debian package systemd)")
    return found


def test_it_tells_everything_the_manager_has_to_know(folder: Path) -> None:
    file = write(folder)
    said = unit(file)
    assert said["Type"] == ["notify"]
    assert said["User"] == said["Group"] == ["staffetta"]
    assert said["ExecStart"][0].endswith(f"staffetta run -c {file}")
    assert said["ExecReload"][0].endswith(f"staffetta reload -c {file}")
    assert said["Restart"] == ["on-failure"]
    assert "RestartPreventExitStatus" not in said, "a port that is taken for a moment has the status of a wrong file"
    assert said["StartLimitBurst"] == ["20"]
    assert said["WatchdogSec"] == ["30"]
    assert said["StateDirectory"] == ["staffetta staffetta-drop"]
    assert said["ProtectSystem"] == ["strict"]
    assert "ReadWritePaths" not in said
    assert int(said["TimeoutStopSec"][0]) > 35  # sessions have 25 seconds, deliveries in flight some more


@pytest.mark.parametrize(
    ("bind", "words", "capability"),
    [
        ('["*:25"]', [], ["CAP_NET_BIND_SERVICE"]),
        ('["*:2525", "127.0.0.1:587"]', [], ["CAP_NET_BIND_SERVICE"]),
        ('["*:2525"]', [], [""]),
        ('["*:25"]', ["--sockets"], [""]),
    ],
)
def test_it_has_no_right_that_it_needs_not(folder: Path, bind: str, words: list[str], capability: list[str]) -> None:
    said = unit(write(folder, bind=bind), *words)
    assert said["CapabilityBoundingSet"] == capability
    assert said.get("AmbientCapabilities", [""]) == capability
    assert "PrivateUsers" not in said  # or every user who sends mail by sendmail would be nobody


def test_it_may_write_where_the_file_says_and_nowhere_else(folder: Path) -> None:
    said = unit(write(folder, top='data_dir = "my data"', deliver="maildir:/srv/mail"))
    assert set(said["ReadWritePaths"]) == {f'"{folder}/my data"', f'"{folder}/my data-drop"', "/srv/mail"}
    assert "StateDirectory" not in said
    inside = unit(write(folder, top='data_dir = "/var/lib/staffetta/one"'))
    assert inside["StateDirectory"] == ["staffetta staffetta-drop"]
    assert "ReadWritePaths" not in inside


def test_homes_are_closed_unless_something_is_there(folder: Path) -> None:
    file = write(folder)
    found = load(file, {}, now=0)
    assert not hasattr(found, "problems")
    config: Any = getattr(found, "config")  # noqa: B009
    for path, said in [("/opt/staffetta", "yes"), ("/home/anna/venv", "read-only"), ("/root/x", "read-only")]:
        text = units(Service(config, file, ("/usr/bin/staffetta",), (Path(path),)))[0].text
        assert directives(text)["ProtectHome"] == [said]


def test_sockets_are_the_doors_of_the_file(folder: Path) -> None:
    file = write(folder, bind='["*:25", "127.0.0.1:587", "[::1]:465", "localhost:2525"]')
    said = unit(file, "--sockets")
    assert said["ListenStream"] == ["25", "127.0.0.1:587", "[::1]:465", "127.0.0.1:2525", "[::1]:2525"]
    assert "staffetta.socket" in said["Requires"]
    assert install(write(folder, bind='["*:0"]'), "--print", "--sockets").exit_code == 2


def test_a_users_unit_needs_no_root(folder: Path) -> None:
    low = install(write(folder), "--user", "--print")
    assert low.exit_code == 2
    assert "below 1024" in low.stderr
    said = unit(write(folder, bind='["*:2525"]'), "--user")
    assert said["WantedBy"] == ["default.target"]
    for name in ("User", "AmbientCapabilities", "CapabilityBoundingSet", "ProtectSystem", "StateDirectory"):
        assert name not in said
    assert said["NoNewPrivileges"] == ["yes"]


def test_files_are_written_below_the_prefix_and_changes_kept(folder: Path) -> None:
    file, root = write(folder), folder / "root"
    result = install(file, "--prefix", str(root))
    assert result.exit_code == 0, result.output
    path = root / "etc/systemd/system/staffetta.service"
    assert sorted(str(one.relative_to(root)) for one in root.rglob("*") if one.is_file()) == [
        "etc/systemd/system/staffetta.service",
        "etc/sysusers.d/staffetta.conf",
    ]
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.read_text() in install(file, "--print").stdout
    assert install(file, "--prefix", str(root)).exit_code == 0
    path.write_text(path.read_text() + "# mine\n")
    again = install(file, "--prefix", str(root))
    assert again.exit_code == 1
    assert "--force" in again.stderr
    assert "# mine" in path.read_text()
    assert install(file, "--prefix", str(root), "--force").exit_code == 0
    assert "# mine" not in path.read_text()


def test_what_is_left_to_do_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started and nobody's rights are changed: a person reads these commands first."""
    home = folder / "home"
    monkeypatch.setenv("HOME", str(home))
    result = install(write(folder, bind='["*:2525"]'), "--user")
    assert result.exit_code == 0, result.output
    assert (home / ".config/systemd/user/staffetta.service").exists()
    assert "systemctl --user daemon-reload && systemctl --user enable --now staffetta" in result.stderr
    (folder / "office.pw").write_text("hunter2")
    (folder / "office.pw").chmod(0o600)
    route = '[route.default]\nvia = "smtp.a.example"\nlogin = "a"\npassword = "file:office.pw"\n'
    file = write(folder, top='data_dir = "my data"')
    file.write_text(file.read_text() + route)
    found = load(file, {}, now=0)
    assert isinstance(found, Loaded)
    said: list[str] = []
    monkeypatch.setattr(service, "say", said.append)
    service._next(service._service(found, file, sockets=False, of_user=False))
    text = "\n".join(said)
    assert f"chgrp staffetta {folder}/office.pw && chmod g+r,o= {folder}/office.pw" in text
    assert f"install -d -o staffetta -g staffetta -m 700 '{folder}/my data'" in text
    assert "systemctl daemon-reload && systemctl enable --now staffetta" in text


def test_a_wrong_file_makes_no_unit(folder: Path) -> None:
    file = write(folder)
    file.write_text(file.read_text() + "[nonsense]\n")
    assert install(file, "--prefix", str(folder / "root")).exit_code == 8
    assert not (folder / "root").exists()


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("/etc/staffetta/staffetta.toml", "/etc/staffetta/staffetta.toml"),
        ("/a b/c", '"/a b/c"'),
        ("/100%/$HOME", "/100%%/$$HOME"),
        ('/a"b\\c', '"/a\\"b\\\\c"'),
        ("/a;b", '"/a;b"'),
    ],
)
def test_a_path_is_one_word(text: str, written: str) -> None:
    assert word(text) == written


@pytest.mark.parametrize("words", [[], ["--sockets"]], ids=["capability", "sockets"])
def test_systemd_accepts_it_and_finds_it_closed(folder: Path, words: list[str]) -> None:
    analyze = systemd_analyze()
    root = folder / "root"
    file = write(folder, top='data_dir = "my data"')
    assert install(file, "--prefix", str(root), *words).exit_code == 0
    made = sorted(str(path) for path in (root / "etc/systemd/system").iterdir())
    verified = subprocess.run([analyze, "verify", "--man=no", *made], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    service = next(path for path in made if path.endswith(".service"))
    security = [analyze, "security", "--offline=true", "--no-pager", service]
    judged = subprocess.run(security, capture_output=True, text=True, check=False)
    level = re.search(r"exposure level for staffetta\.service: ([0-9.]+)", judged.stdout)
    assert level is not None, judged.stdout + judged.stderr
    assert float(level.group(1)) <= (1.4 if words else 1.7)


def test_a_users_manager_accepts_it_too(folder: Path) -> None:
    analyze = systemd_analyze()
    assert install(write(folder, bind='["*:2525"]'), "--user", "--prefix", str(folder / "home")).exit_code == 0
    path = folder / "home/.config/systemd/user/staffetta.service"
    verified = subprocess.run(
        [analyze, "--user", "verify", "--man=no", str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
    )
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


FILTER = """\
import ctypes, os, sys
allowed = sys.stdin.read().split()
seccomp = ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.restype = ctypes.c_void_p
seccomp.seccomp_init.argtypes = [ctypes.c_uint32]
seccomp.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
seccomp.seccomp_load.argtypes = [ctypes.c_void_p]
context = seccomp.seccomp_init(0x00050000 | 1)  # everything else: EPERM
for name in allowed:
    number = seccomp.seccomp_syscall_resolve_name(name.encode())
    if number >= 0:
        seccomp.seccomp_rule_add(context, 0x7FFF0000, number, 0)
assert seccomp.seccomp_load(context) == 0
ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)  # PR_SET_MDWE, where the kernel knows it: MemoryDenyWriteExecute
os.execv(sys.executable, [sys.executable, "-m", "staffetta", *sys.argv[1:]])
"""


def system_calls(analyze: str, *groups: str) -> set[str]:
    """The names of system calls in groups such as @system-service, groups in them included."""
    found: set[str] = set()
    for group in groups:
        out = subprocess.run([analyze, "syscall-filter", group], capture_output=True, text=True, check=True).stdout
        names = [line.strip() for line in out.split("\n")[1:]]
        found |= {name for name in names if name and name[0] not in "@#"}
        found |= system_calls(analyze, *(name for name in names if name.startswith("@")))
    return found


def test_the_relay_works_with_the_system_calls_it_is_left(tmp_path: Path) -> None:
    """Not the whole sandbox, which needs systemd: its filter of system calls and its rule on executable memory."""
    analyze = systemd_analyze()
    file = write(tmp_path, bind='["127.0.0.1:0"]', top='data_dir = "data"')
    allow, deny = unit(file)["SystemCallFilter"]
    names = system_calls(analyze, *allow.split()) - system_calls(analyze, *deny.removeprefix("~").split())
    account = ["account", "add", "anna@example.org", "--password-stdin", "-c", str(file)]
    assert CliRunner().invoke(cli, account, input="correct horse battery\n").exit_code == 0
    process = subprocess.Popen(
        [sys.executable, "-c", FILTER, "run", "-c", str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(" ".join([*names, "execve"]).encode())
        process.stdin.close()
        process.stdin = None
        try:
            first = process.stdout.readline()
            assert first, process.communicate(timeout=20)[1]
            port = int(json.loads(first)["listeners"][0].rpartition(":")[2])
            with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
                client.sendmail("ben@x.example", ["anna@example.org"], "Subject: x\r\n\r\nhello\r\n")
            for line in process.stdout:
                if json.loads(line)["event"] == "deliver":
                    break
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            _, complaints = process.communicate(timeout=40)
        assert process.returncode == 0, complaints
        assert b"Operation not permitted" not in complaints
    assert len(list((tmp_path / "data/mail/example.org/anna/new").iterdir())) == 1
