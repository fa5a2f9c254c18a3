"""The programs that people send mail with: what they are told to send is what arrives, and a refusal is theirs to show.

Some send a message as it is in a file, to the octet; others compose one, and then their text is judged after decoding.
"""

from __future__ import annotations

import email
import email.policy
import json
import os
import random
import shutil
import smtplib
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from staffetta.testing.authority import Authority

# From npm where that is installed, else Debian's.
MODULES = [Path(__file__).parents[2] / ".venv" / "peers" / "node_modules", Path("/usr/share/nodejs")]
LOGIN = "anna@home.example"


class Order(NamedTuple):
    """What to send, and how to get in."""

    daemon: Any
    password: str
    content: bytes
    """With CRLF. Composing programs take its text and subject."""
    marker: str
    ca: Path
    folder: Path
    implicit: bool = False
    sender: str = LOGIN
    author: str = LOGIN
    """The address in From, for programs that compose."""
    recipients: tuple[str, ...] = ("ben@home.example",)
    attached: tuple[str, ...] = ()
    """Paths, for programs that compose."""

    @property
    def port(self) -> int:
        return int(self.daemon.submissions if self.implicit else self.daemon.submission)

    @property
    def text(self) -> bytes:
        return self.content.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")

    def file(self, content: bytes) -> Path:
        path = self.folder / "message"
        path.write_bytes(content)
        return path

    def secret(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return path


Done = subprocess.CompletedProcess[str]


def call(order: Order, command: list[str], given: bytes | None = None) -> Done:
    """With a home of its own, so that nobody's settings play a part."""
    environment = {
        "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        "HOME": str(order.folder),
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    done = subprocess.run(
        command,
        input=given or b"",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=30,
        check=False,
        env=environment,
        cwd=order.folder,
    )
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(errors="replace"))


def swaks(order: Order) -> Done:
    # Its fixing of data would add a line and take a last dot for the end: give it what goes over the wire.
    lines = [b"." + line if line.startswith(b".") else line for line in order.content.split(b"\r\n")]
    file = order.file(b"\r\n".join(lines) + b".")
    return call(
        order,
        [
            *("swaks", "--no-data-fixup", "--server", "localhost", "--port", str(order.port)),
            "--tls-on-connect" if order.implicit else "--tls",
            *("--tls-verify", "--tls-ca-path", str(order.ca)),
            *("--auth", "PLAIN", "--auth-user", LOGIN, "--auth-password", order.password),
            *("--from", order.sender or "<>", "--to", ",".join(order.recipients), "--data", f"@{file}"),
            *(("--hide-all",) if len(order.content) > 100_000 else ()),
        ],
    )


def msmtp(order: Order) -> Done:
    settings = order.secret(
        "msmtprc",
        f"defaults\nauth on\ntls on\ntls_starttls {'off' if order.implicit else 'on'}\ntls_trust_file {order.ca}\n"
        f"account default\nhost localhost\nport {order.port}\nuser {LOGIN}\npassword {order.password}\n",
    )
    sender = order.sender or "<>"
    given = order.content.replace(b"\r\n", b"\n")
    return call(order, ["msmtp", "-C", str(settings), "-f", sender, "--", *order.recipients], given)


def curl(order: Order) -> Done:
    return call(
        order,
        [
            *("curl", "-sS", "--ssl-reqd", "--cacert", str(order.ca), "--max-time", "25"),
            *("--url", f"smtp{'s' * order.implicit}://localhost:{order.port}", "--user", f"{LOGIN}:{order.password}"),
            *("--mail-from", order.sender, *[word for one in order.recipients for word in ("--mail-rcpt", one)]),
            *("-T", str(order.file(order.content))),
        ],
    )


def python(order: Order) -> Done:
    """smtplib, in this process."""
    context = ssl.create_default_context(cafile=str(order.ca))
    try:
        with (
            smtplib.SMTP_SSL("localhost", order.port, context=context, timeout=25)
            if order.implicit
            else smtplib.SMTP("localhost", order.port, timeout=25)
        ) as smtp:
            if not order.implicit:
                smtp.starttls(context=context)
            smtp.login(LOGIN, order.password)
            utf8 = [] if f"{order.sender}{order.recipients}".isascii() else ["SMTPUTF8"]
            refused = smtp.sendmail(order.sender, order.recipients, order.content, ["BODY=8BITMIME", *utf8])
    except (smtplib.SMTPException, OSError) as error:
        return subprocess.CompletedProcess([], 1, f"{type(error).__name__}: {error}")
    return subprocess.CompletedProcess([], 0, str(refused))


NODE = """
const [modules, order] = process.argv.slice(2);
const {host, port, secure, ca, user, pass, envelope, file} = JSON.parse(order);
const mailer = require(modules + '/nodemailer').createTransport({
    host, port, secure, requireTLS: true, auth: {user, pass}, tls: {ca: require('fs').readFileSync(ca)}
});
mailer.sendMail({envelope, raw: {path: file}}).then(
    info => { console.log(JSON.stringify(info)); mailer.close(); },
    error => { console.log(error.code + ' ' + error.responseCode + ' ' + error.message); process.exit(1); }
);
"""


def nodemailer(order: Order) -> Done:
    script = order.folder / "send.js"
    script.write_text(NODE)
    what = {
        "host": "localhost",
        "port": order.port,
        "secure": order.implicit,
        "ca": str(order.ca),
        "user": LOGIN,
        "pass": order.password,
        "file": str(order.file(order.content)),
        "envelope": {"from": order.sender, "to": order.recipients},
    }
    modules = next(folder for folder in MODULES if (folder / "nodemailer").is_dir())
    return call(order, ["node", str(script), str(modules), json.dumps(what)])


def mutt(order: Order) -> Done:
    attached = [word for one in order.attached for word in ("-a", one)]
    settings = order.secret(
        "muttrc",
        f'set smtp_url = "smtp{"s" * order.implicit}://{quote(LOGIN)}@localhost:{order.port}/"\n'
        f'set smtp_pass = "{order.password}"\nset smtp_authenticators = "plain"\nset ssl_force_tls = yes\n'
        f'set ssl_starttls = yes\nset ssl_ca_certificates_file = "{order.ca}"\n'
        f'set from = "{order.author}"\nset use_envelope_from = yes\nset envelope_from_address = "{order.sender}"\n'
        'set use_from = yes\nset sleep_time = 0\nset record = ""\nset charset = "utf-8"\nset allow_8bit = yes\n'
        'set hostname = "desk.example"\n',
    )
    return call(
        order, ["mutt", "-n", "-F", str(settings), "-s", order.marker, *attached, "--", *order.recipients], order.text
    )


def s_nail(order: Order) -> Done:
    url = f"smtp{'s' * order.implicit}://{quote(LOGIN)}:{quote(order.password)}@localhost:{order.port}"
    options = [
        *("v15-compat=yes", f"mta={url}", "smtp-auth=plain", "tls-verify=strict", f"tls-ca-file={order.ca}"),
        *("tls-ca-no-defaults", f"from={order.author}", "hostname=desk.example", "sendwait", "ttycharset=utf-8"),
        f"DEAD={order.folder}/dead.letter",
        *(() if order.implicit else ("smtp-use-starttls",)),
    ]
    words = [word for option in options for word in ("-S", option)]
    words += [word for one in order.attached for word in ("-a", one)]
    command = ["s-nail", "-:/", *words, "-s", order.marker, "-r", order.sender, *order.recipients]
    return call(order, command, order.text)


def git(order: Order) -> Done:
    """A patch by mail: the text is what `git format-patch` wrote."""
    order.secret(".gitconfig", f"[user]\nname = Anna\nemail = {LOGIN}\n")
    patch = order.file(
        f"From {'0' * 40} Mon Sep 17 00:00:00 2001\nFrom: {order.author}\n"
        f"Date: Tue, 24 Nov 2026 11:08:42 +0000\nSubject: [PATCH] {order.marker}\n"
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n".encode()
        + order.text
    )
    return call(
        order,
        [
            *("git", "send-email", "--smtp-server=localhost", f"--smtp-server-port={order.port}"),
            *(f"--smtp-encryption={'ssl' if order.implicit else 'tls'}", f"--smtp-ssl-cert-path={order.ca}"),
            *(f"--smtp-user={LOGIN}", f"--smtp-pass={order.password}", "--smtp-auth=PLAIN"),
            *(f"--from={order.author}", f"--envelope-sender={order.sender}", "--smtp-domain=desk.example"),
            *("--confirm=never", "--suppress-cc=all", "--no-validate", *[f"--to={one}" for one in order.recipients]),
            str(patch),
        ],
    )


Program = Callable[[Order], Done]
AS_IT_IS: dict[str, Program] = {
    "swaks": swaks,
    "msmtp": msmtp,
    "curl": curl,
    "smtplib": python,
    "nodemailer": nodemailer,
}
COMPOSING: dict[str, Program] = {"mutt": mutt, "s-nail": s_nail, "git": git}
ALL = AS_IT_IS | COMPOSING


@pytest.fixture
def program(request: pytest.FixtureRequest, component: Any, missing: Any) -> Program:
    name = str(request.param)
    if name == "nodemailer":
        component("node", "nodejs")
        if not any((folder / "nodemailer").is_dir() for folder in MODULES):
            missing("nodemailer is not installed (with npm, or Debian package node-nodemailer)")
    elif name == "git":
        path = subprocess.run([component("git"), "--exec-path"], stdout=subprocess.PIPE, check=True).stdout
        if not shutil.which("git-send-email", path=path.decode().strip()):
            missing("git send-email is not installed (Debian package git-email)")
    elif name != "smtplib":
        component(name)
    return ALL[name]


@pytest.fixture
def order(daemon: Any, password: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Order]:
    marker = f"m{abs(hash(request.node.name)):x}"

    def make(text: bytes, **more: Any) -> Order:
        header = (
            f"From: Anna <{LOGIN}>\r\nTo: ben@home.example\r\nSubject: {marker}\r\n"
            f"Message-ID: <{marker}@home.example>\r\n"
            "Date: Tue, 24 Nov 2026 11:08:42 +0000\r\nMIME-Version: 1.0\r\n"
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        )
        values = {"ca": daemon.authority.ca, "folder": tmp_path} | more
        return Order(daemon, password, header.encode() + text, marker, **values)

    return make


TEXT = "Grüße, zwölf Boxkämpfer.\r\n.\r\n..\r\n.leading\r\n\r\nFrom here on\r\ntrailing space \r\n".encode()


def text_of(content: bytes) -> str:
    return str(email.message_from_bytes(content, policy=email.policy.default).get_content())


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
@pytest.mark.parametrize("program", ALL, indirect=True)
def test_a_login_over_tls_sends(daemon: Any, order: Any, program: Program, implicit: bool, without_trace: Any) -> None:
    given: Order = order(TEXT, implicit=implicit)
    done = program(given)
    assert done.returncode == 0, done.stdout
    found = daemon.letter(given.marker)
    assert b"with ESMTPSA" in found
    if program in AS_IT_IS.values():
        assert without_trace(found) == given.content
    else:
        assert text_of(found).replace("\r\n", "\n") == TEXT.decode().replace("\r\n", "\n")


ODD = {
    "no body": b"",
    "998 octets in a line": b"x" * 998 + b"\r\n." + b"y" * 997 + b"\r\n",
    "latin-1": b"caf\xe9\r\n",
    "only a dot": b".\r\n",
    "dots everywhere": b".\r\n" * 300 + b"...\r\n.\r\n\r\n.\r\n",
    "5 MiB": (b"QUJD" * 19 + b"\r\n") * (5 * 1024 * 1024 // 78) + b".\r\n",
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("program", AS_IT_IS, indirect=True)
def test_odd_content_arrives_as_it_is(daemon: Any, order: Any, program: Program, odd: str, without_trace: Any) -> None:
    given: Order = order(ODD[odd])
    done = program(given)
    assert done.returncode == 0, done.stdout[-2000:]
    assert without_trace(daemon.letter(given.marker)) == given.content


@pytest.mark.parametrize("program", ["mutt", "s-nail"], indirect=True)
def test_an_attachment_of_five_megabytes(daemon: Any, order: Any, program: Program, tmp_path: Path) -> None:
    file = tmp_path / "photo.bin"
    file.write_bytes(random.Random(5).randbytes(5 * 1024 * 1024))
    given: Order = order(TEXT, attached=(str(file),))
    done = program(given)
    assert done.returncode == 0, done.stdout
    letter = email.message_from_bytes(daemon.letter(given.marker), policy=email.policy.default)
    assert [part.get_content() for part in letter.iter_attachments()] == [file.read_bytes()]


@pytest.mark.parametrize("program", AS_IT_IS, indirect=True)
def test_a_report_of_nobody(daemon: Any, order: Any, program: Program, without_trace: Any) -> None:
    """The null path is everybody's: a client that sends a disposition notification uses it."""
    given: Order = order(b"Seen.\r\n", sender="")
    done = program(given)
    assert done.returncode == 0, done.stdout
    found = daemon.letter(given.marker)
    assert found.startswith(b"Return-Path: <>\r\n")
    assert without_trace(found) == given.content


NOT_YOURS = "553 5.7.1 this login may not send from that address"
NOBODY = "550 5.1.1 no such recipient here"
REFUSED = {
    "swaks": (23, NOT_YOURS),
    "msmtp": (65, NOT_YOURS),
    "curl": (55, "MAIL failed: 553"),
    "smtplib": (1, "5.7.1 this login may not send from that address"),
    "nodemailer": (1, f"EENVELOPE 553 Mail command failed: {NOT_YOURS}"),
    "mutt": (1, f"SMTP session failed: {NOT_YOURS}"),
    "s-nail": (4, f"SMTP server: {NOT_YOURS}"),
    "git": (255, "5.7.1 this login may not send from that address"),
}


@pytest.mark.parametrize(("program", "status", "words"), [(k, *v) for k, v in REFUSED.items()], indirect=["program"])
def test_somebody_elses_address_is_refused(order: Any, program: Program, status: int, words: str) -> None:
    done = program(order(b"Pay at once.\r\n", sender="boss@home.example", author="boss@home.example"))
    assert (done.returncode, words in done.stdout) == (status, True), done.stdout


NOT_YOUR_NAME = "550 5.7.1 the From or Sender address of the message is not yours to use"
REFUSED_AFTER_CONTENT = {
    "swaks": (26, NOT_YOUR_NAME),
    "msmtp": (69, NOT_YOUR_NAME),
    "curl": (8, "Weird server reply"),
    "smtplib": (1, f"SMTPDataError: (550, b'{NOT_YOUR_NAME[4:]}')"),
    "nodemailer": (1, f"EMESSAGE 550 Message failed: {NOT_YOUR_NAME}"),
}


@pytest.mark.parametrize(
    ("program", "status", "words"), [(k, *v) for k, v in REFUSED_AFTER_CONTENT.items()], indirect=["program"]
)
def test_a_forged_author_is_refused(order: Any, program: Program, status: int, words: str) -> None:
    given: Order = order(b"Pay at once.\r\n")
    done = program(given._replace(content=given.content.replace(b"Anna <anna@", b"Boss <boss@")))
    assert (done.returncode, words in done.stdout) == (status, True), done.stdout


WRONG_PASSWORD = "535 5.7.8 authentication credentials invalid"
NO_LOGIN = {
    "swaks": (28, WRONG_PASSWORD),
    "msmtp": (77, WRONG_PASSWORD),
    "curl": (67, "Login denied"),
    "smtplib": (1, "SMTPAuthenticationError: (535, b'5.7.8"),
    "nodemailer": (1, f"EAUTH 535 Invalid login: {WRONG_PASSWORD}"),
    "mutt": (1, "SASL authentication failed"),
    "s-nail": (4, WRONG_PASSWORD),
    "git": (255, "5.7.8 authentication credentials invalid"),
}


@pytest.mark.parametrize(("program", "status", "words"), [(k, *v) for k, v in NO_LOGIN.items()], indirect=["program"])
def test_a_wrong_password_is_refused(order: Any, program: Program, status: int, words: str) -> None:
    done = program(order(b"Hello.\r\n")._replace(password="wrong"))
    assert (done.returncode, words in done.stdout) == (status, True), done.stdout


UNKNOWN_AUTHORITY = {
    "swaks": "certificate verify failed",
    "msmtp": "certificate verification failed",
    "curl": "unable to get local issuer certificate",
    "smtplib": "unable to get local issuer certificate",
    "nodemailer": "unable to verify the first certificate",
    "mutt": "Untrusted server certificate",
    "s-nail": "unable to get local issuer certificate",
    "git": "certificate verify failed",
}


@pytest.mark.parametrize(("program", "words"), UNKNOWN_AUTHORITY.items(), indirect=["program"])
def test_each_program_did_look_at_our_certificate(order: Any, program: Program, words: str, tmp_path: Path) -> None:
    done = program(order(b"Hello.\r\n", ca=Authority(tmp_path / "another").ca))
    assert done.returncode != 0
    assert words in done.stdout, done.stdout


# Of two recipients one does not exist. Some send to the other and say so, some to nobody.
ONE_REFUSED = {
    "swaks": (0, NOBODY),
    "msmtp": (65, NOBODY),
    "curl": (55, "RCPT failed: 550"),
    "smtplib": (0, "{'nobody@home.example': (550, b'5.1.1 no such recipient here')}"),
    "nodemailer": (0, '"accepted":["ben@home.example"],"rejected":["nobody@home.example"]'),
    "mutt": (1, NOBODY),
    "s-nail": (4, NOBODY),
    "git": (255, "5.1.1 no such recipient here"),
}


@pytest.mark.parametrize(
    ("program", "status", "words"), [(k, *v) for k, v in ONE_REFUSED.items()], indirect=["program"]
)
def test_one_of_two_recipients_is_refused(
    daemon: Any, order: Any, program: Program, status: int, words: str, without_trace: Any
) -> None:
    given: Order = order(b"Hello.\r\n", recipients=("nobody@home.example", "ben@home.example"))
    done = program(given)
    assert (done.returncode, words in done.stdout) == (status, True), done.stdout
    if status == 0:
        assert without_trace(daemon.letter(given.marker)) == given.content


@pytest.mark.parametrize("program", ["curl", "smtplib", "nodemailer", "mutt"], indirect=True)
def test_an_address_beyond_ascii(daemon: Any, order: Any, program: Program, without_trace: Any) -> None:
    given: Order = order("Grüße.\r\n".encode(), recipients=("jörg@home.example",))
    given = given._replace(content=given.content.replace(b"To: ben@", "To: jörg@".encode()))
    done = program(given)
    assert done.returncode == 0, done.stdout
    found = daemon.letter(given.marker, "j%C3%B6rg")
    assert b"with UTF8SMTPSA" in found
    assert (without_trace(found) == given.content) is (program is not mutt)


NEEDED = "553 5.6.7 a non-ASCII address needs SMTPUTF8"


# These cannot say SMTPUTF8, and are told what is missing or know it themselves.
@pytest.mark.parametrize(
    ("program", "words"),
    [("swaks", NEEDED), ("msmtp", NEEDED), ("s-nail", "contains invalid byte")],
    indirect=["program"],
)
def test_an_address_beyond_ascii_needs_the_extension(order: Any, program: Program, words: str) -> None:
    done = program(order(b"Hello.\r\n", recipients=("jörg@home.example",)))
    assert done.returncode != 0
    assert words in done.stdout
