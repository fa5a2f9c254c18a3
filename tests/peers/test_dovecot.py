"""Dovecot behind us over LMTP, and over the Maildir that we wrote: what one user sent is what another reads."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import smtplib
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

OWNER = "mail"
"""The account that every Debian has: the relay becomes it, and Dovecot reads as it."""

SETTINGS = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap pop3 lmtp
listen = 127.0.0.1
ssl = required
ssl_cert = <{certificate}
ssl_key = <{key}
auth_mechanisms = plain
auth_username_format = %Ln
first_valid_uid = 1
mail_location = maildir:{mail}/%n
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {folder}/users
}}
userdb {{
  driver = static
  args = uid={owner} gid={owner} home={folder}/home
}}
protocol lmtp {{
  mail_location = maildir:{folder}/kept/%n
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = {pop3s}
    ssl = yes
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {lmtp}
  }}
  unix_listener {socket} {{
    mode = 0666
  }}
}}
"""


class Dovecot(NamedTuple):
    """Where it listens."""

    imap: int
    imaps: int
    pop3: int
    pop3s: int
    lmtp: int
    socket: Path


@contextlib.contextmanager
def dovecot(program: str, folder: Path, mail: Path, issued: Any, password: str, where: Dovecot) -> Iterator[Any]:
    """A Dovecot with the users anna and ben, their Maildirs under `mail`; its process."""
    folder.mkdir(mode=0o755)
    for name in ("kept", "home"):
        (folder / name).mkdir()
        shutil.chown(folder / name, OWNER, OWNER)
    users = folder / "users"
    users.write_text("".join(f"{name}:{{PLAIN}}{password}::::::\n" for name in ("anna", "ben")))
    shutil.chown(users, "dovecot")
    users.chmod(0o600)
    settings = folder / "dovecot.conf"
    settings.write_text(
        SETTINGS.format(
            folder=folder, mail=mail, owner=OWNER, certificate=issued.certificate, key=issued.key, **where._asdict()
        )
    )
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [program, "-F", "-c", settings], stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.wait()


class House(NamedTuple):
    """A relay that became OWNER, and a Dovecot for its Maildirs and for those of lmtp.example."""

    daemon: Any
    dovecot: Dovecot
    folder: Path


