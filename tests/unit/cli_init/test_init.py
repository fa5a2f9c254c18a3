"""`init`: what it writes is right, within the budget, private where it has to be, and never over something else."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from staffetta.cli.main import cli
from staffetta.config.load import Loaded, load
from staffetta.control.init_file import lines_of_settings

SMARTHOST = ["init", "smarthost", "smtp.provider.example", "--hostname", "relay.office.example"]
EVERYTHING = [*SMARTHOST, "--login", "office", "--password-stdin", "--trust", "192.168.1.0/24, 10.1.0.0/16"]
EVERYTHING += ["--postmaster", "anna@office.example", "--unprivileged"]
DOMAIN = ["init", "domain", "bücher.example", "--data-dir", "data"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("STAFFETTA_")]:
        monkeypatch.delenv(name)
    return tmp_path


def run(*words: str, stdin: str = "hunter2\n", **environ: str) -> Result:
    return CliRunner().invoke(cli, list(words), input=stdin, env=environ)


def loaded(path: Path = Path("staffetta.toml"), **environ: str) -> Loaded:
    found = load(path, environ)
    assert isinstance(found, Loaded), found
    return found


@pytest.mark.parametrize(
    ("words", "most"), [(EVERYTHING, 16), (SMARTHOST, 16), (DOMAIN, 30)], ids=["everything", "smarthost", "domain"]
)
def test_the_file_is_right_and_short(words: list[str], most: int) -> None:
    result = run(*words)
    assert result.exit_code == 0, result.output
    text = Path("staffetta.toml").read_text()
    assert lines_of_settings(text) <= most
    assert f"{lines_of_settings(text)} lines of settings" in result.stderr
    assert len([line for line in text.split("\n") if line and not line.startswith("#")]) <= most
    assert loaded().warnings == ()
    assert run("config", "check").exit_code == 0


def test_everything_said_stands_in_the_file() -> None:
    assert run(*EVERYTHING).exit_code == 0
    config = loaded().config
    assert config.hostname.ascii == "relay.office.example"
    assert str(config.postmaster) == "anna@office.example"
    assert config.data_dir.name == "data"
    assert [str(network) for network in config.listeners[0].trust][2:] == ["192.168.1.0/24", "10.1.0.0/16"]
    assert [bind.port for bind in config.listeners[0].bind] == [2525, 2587]
    route = config.routes[-1]
    assert (route.name, str(route.via[0]), route.login) == ("default", "smtp.provider.example:587", "office")
    assert route.password is not None
    assert route.password.value == "hunter2"


def test_a_domain_has_its_doors_and_records() -> None:
    result = run(*DOMAIN)
    assert result.exit_code == 0, result.output
    config = loaded().config
    assert [(door.name, door.role.value, door.bind[0].port) for door in config.listeners] == [
        ("mx", "mx", 25),
        ("submission", "submission", 587),
        ("submissions", "submission", 465),
    ]
    assert [domain.domain.ascii for domain in config.domains] == ["xn--bcher-kva.example"]
    rows = [line.split("\t")[:3] for line in result.stdout.split("\n")[:-1]]
    keys = [row for row in rows if "._domainkey." in row[0]]
    assert [row[1] for row in keys] == ["TXT", "TXT"]
    assert sorted(re.sub("p=.*", "", row[2]) for row in keys) == ["v=DKIM1; k=ed25519; ", "v=DKIM1; k=rsa; "]
    listed = [json.loads(line) for line in run("dkim", "list", "--json").stdout.split("\n")[:-1]]
    assert {row[0] for row in keys} == {f"{one['selector']}._domainkey.{one['domain']}" for one in listed}
    assert [row for row in rows if row not in keys] == [
        ["mail.xn--bcher-kva.example", "A / AAAA", "(the public address of this machine)"],
        ["xn--bcher-kva.example", "MX", "10 mail.xn--bcher-kva.example."],
        ["xn--bcher-kva.example", "TXT", "v=spf1 mx -all"],
        ["_dmarc.xn--bcher-kva.example", "TXT", "v=DMARC1; p=none; rua=mailto:postmaster@xn--bcher-kva.example"],
        ["_submissions._tcp.xn--bcher-kva.example", "SRV", "0 1 465 mail.xn--bcher-kva.example."],
        ["_submission._tcp.xn--bcher-kva.example", "SRV", "0 1 587 mail.xn--bcher-kva.example."],
        ["_imaps._tcp.xn--bcher-kva.example", "SRV", "0 0 0 ."],
    ]


def test_records_are_honest_about_other_shapes() -> None:
    doors = ["--listen", "mx=off", "--listen", "submission=127.0.0.1:2587", "--listen", "submissions=off"]
    out = run(*DOMAIN, *doors, "--smarthost", "smtp.provider.example").stdout
    assert "\tMX\t" not in out
    assert "v=spf1 a:mail.xn--bcher-kva.example ?all\tadd the include:" in out
    assert "_submissions._tcp.xn--bcher-kva.example\tSRV\t0 0 0 .\tno mail program" in out
    assert "0 1 2587 mail" in out
    assert "led to 2525 here" in run(*DOMAIN, "--unprivileged", "--force").stdout


def test_a_data_directory_that_cannot_be_made_is_no_obstacle() -> None:
    Path("file").touch()
    result = run(*DOMAIN[:3], "--data-dir", "file/data")
    assert result.exit_code == 0, result.output
    assert "_domainkey" not in result.stdout
    assert "staffetta dkim publish" in result.stderr


def test_three_commands_come_next() -> None:
    for words, output in [(SMARTHOST, "staffetta.toml"), (DOMAIN, "other/mail.toml")]:
        said = run(*words, "--output", output).stderr.partition("\nNext:\n")[2]
        commands = [line for line in said.split("\n") if line]
        assert len(commands) == 3
        assert all(re.match(r"  staffetta [a-z]+ ?", line) for line in commands)
        assert any("staffetta run" in line for line in commands)
        assert ("-c other/mail.toml" in said) == (output != "staffetta.toml")


def test_secrets_are_private_and_not_in_the_file() -> None:
    result = run(*EVERYTHING)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in Path().iterdir()}
    assert set(modes) == {"staffetta.toml", "smarthost.password", "self-signed.pem", "self-signed.key"}
    assert modes["smarthost.password"] & 0o137 == 0
    assert modes["self-signed.key"] & 0o137 == 0
    assert "hunter2" not in Path("staffetta.toml").read_text() + result.output


def test_root_writes_for_the_account_that_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of root are readable by the group of that account, or the relay could not reload them."""
    monkeypatch.setattr("staffetta.control.init_write._service_group", os.getgid)
    before = os.umask(0o077)
    try:
        assert run(*EVERYTHING).exit_code == 0
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in Path().iterdir()}
    assert modes == {
        "staffetta.toml": 0o644,
        "smarthost.password": 0o640,
        "self-signed.key": 0o640,
        "self-signed.pem": 0o644,
    }


