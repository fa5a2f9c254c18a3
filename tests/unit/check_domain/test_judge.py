"""What follows from what a domain publishes: one change to a domain that does everything right, and its verdicts.

Each row: what is so; what stands in the DNS instead; can others send as it, can it be reached safely, do bulk rules
accept it; and the codes of everything worse than a note.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from good_domain import ADDRESS, KEYS, POLICY, SHORT_KEY, domain, facts_of

from staffetta.control.check_domain_gather import OurKey
from staffetta.dns.resolver import Unavailable
from staffetta.policy.posture.facts import PolicyFile, TlsaFacts
from staffetta.policy.posture.findings import Level, Opinion
from staffetta.policy.posture.judge import judge
from staffetta.tlspolicy.mta_sts import FILE_OCTETS

SILENT = Unavailable("SERVFAIL")
DMARC, SPF, MX = "_dmarc.good.example", "good.example", "mx.good.example"
SHARED_NAME = "spf.protection.outlook.com"
SHARED = {SHARED_NAME: {"TXT": ["v=spf1 ip4:40.92.0.0/15 -all"]}}


def spf(*texts: str, **more: Any) -> dict[str, Any]:
    """Other TXT records of the domain."""
    return {SPF: {"MX": ["10 mx.good.example"], "TXT": list(texts)}, **more}


def dmarc(*texts: str) -> dict[str, Any]:
    return {DMARC: {"TXT": list(texts)} if texts else None}


def mx(*texts: str, **kinds: Any) -> dict[str, Any]:
    return {SPF: {"MX": list(texts), "TXT": [f"v=spf1 ip4:{ADDRESS} -all"], **kinds}}


def key(*texts: str) -> dict[str, Any]:
    return {"s1._domainkey.good.example": {"TXT": list(texts)}}


RUA = "rua=mailto:dmarc@good.example"
MANY = " ".join(f"include:n{n}.good.example" for n in range(11))
NAMES = {f"n{n}.good.example": {"TXT": ["v=spf1 ip4:192.0.2.1 ~all"]} for n in range(11)}

VIA_SHARED = spf(f"v=spf1 include:{SHARED_NAME} -all") | SHARED
NOTHING = (SPF, MX, DMARC, "s1._domainkey.good.example", "_mta-sts.good.example", "_smtp._tls.good.example")

Row = tuple[str, dict[str, Any], str, str]

ROWS: list[Row] = [
    ("everything right", {}, "no yes yes", ""),
    # Can others send as it?
    ("no DMARC record", dmarc(), "yes yes no", "D401"),
    ("a record of something else", dmarc("v=spf1 -all"), "yes yes no", "D401"),
    ("a misspelt version", dmarc("v=DMARC; p=reject"), "yes yes no", "D401"),
    ("two DMARC records", dmarc("v=DMARC1; p=reject", "v=DMARC1; p=none"), "yes yes no", "D402"),
    ("p=none", dmarc(f"v=DMARC1; p=none; {RUA}"), "yes yes yes", "D403"),
    ("p=quarantine", dmarc(f"v=DMARC1; p=quarantine; {RUA}"), "partly yes yes", ""),
    ("t=y weakens reject", dmarc(f"v=DMARC1; p=reject; t=y; {RUA}"), "partly yes yes", "D407"),
    ("t=y undoes quarantine", dmarc(f"v=DMARC1; p=quarantine; t=y; {RUA}"), "yes yes yes", "D403"),
    ("subdomains left open", dmarc(f"v=DMARC1; p=reject; sp=none; {RUA}"), "partly yes yes", "D405"),
    ("invented subdomains left open", dmarc(f"v=DMARC1; p=reject; np=none; {RUA}"), "partly yes yes", "D405"),
    ("invented subdomains closed", dmarc(f"v=DMARC1; p=reject; sp=none; np=reject; {RUA}"), "partly yes yes", "D405"),
    ("subdomains quarantined", dmarc(f"v=DMARC1; p=reject; sp=quarantine; {RUA}"), "partly yes yes", "D405"),
    ("a wrong policy with reports", dmarc(f"v=DMARC1; p=rejct; {RUA}"), "yes yes yes", "D408"),
    ("a wrong policy without reports", dmarc("v=DMARC1; p=rejct"), "yes yes no", "D408"),
    ("a wrong sp", dmarc(f"v=DMARC1; p=reject; sp=refuse; {RUA}"), "yes yes yes", "D408"),
    ("old pct changes nothing", dmarc(f"v=DMARC1; p=reject; pct=10; {RUA}"), "no yes yes", ""),
    ("no reports asked for", dmarc("v=DMARC1; p=reject"), "no yes yes", ""),
    ("reports over the web", dmarc("v=DMARC1; p=reject; rua=https://r.example/"), "no yes yes", "D415"),
    ("reports to a stranger", dmarc("v=DMARC1; p=reject; rua=mailto:a@r.example"), "no yes yes", "D411"),
    ("reports to a stranger who agrees", dmarc("v=DMARC1; p=reject; rua=mailto:a@r.example") | {
        "good.example._report._dmarc.r.example": {"TXT": ["v=DMARC1;"]}}, "no yes yes", ""),
    ("reports to a subdomain", dmarc("v=DMARC1; p=reject; rua=mailto:a@r.good.example"), "no yes yes", ""),
    ("shared sender and p=none", VIA_SHARED | dmarc(f"v=DMARC1; p=none; {RUA}"),
     "yes yes yes", "D215 D403"),
    ("shared sender and no DMARC", VIA_SHARED | dmarc(), "yes yes no", "D215 D401"),
    ("shared sender and p=reject", VIA_SHARED, "no yes yes", ""),
    ("shared sender, neutral", spf(f"v=spf1 ?include:{SHARED_NAME} -all") | SHARED | dmarc(f"v=DMARC1; p=none; {RUA}"),
     "yes yes yes", "D403"),
    ("everybody passes SPF", spf("v=spf1 +all"), "yes yes partly", "D206"),
    ("both halves of the world", spf("v=spf1 ip4:0.0.0.0/1 ip4:128.0.0.0/1 -all"), "yes yes partly", "D206"),
    ("the DNS does not say", {DMARC: SILENT}, "? yes ?", "D001"),
    # SPF
    ("no SPF record", spf("google-site-verification=x"), "no yes no", "D201"),
    ("two SPF records", spf("v=spf1 -all", "v=spf1 mx -all"), "no yes no", "D202"),
    ("a typing error in SPF", spf("v=spf1 ipv4:11.22.33.44 -all"), "no yes no", "D203"),
    ("eleven lookups", spf(f"v=spf1 {MANY} -all") | NAMES, "no yes no", "D204"),
    ("three terms find nothing", spf("v=spf1 a:x1.good.example a:x2.good.example a:x3.good.example -all"),
     "no yes no", "D205 D212 D212 D212"),
    ("one term finds nothing", spf(f"v=spf1 ip4:{ADDRESS} a:old.good.example -all"), "no yes yes", "D212"),
    ("an include without a record", spf("v=spf1 include:nobody.example -all"), "no yes no", "D211"),
    ("an include of itself", spf("v=spf1 include:good.example -all"), "no yes no", "D211"),
    ("ptr", spf(f"v=spf1 ip4:{ADDRESS} ptr -all"), "no yes yes", "D210"),
    ("soft-fail is an opinion", spf(f"v=spf1 ip4:{ADDRESS} ~all"), "no yes yes", ""),
    ("?all beside p=reject", spf(f"v=spf1 ip4:{ADDRESS} ?all"), "no yes yes", ""),
    ("?all beside p=none", spf(f"v=spf1 ip4:{ADDRESS} ?all") | dmarc(f"v=DMARC1; p=none; {RUA}"),
     "yes yes yes", "D207 D403"),
    ("no all beside p=none", spf(f"v=spf1 ip4:{ADDRESS}") | dmarc(f"v=DMARC1; p=none; {RUA}"),
     "yes yes yes", "D209 D403"),
    ("a term behind all", spf(f"v=spf1 ip4:{ADDRESS} -all mx"), "no yes yes", ""),
    ("too big a record", spf("v=spf1 " + " ".join(f"ip4:11.22.33.{n}" for n in range(40)) + " -all"),
     "no yes yes", "D214"),
    ("SPF cannot be followed", spf("v=spf1 include:dead.example -all") | {"dead.example": SILENT},
     "no yes yes", "D218"),
    ("it sends nothing", {SPF: {"MX": ["0 ."], "TXT": ["v=spf1 -all"]}, "s1._domainkey.good.example": None},
     "no no no", ""),
    # DKIM
    ("no key is known", {"s1._domainkey.good.example": None}, "no yes partly", ""),
    ("a wildcard TXT is no key", {"s1._domainkey.good.example": None, "*.good.example": {"TXT": ["v=spf1 -all"]}},
     "no yes partly", ""),
    ("a key of 1024 bits", key(KEYS[1024]), "no yes yes", "D304"),
    ("a key of 512 bits", key(SHORT_KEY), "partly yes partly", "D303"),
    ("a revoked key", key("v=DKIM1; p="), "no yes partly", ""),
    ("a key in test mode", key(KEYS[2048] + "; t=y"), "no yes yes", "D306"),
    ("a key that is nonsense", key("v=DKIM1; p=AAAA"), "no yes partly", "D307"),
    ("two keys under one selector", key(KEYS[2048], KEYS[1024]), "no yes partly", "D310"),
    ("only Ed25519", key(KEYS[25519]), "no yes yes", ""),
    # Where mail goes
    ("no MX, no address", {SPF: {"TXT": [f"v=spf1 ip4:{ADDRESS} -all"]}}, "no no partly", "D101"),
    ("the domain does not exist", dict.fromkeys(NOTHING) | {
        "_dmarc.example": {"TXT": ["v=DMARC1; p=reject; psd=y; rua=mailto:x@example"]}}, "no no no", "D002"),
    ("an invented name below it", dict.fromkeys(NOTHING) | {
        "_dmarc.example": {"TXT": ["v=DMARC1; p=reject; np=none; psd=y; rua=mailto:x@example"]}},
     "yes no no", "D002 D403"),
    ("null MX", mx("0 ."), "no no partly", ""),
    ("null MX beside another", mx("0 .", "10 mx.good.example"), "no yes yes", "D107"),
    ("implicit MX", {SPF: {"A": [ADDRESS], "TXT": [f"v=spf1 ip4:{ADDRESS} -all"]}}, "no partly yes", "D505"),
    ("an address as MX", mx("10 11.22.33.44"), "no no partly", "D108"),
    ("the MX host has no address", {MX: {}}, "no no yes", "D104"),
    ("one of two has no address", mx("10 mx.good.example", "20 gone.good.example"), "no partly yes", "D104 D505"),
    ("the MX host is an alias", {MX: {"CNAME": ["real.good.example"]}, "real.good.example": {"A": [ADDRESS]}},
     "no yes yes", "D105"),
    ("the MX host is inside", {MX: {"A": ["10.0.0.1"]}}, "no no yes", "D106"),
    ("the MX host is also inside", {MX: {"A": ["10.0.0.1", ADDRESS]}}, "no yes yes", "D106"),
    ("the MX host is a secret", {MX: SILENT}, "no ? yes", "D112"),
    ("MX is not known", {SPF: SILENT}, "no ? ?", "D001 D218"),
    ("no reverse name", {"44.33.22.11.in-addr.arpa": None}, "no yes partly", "D110"),
    ("a reverse name of somebody else", {"44.33.22.11.in-addr.arpa": {"PTR": ["a.b.example"]}},
     "no yes partly", "D111"),
    ("no reverse name, but does not send", {"44.33.22.11.in-addr.arpa": None} | spf("v=spf1 ip4:11.22.33.45 -all"),
     "no yes yes", ""),
    # How safe the way is
    ("no MTA-STS", {"_mta-sts.good.example": None}, "no partly yes", ""),
    ("two MTA-STS records", {"_mta-sts.good.example": {"TXT": ["v=STSv1; id=1", "v=STSv1; id=2"]}},
     "no partly yes", "D502"),
    ("an MTA-STS record without id", {"_mta-sts.good.example": {"TXT": ["v=STSv1;"]}}, "no partly yes", "D502"),
    ("no TLS-RPT", {"_smtp._tls.good.example": None}, "no yes yes", ""),
    ("a bad TLS-RPT", {"_smtp._tls.good.example": {"TXT": ["v=TLSRPTv1; ruf=x"]}}, "no yes yes", "D511"),
    ("TLSA without DNSSEC", {"_25._tcp.mx.good.example": {"TLSA": ["3 1 1 " + "ab" * 32]}}, "no yes yes", ""),
    ("TLSA of a wrong length", {"_25._tcp.mx.good.example": {"TLSA": ["3 1 1 abcd"]}}, "no yes yes", "D522"),
    ("TLSA of the web kind", {"_25._tcp.mx.good.example": {"TLSA": ["1 1 1 " + "ab" * 32]}}, "no yes yes", "D522"),
    ("TLSA is not answered", {"_25._tcp.mx.good.example": SILENT}, "no yes yes", "D525"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "words", "codes"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_posture(changes: dict[str, Any], words: str, codes: str) -> None:
    posture = judge(facts_of(domain(changes)))
    verdicts = (posture.spoofable, posture.reachable, posture.bulk)
    worse = [finding.code for finding in posture.findings if finding.level is not Level.NOTE]
    said = " ".join("?" if verdict.opinion is None else verdict.opinion.value for verdict in verdicts)
    assert (said, " ".join(sorted(worse))) == (words, codes), posture
    assert all(verdict.sentence for verdict in verdicts)
    for finding in posture.findings:
        assert finding.record, finding
        assert finding.evidence, finding
        assert finding.advice, finding


FILES: list[tuple[str, PolicyFile | str, str, str]] = [
    ("testing", POLICY.replace("enforce", "testing"), "partly", ""),
    ("switched off", "version: STSv1\nmode: none\nmax_age: 86400\n", "partly", ""),
    ("other host", POLICY.replace("mx: mx.", "mx: smtp."), "partly", "D505"),
    ("other host, testing", POLICY.replace("mx: mx.", "mx: smtp.").replace("enforce", "testing"), "partly", "D505"),
    ("wildcard", POLICY.replace("mx: mx.", "mx: *."), "yes", ""),
    ("wildcard one too high", POLICY.replace("mx: mx.good.", "mx: *."), "partly", "D505"),
    ("short life", POLICY.replace("604800", "300"), "yes", "D507"),
    ("too long a life", POLICY.replace("604800", "31557601"), "partly", "D504"),
    ("no version", POLICY.replace("version: STSv1\r\n", ""), "partly", "D504"),
    ("no mx", "version: STSv1\nmode: enforce\nmax_age: 86400\n", "partly", "D504"),
    ("a page", "<html>404</html>", "partly", "D504"),
    ("too big", POLICY + "x" * FILE_OCTETS, "partly", "D504"),
    ("not there", PolicyFile("https://mta-sts.good.example/", problem="status 404"), "partly", "D503"),
    ("as a web page", PolicyFile("https://mta-sts.good.example/", POLICY.encode(), "", "text/html"), "yes", "D509"),
]


@pytest.mark.parametrize(("policy", "word", "codes"), [row[1:] for row in FILES], ids=[row[0] for row in FILES])
def test_policy_files(policy: PolicyFile | str, word: str, codes: str) -> None:
    posture = judge(facts_of(domain(), policy))
    worse = [finding.code for finding in posture.findings if finding.level is not Level.NOTE]
    assert (posture.reachable.opinion, " ".join(worse)) == (word, codes), posture.findings


def test_dane_alone_keeps_the_way_safe() -> None:
    table = domain({"_mta-sts.good.example": None, "_25._tcp.mx.good.example": {"TLSA": ["3 1 1 " + "ab" * 32]}})
    assert judge(facts_of(table, authenticated=True)).reachable.opinion is Opinion.YES
    assert judge(facts_of(table, authenticated=False)).reachable.opinion is Opinion.PARTLY


def test_inherited_policy_of_a_subdomain() -> None:
    below = {"news.good.example": {"MX": ["10 mx.good.example"], "TXT": [f"v=spf1 ip4:{ADDRESS} -all"]}}
    for record, word in {
        "v=DMARC1; p=reject": "no",
        "v=DMARC1; p=reject; sp=quarantine": "partly",
        "v=DMARC1; p=reject; sp=none": "yes",
        "v=DMARC1; p=none; sp=reject": "no",
        "v=DMARC1; p=reject; np=none": "partly",
    }.items():
        posture = judge(facts_of(domain(below | dmarc(record)), domain="news.good.example"))
        assert posture.spoofable.opinion == word, record
        assert "D412" in {finding.code for finding in posture.findings}


def test_the_attack_of_2022_is_named_with_its_provider() -> None:
    changes = VIA_SHARED | dmarc(f"v=DMARC1; p=none; {RUA}")
    posture = judge(facts_of(domain(changes)))
    (found,) = [finding for finding in posture.findings if finding.code == "D215"]
    assert found.evidence == f"include:{SHARED_NAME}"
    assert "any customer of Microsoft 365" in found.text
    assert '"v=DMARC1; p=reject;' in found.advice
    assert posture.spoofable.sentence.endswith("from Microsoft 365 it can even pass SPF")


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("v=DMARC1; p=none; rua=mailto:a@good.example", "v=DMARC1; p=reject; rua=mailto:a@good.example"),
        ("v=DMARC1; p=quarantine; aspf=s", "v=DMARC1; p=reject; aspf=s"),
        ("v=DMARC1; p=reject; sp=none; adkim=s", "v=DMARC1; p=reject; adkim=s"),
        (
            "v=DMARC1; p=reject; sp=refuse; rua=mailto:a@b.good.example",
            "v=DMARC1; p=reject; rua=mailto:a@b.good.example",
        ),
        ("v=DMARC1; p=rejct; rua=mailto:a@good.example", "v=DMARC1; p=none; rua=mailto:a@good.example"),
    ],
)
def test_record_to_publish_keeps_what_was_there(record: str, expected: str) -> None:
    findings = judge(facts_of(domain(dmarc(record)))).findings
    first = next(finding for finding in findings if finding.publish.startswith(DMARC))
    assert first.publish == f'{DMARC}. IN TXT "{expected}"'
    assert first.publish in first.advice


def test_text_from_outside_is_escaped() -> None:
    evil = "v=DMARC1; p=none; x=\x1b[31m\u202e"
    posture = judge(facts_of(domain(dmarc(evil)) | {"_smtp._tls.good.example": {"TXT": ["v=TLSRPTv1;\x07"]}}))
    for finding in posture.findings:
        assert (finding.evidence + finding.text + finding.advice + finding.publish).isprintable(), finding
    assert any("\\x1b[31m\\u202e" in finding.evidence for finding in posture.findings)


def test_names_below_belong_to_the_organization() -> None:
    own = {"news.good.example": {"MX": ["0 ."]}, "_dmarc.news.good.example": {"TXT": ["v=DMARC1; p=reject"]}}
    for record, word in {"v=DMARC1; p=none; sp=none": "partly", "v=DMARC1; p=reject": "no"}.items():
        posture = judge(facts_of(domain(own | dmarc(record)), domain="news.good.example"))
        assert posture.spoofable.opinion == word, record


def test_dane_counts_only_where_the_resolver_vouches_for_it() -> None:
    table = domain({"_mta-sts.good.example": None, "_25._tcp.mx.good.example": {"TLSA": ["3 1 1 " + "ab" * 32]}})
    facts = facts_of(table, authenticated=True)
    assert "D520" in {finding.code for finding in judge(facts).findings}
    (host,) = facts.mx.hosts
    doubtful = msgspec.structs.replace(host, tlsa=msgspec.structs.replace(host.tlsa, authenticated=False))
    posture = judge(msgspec.structs.replace(facts, mx=msgspec.structs.replace(facts.mx, hosts=(doubtful,))))
    assert posture.reachable.opinion is Opinion.PARTLY
    assert "D521" in {finding.code for finding in posture.findings}
    bare = msgspec.structs.replace(host, host="mx2.good.example", tlsa=TlsaFacts("_25._tcp.mx2.good.example"))
    posture = judge(msgspec.structs.replace(facts, mx=msgspec.structs.replace(facts.mx, hosts=(host, bare))))
    assert posture.reachable.opinion is Opinion.PARTLY
    assert "D524" in {finding.code for finding in posture.findings}


@pytest.mark.parametrize(
    ("published", "signs", "codes", "word"),
    [
        ((KEYS[2048],), True, "D216 D300 D400", "yes"),
        ((KEYS[25519],), True, "D302 D309", "no"),
        ((), True, "D302", "no"),
        (("v=DKIM1; p=",), True, "D302", "no"),
        ((KEYS[2048] + "; t=y",), True, "D306", "yes"),
        ((KEYS[2048], KEYS[1024]), True, "D302", "no"),
        ((), False, "D311", "partly"),
        ((KEYS[2048],), False, "D216 D300 D400", "yes"),
    ],
)
def test_keys_of_this_relay(published: tuple[str, ...], signs: bool, codes: str, word: str) -> None:
    table = domain({"s1._domainkey.good.example": {"TXT": list(published)} if published else None})
    facts = facts_of(table, keys=(OurKey("s1", KEYS[2048], signs),), local=True)
    posture = judge(facts)
    found = {finding.code: finding for finding in posture.findings}
    assert set(codes.split(" ")) <= set(found)
    assert not {"D302", "D306", "D309", "D311"} & set(found) - set(codes.split(" "))
    assert posture.bulk.opinion == word
    for code in {"D302", "D306", "D311"} & set(found):
        assert found[code].publish.startswith('s1._domainkey.good.example. IN TXT "v=DKIM1; k=rsa; p=')


def test_keys_that_cannot_be_read_are_told() -> None:
    posture = judge(facts_of(domain(), keys_problem="/keys cannot be used: Permission denied"))
    assert "D312" in {finding.code for finding in posture.findings}
