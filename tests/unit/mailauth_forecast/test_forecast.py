"""What receivers will conclude, as a table: who publishes what, where mail leaves from, who signs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from staffetta.dns.resolver import Unavailable
from staffetta.dns.table import TableResolver
from staffetta.mailauth.dkim.record import Algorithm, write_record
from staffetta.mailauth.dkim.sign import SigningKey
from staffetta.mailauth.forecast import Forecast, ForecastKey, ForecastQuestion, forecast, key_of

OURS = write_record(Ed25519PrivateKey.generate().public_key())
FOREIGN = write_record(Ed25519PrivateKey.generate().public_key())
KEY = ForecastKey("example.org", "s1", Algorithm.ED25519_SHA256, OURS)
HERE, THERE = "192.0.2.1", "192.0.2.2"

SPF = {"TXT": [f"v=spf1 ip4:{HERE} -all"]}
REJECT, NONE = {"TXT": ["v=DMARC1; p=reject"]}, {"TXT": ["v=DMARC1; p=none; rua=mailto:d@example.org"]}


def ask(table: dict[str, Any], **given: Any) -> Forecast:
    words: dict[str, Any] = {
        "author_domain": "example.org",
        "envelope_domain": "example.org",
        "helo": "mx.example.org",
        "addresses": (HERE,),
        "signing_keys": (KEY,),
    }
    return asyncio.run(forecast(TableResolver(table), ForecastQuestion(**{**words, **given})))


def zones(spf: Any = None, key: Any = None, dmarc: Any = None, **more: Any) -> dict[str, Any]:
    names = {"example.org": spf, "s1._domainkey.example.org": key, "_dmarc.example.org": dmarc}
    table: dict[str, Any] = {name: entry for name, entry in names.items() if entry is not None}
    table["com"] = table["org"] = {}
    return {**table, **{name.replace("__", "."): entry for name, entry in more.items()}}


GOOD_KEY, TEST_KEY = {"TXT": [OURS]}, {"TXT": [OURS + "; t=y"]}
UNSIGNED_VIA: dict[str, Any] = {"addresses": (), "via": "smart.example", "signing_keys": ()}
SILENT = Unavailable("SERVFAIL")

ROWS: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str, str, str, str, str]]] = [
    # what is so, its zones, its question -> spf, dkim, dmarc, policy, verdict
    ("all is well", zones(SPF, GOOD_KEY, REJECT), {}, ("pass", "pass", "pass", "reject", "pass")),
    ("SPF alone", zones(SPF, None, REJECT), {}, ("pass", "permerror", "pass", "reject", "pass")),
    ("DKIM alone", zones(None, GOOD_KEY, REJECT), {}, ("none", "pass", "pass", "reject", "pass")),
    ("nothing holds, reject", zones(None, None, REJECT), {}, ("none", "permerror", "fail", "reject", "fail")),
    ("nothing holds, none", zones(None, None, NONE), {}, ("none", "permerror", "fail", "none", "fail")),
    ("foreign key", zones(None, {"TXT": [FOREIGN]}, REJECT), {}, ("none", "permerror", "fail", "reject", "fail")),
    ("revoked key", zones(None, {"TXT": ["v=DKIM1; p="]}, REJECT), {}, ("none", "permerror", "fail", "reject", "fail")),
    ("key in test mode", zones(None, TEST_KEY, REJECT), {}, ("none", "permerror", "fail", "reject", "fail")),
    ("nobody signs", zones(SPF, None, REJECT), {"signing_keys": ()}, ("pass", "none", "pass", "reject", "pass")),
    ("address not in SPF", zones(SPF, None, REJECT), {"addresses": (THERE,), "signing_keys": ()},
     ("fail", "none", "fail", "reject", "fail")),
    ("one of two in SPF", zones(SPF, None, REJECT), {"addresses": (HERE, THERE), "signing_keys": ()},
     ("depends", "none", "temperror", "reject", "unknown")),
    ("one of two, signed", zones(SPF, GOOD_KEY, REJECT), {"addresses": (HERE, THERE)},
     ("depends", "pass", "pass", "reject", "pass")),
    ("envelope of a stranger", zones(None, None, REJECT, bounce__example__com=SPF), {
        "envelope_domain": "bounce.example.com", "signing_keys": ()}, ("pass", "none", "fail", "reject", "fail")),
    ("envelope of a subdomain", zones(None, None, REJECT, bounce__example__org=SPF), {
        "envelope_domain": "bounce.example.org", "signing_keys": ()}, ("pass", "none", "pass", "reject", "pass")),
    ("subdomain, strict", zones(None, None, {"TXT": ["v=DMARC1; p=reject; aspf=s"]}, bounce__example__org=SPF), {
        "envelope_domain": "bounce.example.org", "signing_keys": ()}, ("pass", "none", "fail", "reject", "fail")),
    ("null path, HELO passes", zones(None, None, REJECT, mx__example__org=SPF), {
        "envelope_domain": "", "signing_keys": ()}, ("pass", "none", "pass", "reject", "pass")),
    ("no policy, SPF", zones(SPF), {"signing_keys": ()}, ("pass", "none", "none", "none", "pass")),
    ("no policy, nothing", zones({"TXT": ["x"]}), {"signing_keys": ()}, ("none", "none", "none", "none", "fail")),
    ("no policy, key unknown", zones({"TXT": ["x"]}, SILENT), {}, ("none", "temperror", "none", "none", "unknown")),
    ("key unknown, reject", zones({"TXT": ["x"]}, SILENT, REJECT), {},
     ("none", "temperror", "temperror", "reject", "unknown")),
    ("policy unknown, aligned", zones(SPF, GOOD_KEY, SILENT), {}, ("pass", "pass", "temperror", "none", "pass")),
    ("smarthost in SPF", zones({"TXT": ["v=spf1 a:smart.example -all"]}, None, REJECT, smart__example={"A": [THERE]}),
     UNSIGNED_VIA, ("pass", "none", "pass", "reject", "pass")),
    ("smarthost not in SPF", zones(SPF, None, REJECT, smart__example={"A": [THERE]}),
     UNSIGNED_VIA, ("unknown", "none", "temperror", "reject", "unknown")),
    ("smarthost, signed", zones(SPF, GOOD_KEY, REJECT, smart__example={"A": [THERE]}),
     {"addresses": (), "via": "smart.example"}, ("unknown", "pass", "pass", "reject", "pass")),
    ("smarthost, no SPF at all", zones(None, None, REJECT, smart__example={"A": [THERE]}),
     UNSIGNED_VIA, ("none", "none", "fail", "reject", "fail")),
    ("smarthost unknown", zones(SPF, None, REJECT, smart__example=SILENT),
     UNSIGNED_VIA, ("unknown", "none", "temperror", "reject", "unknown")),
    ("subdomain under sp=none",
     zones(None, None, {"TXT": ["v=DMARC1; p=reject; sp=none"]}, news__example__org={"A": [HERE]}),
     {"author_domain": "news.example.org", "envelope_domain": "elsewhere.example", "signing_keys": ()},
     ("none", "none", "fail", "none", "fail")),
    ("key of a kind, value not known", zones(None, GOOD_KEY, REJECT),
     {"signing_keys": (ForecastKey("example.org", "s1", Algorithm.ED25519_SHA256),)},
     ("none", "pass", "pass", "reject", "pass")),
    ("key of another kind", zones(None, GOOD_KEY, REJECT), {"signing_keys": (ForecastKey("example.org", "s1"),)},
     ("none", "permerror", "fail", "reject", "fail")),
    ("no author", zones(SPF, GOOD_KEY, REJECT), {"author_domain": "192.0.2.1"},
     ("pass", "pass", "none", "none", "pass")),
]  # fmt: skip


@pytest.mark.parametrize(("table", "given", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_forecast(table: dict[str, Any], given: dict[str, Any], expected: tuple[str, ...]) -> None:
    found = ask(table, **given)
    assert (found.spf, found.dkim, found.dmarc, found.policy, found.verdict) == expected, found.sentence


def test_sentences_name_what_is_missing() -> None:
    found = ask(zones(SPF, None, REJECT), addresses=(THERE,))
    assert found.sentence == (
        "receivers will refuse it, as example.org asks (p=reject): SPF of example.org says fail for 192.0.2.2 (-all);"
        " the DKIM record s1._domainkey.example.org is not published"
    )
    found = ask(zones(SPF, GOOD_KEY, REJECT))
    assert found.sentence == "receivers will find that it is from example.org, by SPF and DKIM"
    found = ask(
        zones(SPF, None, REJECT, smart__example={"A": [THERE]}), addresses=(), via="smart.example", signing_keys=()
    )
    assert "smart.example sends from addresses that are not known here" in found.sentence


def test_public_side_of_a_key_is_a_value() -> None:
    private = Ed25519PrivateKey.generate()
    key = key_of(SigningKey("example.org", "s1", Algorithm.ED25519_SHA256, private))
    assert key == ForecastKey("example.org", "s1", Algorithm.ED25519_SHA256, write_record(private.public_key()))
    question = ForecastQuestion("example.org", "example.org", "mx.example.org", signing_keys=(key,))
    assert len({question: 1, ForecastQuestion("example.org", "example.org", "mx.example.org", (), (key,)): 2}) == 1
