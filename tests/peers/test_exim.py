"""Exim behind us: the other large mail server, with GnuTLS, its own replies and its own way of ending lines."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import smtplib
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from staffetta.testing.sink_script import faults_of

UNPACKED = Path(__file__).parents[2] / ".venv" / "peers" / "exim4"
ACCOUNT = "Debian-exim"
SETTINGS = """\
primary_hostname = exim.example
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
pid_file_path = {folder}/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
deliver_drop_privilege = true
keep_environment =
rfc1413_hosts =
host_lookup =
smtputf8_advertise_hosts = *
dsn_advertise_hosts = *
message_size_limit = 6M
acl_smtp_rcpt = rcpt
{tls}
begin acl
rcpt:
  deny recipients = bad@far.example
       message = bad is not wanted
  deny condition = ${{if and{{{{bool{{{needs_tls}}}}}{{eq{{$tls_in_cipher}}{{}}}}}}}}
       message = TLS is needed
  accept hosts = 127.0.0.1
begin routers
out:
  driver = manualroute
  route_list = * 127.0.0.1
  transport = out
  self = send
begin transports
out:
  driver = smtp
  port = {sink}
  allow_localhost
  hosts_avoid_tls = *
begin retry
* * F,1h,1s
"""


@pytest.fixture
def exim(component: Any, free_ports: Any, missing: Any, greets: Any) -> Iterator[Callable[..., int]]:
    """Starts an Exim that sends all on to a port of loopback; its own port. Ends with the test."""
    program = UNPACKED if UNPACKED.exists() else Path(component("exim4", "exim4-daemon-light"))
    if os.getuid() != 0:
        missing("Exim needs root to become its own account")
    try:
        account = pwd.getpwnam(ACCOUNT)
    except KeyError:
        missing(f"there is no account {ACCOUNT}")
    with contextlib.ExitStack() as stack:
        # Not in pytest's folder, which is root's alone.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="exim-", ignore_cleanup_errors=True)))

        def start(sink: int, certificate: Path | None = None, key: Path | None = None) -> int:
            (folder / "spool").mkdir()
            (port,) = free_ports(1)
            shutil.copy(program, folder / "exim4")
            tls = "tls_advertise_hosts ="
            if certificate and key:
                shutil.copy(certificate, folder / "certificate")
                shutil.copy(key, folder / "key")
                tls = f"tls_advertise_hosts = *\ntls_certificate = {folder}/certificate\ntls_privatekey = {folder}/key"
            settings = folder / "exim.conf"
            settings.write_text(
                SETTINGS.format(folder=folder, port=port, sink=sink, tls=tls, needs_tls="yes" if key else "no")
            )
            for path in (folder, *folder.iterdir()):
                if path != settings:
                    os.chown(path, account.pw_uid, account.pw_gid)
            with (folder / "said").open("wb") as said:
                process = subprocess.Popen(
                    [folder / "exim4", "-C", settings, "-bdf", "-q10s"],
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    start_new_session=True,
                )
            stack.callback(end, process)
            greets(port, process, folder / "said")
            return int(port)

        def end(process: subprocess.Popen[bytes]) -> None:
            process.terminate()
            try:
                process.wait(10)
            finally:
                process.kill()
                process.wait()

        yield start


BODIES = {
    "8-bit": "Grüße\r\n".encode() + b"caf\xe9\r\n",
    "dots": b".\r\n..\r\n.x\r\n\r\n.\r\n",
    "none": b"",
    "long lines": b"z" * 998 + b"\r\n." + b"y" * 997 + b"\r\n",
    "5 MiB": (b"QUJD" * 19 + b"\r\n") * (5 * 1024 * 1024 // 78),
}
HEADER = (
    b"From: anna@home.example\r\nTo: u@far.example\r\nSubject: through Exim\r\n"
    b"Date: Tue, 24 Nov 2026 11:08:42 +0000\r\nMessage-ID: <1@home.example>\r\n\r\n"
)


@pytest.mark.parametrize("level", ["off", "opportunistic", "verify"])
def test_exim_as_the_next_hop(exim: Any, start_daemon: Any, catcher: Any, without_trace: Any, level: str) -> None:
    def prepare(daemon: Any) -> None:
        issued = daemon.authority.issue("localhost")
        port = exim(catcher.sink.port, *((issued.certificate, issued.key) if level != "off" else ()))
        text = f'[route.out]\nto = ["*"]\nvia = "localhost:{port}"\ntls = "{level}"\nca = "{daemon.authority.ca}"\n'
        daemon.file.write_text(daemon.file.read_text() + text)

    daemon = start_daemon("", prepare)
    sent = [HEADER + body for body in BODIES.values()]
    with smtplib.SMTP("127.0.0.1", daemon.relay, timeout=15) as smtp:
        for content in sent:
            smtp.sendmail("anna@home.example", ["u@far.example", "v@far.example"], content, ["BODY=8BITMIME"])
        smtp.sendmail("", ["u@far.example"], HEADER + b"null\r\n")
    messages = catcher.wait(len(sent) + 1)
    assert [fault for received in messages for fault in faults_of(received)] == []
    assert sorted(without_trace(one.content) for one in messages) == sorted([*sent, HEADER + b"null\r\n"])
    assert [one.mail[:8] for one in messages if one.content.endswith(b"null\r\n")] == [b"FROM:<> "]
    secured = [b"with esmtps  (TLS1.3)" in one.content for one in messages]
    assert secured == [level != "off"] * len(messages)
    assert daemon.waiting() == []


def test_exim_refuses_and_its_words_come_back(exim: Any, start_daemon: Any, catcher: Any) -> None:
    port = exim(catcher.sink.port)
    text = f'[route.out]\nto = ["*"]\nvia = "localhost:{port}"\ntls = "off"\n'
    daemon = start_daemon(text, lambda one: one.account("anna@home.example"))
    with smtplib.SMTP("127.0.0.1", daemon.relay, timeout=15) as smtp:
        smtp.sendmail("anna@home.example", ["bad@far.example", "good@far.example"], HEADER + b"Hello.\r\n")
        smtp.sendmail("anna@home.example", ["good@far.example"], HEADER + (b"y" * 76 + b"\r\n") * 90_000)
    (first,) = catcher.wait(1)
    assert [rcpt.partition(b">")[0] for rcpt in first.rcpts] == [b"TO:<good@far.example"]
    refused, too_large = sorted(daemon.mailbox("anna", 2), key=lambda report: b"bad@far.example" not in report)
    assert b"550 bad is not wanted" in refused
    assert b"Final-Recipient: rfc822; good@far.example" in too_large
    assert b"Status: 5.3.4" in too_large
