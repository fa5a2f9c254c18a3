"""Unbound behind our resolver: real zones, signed, unsigned and spoiled, and mail that finds its way by MX."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import os
import pwd
import smtplib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import dns.dnssec
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rdatatype
import dns.zone
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from staffetta.dns.live import LiveResolver, ResolverSettings
from staffetta.dns.resolver import Answer, Lookup, MailExchanger, NoSuchName, RecordKind, Unavailable

ACCOUNT = "unbound"
RELAY, FAR, POSTFIX, NOBODY = "127.0.0.1", "127.0.0.3", "127.0.0.4", "127.0.0.9"

HEAD = "$TTL 60\n@ IN SOA ns.{zone}. hostmaster.{zone}. 1 3600 600 86400 30\n@ IN NS ns.{zone}.\nns IN A 127.0.0.1\n"
LONG = "v=spf1 " + " ".join(f"ip4:192.0.2.{number}" for number in range(60)) + " -all"


def strings(text: str) -> str:
    """A text as a zone file has it, in strings of 255 octets."""
    return " ".join(f'"{text[start : start + 255]}"' for start in range(0, len(text), 255))


ZONES = {
    "far.example": f"""
@ IN MX 20 mx2.far.example.
@ IN MX 10 mx1.far.example.
mx1 IN A {NOBODY}
mx2 IN A {FAR}
none IN MX 0 .
aliased IN MX 10 other.far.example.
other IN CNAME mx2.far.example.
implicit IN A {FAR}
chain1 IN CNAME chain2.far.example.
chain2 IN CNAME chain3.signed.example.
circle1 IN CNAME circle2.far.example.
circle2 IN CNAME circle1.far.example.
@ IN TXT {strings(LONG)}
empty IN TXT ""
"""
    + "".join(f"many IN MX {number} host-with-a-long-name-{number}.many.far.example.\n" for number in range(60)),
    "signed.example": f"""
@ IN MX 10 mx.signed.example.
mx IN A {POSTFIX}
@ IN TXT {strings("x" * 6000)}
chain3 IN CNAME mx.signed.example.
out IN CNAME mx2.far.example.
_25._tcp.mx IN TLSA 3 1 1 {"ab" * 32}
""",
    "bogus.example": f"""
@ IN MX 10 mx.bogus.example.
mx IN A {FAR}
""",
}
SIGNED = ("signed.example", "bogus.example")

SETTINGS = """\
server:
  directory: "{folder}"
  chroot: ""
  pidfile: ""
  username: "{account}"
  logfile: "{folder}/log"
  use-syslog: no
  verbosity: 1
  num-threads: 1
  interface: 127.0.0.1@{port}
  # Even for a name that it does not know it could not ask anybody outside.
  outgoing-interface: 127.0.0.1
  do-ip6: no
  do-not-query-localhost: no
  access-control: 127.0.0.0/8 allow
  module-config: "validator iterator"
  local-zone: "." static
{server}
remote-control:
  control-enable: no
{zones}
"""


class Unbound(NamedTuple):
    """Where it listens, at 127.0.0.1, and where its files are."""

    port: int
    folder: Path


def signed(name: str, text: str) -> tuple[dns.zone.Zone, str]:
    """The zone with its signatures, and the anchor that vouches for them."""
    zone = dns.zone.from_text(text, origin=name, relativize=False)
    private = ed25519.Ed25519PrivateKey.generate()
    key = dns.dnssec.make_dnskey(private.public_key(), dns.dnssec.Algorithm.ED25519, flags=257)
    now = datetime.datetime.now(datetime.UTC)
    start, end = now - datetime.timedelta(days=1), now + datetime.timedelta(days=9)
    with zone.writer() as change:
        dns.dnssec.sign_zone(zone, change, [(private, key)], inception=start, expiration=end)
    return zone, f"{name}. IN DNSKEY {key.to_text()}"


def write_zones(folder: Path) -> tuple[list[str], list[str]]:
    """Files of all zones; what Unbound's `server` part and its other parts say of them."""
    server: list[str] = []
    others: list[str] = []
    for name, records in ZONES.items():
        text = HEAD.format(zone=name) + records
        server.append(f'  local-zone: "{name}." transparent')
        if name in SIGNED:
            zone, anchor = signed(name, text)
            text = zone.to_text(relativize=False)
            if name == "bogus.example":
                text = text.replace("10 mx.bogus", "11 mx.bogus")  # what was signed was something else
            server.append(f'  trust-anchor: "{anchor}"')
        (folder / name).write_text(text)
        others += ["auth-zone:", f'  name: "{name}."', f'  zonefile: "{folder}/{name}"']
        others += ["  for-downstream: no", "  for-upstream: yes", "  fallback-enabled: no"]
    return server, others