def test_the_file_that_the_environment_names_is_written() -> None:
    assert run(*SMARTHOST, STAFFETTA_CONFIG="elsewhere/mail.toml").exit_code == 0
    assert Path("elsewhere/mail.toml").exists()


def test_the_certificate_says_that_it_is_for_trying() -> None:
    run(*SMARTHOST)
    certificate = x509.load_pem_x509_certificate(Path("self-signed.pem").read_bytes())
    assert "Self-signed" in certificate.subject.rfc4514_string()
    assert "for trying" in certificate.subject.rfc4514_string()
    assert "signed by itself" in Path("staffetta.toml").read_text()


def test_a_certificate_of_ones_own_is_named_not_copied() -> None:
    run(*SMARTHOST)
    Path("self-signed.pem").rename("mail.pem")
    Path("self-signed.key").rename("mail.key")
    result = run(*SMARTHOST, "--force", "--certificate", "mail.pem", "--key", str(Path("mail.key").absolute()))
    assert result.exit_code == 0, result.output
    text = Path("staffetta.toml").read_text()
    assert 'certificate = "mail.pem"\nkey = "mail.key"' in text
    assert "signed by itself" not in text
    assert not Path("self-signed.pem").exists()
    assert run(*SMARTHOST, "--force", "--certificate", "mail.pem").exit_code == 2


@pytest.mark.parametrize("name", ["staffetta.toml", "smarthost.password", "self-signed.key", "self-signed.pem"])
def test_nothing_is_ever_overwritten(name: str) -> None:
    Path(name).write_text("precious")
    result = run(*EVERYTHING)
    assert result.exit_code == 1
    assert name in result.stderr
    assert "--force" in result.stderr
    assert [path.name for path in Path().iterdir()] == [name]
    assert Path(name).read_text() == "precious"
    assert run(*EVERYTHING, "--force").exit_code == 0
    assert Path(name).read_text() != "precious"


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_text("precious")
    for name in ("staffetta.toml", "self-signed.key"):
        Path(name).symlink_to(target)
    assert run(*SMARTHOST).exit_code == 1
    assert run(*SMARTHOST, "--force").exit_code == 0
    assert target.read_text() == "precious"
    assert not Path("self-signed.key").is_symlink()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([*SMARTHOST, "--trust", "0.0.0.0/0"], "C202"),
        (["init", "smarthost", "192.0.2.1", "--hostname", "a.example", "--login", "x", "--password-stdin"], "C214"),
        ([*SMARTHOST, "--login", "x", "--password-file", "nowhere.pw"], "C301"),
        ([*SMARTHOST, "--listen", "relay=*:465", "--listen", "relay=127.0.0.1:465"], "C205"),
    ],
)
def test_what_would_be_wrong_is_not_written(words: list[str], code: str) -> None:
    result = run(*words)
    assert result.exit_code == 8
    assert code in result.stderr
    assert "staffetta.toml:" in result.stderr
    assert ".new" not in result.stderr
    assert "Nothing was written." in result.stderr
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        [*SMARTHOST, "--trust", "10.0.0.1/8"],
        [*SMARTHOST, "--postmaster", "anna"],
        [*SMARTHOST, "--listen", "mx=*:25"],
        [*SMARTHOST, "--listen", "relay=off"],
        [*SMARTHOST, "--listen", "relay=x"],
        [*SMARTHOST, "--password-stdin"],
        [*SMARTHOST, "--hostname", "no_such\x1b[2Jname"],
        ["init", "smarthost", "https://x.example"],
        ["init", "smarthost", "mx", "--login", "a\x07"],
        ["init", "domain", "a b"],
        [*DOMAIN, "--login", "x"],
    ],
)
def test_senseless_words_are_usage(words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert "\x1b" not in result.stderr
    assert list(Path().iterdir()) == []


def test_without_input_all_that_is_missing_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "box")
    result = run("init", "smarthost", "smtp.provider.example", "--login", "office", "--no-input")
    assert result.exit_code == 2
    lines = result.stderr.split("\n")
    assert lines[0] == "staffetta: nothing was written: there is no terminal to ask on, and this is missing:"
    assert lines[1].startswith("  --hostname NAME")
    assert lines[2].startswith("  --password-file FILE")
    assert list(Path().iterdir()) == []


