"""`explain headers`: the sample messages of an abuse desk, where facts end, and what no header can do to the reader."""

from __future__ import annotations

import asyncio
import io
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from abuse_messages import (
    ANNA,
    BANK,
    BODY,
    EVIL,
    FOLDER,
    MAKERS,
    NOW,
    OUR_RESULTS,
    ZONES,
    Sample,
    genuine,
    letter,
    path,
    plain_forgery,
    received,
    samples,
    signed,
)
from click.testing import CliRunner, Result

from staffetta.cli.main import cli
from staffetta.control.explain_headers import HOPS, Desk, HeadersReport, explain_headers
from staffetta.control.explain_headers_checks import read_results
from staffetta.control.explain_headers_file import HEADER_OCTETS, MAIL_OCTETS, MailFile, NotMail
from staffetta.control.explain_headers_trust import Trusted, find_boundary, parse_trust
from staffetta.dns.resolver import Unavailable
from staffetta.dns.table import TableResolver
from staffetta.message.received import Hop, parse_received

TRUST = ("mx.ours.example", "mx2.ours.example")


def report(content: bytes, trust: Sequence[str] = TRUST, zones: Any = ZONES) -> HeadersReport:
    resolver = TableResolver(zones) if zones is not None else None
    desk = Desk(resolver, parse_trust(trust), None, lambda: NOW + 100, lambda: 0.0)
    return asyncio.run(explain_headers(MailFile(io.BytesIO(content)), desk))


def codes(found: HeadersReport, level: str = "") -> set[str]:
    return {one.code for one in found.findings if level in {"", one.level}}


# The samples.


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_samples(make: Any) -> None:
    sample: Sample = make()
    found = report(sample.content)
    assert found.boundary.index == sample.boundary
    assert found.boundary.certain
    assert found.verdict.handed_by == found.hops[sample.boundary - 1].address
    for piece in sample.sentence:
        assert piece in found.verdict.sentence
    assert set(sample.codes) <= codes(found)
    assert (sample.status == 0) == (found.verdict.proven and not found.verdict.suspicious)
    assert [hop.trusted for hop in found.hops] == [hop.index <= sample.boundary for hop in found.hops]


def test_files_are_what_is_made() -> None:
    assert len(MAKERS) >= 10
    on_disk = {file.stem: file.read_bytes() for file in FOLDER.glob("*.eml")}
    assert on_disk == {one.name: one.content for one in samples()}


# The boundary, as a table: hops from newest to oldest, and which one is the last fact.

US, THEM, CLIENT = "mx.ours.example", "mx.them.example", "203.0.113.66"
TRUSTED = Trusted(frozenset({US, "mx2.ours.example"}), (".inner.example",), addresses=frozenset({"203.0.113.11"}))
BOUNDARIES: list[tuple[str, list[Hop], int, bool]] = [
    ("one", [Hop(by=US, address=CLIENT)], 1, True),
    ("dots and case", [Hop(by="MX.Ours.Example.", address=CLIENT)], 1, True),
    ("claim below", [Hop(by=US, address=CLIENT), Hop(by=US, address="198.51.100.1")], 1, True),
    ("backup server", [Hop(by=US, address="203.0.113.11"), Hop(by="mx2.ours.example", address=CLIENT)], 2, True),
    ("backup server by name only", [Hop(by=US, address=CLIENT, reverse="mx2.ours.example"), Hop(by=US)], 1, True),
    ("calls itself ours", [Hop(by=US, address=CLIENT, helo=US, name=US), Hop(by=US, address="198.51.100.1")], 1, True),
    ("suffix", [Hop(by="a.inner.example", address=CLIENT)], 1, True),
    ("suffix is no part of a label", [Hop(by="eviinner.example", address=CLIENT)], 1, False),
    ("lmtp inside", [Hop(by=US, address="127.0.0.1", with_="LMTP"), Hop(by=US, address=CLIENT)], 2, True),
    ("private", [Hop(by=US, address="10.0.0.2"), Hop(by="mx2.ours.example", address=CLIENT)], 2, True),
    ("private client", [Hop(by=US, address="10.0.0.2"), Hop(by="laptop", address=CLIENT)], 1, True),
    ("local user", [Hop(by=US, by_user=True), Hop(by=US, address="198.51.100.1")], 1, True),
    ("handed on inside", [Hop(by=US), Hop(by=US, address=CLIENT)], 2, True),
    ("qmail", [Hop(), Hop(by=US, address=CLIENT)], 2, True),
    ("qmail below", [Hop(by=US, address="127.0.0.1"), Hop(), Hop(by=THEM, address=CLIENT)], 1, True),
    ("inner hop above ours", [Hop(by="2002:a05::1"), Hop(by=US, address=CLIENT)], 2, True),
    ("not ours on top", [Hop(by=THEM, address=CLIENT), Hop(by=US, address="198.51.100.1")], 1, False),
    ("not ours at all", [Hop(by=THEM), Hop(by=THEM, address=CLIENT)], 2, False),
    ("nothing", [], 0, False),
]