@pytest.fixture(scope="module")
def unbound(component: Any, missing: Any, free_ports: Any, wait_for: Any) -> Iterator[Unbound]:
    program = component("unbound")
    account = pwd.getpwuid(os.getuid()).pw_name
    if os.getuid() == 0:
        account = ACCOUNT
    with tempfile.TemporaryDirectory(prefix="unbound-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if os.getuid() == 0:
            os.chown(folder, pwd.getpwnam(ACCOUNT).pw_uid, -1)
        server, others = write_zones(folder)
        (port,) = free_ports(1)
        settings = folder / "unbound.conf"
        settings.write_text(
            SETTINGS.format(
                folder=folder, account=account, port=port, server="\n".join(server), zones="\n".join(others)
            )
        )
        with (folder / "said").open("wb") as said:
            process = subprocess.Popen(
                [program, "-d", "-c", settings], stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
        try:
            question = dns.message.make_query("far.example", "SOA")

            def answers() -> bool:
                assert process.poll() is None, (folder / "said").read_text() + (folder / "log").read_text()
                with contextlib.suppress(OSError, dns.exception.DNSException):
                    return bool(dns.query.tcp(question, "127.0.0.1", 2, port).answer)
                return False

            wait_for(answers)
            yield Unbound(port, folder)
        finally:
            process.terminate()
            try:
                process.wait(10)
            finally:
                process.kill()
                process.wait()


def ask(unbound: Unbound, *questions: tuple[str, RecordKind]) -> list[Lookup]:
    async def asking() -> list[Lookup]:
        resolver = LiveResolver(ResolverSettings((("127.0.0.1", unbound.port),)))
        try:
            return [await resolver.query(*question) for question in questions]
        finally:
            await resolver.close()

    return asyncio.run(asking())


def test_mx_in_any_order(unbound: Unbound) -> None:
    (answer,) = ask(unbound, ("far.example", RecordKind.MX))
    assert isinstance(answer, Answer)
    assert sorted(answer.exchangers) == [MailExchanger(10, "mx1.far.example"), MailExchanger(20, "mx2.far.example")]
    assert not answer.authenticated


def test_texts_longer_than_one_string(unbound: Unbound) -> None:
    answer, empty = ask(unbound, ("far.example", RecordKind.TXT), ("empty.far.example", RecordKind.TXT))
    assert isinstance(answer, Answer)
    assert isinstance(empty, Answer)
    assert answer.texts == (LONG.encode(),)
    assert len(LONG) > 3 * 255
    assert empty.texts == (b"",)


@pytest.mark.parametrize(
    ("name", "kind", "count"), [("signed.example", RecordKind.TXT, 1), ("many.far.example", RecordKind.MX, 60)]
)
def test_what_is_truncated_comes_whole_over_tcp(unbound: Unbound, name: str, kind: RecordKind, count: int) -> None:
    question = dns.message.make_query(name, kind.name, use_edns=0, payload=1232)
    assert dns.query.udp(question, "127.0.0.1", 5, unbound.port).flags & dns.flags.TC
    (answer,) = ask(unbound, (name, kind))
    assert isinstance(answer, Answer)
    assert len(answer.records) == count
    assert kind is not RecordKind.TXT or answer.texts == (b"x" * 6000,)


def test_aliases_through_two_zones(unbound: Unbound) -> None:
    answer, circle = ask(unbound, ("chain1.far.example", RecordKind.A), ("circle1.far.example", RecordKind.A))
    assert isinstance(answer, Answer)
    assert (answer.names, answer.canonical_name) == ((POSTFIX,), "mx.signed.example")
    assert isinstance(circle, Unavailable)


def test_absences_are_told_apart(unbound: Unbound) -> None:
    no_name, no_type, spoiled, refused = ask(
        unbound,
        ("nobody.far.example", RecordKind.MX),
        ("mx1.far.example", RecordKind.MX),
        ("bogus.example", RecordKind.MX),
        ("mx.bogus.example", RecordKind.A),
    )
    assert isinstance(no_name, NoSuchName)
    assert isinstance(no_type, Answer)
    assert no_type.records == ()
    assert isinstance(spoiled, Unavailable)
    assert "SERVFAIL" in spoiled.reason
    assert isinstance(refused, Answer), "only the MX record was spoiled"


def test_what_the_resolver_proved_is_authenticated(unbound: Unbound) -> None:
    lookups = ask(
        unbound,
        ("signed.example", RecordKind.MX),
        ("_25._tcp.mx.signed.example", RecordKind.TLSA),
        ("nobody.signed.example", RecordKind.A),
        ("out.signed.example", RecordKind.A),
        ("chain1.far.example", RecordKind.A),
    )
    assert [not isinstance(one, Unavailable) and one.authenticated for one in lookups] == [
        *(True, True, True),
        *(False, False),  # a chain is as good as its weakest link
    ]


class Road(NamedTuple):
    """A relay of home.example, the mail server of far.example, and a Postfix for signed.example."""

    home: Any
    far: Any


def mail_ports(free_ports: Any) -> int:
    """A port that is free at every address of loopback."""
    return int(free_ports(1, "0.0.0.0")[0])


@pytest.fixture
def road(
    unbound: Unbound, make_daemon: Any, free_ports: Any, postfix: Any, catcher: Any, tmp_path: Path
) -> Iterator[Road]:
    port = mail_ports(free_ports)
    postfix(f"relayhost = [127.0.0.1]:{catcher.sink.port}", address=POSTFIX, port=port)
    servers = f'[dns]\nservers = ["127.0.0.1:{unbound.port}"]\n'
    home, far = make_daemon(tmp_path / "home"), make_daemon(tmp_path / "far")
    home.file.write_text(f'{home.file.read_text()}{servers}[outbound]\nport = {port}\nallow = ["127.0.0.0/8"]\n')
    far.file.write_text(
        far.file.read_text().replace('"relay.example"', '"mx2.far.example"').replace("home.example", "else.example")
        + f'{servers}[listen.mx]\nbind = ["{FAR}:{port}"]\nrole = "mx"\n'
        + "".join(f'[domain."{name}far.example"]\nrecipients = "any"\n' for name in ("", "implicit.", "aliased."))
    )
    home.account("anna@home.example")
    with contextlib.ExitStack() as stack:
        for daemon in (far, home):
            daemon.start()
            stack.callback(daemon.stop)
        yield Road(home, far)


CONTENT = (
    "From: anna@home.example\r\nTo: u@far.example\r\nSubject: by MX\r\nDate: Tue, 24 Nov 2026 11:08:42 +0000\r\n"
    "Message-ID: <1@home.example>\r\n\r\nGrüße\r\n.\r\n..\r\n"
).encode()


def test_mail_finds_its_way_by_mx(road: Road, catcher: Any, wait_for: Any, without_trace: Any) -> None:
    domains = ("far.example", "implicit.far.example", "aliased.far.example", "signed.example")
    lost = ("nobody.far.example", "none.far.example", "bogus.example")
    with smtplib.SMTP("127.0.0.1", road.home.relay, timeout=15) as smtp:
        for domain in (*domains, *lost):
            smtp.sendmail("anna@home.example", [f"u@{domain}"], CONTENT, ["BODY=8BITMIME"])
    (received,) = catcher.wait(1)
    assert without_trace(received.content) == CONTENT
    assert received.rcpts[0].startswith(b"TO:<u@signed.example>")
    for domain in domains[:3]:
        (found,) = road.far.mailbox("u", 1, domain)
        assert without_trace(found) == CONTENT
        assert b"by mx2.far.example with ESMTPS" in found.replace(b"\r\n\t", b" ")
    reports = b"".join(road.home.mailbox("anna", 2))
    assert b"Final-Recipient: rfc822; u@nobody.far.example\r\n" in reports
    assert b"Status: 5.1.2\r\n" in reports
    assert b"Final-Recipient: rfc822; u@none.far.example\r\n" in reports
    assert b"Status: 5.1.10\r\n" in reports
    # A SERVFAIL is no absence: that mail waits.
    (waiting,) = wait_for(lambda: [json.loads(line) for line in road.home.waiting()])
    assert waiting["recipient"] == "u@bogus.example"
    assert "4.4.3" in waiting["last_reply"]


@pytest.mark.parametrize(
    ("domain", "status", "hosts"),
    [
        ("far.example", 0, [(10, "mx1.far.example", [NOBODY]), (20, "mx2.far.example", [FAR])]),
        ("aliased.far.example", 0, [(10, "other.far.example", [FAR])]),
        ("implicit.far.example", 0, [(0, "implicit.far.example", [FAR])]),
        ("none.far.example", 1, []),
        ("nobody.far.example", 1, []),
        ("bogus.example", 6, []),
    ],
)
def test_lookup_says_what_the_resolver_said(
    unbound: Unbound, make_daemon: Any, tmp_path: Path, domain: str, status: int, hosts: list[Any]
) -> None:
    daemon = make_daemon(tmp_path)
    daemon.file.write_text(f'{daemon.file.read_text()}[dns]\nservers = ["127.0.0.1:{unbound.port}"]\n')
    done = daemon.command("lookup", "mx", domain, "--json")
    assert done.returncode == status, done.stdout
    found = json.loads(next(line for line in done.stdout.split("\n") if line.startswith("{")))
    assert [(one["preference"], one["host"], one["addresses"]) for one in found["hosts"]] == hosts
    assert found["null_mx"] is (domain == "none.far.example")
