"""Mail clients that people really use, at the doors of the installed daemon."""

from __future__ import annotations

import email.message
import smtplib
import ssl
from pathlib import Path
from typing import Any

import pytest


def letter(sender: str = "anna@home.example", to: str = "ben@home.example", text: str = "Hello.\n.\n..\n") -> Any:
    message = email.message.EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, to, "hello"
    message.set_content(text)
    return message


def client(daemon: Any, context: ssl.SSLContext, implicit: bool) -> smtplib.SMTP:
    if implicit:
        return smtplib.SMTP_SSL("localhost", daemon.submissions, context=context, timeout=15)
    plain = smtplib.SMTP("localhost", daemon.submission, timeout=15)
    plain.starttls(context=context)
    return plain


@pytest.mark.parametrize("implicit", [False, True])
def test_smtplib_logs_in_and_sends(daemon: Any, trusting: ssl.SSLContext, password: str, implicit: bool) -> None:
    text = f"Marker-{implicit}\n.\n..\nlong " + "x" * 500_000 + "\n"
    before = len(mailbox_now(daemon))
    with client(daemon, trusting, implicit) as smtp:
        smtp.login("anna@home.example", password)
        assert smtp.send_message(letter(text=text)) == {}
        with pytest.raises(smtplib.SMTPSenderRefused):
            smtp.sendmail("somebody@else.example", ["ben@home.example"], b"Subject: x\r\n\r\nx\r\n")
    (found,) = [one for one in daemon.mailbox("ben", before + 1) if f"Marker-{implicit}".encode() in one]
    assert b"\r\n.\r\n..\r\nlong xxx" in found.replace(b"=\r\n", b"")
    assert b"\r\nDate: " in found
    assert b"\r\nMessage-ID: <" in found


def mailbox_now(daemon: Any) -> list[Path]:
    new = daemon.folder / "data" / "mail" / "home.example" / "ben" / "new"
    return list(new.iterdir()) if new.is_dir() else []


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks_logs_in_with_each_mechanism(
    daemon: Any, component: Any, run: Any, password: str, mechanism: str
) -> None:
    before = len(mailbox_now(daemon))
    done = run(
        [
            component("swaks"),
            *("--server", "127.0.0.1", "--port", str(daemon.submission), "--tls", "--auth", mechanism),
            *("--auth-user", "anna@home.example", "--auth-password", password),
            *("--from", "anna@home.example", "--to", "ben@home.example", "--header", f"Subject: {mechanism}"),
        ]
    )
    assert done.returncode == 0, done.stdout
    assert any(f"Subject: {mechanism}".encode() in one for one in daemon.mailbox("ben", before + 1))


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (
            ["--to", "ben@home.example", "--auth", "PLAIN", "--auth-user", "anna@home.example", "--auth-password", "x"],
            28,
            "535 5.7.8",
        ),
        (["--to", "ben@home.example", "--quit-after", "RCPT"], 23, "530 5.7.0"),
    ],
    ids=["wrong password", "no login"],
)
def test_swaks_is_refused(daemon: Any, component: Any, run: Any, arguments: list[str], status: int, words: str) -> None:
    done = run(
        [
            component("swaks"),
            *("--server", "127.0.0.1", "--port", str(daemon.submission), "--tls", "--from", "anna@home.example"),
            *arguments,
        ]
    )
    assert done.returncode == status, done.stdout
    assert words in done.stdout


@pytest.mark.parametrize(
    ("door", "version", "works"),
    [
        ("submission", "tls1", False),
        ("submission", "tls1_1", False),
        ("submission", "tls1_2", True),
        ("submission", "tls1_3", True),
        ("submissions", "tls1", False),
        ("submissions", "tls1_1", False),
        ("submissions", "tls1_2", True),
        ("submissions", "tls1_3", True),
        ("relay", "tls1_1", False),
        ("relay", "tls1_2", True),
        ("old", "tls1", True),
        ("old", "tls1_1", True),
        ("old", "tls1_2", True),
        ("old", "tls1_3", True),
    ],
)
def test_openssl_negotiates_what_a_door_takes(
    daemon: Any, component: Any, run: Any, door: str, version: str, works: bool
) -> None:
    done = run(
        [
            component("openssl"),
            *("s_client", "-connect", f"127.0.0.1:{getattr(daemon, door)}", f"-{version}"),
            *(() if door == "submissions" else ("-starttls", "smtp")),
            *("-cipher", "DEFAULT:@SECLEVEL=0", "-CAfile", str(daemon.authority.ca), "-verify_return_error"),
            *("-servername", "relay.example"),
        ],
        input="",
    )
    assert (done.returncode == 0) is works, done.stdout
    assert ("Verify return code: 0 (ok)" in done.stdout and "Cipher is (NONE)" not in done.stdout) is works


def test_smtp_source_brings_many_messages_over_many_connections(daemon: Any, component: Any, run: Any) -> None:
    before = len(mailbox_now(daemon))
    done = run(
        [
            component("smtp-source", "postfix"),
            *("-s", "20", "-m", "200", "-l", "20000", "-r", "1"),
            *("-f", "sender@source.example", "-t", "ben@home.example", f"127.0.0.1:{daemon.relay}"),
        ]
    )
    assert done.returncode == 0, done.stdout
    assert len(daemon.mailbox("ben", before + 200)) == before + 200