@pytest.mark.parametrize(("name", "hops", "index", "certain"), BOUNDARIES, ids=[row[0] for row in BOUNDARIES])
def test_boundary(name: str, hops: list[Hop], index: int, certain: bool) -> None:
    found = find_boundary(hops, TRUSTED)
    assert (found.index, found.certain) == (index, certain)
    assert certain or found.caveat


def test_doubts_about_private_ways_are_told() -> None:
    assert "10.0.0.2" in find_boundary([Hop(by=US, address="10.0.0.2"), Hop(by=US, address=CLIENT)], TRUSTED).caveat
    assert "itself" in find_boundary([Hop(by=US, address="127.0.0.1"), Hop(by=US, address=CLIENT)], TRUSTED).caveat
    lmtp = [Hop(by=US, address="::1", with_="LMTP"), Hop(by=US, address=CLIENT)]
    assert find_boundary(lmtp, TRUSTED).caveat == ""


def test_without_any_trust_the_top_is_taken_and_said_so() -> None:
    found = report(plain_forgery().content, trust=())
    assert (found.boundary.index, found.boundary.certain) == (1, False)
    assert "no host is named as trusted" in found.boundary.caveat
    assert "if the top-most Received field is true" in found.verdict.sentence


def test_no_trace_at_all() -> None:
    found = report(letter(ANNA) + b"\r\n")
    assert (found.boundary.index, found.verdict.handed_by, found.verdict.proven) == (0, "", False)
    assert found.verdict.sentence.startswith("Nothing tells who handed it over")


@pytest.mark.parametrize("text", ["mx.ours.example", "MX.ours.example.", ".ours.example", "192.0.2.1", "2001:db8::/32"])
def test_trust_is_read(text: str) -> None:
    assert parse_trust([text])


@pytest.mark.parametrize("text", ["", ".", "a b", "http://x", "10.0.0.1/8", "\udcff"])
def test_trust_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a host name"):
        parse_trust([text])


# The envelope, and who may tell it.


def test_a_return_path_that_came_with_the_message_proves_nothing() -> None:
    content = received(BANK) + path("anna@bank.example") + letter(ANNA) + b"\r\n" + BODY
    found = report(content)
    assert found.envelope_from == "anna@bank.example"
    assert not found.verdict.proven
    assert "only the message itself says" in found.verdict.sentence
    on_top = report(path("anna@bank.example") + received(BANK) + letter(ANNA) + b"\r\n" + BODY)
    assert on_top.verdict.by == ("spf",)


def test_exim_tells_the_envelope_in_its_field() -> None:
    field = received("mail.bank.example ([198.51.100.1])").replace(
        b" id 4XYZ", b" (envelope-from <anna@bank.example>) id 1"
    )
    found = report(field + letter(ANNA) + b"\r\n" + BODY)
    assert (found.envelope_from, found.verdict.by) == ("anna@bank.example", ("spf",))


@pytest.mark.parametrize(
    ("value", "told"), [(b"<>", ""), (b"", ""), (b"<a b>", None), (b"<a@b.example>", "a@b.example")]
)
def test_return_path(value: bytes, told: str | None) -> None:
    assert report(b"Return-Path: " + value + b"\r\n" + received(EVIL) + letter(ANNA)).envelope_from == told


# Results that stood in the message.


