"""The results as they stand in Authentication-Results, and what is kept of a message for aggregate reports."""

from __future__ import annotations

import msgspec

from staffetta.dns.blocklist import Listing
from staffetta.dns.hello import HelloWord
from staffetta.dns.reverse import Reverse
from staffetta.mailauth.ar import Peer, method_results, remarks, reverse_word
from staffetta.mailauth.dmarc.aggregate import DkimRow, DmarcRecord, Handling, dmarc_record
from staffetta.mailauth.results import (
    ArcResult,
    Checks,
    DkimResult,
    DmarcPolicy,
    DmarcResult,
    SpfResult,
    SpfWord,
    Word,
)
from staffetta.message.auth_results import authentication_results, claimed_id
from staffetta.message.header import Header

PUBLISHED = (("p", "reject"), ("adkim", "r"), ("aspf", "r"), ("rua", "mailto:d@bank.example"))
CHECKS = Checks(
    helo=SpfResult(SpfWord.NONE, "mx.evil.example"),
    spf=SpfResult(SpfWord.PASS, "evil.example", "ip4:192.0.2.0/24"),
    dkim=(
        DkimResult(Word.FAIL, "bank.example", "s1", "@bank.example", "rsa-sha256", "AbCd/+==", "body hash differs"),
        DkimResult(Word.PASS, "evil.example", "s\r\nX: y", "@evil.example", "ed25519-sha256", "Zz", body_limited=True),
    ),
    dmarc=DmarcResult(Word.FAIL, "bank.example", "bank.example", policy=DmarcPolicy.REJECT, published=PUBLISHED),
    arc=ArcResult(Word.PASS, 1, ("list.example",)),
    reverse=Reverse("mx.evil.example", confirmed=True),
)
PEER = Peer("192.0.2.7", "mx.evil.example", "a@evil.example")


def field(checks: Checks, peer: Peer = PEER) -> str:
    return authentication_results("mx.home.example", method_results(checks, peer)).decode()


def test_the_field() -> None:
    assert field(CHECKS) == (
        "Authentication-Results: mx.home.example;\r\n"
        "\tdmarc=fail header.from=bank.example policy.dmarc=reject;\r\n"
        "\tspf=pass smtp.mailfrom=a@evil.example;\r\n"
        "\tspf=none smtp.helo=mx.evil.example;\r\n"
        '\tdkim=fail reason="body hash differs" header.d=bank.example header.s=s1\r\n'
        '\t header.i=@bank.example header.a=rsa-sha256 header.b="AbCd/+==";\r\n'
        '\tdkim=pass reason="the signature does not cover the whole body"\r\n'
        '\t header.d=evil.example header.s="s??X: y" header.i=@evil.example\r\n'
        "\t header.a=ed25519-sha256 header.b=Zz;\r\n"
        '\tarc=pass reason="i=1, sealed by list.example" smtp.remote-ip=192.0.2.7;\r\n'
        '\tiprev=pass reason="mx.evil.example" policy.iprev=192.0.2.7\r\n'
    )


def test_nothing_checked_is_none() -> None:
    assert field(Checks()) == "Authentication-Results: mx.home.example; none\r\n"
    assert field(Checks(dkim=())) == "Authentication-Results: mx.home.example;\r\n\tdkim=none\r\n"


def test_the_null_path_is_judged_by_helo_once() -> None:
    helo = SpfResult(SpfWord.PASS, "mx.evil.example")
    text = field(Checks(spf=helo, helo=helo), Peer("192.0.2.7", "mx.evil.example", ""))
    assert text.count("spf=") == 1
    assert "smtp.helo=mx.evil.example" in text


def test_reverse_names() -> None:
    words = {
        Word.PASS: Reverse("a.example", confirmed=True),
        Word.FAIL: Reverse("a.example"),
        Word.PERMERROR: Reverse(),
        Word.TEMPERROR: Reverse(temporary=True),
    }
    for word, reverse in words.items():
        assert reverse_word(Checks(reverse=reverse)) is word
    assert reverse_word(Checks()) is Word.NONE


