"""The command from its words to its exit status, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from staffetta.app.pickup_folder import Folder
from staffetta.sendmail.drop import Envelope

Sendmail = Callable[..., subprocess.CompletedProcess[bytes]]


def left(drop: Path) -> list[tuple[Envelope, bytes]]:
    """Envelope and content of every file in the directory."""
    folder = Folder(drop)
    found = []
    for name in folder.names(time.time()):
        dropped = folder.open(name, 1 << 20)
        found.append((dropped.envelope, b"".join(dropped.content())))
        dropped.close()
        folder.remove(name)
    folder.close()
    return found


def test_a_message_of_cron(drop: Path, sendmail: Sendmail) -> None:
    written = b"From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@h> x\n\noutput\n.\nmore\n"
    done = sendmail("-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root", given=written)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert left(drop) == [(Envelope(("root",), full_name="CronDaemon"), written.replace(b"\n", b"\r\n"))]


def test_a_message_of_php(drop: Path, sendmail: Sendmail) -> None:
    written = b"To: anna@a.example\r\nSubject: x\r\nX-PHP: 1\r\nBcc: c@c.example\r\n\r\nhello\n"
    done = sendmail("-t", "-i", "-fweb@a.example", given=written)
    assert done.returncode == 0
    content = written.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert left(drop) == [(Envelope(("anna@a.example", "c@c.example"), "web@a.example"), content)]


@pytest.mark.parametrize("sender", [["-f", ""], ["-f", "<>"], ["-f<>"], ["-r", ""]])
def test_the_null_path(drop: Path, sendmail: Sendmail, sender: list[str]) -> None:
    assert sendmail(*sender, "anna", given=b"x\n").returncode == 0
    assert left(drop) == [(Envelope(("anna",), ""), b"\r\nx\r\n")]


def test_wishes_and_unknown_flags(drop: Path, sendmail: Sendmail) -> None:
    done = sendmail("-v", "-Z", "--new=1", "-Nsuccess", "-Rhdrs", "-Ve1", "anna", "ben,cc", given=b"x")
    assert done.returncode == 0
    assert b"2 flags are not known here and were ignored: '-Z --new=1'" in done.stderr
    assert b"for 3 recipients" in done.stderr
    assert left(drop) == [(Envelope(("anna", "ben", "cc"), None, None, ("SUCCESS",), "HDRS", "e1"), b"\r\nx\r\n")]


@pytest.mark.parametrize(
    ("words", "given", "status", "said"),
    [
        ([], b"x", 64, b"nobody is named"),
        (["-t"], b"Subject: x\n\nx", 64, b"the header names nobody"),
        (["-f"], b"x", 64, b"needs a value"),
        (["-N", "maybe", "a"], b"x", 64, b"-N takes"),
        (["-V", "a b\nc", "a"], b"x", 64, b"-V takes"),
        (["-bd"], b"", 64, b"staffetta run"),
        (["-bv", "anna"], b"", 64, b"explain route"),
        (["-t"], b"To: a b c\n\nx", 65, b"'a b c' is no address"),
        (["a@"], b"x", 65, b"'a@' is no address"),
        (["\x1b]0x\x07"], b"x", 65, b"'\\x1b]0x\\x07' is no address"),
        (["-f", "a b c", "anna"], b"x", 65, b"is no address"),
        (["-C", "/not/there", "a"], b"x", 78, b"/not/there cannot be used"),
        (["-bi"], b"", 0, b""),
        (["--help"], b"", 0, b""),
    ],
)
def test_exit_statuses(
    drop: Path, sendmail: Sendmail, words: list[str], given: bytes, status: int, said: bytes
) -> None:
    done = sendmail(*words, given=given, **({"STAFFETTA_DROP": ""} if "-C" in words else {}))
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert list(drop.iterdir()) == []


def test_where_mail_is_left(tmp_path: Path, drop: Path, sendmail: Sendmail) -> None:
    config = tmp_path / "staffetta.toml"
    config.write_text(f'version = 1\ndata_dir = "{drop.parent}/data"\n')
    assert sendmail("-C", str(config), "anna", given=b"1", STAFFETTA_DROP="").returncode == 0
    assert sendmail("anna", given=b"2", STAFFETTA_DROP="", STAFFETTA_CONFIG=str(config)).returncode == 0
    assert sorted(content for _, content in left(drop)) == [b"\r\n1\r\n", b"\r\n2\r\n"]
    config.write_text("data_dir = [")
    assert sendmail("-C", str(config), "anna", given=b"x", STAFFETTA_DROP="").returncode == 78
    done = sendmail("anna", given=b"x", STAFFETTA_DROP=str(tmp_path / "gone"))
    assert done.returncode == 75
    assert b"the relay makes it when it starts" in done.stderr


def test_a_configuration_in_the_working_directory_is_not_read(
    tmp_path: Path, drop: Path, monkeypatch: pytest.MonkeyPatch, sendmail: Sendmail
) -> None:
    elsewhere = tmp_path / "astray"
    elsewhere.mkdir()
    (tmp_path / "staffetta.toml").write_text(f'version = 1\ndata_dir = "{elsewhere}/data"\n')
    (elsewhere / "data-drop").mkdir()
    monkeypatch.chdir(tmp_path)
    sendmail("anna", given=b"x", STAFFETTA_DROP="")
    assert list((elsewhere / "data-drop").iterdir()) == []


def test_smtp_on_standard_input(drop: Path, sendmail: Sendmail) -> None:
    said = (
        b"EHLO x\r\nMAIL FROM:<a@a.example> RET=HDRS ENVID=q\r\nRCPT TO:<b@b.example> NOTIFY=NEVER\r\n"
        b"RCPT TO:<postmaster> NOTIFY=NEVER\r\nDATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\n"
        b"MAIL FROM:<>\r\nRSET\r\nNOOP\r\nRCPT TO:<x@x.example>\r\nMAIL FROM:<>\r\nRCPT TO:<c@c.example>\r\n"
        b"BDAT 3 LAST\r\nhi\nQUIT\r\n"
    )
    done = sendmail("-bs", given=said)
    assert done.returncode == 0
    codes = [line[:3] for line in done.stdout.split(b"\r\n") if line[3:4] == b" "]
    assert codes == b"220 250 250 250 250 354 250 250 250 250 503 250 250 250 221".split()
    assert left(drop) == [
        (
            Envelope(("b@b.example", "postmaster"), "a@a.example", None, ("NEVER",), "HDRS", "q"),
            b"Subject: x\r\n\r\n.dot\r\n",
        ),
        (Envelope(("c@c.example",), ""), b"hi\r\n"),
    ]


def test_smtp_that_breaks_off_leaves_nothing(drop: Path, sendmail: Sendmail) -> None:
    done = sendmail("-bs", given=b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@a.example>\r\nDATA\r\nSubject: x\r\n")
    assert done.returncode == 0
    assert list(drop.iterdir()) == []


def test_nothing_heavy_is_loaded(drop: Path) -> None:
    """Start-up is what most callers pay for: a message in and out must not need what only other modes do."""
    code = (
        "import sys, io; from staffetta.sendmail.main import run; status = run(['-i', 'anna']);"
        "sys.stdout.write(' '.join(sorted(sys.modules))); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=b"Subject: x\n\nhi\n",
        capture_output=True,
        check=True,
        env={"STAFFETTA_DROP": str(drop)},
        timeout=20,
    )
    loaded = set(done.stdout.decode().split())
    assert "msgspec" in loaded
    heavy = {"click", "rich", "cryptography", "apsw", "asyncio", "ssl", "dns", "argon2", "uvloop", "email", "socket"}
    assert not loaded & heavy