def test_only_results_above_the_boundary_are_ours() -> None:
    message = signed(letter(ANNA), "bank.example") + b"\r\n" + BODY
    above = report(path("anna@bank.example") + OUR_RESULTS + received(BANK) + message)
    assert [(one.method, one.result, one.trusted, one.now) for one in above.recorded] == [
        ("dkim", "pass", True, "pass"),
        ("dmarc", "pass", True, "pass"),
    ]
    below = report(path("x@evil.example") + received(EVIL) + OUR_RESULTS + letter(ANNA) + b"\r\n")
    assert not any(one.trusted for one in below.recorded)
    foreign = report(b"Authentication-Results: mx.them.example; dkim=pass\r\n" + received(EVIL) + letter(ANNA))
    assert not any(one.trusted for one in foreign.recorded)


def test_what_changed_since_is_told() -> None:
    message = signed(letter(ANNA), "bank.example") + b"\r\n" + BODY + b"altered\r\n"
    found = report(path("anna@bank.example") + OUR_RESULTS + received(BANK) + message)
    assert "changed_since" in codes(found, "note")


RESULTS = [
    (b"mx.example; dkim=pass header.d=a; spf=fail", [("dkim", "pass"), ("spf", "fail")]),
    (
        b'mx.example (a; dkim=pass); SPF = Fail (x (y=z; dkim=pass)); arc=none reason="; dkim=pass"',
        [("spf", "fail"), ("arc", "none")],
    ),
    (b"mx.example 1; none", []),
    (b"", []),
]


@pytest.mark.parametrize(("value", "found"), RESULTS)
def test_results_are_read(value: bytes, found: list[tuple[str, str]]) -> None:
    assert read_results(value) == found


# Proof.


def test_a_domain_below_is_no_proof_without_a_record_that_says_so() -> None:
    zones = {**ZONES, "s1._domainkey.sub.evil.example": ZONES["s1._domainkey.evil.example"]}
    content = received(EVIL) + signed(letter("x@evil.example"), "sub.evil.example") + b"\r\n" + BODY
    assert not report(content, zones=zones).verdict.proven
    zones["_dmarc.evil.example"] = {"TXT": ["v=DMARC1; p=none"]}
    assert report(content, zones=zones).verdict.by == ("dkim",)
    above = received(EVIL) + signed(letter("x@sub.evil.example"), "evil.example") + b"\r\n" + BODY
    assert report(above).verdict.by == ("dkim",)


def test_a_dns_that_is_silent_leaves_it_undecided() -> None:
    silent = {name: Unavailable("SERVFAIL") for name in ZONES}
    found = report(genuine().content, zones=silent)
    assert (found.verdict.proven, found.verdict.undecided) == (False, True)
    assert "the DNS does not answer" in found.verdict.sentence


def test_without_dns_what_is_broken_is_told_and_what_was_recorded() -> None:
    content = (
        path("anna@bank.example") + OUR_RESULTS + received(BANK) + signed(letter(ANNA), "bank.example") + b"\r\nX\r\n"
    )
    found = report(content, zones=None)
    assert found.checks == {"dkim": "fail", "arc": "none"}
    assert (found.verdict.proven, found.verdict.undecided) == (False, False)
    assert "mx.ours.example recorded dkim=pass, dmarc=pass" in found.verdict.sentence


def test_a_signature_that_has_expired_since_was_good() -> None:
    content = received(BANK) + signed(letter(ANNA), "bank.example", lifetime=3600) + b"\r\n" + BODY
    desk = Desk(TableResolver(ZONES), parse_trust(TRUST), None, lambda: NOW + 1e9, lambda: 0.0)
    assert asyncio.run(explain_headers(MailFile(io.BytesIO(content)), desk)).verdict.by == ("dkim",)
    late = content.replace(b"2026 11:08:42", b"2027 11:08:42")
    assert not asyncio.run(explain_headers(MailFile(io.BytesIO(late)), desk)).verdict.proven


@pytest.mark.parametrize("author", ["<@a.example:x@evil.example>", "x (y) @evil.example", "g: x@evil.example;"])
def test_an_author_who_can_be_read_in_several_ways_is_never_proven(author: str) -> None:
    found = report(path("x@evil.example") + received(EVIL) + signed(letter(author), "evil.example") + b"\r\n" + BODY)
    assert (found.checks["dkim"], found.checks["spf"]) == ("pass", "pass")
    assert not found.verdict.proven


# Findings.