def test_a_record_for_reports() -> None:
    record = dmarc_record("192.0.2.7", "evil.example", CHECKS, Handling(refused=True))
    assert record == DmarcRecord(
        source="192.0.2.7",
        policy_domain="bank.example",
        header_from="bank.example",
        disposition="reject",
        published=PUBLISHED,
        envelope_from="evil.example",
        signatures=(DkimRow("bank.example", "s1", "fail"), DkimRow("evil.example", "s\r\nX: y", "pass")),
        spf_domain="evil.example",
        spf_result="pass",
    )
    assert record is not None
    assert record.wants_reports
    encoded = msgspec.json.encode(record)
    assert msgspec.json.decode(encoded, type=DmarcRecord) == record
    assert len(encoded) < 450
    assert {record, dmarc_record("192.0.2.7", "evil.example", CHECKS, Handling(refused=True))} == {record}


def test_dispositions() -> None:
    def disposition(checks: Checks, handling: Handling) -> str:
        record = dmarc_record("192.0.2.7", "", checks, handling)
        assert record is not None
        return record.disposition

    passed = Checks(dmarc=DmarcResult(Word.PASS, "bank.example", "bank.example", aligned_by=("dkim",)))
    assert disposition(passed, Handling()) == "pass"
    assert disposition(CHECKS, Handling()) == "none"
    assert disposition(CHECKS, Handling(junked=True)) == "quarantine"
    assert disposition(CHECKS, Handling(refused=True)) == "reject"
    # A block list's verdict, or the junk folder's for another reason, is not the policy's.
    watched = Checks(dmarc=DmarcResult(Word.FAIL, "bank.example", "bank.example"))
    for handling in (Handling(refused=True), Handling(junked=True)):
        assert disposition(passed, handling) == "pass"
        assert disposition(watched, handling) == "none"
    kept = dmarc_record("192.0.2.7", "", CHECKS, Handling(override="trusted_forwarder", comment="list.example"))
    assert kept is not None
    assert (kept.override, kept.comment, kept.disposition) == ("trusted_forwarder", "list.example", "none")


def test_no_record_where_no_policy_applied_or_nobody_knows_whose() -> None:
    for result in (
        None,
        DmarcResult(Word.NONE, "bank.example"),
        DmarcResult(Word.TEMPERROR, "bank.example"),
        DmarcResult(Word.PERMERROR, "bank.example"),
        DmarcResult(Word.FAIL, "bank.example", "bank.example", author_problem="several_fields"),
    ):
        assert dmarc_record("192.0.2.7", "", Checks(dmarc=result), Handling()) is None


def test_what_has_no_method_stands_in_a_comment_that_nobody_breaks_out_of() -> None:
    listings = (
        Listing("zen.example", "192.0.2.7", listed=True, codes=("127.0.0.2", "127.0.0.4")),
        Listing("dbl.example", "evil.example"),
        Listing("dead.example", "192.0.2.7", error="no answer within 2 s"),
        Listing("x)(\\\r\n.example", "a)\r\nX: y", listed=True, codes=("127.0.0.2",)),
    )
    checks = Checks(hello=HelloWord.OTHER, listings=listings)
    text = authentication_results("mx.home.example", (), remarks(checks)).decode()
    assert text == (
        "Authentication-Results: mx.home.example; none\r\n"
        "\t(HELO name other;\r\n"
        "\t 192.0.2.7 listed by zen.example: 127.0.0.2, 127.0.0.4;\r\n"
        "\t a???X: y listed by x?????.example: 127.0.0.2;\r\n"
        "\t not listed by dbl.example;\r\n"
        "\t no answer that counts from dead.example)\r\n"
    )
    assert claimed_id(Header(text.encode()).fields[0]) == "mx.home.example"
    assert remarks(Checks()) == ()
