"""Whatever stands in the DNS, a check ends: with findings that can be shown, and records that could be published."""

from __future__ import annotations

import msgspec
from good_domain import domain, facts_of
from hypothesis import given, settings
from hypothesis import strategies as st

from staffetta.mailauth.dmarc.record import parse_record
from staffetta.mailauth.spf.record import SpfRecord, read_spf_record
from staffetta.policy.posture.facts import PolicyFile
from staffetta.policy.posture.judge import judge

STARTS = st.sampled_from([b"", b"v=spf1 ", b"v=DMARC1; ", b"v=STSv1; id=1", b"v=TLSRPTv1; rua=", b"v=DKIM1; p="])
WORDS = st.sampled_from(
    (
        *(b"p=reject", b"p=none", b"sp=none", b"t=y", b"np=x", b"psd=y", b"rua=mailto:a@b.example", b"ruf=mailto:a@b"),
        *(b"include:good.example", b"redirect=x.example", b"a:%{l}.x", b"ip4:0.0.0.0/1", b"+all", b"?all", b"mx"),
        *(b"; ", b" ", b'"\\'),
    )
)
TEXTS = st.builds(
    lambda start, words, rest: start + b"".join(words) + rest, STARTS, st.lists(WORDS), st.binary(max_size=40)
)
NAMES = (
    "good.example",
    "_dmarc.good.example",
    "_dmarc.example",
    "s1._domainkey.good.example",
    "_mta-sts.good.example",
    "_smtp._tls.good.example",
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(NAMES), TEXTS), max_size=8), st.binary(max_size=100))
def test_every_record_is_judged(records: list[tuple[str, bytes]], file: bytes) -> None:
    table = domain()
    for name, text in records:
        texts = [*table.get(name, {}).get("TXT", []), text.decode("utf-8", "surrogateescape")]
        table[name] = {**table.get(name, {}), "TXT": texts}
    for policy in (PolicyFile("https://x/", file, content_type="\x1b"), PolicyFile("https://x/", problem="\x07")):
        posture = judge(facts_of(table, policy, selectors=("s1",)))
        for finding in posture.findings:
            assert all(text.isprintable() for text in msgspec.structs.astuple(finding)), finding
            _is_publishable(finding.publish)
        assert all(verdict.sentence.isprintable() for verdict in (posture.spoofable, posture.reachable, posture.bulk))


def _is_publishable(line: str) -> None:
    """What we tell people to publish must be right."""
    name, kind, value = line.partition(" IN TXT ")
    if not kind:
        return
    text = "".join(value[1:-1].split('" "')).replace('\\"', '"').replace("\\\\", "\\").encode()
    if name.startswith("_dmarc."):
        record = parse_record(text)
        assert record is not None
        assert not record.is_defective, line
    elif text.startswith(b"v=spf1"):
        assert isinstance(read_spf_record(text), SpfRecord), line
