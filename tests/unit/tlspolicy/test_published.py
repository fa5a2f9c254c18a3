"""What domains publish about TLS, as tables: MTA-STS records and files, TLS-RPT, TLSA."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staffetta.dns.resolver import TlsAssociation
from staffetta.tlspolicy import mta_sts, tls_rpt
from staffetta.tlspolicy.dane import tlsa_name, tlsa_text, why_unusable
from staffetta.tlspolicy.mta_sts import FILE_OCTETS, StsMode, StsPolicy, parse_policy, sts_records


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"v=STSv1; id=20160831085700Z;", ""),
        (b"v=STSv1;id=1", ""),
        (b"v=STSv1 ; id=1 ", ""),
        (b"v=STSv1; ext=x; id=1", ""),
        (b"v=STSv1; id=1; id=no-no", ""),
        (b"v=STSv1;", "it has no id="),
        (b"v=STSv1; ID=1", "it has no id="),
        (b"v=STSv1; id=", "its id= is not 1 to 32 letters and digits"),
        (b"v=STSv1; id=2016-08-31", "its id= is not 1 to 32 letters and digits"),
        (b"v=STSv1; id=" + b"1" * 33, "its id= is not 1 to 32 letters and digits"),
        (b"v=STSv1; id=\xd9\xa1", "its id= is not 1 to 32 letters and digits"),
    ],
)
def test_mta_sts_record(text: bytes, problem: str) -> None:
    assert sts_records([text, b"v=spf1 -all", b"v=STSv12; id=1", b"V=STSv1; id=1", b" v=STSv1; id=1"]) == (text,)
    assert mta_sts.why_bad_record(text) == problem


GOOD = "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmax_age: 604800\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (GOOD, StsPolicy(StsMode.ENFORCE, 604800, ("mail.example.com", "*.example.net"))),
        (GOOD.replace("\n", "\r\n"), StsPolicy(StsMode.ENFORCE, 604800, ("mail.example.com", "*.example.net"))),
        (GOOD.replace("mail.", "MAIL."), StsPolicy(StsMode.ENFORCE, 604800, ("mail.example.com", "*.example.net"))),
        (
            GOOD + "mode: none\nextension: x\n\n",
            StsPolicy(StsMode.ENFORCE, 604800, ("mail.example.com", "*.example.net")),
        ),
        ("max_age: 0\nmode: none\nversion: STSv1", StsPolicy(StsMode.NONE, 0)),
        (GOOD.replace("STSv1", "STSv2"), "it has no version: STSv1"),
        (GOOD.replace("enforce", "Enforce"), "its mode: is not enforce, testing or none"),
        (GOOD.replace("604800", "31557601"), "its max_age: is not a number of seconds up to 31557600"),
        (GOOD.replace("604800", "-1"), "its max_age: is not a number of seconds up to 31557600"),
        (GOOD.replace("604800", "\u0661"), "its max_age: is not a number of seconds up to 31557600"),
        (GOOD.replace("*.example.net", "a.*.example.net"), "it has an mx: that is no name of a host"),
        (GOOD.replace("*.example.net", "192.0.2.1"), "it has an mx: that is no name of a host"),
        ("version: STSv1\nmode: testing\nmax_age: 1\n", "it names no mx:"),
        ("", "it has no version: STSv1"),
        (GOOD + "x" * FILE_OCTETS, "the file is longer than 64 KiB"),
    ],
)
def test_mta_sts_policy(text: str, found: StsPolicy | str) -> None:
    assert parse_policy(text.encode()) == found


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("mail.example.com", True),
        ("mail2.example.com", False),
        ("a.example.net", True),
        ("a.b.example.net", False),
        ("example.net", False),
        ("net", False),
        ("", False),
    ],
)
def test_hosts_of_a_policy(host: str, named: bool) -> None:
    policy = parse_policy(GOOD.encode())
    assert isinstance(policy, StsPolicy)
    assert policy.names(host) is named


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"v=TLSRPTv1; rua=mailto:a@example.com", ""),
        (b"v=TLSRPTv1;rua=mailto:a@example.com,https://r.example.com/x;", ""),
        (b"v=TLSRPTv1; rua=http://r.example.com/", "its rua= is not a list of mailto: and https:"),
        (b"v=TLSRPTv1; rua=a@example.com", "its rua= is not a list of mailto: and https:"),
        (b"v=TLSRPTv1; rua=", "its rua= is not a list of mailto: and https:"),
        (b"v=TLSRPTv1; ruf=mailto:a@example.com", "it has no rua="),
        (b"v=TLSRPTv1", "it has no rua="),
    ],
)
def test_tls_rpt(text: bytes, problem: str) -> None:
    assert tls_rpt.tls_rpt_records([b"v=TLSRPTv2; rua=x", text, b"x"]) == (text,)
    assert tls_rpt.why_bad_record(text) == problem


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (TlsAssociation(3, 1, 1, bytes(32)), ""),
        (TlsAssociation(2, 0, 2, bytes(64)), ""),
        (TlsAssociation(3, 1, 0, b"whole key"), ""),
        (TlsAssociation(3, 1, 1, bytes(31)), "its digest has 31 octets where 32 are due"),
        (TlsAssociation(3, 1, 2, bytes(32)), "its digest has 32 octets where 64 are due"),
        (TlsAssociation(3, 1, 0, b""), "it holds no data"),
        (TlsAssociation(3, 1, 1, b""), "it holds no data"),
        (TlsAssociation(0, 1, 1, bytes(32)), "usage 0 leans on public authorities, which has no meaning for mail"),
        (TlsAssociation(1, 1, 1, bytes(32)), "usage 1 leans on public authorities, which has no meaning for mail"),
        (TlsAssociation(4, 1, 1, bytes(32)), "usage 4 is unknown"),
        (TlsAssociation(3, 2, 1, bytes(32)), "selector 2 is unknown"),
        (TlsAssociation(3, 1, 3, bytes(32)), "matching type 3 is unknown"),
    ],
)
def test_tlsa(record: TlsAssociation, problem: str) -> None:
    assert why_unusable(record) == problem


def test_tlsa_in_words() -> None:
    assert tlsa_name("mx.example") == "_25._tcp.mx.example"
    assert tlsa_text(TlsAssociation(3, 1, 1, b"\x01\xff")) == "3 1 1 01ff"


@given(st.binary(max_size=300))
def test_nothing_raises(data: bytes) -> None:
    parse_policy(b"version: STSv1\n" + data)
    mta_sts.why_bad_record(b"v=STSv1;" + data)
    tls_rpt.why_bad_record(b"v=TLSRPTv1;" + data)


@pytest.mark.parametrize("line", [b"mx: a.example\n", b"x:\n", b"\n", b":", b"mx: *.", b" "])
def test_large_files_cost_little(line: bytes) -> None:
    start = time.process_time()
    parse_policy((b"version: STSv1\n" + line * FILE_OCTETS)[:FILE_OCTETS])
    assert time.process_time() - start < 1
