"""Heads of requests: which go on, which are turned away, and that nothing of them comes back."""

from __future__ import annotations

import pytest

from staffetta.console.names import Names, Standing, discovery_names
from staffetta.console.request import LARGEST_BODY_OCTETS, MOST_FIELDS, Head, Response, judge

HOST = (b"host", b"localhost:8080")
LARGEST = str(LARGEST_BODY_OCTETS).encode()
TOO_LARGE = str(LARGEST_BODY_OCTETS + 1).encode()


def status(method: bytes, target: bytes, *fields: tuple[bytes, bytes]) -> int:
    judged = judge(method, target, list(fields))
    return judged.status if isinstance(judged, Response) else 0


@pytest.mark.parametrize(
    ("method", "target", "fields", "expected"),
    [
        (b"GET", b"/livez", [HOST], 0),
        (b"HEAD", b"/livez", [HOST], 0),
        (b"GET", b"/livez", [], 0),
        (b"GET", b"/livez", [HOST, (b"content-length", b"0")], 0),
        (b"GET", b"/livez", [HOST, (b"content-length", b"5")], 400),
        (b"POST", b"/a", [HOST, (b"content-length", b"5")], 0),
        (b"POST", b"/a", [HOST, (b"content-length", LARGEST)], 0),
        (b"POST", b"/a", [HOST, (b"content-length", TOO_LARGE)], 413),
        (b"POST", b"/a", [HOST, (b"content-length", b"9" * 5000)], 413),
        (b"POST", b"/a", [HOST, (b"content-length", b"+5")], 400),
        (b"POST", b"/a", [HOST, (b"content-length", b"\xd9\xa5")], 400),
        (b"POST", b"/a", [HOST], 411),
        (b"POST", b"/a", [HOST, (b"transfer-encoding", b"chunked")], 411),
        (b"GET", b"/a", [HOST, (b"transfer-encoding", b"chunked")], 411),
        (b"POST", b"/a", [HOST, (b"content-length", b"5"), (b"transfer-encoding", b"chunked")], 400),
        (b"POST", b"/a", [HOST, (b"content-length", b"5"), (b"content-length", b"6")], 400),
        (b"PUT", b"/a", [HOST], 405),
        (b"OPTIONS", b"*", [HOST], 405),
        (b"TRACE", b"/a", [HOST], 405),
        (b"CONNECT", b"evil.example:25", [HOST], 405),
        (b"GET", b"http://evil.example/livez", [HOST], 400),
        (b"GET", b"*", [HOST], 400),
        (b"GET", b"/" + b"a" * 2048, [HOST], 414),
        (b"GET", b"/\xff", [HOST], 400),
        (b"GET", b"/?a=%ff", [HOST], 400),
        (b"GET", b"/?" + b"a=1&" * 17, [HOST], 400),
        (b"GET", b"/", [(b"x", b"y")] * (MOST_FIELDS + 1), 431),
    ],
)
def test_heads(method: bytes, target: bytes, fields: list[tuple[bytes, bytes]], expected: int) -> None:
    assert status(method, target, *fields) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"localhost", "localhost"),
        (b"LOCALHOST:8080", "localhost"),
        (b"mx.example.org.", "mx.example.org"),
        (b"[::1]:8080", "::1"),
        (b"127.0.0.1:80", "127.0.0.1"),
        (b"staffetta", "staffetta"),
    ],
)
def test_hosts(host: bytes, expected: str) -> None:
    judged = judge(b"GET", b"/", [(b"host", host)])
    assert isinstance(judged, Head)
    assert judged.request.host == expected


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"a b",
        b"a@b",
        b"a/b",
        b"a:b",
        b"a:123456",
        b"[::1",
        b"::1",
        b"a\xff",
        b"<script>",
        b"a,b",
        b"a:80:80",
        b"a\nb",
    ],
)
def test_what_is_no_host(host: bytes) -> None:
    judged = judge(b"GET", b"/", [(b"host", host)])
    assert isinstance(judged, Response)
    assert judged.status == 400
    assert len(host) < 3 or host not in judged.body


def test_parameters_are_the_first_of_each_name() -> None:
    judged = judge(b"GET", b"/mail/config-v1.1.xml?emailaddress=a%40b.example&emailaddress=c&x=", [HOST])
    assert isinstance(judged, Head)
    assert judged.request.path == "/mail/config-v1.1.xml"
    assert judged.request.parameters == {"emailaddress": "a@b.example"}


NAMES = Names(frozenset({"mx.example.org"}), discovery_names(["example.org"]))


@pytest.mark.parametrize(
    ("host", "standing"),
    [
        ("", Standing.OWN),
        ("localhost", Standing.OWN),
        ("127.0.0.1", Standing.OWN),
        ("192.0.2.1", Standing.OWN),
        ("::1", Standing.OWN),
        ("mx.example.org", Standing.OWN),
        ("autoconfig.example.org", Standing.DISCOVERY),
        ("autodiscover.example.org", Standing.DISCOVERY),
        ("example.org", Standing.DISCOVERY),
        ("www.example.org", Standing.STRANGER),
        ("autoconfig.other.example", Standing.STRANGER),
        ("evil.example", Standing.STRANGER),
        ("localhost.evil.example", Standing.STRANGER),
        ("127.0.0.1.evil.example", Standing.STRANGER),
        ("127.1", Standing.STRANGER),
        ("staffetta", Standing.STRANGER),
        ("0x7f000001", Standing.STRANGER),
    ],
)
def test_who_may_ask_what(host: str, standing: Standing) -> None:
    assert NAMES.standing(host) is standing


def test_containers_call_one_another_by_single_words() -> None:
    names = Names(frozenset(), single_words=True)
    assert names.standing("staffetta") is Standing.OWN
    assert names.standing("evil.example") is Standing.STRANGER
