"""Programs that call `sendmail`: cron, PHP, git send-email, mailx, mutt. What they write is recorded on its way, and
has to come out at the other end octet by octet behind the fields that a relay adds.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from staffetta.control.place import drop_of
from staffetta.testing.sink_script import faults_of

SECONDS = 20.0
ADDED = {b"Received", b"DKIM-Signature", b"Message-ID", b"Date", b"From"}
DOTS = "hello\n.\n..\n.after a dot\nGrüße\n"


class Program:
    """The command `sendmail` as the system would have it, keeping what it is given."""

    def __init__(self, folder: Path, daemon: Any) -> None:
        self.folder = folder
        self.drop = drop_of(daemon.folder / "data")
        self.path = folder / "sendmail"
        code = "from staffetta.sendmail.main import sendmail; sendmail()"
        self.path.write_text(
            "#!/bin/sh\n"
            f"export STAFFETTA_DROP={shlex.quote(str(self.drop))}\n"
            f'printf "%s\\n" "$*" >> {folder}/arguments\n'
            f"cat > {folder}/input\n"
            f'exec {shlex.quote(sys.executable)} -c {shlex.quote(code)} "$@" < {folder}/input\n'
        )
        self.path.chmod(0o755)

    @property
    def arguments(self) -> str:
        """How it was called last."""
        return (self.folder / "arguments").read_text().split("\n")[-2]

    @property
    def written(self) -> bytes:
        """What it was given last, with line ends as they travel."""
        return (self.folder / "input").read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")

    def emptied(self) -> None:
        """Return when the relay has taken all."""
        end = time.monotonic() + SECONDS
        while [path for path in self.drop.iterdir() if path.name != "damaged"]:
            assert time.monotonic() < end, "the relay takes nothing"
            time.sleep(0.03)


@pytest.fixture
def program(tmp_path: Path) -> Callable[[Any], Program]:
    def make(daemon: Any) -> Program:
        folder = tmp_path / "program"
        folder.mkdir()
        return Program(folder, daemon)

    return make


@pytest.fixture
def office(start_daemon: Any, catcher: Any) -> Any:
    """A daemon that sends what is not for itself to the catcher."""
    more = f'[route.out]\nto = ["*"]\nvia = "localhost:{catcher.sink.port}"\ntls = "off"\n'
    return start_daemon(more, lambda one: one.account("anna@home.example"))


def arrived(catcher: Any, program: Program) -> Any:
    """The one message that came; what the program wrote stands at its end, octet by octet."""
    (received,) = catcher.wait(1)
    assert faults_of(received) == []
    added, found, behind = received.content.partition(program.written)
    assert (bool(found), behind) == (True, b""), (received.content, program.written)
    assert added.startswith(b"Received: by relay.example (local user ")
    assert all(line[:1] in b"\t " or line.split(b":")[0] in ADDED for line in added.split(b"\r\n")[:-1])
    return received


def test_php_mail(office: Any, catcher: Any, component: Any, run: Any, program: Any) -> None:
    sendmail = program(office)
    headers = "From: web@home.example\\r\\nBcc: hidden@far.example\\r\\nCc: Ben <cc@far.example>"
    body = DOTS.replace("\n", "\\n")
    code = f'exit(mail("anna@far.example", "A subject", "{body}", "{headers}", "-fbounces@home.example") ? 0 : 9);'
    done = run([component("php", "php-cli"), "-n", "-d", f"sendmail_path={sendmail.path} -t -i", "-r", code])
    assert done.returncode == 0, done.stdout
    assert sendmail.arguments == "-t -i -fbounces@home.example"
    (received,) = catcher.wait(1)
    assert received.mail.startswith(b"FROM:<bounces@home.example>")
    recipients = {rcpt.split(b" ")[0] for rcpt in received.rcpts}
    assert recipients == {b"TO:<anna@far.example>", b"TO:<hidden@far.example>", b"TO:<cc@far.example>"}
    without_bcc = sendmail.written.replace(b"Bcc: hidden@far.example\r\n", b"")
    assert received.content.endswith(b"\r\n" + without_bcc)
    assert b"hidden" not in received.content


def test_git_send_email(office: Any, catcher: Any, component: Any, run: Any, program: Any, tmp_path: Path) -> None:
    sendmail = program(office)
    git = component("git")
    if not Path("/usr/lib/git-core/git-send-email").exists():
        component("git-send-email", "git-email")
    environment = {
        **os.environ,
        **{
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", "Anna Ä"), ("EMAIL", "anna@home.example"))
        },
        "HOME": str(tmp_path),
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    work = tmp_path / "work"
    for command in (["init", "-q", str(work)], ["-C", str(work), "commit", "-q", "--allow-empty", "-m", "Begin"]):
        assert run([git, *command], env=environment).returncode == 0
    (work / "file").write_text(DOTS)
    for command in (["add", "file"], ["commit", "-q", "-m", "Grüße\n\nA line\n"], ["format-patch", "-q", "-1"]):
        done = run([git, "-C", str(work), *command], env=environment)
        assert done.returncode == 0, done.stdout
    done = run(
        [
            git,
            "-C",
            str(work),
            "send-email",
            f"--sendmail-cmd={sendmail.path}",
            "--confirm=never",
            "--no-xmailer",
            "--from=Anna Ä <anna@home.example>",
            "--to=ben@far.example",
            "--cc=list@far.example",
            "--suppress-cc=all",
            "--envelope-sender=auto",
            "0001-Gr-e.patch",
        ],
        env=environment,
    )
    assert done.returncode == 0, done.stdout
    received = arrived(catcher, sendmail)
    assert "-i" in sendmail.arguments.split()
    assert b"TO:<ben@far.example>" in b" ".join(received.rcpts)
    assert b"\r\n+.\r\n+..\r\n" in received.content


@pytest.mark.parametrize("client", ["bsd-mailx", "s-nail"])
def test_mailx(office: Any, catcher: Any, component: Any, run: Any, program: Any, tmp_path: Path, client: str) -> None:
    sendmail = program(office)
    rc = tmp_path / "mailrc"
    rc.write_text(f"set sendmail={sendmail.path} mta={sendmail.path}\nset sendcharsets=utf-8 ttycharset=utf-8\n")
    done = run(
        [component(client), "-s", "By mailx", "-r", "anna@home.example", "ben@far.example"],
        input=DOTS.replace("\n.\n", "\n"),
        env={**os.environ, "HOME": str(tmp_path), "MAILRC": str(rc)},
    )
    assert done.returncode == 0, done.stdout
    received = arrived(catcher, sendmail)
    assert received.mail.startswith(b"FROM:<anna@home.example>")
    assert b"Subject: By mailx\r\n" in received.content


def test_mutt(office: Any, catcher: Any, component: Any, run: Any, program: Any, tmp_path: Path) -> None:
    sendmail = program(office)
    done = run(
        [
            component("mutt"),
            "-n",
            "-F",
            "/dev/null",
            "-e",
            f'set sendmail="{sendmail.path} -oem -oi"',
            "-e",
            "set copy=no sendmail_wait=0 use_envelope_from=yes",
            "-e",
            'set from="anna@home.example" charset=utf-8 send_charset=utf-8',
            "-s",
            "By mutt",
            "ben@far.example",
        ],
        input=DOTS,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout
    received = arrived(catcher, sendmail)
    assert "-oem -oi -f anna@home.example" in sendmail.arguments
    assert b"Subject: By mutt\r\n" in received.content


CRON = """
mount --make-rprivate /
mount --bind {folder}/run /run &&
mount --bind {folder}/spool /var/spool/cron &&
mount --bind {folder}/cron.d /etc/cron.d &&
mount --bind {folder}/crontab /etc/crontab &&
mount --bind {sendmail} /usr/sbin/sendmail || exit 9
exec {cron} -f
"""


def test_cron(office: Any, component: Any, run: Any, program: Any, tmp_path: Path) -> None:
    """The real daemon in a namespace of its own, where our sendmail is the system's and nothing else is scheduled.

    A job for the time of start-up runs at once, so nobody waits for the next minute."""
    cron = component("cron")
    unshare = component("unshare", "util-linux")
    if os.getuid() != 0 or run([unshare, "-m", "true"]).returncode != 0:
        pytest.skip("cron needs root and a mount namespace")
    if not Path("/usr/sbin/sendmail").exists() or not Path("/etc/crontab").exists():
        pytest.skip("there is no /usr/sbin/sendmail or /etc/crontab to put ours over")
    sendmail = program(office)
    for name in ("run", "spool/crontabs", "cron.d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "crontab").touch()
    table = tmp_path / "spool" / "crontabs" / "root"
    table.write_text('MAILTO=anna@home.example,root\n@reboot printf "hello from cron\\n.\\nafter the dot\\n"\n')
    table.chmod(0o600)
    script = CRON.format(folder=tmp_path, sendmail=sendmail.path, cron=cron)
    process = subprocess.Popen(
        [unshare, "-m", "--kill-child", "sh", "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        (got,) = office.mailbox("anna", 1)
        (postmaster,) = office.mailbox("postmaster", 1)
    finally:
        process.kill()
        process.wait()
    assert sendmail.arguments == "-FCronDaemon -i -B8BITMIME -oem anna@home.example,root"
    assert got.startswith(b"Return-Path: <postmaster@home.example>\r\n")
    header, _, body = sendmail.written.partition(b"\r\n\r\n")
    assert body == b"hello from cron\r\n.\r\nafter the dot\r\n"
    # The one thing that changes: names without a domain may not travel.
    header = header.replace(b"From: root (Cron Daemon)", b"From: root@relay.example (Cron Daemon)")
    header = header.replace(b"To: anna@home.example,root", b"To: anna@home.example,root@relay.example")
    for one in (got, postmaster):
        assert one.endswith(b"\r\n" + header + b"\r\n\r\n" + body)


def test_mail_waits_while_the_relay_is_down(office: Any, catcher: Any, program: Any, run: Any) -> None:
    sendmail = program(office)
    office.stop()
    done = run([str(sendmail.path), "-f", "<>", "-Z", "ben@far.example"], input="Subject: later\n\nhello\n")
    assert (done.returncode, done.stdout) == (0, "")
    code = "from staffetta.sendmail.main import mailq; mailq()"
    environment = {**os.environ, "STAFFETTA_CONFIG": str(office.file)}
    said = run([sys.executable, "-c", code], env=environment)
    assert "1 more wait in" in said.stdout
    office.start()
    sendmail.emptied()
    received = arrived(catcher, sendmail)
    assert received.mail.startswith(b"FROM:<>")
    end = time.monotonic() + SECONDS
    while "Mail queue is empty" not in (said := run([sys.executable, "-c", code], env=environment)).stdout:
        assert time.monotonic() < end, said.stdout
    assert said.returncode == 0


def test_mailq_shows_what_waits(start_daemon: Any, program: Any, run: Any) -> None:
    daemon = start_daemon('[route.out]\nto = ["*"]\nvia = "127.0.0.1:1"\ntls = "off"\n')
    sendmail = program(daemon)
    words = [str(sendmail.path), "-fanna@home.example", "ben@far.example", "cc@far.example"]
    assert run(words, input="Subject: x\n\nhi\n").returncode == 0
    sendmail.emptied()
    environment = {**os.environ, "STAFFETTA_CONFIG": str(daemon.file)}
    queue = [sys.executable, "-c", "from staffetta.sendmail.main import mailq; mailq()"]
    end = time.monotonic() + SECONDS
    while "refused" not in (said := run(queue, env=environment)).stdout.lower():
        assert time.monotonic() < end, said.stdout
    lines = said.stdout.split("\n")
    assert lines[0].startswith("-Queue ID-")
    assert lines[1].endswith(" anna@home.example")
    assert [line.strip() for line in lines if line.startswith(" ") and "@" in line and "(" not in line] == [
        "ben@far.example",
        "cc@far.example",
    ]
    assert re.fullmatch(r"-- [01] Kbytes in 1 Request\.", lines[-2])
    again = [sys.executable, "-c", "from staffetta.sendmail.main import sendmail; sendmail()", "-q"]
    assert run(again, env=environment).returncode == 0