def test_the_machines_name_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "box.office.example")
    assert run("init", "smarthost", "smtp.provider.example", "--no-input").exit_code == 0
    assert loaded().config.hostname.ascii == "box.office.example"


@pytest.mark.parametrize("as_file", [False, True])
def test_variables_answer_and_the_secret_stays_where_it_is(tmp_path: Path, as_file: bool) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    secret.chmod(0o600)
    environ = {"STAFFETTA_HOSTNAME": "relay.office.example", "STAFFETTA_ROUTE_DEFAULT_LOGIN": "office"}
    name = "STAFFETTA_ROUTE_DEFAULT_PASSWORD"
    environ |= {f"{name}_FILE": str(secret)} if as_file else {name: "hunter2"}
    result = run("init", "smarthost", "smtp.provider.example", "--no-input", **environ)
    assert result.exit_code == 0, result.output
    raw = tomllib.loads(Path("staffetta.toml").read_text())
    assert raw["route"]["default"]["password"] == (f"file:{secret}" if as_file else f"env:{name}")
    assert not Path("smarthost.password").exists()
    assert loaded(**environ).config.routes[-1].password is not None


class Terminal:
    """A person at a terminal: waits for a question, types an answer."""

    def __init__(self, words: Sequence[str], folder: Path, **environ: str) -> None:
        self.heard = ""
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "staffetta", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb", **environ},
        )
        os.close(slave)

    def answer(self, question: str, text: str) -> None:
        """Wait for the question and answer it. Raises TimeoutError."""
        start = len(self.heard)
        end = time.monotonic() + 20
        while question not in self.heard[start:]:
            if time.monotonic() > end or not self._hear():
                raise TimeoutError(f"{question!r} was not asked: {self.heard[start:]!r}")
        os.write(self.master, text.encode() + b"\n")

    def finish(self) -> int:
        """The exit status; everything that was shown is in `heard`."""
        while self._hear():
            pass
        os.close(self.master)
        return self.process.wait(20)

    def _hear(self) -> bool:
        try:
            if not select.select([self.master], [], [], 20)[0]:
                return False
            data = os.read(self.master, 4096)
        except OSError:
            return False
        self.heard += data.decode()
        return bool(data)


def test_a_person_is_asked_for_a_smarthost(folder: Path) -> None:
    terminal = Terminal(["init", "smarthost", "smtp.provider.example", "--unprivileged"], folder)
    terminal.answer("Name of this machine", "not a name")
    terminal.answer("Error", "relay.office.example")
    terminal.answer("Networks that may send", "192.168.1.0/24 10.0.0.0/8")
    terminal.answer("Login at smtp.provider.example", "office")
    terminal.answer("Password at smtp.provider.example", "hunter2")
    terminal.answer("Address for complaints", "")
    assert terminal.finish() == 0, terminal.heard
    assert "hunter2" not in terminal.heard
    config = loaded().config
    assert config.hostname.ascii == "relay.office.example"
    assert len(config.listeners[0].trust) == 4
    assert config.routes[-1].password is not None
    assert config.routes[-1].password.value == "hunter2"


def test_a_person_is_asked_for_a_domain(folder: Path) -> None:
    terminal = Terminal(["init", "domain", "example.org", "--data-dir", "data"], folder)
    terminal.answer("Name of this machine", "")
    terminal.answer("Address for complaints", "anna@example.org")
    terminal.answer("Smarthost for mail going out", "")
    if os.geteuid() != 0:
        terminal.answer("Ports above 1024", "n")
    terminal.answer("Do other servers bring mail", "n")
    terminal.answer("Do mail programs send", "y")
    assert terminal.finish() == 0, terminal.heard
    assert "Publish these records in the DNS of example.org" in terminal.heard
    config = loaded().config
    assert [door.name for door in config.listeners] == ["submission", "submissions"]
    assert config.hostname.ascii == "mail.example.org"
    assert "v=spf1 a:mail.example.org -all" in terminal.heard