@pytest.fixture(scope="module")
def house(
    component: Any, missing: Any, free_ports: Any, greets: Any, password: str, make_daemon: Any
) -> Iterator[House]:
    program = component("dovecot", "dovecot-imapd")
    for name in ("imap", "pop3", "lmtp"):
        if not Path(f"/usr/lib/dovecot/{name}").exists():
            missing(f"Dovecot has no {name} (Debian package dovecot-{name}d)")
    if not subprocess.run([program, "--version"], stdout=subprocess.PIPE, check=True).stdout.startswith(b"2.3."):
        missing("these settings are for Dovecot 2.3")
    if os.getuid() != 0:
        missing("Dovecot needs root to become the owner of a mailbox")
    pwd.getpwnam(OWNER)
    with tempfile.TemporaryDirectory(prefix="house-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        daemon = make_daemon(folder)
        where = Dovecot(*free_ports(5), socket=folder / "dovecot" / "lmtp.socket")
        text = daemon.file.read_text().replace("[tls]", f'user = "{OWNER}"\n[tls]', 1)
        daemon.file.write_text(
            f'{text}[domain."lmtp.example"]\nrecipients = "any"\ndeliver = "lmtp:127.0.0.1:{where.lmtp}"\n'
            f'[domain."socket.example"]\nrecipients = "any"\ndeliver = "lmtp:unix:{where.socket}"\n'
        )
        for user in ("anna", "ben"):
            daemon.account(f"{user}@home.example")
        mail = folder / "data" / "mail" / "home.example"
        issued = daemon.authority.issue("localhost", common_name="localhost")  # fetchmail insists
        with dovecot(program, folder / "dovecot", mail, issued, password, where) as process:
            greets(where.lmtp, process, folder / "dovecot" / "log")
            daemon.start()
            try:
                yield House(daemon, where, folder)
            finally:
                daemon.stop()


def letter(marker: str, body: bytes) -> bytes:
    return (
        f"From: Anna <anna@home.example>\r\nTo: ben@home.example\r\nSubject: {marker}\r\n"
        f"Date: Tue, 24 Nov 2026 11:08:42 +0000\r\nMessage-ID: <{marker}@home.example>\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    ).encode() + body


ODD = {
    "m-8bit": "Grüße\r\n".encode() + b"caf\xe9\r\n",
    "m-dots": b".\r\n..\r\n.x\r\n\r\n.\r\n",
    "m-none": b"",
    "m-from": b"From the start\r\n>From here\r\n",
    "m-long": b"z" * 998 + b"\r\n." + b"y" * 997 + b"\r\n",
    "m-large": (b"QUJD" * 19 + b"\r\n") * (5 * 1024 * 1024 // 78),
}


def maildir(folder: Path) -> dict[str, bytes]:
    """The messages of a Maildir with CRLF, by subject."""
    found = {}
    for file in (*folder.glob("new/*"), *folder.glob("cur/*")):
        content = file.read_bytes()
        if b"\r\n" not in content:
            content = content.replace(b"\n", b"\r\n")
        found[content.partition(b"\r\nSubject: ")[2].partition(b"\r\n")[0].decode()] = content
    return found


@pytest.mark.parametrize("domain", ["lmtp.example", "socket.example"])
def test_dovecot_takes_mail_over_lmtp(house: House, without_trace: Any, wait_for: Any, domain: str) -> None:
    kept = house.folder / "dovecot" / "kept" / "ben"
    shutil.rmtree(kept, ignore_errors=True)
    with smtplib.SMTP("127.0.0.1", house.daemon.relay, timeout=15) as smtp:
        for marker, body in ODD.items():
            smtp.sendmail("anna@home.example", [f"ben@{domain}"], letter(marker, body), ["BODY=8BITMIME"])
        smtp.sendmail("", [f"ben@{domain}"], letter("m-null", b"nobody\r\n"))
    found = wait_for(lambda: len(maildir(kept)) == len(ODD) + 1 and maildir(kept))
    assert found.pop("m-null").startswith(b"Return-Path: <>\r\n")
    head = f"Return-Path: <anna@home.example>\r\nDelivered-To: ben@{domain}\r\n".encode()
    assert [one[: len(head)] for one in found.values()] == [head] * len(ODD)
    assert {marker: without_trace(one) for marker, one in found.items()} == {
        marker: letter(marker, body) for marker, body in ODD.items()
    }


def test_dovecot_refuses_one_of_two_over_lmtp(house: House, without_trace: Any, wait_for: Any) -> None:
    kept = house.folder / "dovecot" / "kept" / "anna"
    content = letter("m-two", b"Hello.\r\n")
    with smtplib.SMTP("127.0.0.1", house.daemon.relay, timeout=15) as smtp:
        smtp.sendmail("anna@home.example", ["nobody@lmtp.example", "anna@lmtp.example"], content)
    assert without_trace(wait_for(lambda: maildir(kept))["m-two"]) == content
    (report,) = house.daemon.mailbox("anna", 1)
    assert b"Final-Recipient: rfc822; nobody@lmtp.example" in report
    assert b"550 5.1.1 <nobody@lmtp.example> User doesn't exist" in report


def home_of(folder: Path, name: str, text: str) -> tuple[Path, dict[str, str]]:
    """A settings file nobody else reads, and surroundings with no other."""
    file = folder / name
    file.write_text(text)
    file.chmod(0o600)
    return file, {"PATH": os.environ["PATH"], "HOME": str(folder), "FETCHMAILHOME": str(folder), "LC_ALL": "C.UTF-8"}


def mbsync(house: House, folder: Path, password: str, implicit: bool) -> tuple[list[str], dict[str, str]]:
    file, environment = home_of(
        folder,
        "mbsyncrc",
        f"""
IMAPAccount home
Host localhost
Port {house.dovecot.imaps if implicit else house.dovecot.imap}
User ben
Pass "{password}"
SSLType {"IMAPS" if implicit else "STARTTLS"}
SystemCertificates no
CertificateFile {house.daemon.authority.ca}

IMAPStore far
Account home

MaildirStore near
Path {folder}/near/
Inbox {folder}/near/inbox

Channel mail
Far :far:
Near :near:
Patterns INBOX
Create Near
SyncState *
""",
    )
    (folder / "near").mkdir()
    return ["mbsync", "-c", str(file), "-a"], environment


def fetchmail(house: House, folder: Path, password: str, implicit: bool) -> tuple[list[str], dict[str, str]]:
    new = folder / "near" / "inbox" / "new"
    new.mkdir(parents=True)
    file, environment = home_of(
        folder,
        "fetchmailrc",
        f"set invisible\npoll localhost service {house.dovecot.pop3s if implicit else house.dovecot.pop3}"
        f' protocol pop3 no envelope user ben password "{password}" {"ssl" if implicit else "sslproto tls1.2+"}'
        f' sslcertck sslcertfile {house.daemon.authority.ca} keep fetchall no rewrite mda "cat >$(mktemp -p {new})"\n',
    )
    return ["fetchmail", "--silent", "--fetchmailrc", str(file), "--pidfile", str(folder / "pid")], environment


def mpop(house: House, folder: Path, password: str, implicit: bool) -> tuple[list[str], dict[str, str]]:
    for name in ("new", "cur", "tmp"):
        (folder / "near" / "inbox" / name).mkdir(parents=True)
    file, environment = home_of(
        folder,
        "mpoprc",
        f"account default\nhost localhost\nport {house.dovecot.pop3s if implicit else house.dovecot.pop3}\n"
        f"user ben\npassword {password}\nauth plain\ntls on\ntls_starttls {'off' if implicit else 'on'}\n"
        f"tls_trust_file {house.daemon.authority.ca}\nkeep on\nreceived_header off\n"
        f"uidls_file {folder}/uidls\ndelivery maildir {folder}/near/inbox\n",
    )
    return ["mpop", "-C", str(file)], environment


Reader = Callable[[House, Path, str, bool], tuple[list[str], dict[str, str]]]


@pytest.fixture(scope="module")
def letters(house: House, component: Any, password: str) -> dict[str, bytes]:
    """What anna sent to ben with msmtp, with a login over TLS; it is in the Maildir."""
    program = component("msmtp")
    daemon = house.daemon
    sent = {marker: letter(marker, body) for marker, body in ODD.items()}
    command = [program, "--host=localhost", f"--port={daemon.submission}", "--auth=plain", "--user=anna@home.example"]
    command += ["--tls=on", f"--tls-trust-file={daemon.authority.ca}", f"--passwordeval=echo '{password}'"]
    command += ["--from=anna@home.example", "--", "ben@home.example"]
    for content in sent.values():
        done = subprocess.run(command, input=content.replace(b"\r\n", b"\n"), stderr=subprocess.PIPE, check=False)
        assert done.returncode == 0, done.stderr
    for marker in sent:
        daemon.letter(f"Subject: {marker}\r\n")
    return sent


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
@pytest.mark.parametrize("reader", [fetchmail, mpop, mbsync])
def test_a_user_reads_what_another_sent(
    house: House,
    letters: dict[str, bytes],
    component: Any,
    run: Any,
    without_trace: Any,
    tmp_path: Path,
    password: str,
    reader: Reader,
    implicit: bool,
) -> None:
    component(reader.__name__, "isync" if reader is mbsync else reader.__name__)
    command, environment = reader(house, tmp_path, password, implicit)
    done = run(command, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    found = {marker: without_trace(one) for marker, one in maildir(tmp_path / "near" / "inbox").items()}
    if reader is mbsync:
        # Its own mark, by which it finds the copy again.
        found = {marker: re.sub(rb"X-TUID: [^\r]*\r\n", b"", one, count=1) for marker, one in found.items()}
    assert found == letters