HEADERS: list[tuple[str, str, str]] = [
    ("From: Anna <anna@bank.example>\r\nReply-To: x@evil.example\r\n", "reply_to_differs", "warning"),
    ("From: Anna <anna@bank.example>\r\nSender: x@evil.example\r\n", "sender_differs", "note"),
    ("From: Anna <anna@bank.example>\r\nResent-From: x@evil.example\r\n", "resent", "note"),
    ("From: Anna <anna@bank.example>\r\nList-Id: <l.example>\r\n", "mailing_list", "note"),
    ("From: \u202eannA <anna@bank.example>\r\n", "direction_mark", "fault"),
    ("From: An\u200bna <anna@bank.example>\r\n", "invisible_character", "warning"),
    ("From: =?utf-8?Q?=1B[31m?= <anna@bank.example>\r\n", "control_character", "fault"),
    ("From: P\u0430yPal <anna@bank.example>\r\n", "mixed_scripts", "fault"),
    ("From: a@x.example, b@y.example\r\n", "unclear_from", "fault"),
    ("From : a@x.example\r\nFrom: b@y.example\r\n", "unclear_from", "fault"),
    ("From: =?utf-8?Q?boss=40bank.example?= <x@evil.example>\r\n", "hidden_at_sign", "fault"),
    ("From: a@x.example\r\nReply-To: a@b\u0430nk.example\r\n", "look_alike_domain", "fault"),
    ("From: a@x.example\r\nbroken line\r\n", "header_problem", "note"),
]


@pytest.mark.parametrize(("text", "code", "level"), HEADERS, ids=[row[1] for row in HEADERS])
def test_findings(text: str, code: str, level: str) -> None:
    assert code in codes(report(received(EVIL) + text.encode() + b"\r\n"), level)


def test_an_ordinary_message_has_no_findings() -> None:
    assert report(genuine().content).findings == ()


# Times.


def test_delays_and_clocks() -> None:
    trace = (
        received(BANK, seconds=100) + received(BANK, seconds=90) + received(BANK, seconds=500) + b"Received: by x\r\n"
    )
    found = report(trace + letter(ANNA))
    assert [hop.delay_seconds for hop in found.hops] == [10.0, -410.0, None, None]
    assert "a clock is wrong" in found.hops[1].problem
    assert found.hops[0].problem == ""
    assert found.hops[3].problem == "it has no time"


# The file.


def test_line_ends_are_restored_and_nothing_else_is_changed() -> None:
    sample = genuine().content
    for content in (sample, sample.replace(b"\r\n", b"\n"), b"From x Tue Nov 24\n" + sample.replace(b"\r\n", b"\n")):
        assert report(content).verdict.by == ("dkim", "spf")
    assert report(b"\xef\xbb\xbf" + sample).verdict.proven
    assert report(sample.replace(b"\r\n\r\n", b"\r\n\r\n ", 1)).verdict.by == ("spf",)


class Dribble(io.BytesIO):
    """Gives one octet more each time, so that every border between pieces is met."""

    size = 0

    def read(self, _: int | None = -1, /) -> bytes:
        self.size = self.size % 7 + 1
        return super().read(self.size)


@pytest.mark.parametrize("lf", [False, True])
def test_pieces_of_any_size_are_the_same(lf: bool) -> None:
    content = genuine().content
    mail = MailFile(Dribble(content.replace(b"\r\n", b"\n") if lf else content))
    assert mail.header.block + b"".join(mail.after_header()) == content


def test_mixed_line_ends_become_one_in_pieces_of_any_size() -> None:
    content = genuine().content
    first, rest = content.split(b"\r\n", 1)
    mail = MailFile(Dribble(first + b"\n" + rest))
    assert mail.header.block + b"".join(mail.after_header()) == content


@pytest.mark.parametrize(
    "content", [b"", b"\r\n", b"hello\n", b"\x00\xff" * 1000, b"PK\x03\x04: x\r\n", b"Dear Sir: hello\n"]
)
def test_not_a_mail(content: bytes) -> None:
    with pytest.raises(NotMail):
        MailFile(io.BytesIO(content))


class Endless(io.RawIOBase):
    """A header, then the same piece again and again; counts what was read."""

    def __init__(self, start: bytes, piece: bytes) -> None:
        self.start, self.piece, self.count = start, piece, 0

    def read(self, _: int = -1, /) -> bytes:
        data, self.start = self.start or self.piece, b""
        self.count += len(data)
        return data


