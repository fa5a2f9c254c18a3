"""Postfix before us and behind us, and its smtp-sink: real mail servers on loopback."""

from __future__ import annotations

import smtplib
import time
from pathlib import Path
from typing import Any

import pytest

from staffetta.testing.sink_script import faults_of

BODY = b"From: anna@home.example\r\nSubject: through Postfix\r\n\r\n.\r\n..leading dots\r\n" + b"y" * 900 + b"\r\n"


def route(port: int, *more: str) -> str:
    return "\n".join(['[route.out]\nto = ["*"]', f'via = "localhost:{port}"', *more, ""])


@pytest.mark.parametrize("level", ["off", "opportunistic", "verify"])
def test_postfix_as_the_next_hop(postfix: Any, start_daemon: Any, catcher: Any, tmp_path: Path, level: str) -> None:
    settings = f"relayhost = [127.0.0.1]:{catcher.sink.port}"
    made: dict[str, Any] = {}

    def prepare(daemon: Any) -> None:
        issued = daemon.authority.issue("localhost", "postfix.example")
        tls = f"\nsmtpd_tls_cert_file = {issued.certificate}\nsmtpd_tls_key_file = {issued.key}"
        tls += (
            f"\nsmtpd_tls_received_header = yes\nsmtpd_tls_security_level = {'encrypt' if level == 'verify' else 'may'}"
        )
        made["port"] = postfix(settings + ("" if level == "off" else tls))
        text = daemon.file.read_text()
        daemon.file.write_text(text + route(made["port"], f'tls = "{level}"', f'ca = "{daemon.authority.ca}"'))

    daemon = start_daemon("", prepare)
    with smtplib.SMTP("127.0.0.1", daemon.relay, timeout=15) as smtp:
        for number in range(5):
            recipients = [f"u{number}@far.example", f"v{number}@far.example"]
            smtp.sendmail(
                "anna@home.example", recipients, BODY, mail_options=["ENVID=QQ"], rcpt_options=["NOTIFY=NEVER"]
            )
    messages = catcher.wait(5)
    assert [fault for received in messages for fault in faults_of(received)] == []
    assert all(received.content.endswith(BODY.partition(b"\r\n\r\n")[2]) for received in messages)
    assert all(b"NOTIFY=NEVER" in rcpt for received in messages for rcpt in received.rcpts)
    trace = b"using TLSv1.3" if level != "off" else b""
    assert all(trace in received.content for received in messages)
    assert (b"using TLS" in messages[0].content) is (level != "off")
    assert daemon.waiting() == []


def test_postfix_refuses_and_its_words_come_back(postfix: Any, start_daemon: Any, catcher: Any) -> None:
    """The size limit of Postfix is smaller than the message, and one recipient is refused."""
    port = postfix(
        f"relayhost = [127.0.0.1]:{catcher.sink.port}\nmessage_size_limit = 20000\n"
        "smtpd_recipient_restrictions = check_recipient_access inline:{bad@far.example=REJECT}, permit_mynetworks"
    )
    daemon = start_daemon(route(port, 'tls = "off"'), lambda one: one.account("anna@home.example"))
    with smtplib.SMTP("127.0.0.1", daemon.relay, timeout=15) as smtp:
        smtp.sendmail("anna@home.example", ["bad@far.example", "good@far.example"], BODY)
        smtp.sendmail("anna@home.example", ["good@far.example"], BODY + BODY * 30)
    (first,) = catcher.wait(1)
    assert first.rcpts[0].startswith(b"TO:<good@far.example>")
    reports = daemon.mailbox("anna", 2)
    refused = [report for report in reports if b"Final-Recipient: rfc822; bad@far.example" in report]
    assert b"554 5.7.1 <bad@far.example>: Recipient address rejected: Access denied" in refused[0]
    assert any(b"Status: 5.3.4" in report for report in reports)


ODD = {
    "8-bit": "Grüße\r\n".encode() + b"caf\xe9\r\n",
    "dots": b".\r\n..\r\n.x\r\n\r\n.\r\n",
    "none": b"",
    "long lines": b"z" * 990 + b"\r\n." + b"y" * 980 + b"\r\n",
    "5 MiB": (b"QUJD" * 19 + b"\r\n") * (5 * 1024 * 1024 // 78),
}


def letter(body: bytes) -> bytes:
    return (
        b"From: anna@home.example\r\nTo: ben@home.example\r\nSubject: through Postfix\r\n"
        b"Date: Tue, 24 Nov 2026 11:08:42 +0000\r\nMessage-ID: <1@home.example>\r\n\r\n" + body
    )


@pytest.mark.parametrize("mechanisms", ["plain", "login"])
def test_postfix_as_a_client_with_login_and_tls(
    postfix: Any, start_daemon: Any, password: str, without_trace: Any, mechanisms: str
) -> None:
    def prepare(one: Any) -> None:
        # Without this grant Postfix could not tell anna what became of her mail.
        one.account("anna@home.example", "mailer-daemon@postfix.example")
        for name in ("ben", "jörg"):
            one.account(f"{name}@home.example")

    daemon = start_daemon("", prepare)
    port = postfix(
        f"relayhost = [localhost]:{daemon.submission}\n"
        "smtp_tls_security_level = verify\n"
        f"smtp_tls_CAfile = {daemon.authority.ca}\n"
        "smtp_sasl_auth_enable = yes\n"
        f"smtp_sasl_password_maps = inline:{{ {{ [localhost]:{daemon.submission} = anna@home.example:{password} }} }}\n"
        "smtp_sasl_security_options = noanonymous\n"
        f"smtp_sasl_mechanism_filter = {mechanisms}\n"
    )
    sent = [letter(body) for body in ODD.values()]
    with smtplib.SMTP("127.0.0.1", port, timeout=15) as smtp:
        for content in sent:
            smtp.sendmail("anna@home.example", ["ben@home.example"], content, ["BODY=8BITMIME"])
        smtp.sendmail("anna@home.example", ["jörg@home.example"], sent[0], ["BODY=8BITMIME", "SMTPUTF8"])
        smtp.sendmail("anna@home.example", ["nobody@home.example"], sent[1])
        # The envelope is anna's, the author is not.
        smtp.sendmail("anna@home.example", ["ben@home.example"], sent[1].replace(b"anna@", b"boss@"))
    found = daemon.mailbox("ben", len(sent))
    assert sorted(without_trace(one) for one in found) == sorted(sent)
    assert all(b"with ESMTPSA" in one for one in found)
    (found,) = daemon.mailbox("j%C3%B6rg")
    assert without_trace(found) == sent[0]
    assert b"with UTF8SMTPSA" in found
    reports = b"".join(daemon.mailbox("anna", 2)).replace(b"\r\n    ", b" ")
    assert reports.count(b"\r\nFrom: Mail Delivery System <MAILER-DAEMON@postfix.example>\r\n") == 2, reports
    assert b"550 5.1.1 no such recipient here (in reply to RCPT TO command)" in reports
    assert b"550 5.7.1 the From or Sender address of the message is not yours to use" in reports


def test_smtp_sink_takes_many_messages(component: Any, run: Any, start_daemon: Any, smtp_sink: int) -> None:
    source = component("smtp-source", "postfix")
    daemon = start_daemon(route(smtp_sink, 'tls = "off"'))
    done = run([source, "-s", "10", "-m", "300", "-l", "4096", "-t", "a@far.example", f"127.0.0.1:{daemon.relay}"])
    assert done.returncode == 0, done.stdout
    end = time.monotonic() + 20
    while waiting := daemon.waiting():
        assert time.monotonic() < end, waiting[0]