def test_files_have_a_limit() -> None:
    endless: Any = Endless(b"", b"From: a@b.example\r\n" * 100)
    with pytest.raises(NotMail, match="header does not end"):
        MailFile(endless)
    assert endless.count < HEADER_OCTETS + 10_000
    endless = Endless(letter(ANNA) + b"\r\n", b"x" * 65536)
    with pytest.raises(NotMail, match="larger than"):
        for _ in MailFile(endless).after_header():
            pass
    assert endless.count < MAIL_OCTETS + 100_000


# Hostile input.

CONTROL = "\x1b]0:owned\x07\x1b[2J\u202egpj\u2066\u200b\x9b31m"
FIELDS = ["From", "To", "Subject", "Sender", "Reply-To", "Return-Path", "List-Id", "Resent-From", "Received"]
FIELDS += ["Authentication-Results", "DKIM-Signature", "ARC-Seal", "Message-ID", "Date"]


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("terminal", [True, False])
def test_no_field_reaches_the_terminal(
    name: str, terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("staffetta.cli.explain_headers.on_terminal", lambda: terminal)
    values = [
        f"{CONTROL} <x{CONTROL}@evil.example> {CONTROL}",
        f"from {CONTROL} ({CONTROL} [192.0.2.1]) by {CONTROL}; {CONTROL}",
    ]
    values += [
        f"v=1; a=rsa-sha256; d={CONTROL}; s={CONTROL}; b={CONTROL}; bh=x; h=from",
        f"mx.ours.example; dkim=pass {CONTROL}",
    ]
    for value in values:
        for top in (b"", received(EVIL)):
            content = f"{name}: {value}\r\n".encode() + top + letter(ANNA) + b"\r\n"
            (tmp_path / "mail.eml").write_bytes(content)
            for words in ([], ["--json"]):
                result = run(str(tmp_path / "mail.eml"), "--no-dns", "--trust", US, *words)
                assert result.exit_code == 1, result.output
                both = result.stdout + result.stderr
                assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", both)


BOMBS: list[tuple[str, bytes]] = [
    ("10,000 Received", received(EVIL) * 10_000 + letter(ANNA)),
    ("1 MB From", b"From: " + b"a" * 1_000_000 + b"\r\n" + received(EVIL)),
    ("1 MB of quotes", b"From: " + b'"' * 1_000_000 + b"\r\n" + received(EVIL)),
    ("1 MB of brackets", b"Received: from " + b"(" * 1_000_000 + b"\r\n" + letter(ANNA)),
    ("1 MB of encoded words", b"From: " + b"=?utf-8?B?QA==?= " * 60_000 + b"\r\n"),
    ("folds", b"Received: from a\r\n" + b" x\r\n" * 250_000 + letter(ANNA)),
    ("many fields", b"X: y\r\n" * 170_000 + letter(ANNA)),
    ("results", (b"Authentication-Results: a; " + b"(" * 9000 + b"dkim=pass;" * 9000 + b"\r\n") * 10 + letter(ANNA)),
    (
        "signatures",
        (b"DKIM-Signature: v=1; a=rsa-sha256; d=a.example; s=s; h=" + b"from:" * 4000 + b"; bh=x; b=y\r\n") * 40
        + letter(ANNA),
    ),
    ("not fields", b"x\r\n" * 300_000 + letter(ANNA)),
]


@pytest.mark.parametrize(("name", "block"), BOMBS, ids=[name for name, _ in BOMBS])
def test_bombs(name: str, block: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    found = report(block + b"\r\n" + BODY)
    assert time.process_time() - begun < 2.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    assert len(found.hops) <= HOPS
    assert len(found.findings) <= 40


def test_more_hops_are_counted() -> None:
    found = report(received(EVIL) * 1000 + letter(ANNA))
    assert (len(found.hops), found.more_hops) == (HOPS, 1000 - HOPS)


def test_a_large_body_is_not_held() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stream: Any = Finite(signed(letter(ANNA), "bank.example") + b"\r\n", b"x" * 65534 + b"\r\n", 50 * 16)
    desk = Desk(None, parse_trust(TRUST), None, lambda: NOW, lambda: 0.0)
    found = asyncio.run(explain_headers(MailFile(stream), desk))
    assert found.checks["dkim"] == "fail"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


class Finite(Endless):
    """The same, so many times."""

    def __init__(self, start: bytes, piece: bytes, times: int) -> None:
        super().__init__(start, piece)
        self.times = times

    def read(self, size: int = -1, /) -> bytes:
        self.times -= 1
        return super().read(size) if self.times >= 0 else b""


# The command.


def run(*words: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["explain", "headers", *words], input=stdin)


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STAFFETTA_CONFIG", raising=False)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """ADDRESS:PORT of a zone server in a process of its own, with the zones of the samples."""
    words = [sys.executable, "-m", "staffetta.testing.zone"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(ZONES) + "\n")
        process.stdin.flush()
        yield process.stdout.readline().strip()
        process.stdin.close()
        process.wait(10)


@pytest.fixture
def configured(tmp_path: Path, server: str) -> Path:
    file = tmp_path / "ours.toml"
    file.write_text(
        'version = 1\nhostname = "mx.ours.example"\ndata_dir = "data"\n'
        '[listen.mx]\nbind = ["127.0.0.1:0"]\nrole = "mx"\n'
        f'[domain."ours.example"]\n[dns]\nservers = ["{server}"]\ntimeout = "2s"\n'
    )
    return file


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.name)
def test_samples_by_the_command_with_our_configuration(sample: Sample, configured: Path) -> None:
    file = FOLDER / f"{sample.name}.eml"
    result = run(str(file), "--json", "-c", str(configured))
    assert result.exit_code == sample.status, result.output
    answer = json.loads(result.stdout)
    assert answer["boundary"]["index"] == sample.boundary
    assert answer["boundary"]["certain"]
    text = run(str(file), "-c", str(configured))
    assert text.exit_code == sample.status
    assert text.stdout.rstrip("\n").split("\n")[-1].startswith(("Handed", "Nothing"))
    assert all(piece in text.stdout for piece in sample.sentence)


def test_json_is_the_contract() -> None:
    answer = json.loads(run("-", "--no-dns", "--json", "--trust", US, stdin=genuine().content).stdout)
    head = ["schema", "hops", "boundary", "from", "envelope_from", "checks", "verdict"]
    assert list(answer)[: len(head)] == head
    fields = ["index", "by", "from", "helo", "address", "reverse", "with", "tls", "id", "for", "time", "delay_seconds"]
    assert list(answer["hops"][0]) == [*fields, "trusted", "problem"]
    verdict = ["handed_by", "claims", "proven", "by", "suspicious", "undecided", "sentence"]
    assert list(answer["verdict"]) == verdict
    assert answer["hops"][0]["time"] == "2026-11-24T11:08:42Z"
    assert (answer["schema"], answer["from"], answer["envelope_from"]) == (1, "anna@bank.example", "anna@bank.example")


@pytest.mark.parametrize(
    ("words", "stdin", "status"),
    [
        (["nothing.eml"], None, 2),
        (["."], None, 2),
        (["-"], b"hello\n", 2),
        (["-", "--trust", "a b"], genuine().content, 2),
        ([], None, 2),
        (["-", "--no-dns"], genuine().content, 1),
    ],
)
def test_exit_statuses(words: list[str], stdin: bytes | None, status: int) -> None:
    result = run(*words, stdin=stdin)
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output


def test_a_dead_dns_is_6(tmp_path: Path) -> None:
    file = tmp_path / "ours.toml"
    file.write_text(
        'version = 1\nhostname = "mx.ours.example"\ndata_dir = "data"\n'
        '[listen.mx]\nbind = ["127.0.0.1:0"]\nrole = "mx"\n'
        '[dns]\nservers = ["127.0.0.1:1"]\ntimeout = "1s"\n'
    )
    assert run("-", "-c", str(file), stdin=genuine().content).exit_code == 6


def test_trust_is_read_from_fields_that_say_it_themselves() -> None:
    """Names in a field count for nothing: only the command line, the configuration and the DNS do."""
    hop = parse_received(f"from {US} ({US} [203.0.113.66]) by {US} with SMTP; x".encode())
    assert find_boundary([hop, hop], TRUSTED).index == 1
