"""What follows from the checks, row by row. Each row is one message that arrives at an `mx` door."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from staffetta.dns.blocklist import Listing
from staffetta.dns.hello import HelloWord
from staffetta.dns.reverse import Reverse
from staffetta.mail.domain import Domain
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
from staffetta.policy.authentication import (
    AuthenticationFacts,
    AuthenticationSettings,
    Disposition,
    Judgement,
    Mode,
    judge_authentication,
    known_forwarder,
)

DEFAULT = AuthenticationSettings()
FORWARDERS = frozenset({Domain("list.example"), Domain("alumni.example")})
WITH_FORWARDERS = AuthenticationSettings(forwarders=FORWARDERS)
ALL = AuthenticationSettings(Mode.ENFORCE, Mode.ENFORCE, Mode.ENFORCE, Mode.ENFORCE)
ALL_FORWARDED = msgspec.structs.replace(ALL, forwarders=FORWARDERS)
RECORD = AuthenticationSettings(Mode.RECORD, Mode.RECORD, Mode.RECORD, Mode.RECORD)


def dmarc(word: Word, policy: str = "none", *, at: str = "bank.example", **more: object) -> Checks:
    result = DmarcResult(word, "bank.example", at, policy=DmarcPolicy(policy), **more)  # type: ignore[arg-type]
    return Checks(dmarc=result)


def with_(checks: Checks, **more: object) -> Checks:
    return msgspec.structs.replace(checks, **more)


def spf(word: str, domain: str = "bank.example") -> SpfResult:
    return SpfResult(SpfWord(word), domain)


def dkim(*words: str, domain: str = "bank.example", limited: bool = False) -> tuple[DkimResult, ...]:
    return tuple([DkimResult(Word(word), domain, body_limited=limited) for word in words])


def listed(action: str, zone: str = "zen.example", *, hit: bool = True, error: str = "") -> tuple[Listing, ...]:
    return (Listing(zone, "192.0.2.1", hit, ("127.0.0.2",) if hit else (), action, error),)


REJECTED = dmarc(Word.FAIL, "reject")
JUNK = dmarc(Word.FAIL, "quarantine")
HIDDEN = dmarc(Word.TEMPERROR, at="", problem="SERVFAIL")
UNCLEAR = dmarc(Word.PERMERROR, at="", author_problem="several_fields")
VIA_LIST = dkim("pass", domain="list.example")
SEALED = ArcResult(Word.PASS, 2, ("bank.example", "list.example"))

# The checks, the settings; what happens, the beginning of the reply, the rule, and the override for the report.
ROWS: dict[str, tuple[Checks, AuthenticationSettings, str, str, str, str]] = {
    # -- DMARC
    "nothing checked": (Checks(), DEFAULT, "accept", "", "checks", ""),
    "pass": (dmarc(Word.PASS, "reject"), DEFAULT, "accept", "", "checks", ""),
    "no policy": (dmarc(Word.NONE, at=""), DEFAULT, "accept", "", "checks", ""),
    "fail, policy none": (dmarc(Word.FAIL), DEFAULT, "accept", "", "checks", ""),
    "fail, policy quarantine": (JUNK, DEFAULT, "junk", "", "dmarc_quarantine", ""),
    "fail, policy reject": (REJECTED, DEFAULT, "refuse", "550 5.7.1", "dmarc_reject", ""),
    "fail, reject on trial": (
        dmarc(Word.FAIL, "quarantine", testing=True),
        DEFAULT,
        "junk",
        "",
        "dmarc_quarantine",
        "policy_test_mode",
    ),
    "fail, quarantine on trial": (
        dmarc(Word.FAIL, testing=True),
        DEFAULT,
        "accept",
        "",
        "checks",
        "policy_test_mode",
    ),
    "fail, but only recorded": (REJECTED, RECORD, "accept", "", "checks", "local_policy"),
    "junk, but only recorded": (JUNK, RECORD, "accept", "", "checks", "local_policy"),
    # -- the DNS does not say
    "policy hidden": (HIDDEN, DEFAULT, "defer", "451 4.7.0", "dmarc_unknown", ""),
    "policy hidden, but From is proven": (
        dmarc(Word.TEMPERROR, at="", aligned_by=("spf",)),
        DEFAULT,
        "accept",
        "",
        "checks",
        "",
    ),
    "a proof is missing, policy none": (dmarc(Word.TEMPERROR, "none"), DEFAULT, "accept", "", "checks", ""),
    "a proof is missing, policy quarantine": (
        dmarc(Word.TEMPERROR, "quarantine"),
        DEFAULT,
        "defer",
        "451 4.7.0",
        "dmarc_unknown",
        "",
    ),
    "a proof is missing, policy reject": (
        dmarc(Word.TEMPERROR, "reject"),
        DEFAULT,
        "defer",
        "451 4.7.0",
        "dmarc_unknown",
        "",
    ),
    "policy hidden, only recorded": (HIDDEN, RECORD, "accept", "", "checks", ""),
    # -- an unclear From
    "unclear, no policy": (UNCLEAR, DEFAULT, "junk", "", "author_unclear", ""),
    "unclear, policy none": (
        dmarc(Word.FAIL, "none", author_problem="several_fields"),
        DEFAULT,
        "junk",
        "",
        "author_unclear",
        "",
    ),
    "unclear, policy reject": (
        dmarc(Word.FAIL, "reject", author_problem="several_fields"),
        DEFAULT,
        "refuse",
        "550 5.7.1",
        "dmarc_reject",
        "",
    ),
    "unclear, one of the policies hidden": (
        dmarc(Word.TEMPERROR, author_problem="several_fields"),
        DEFAULT,
        "defer",
        "451 4.7.0",
        "dmarc_unknown",
        "",
    ),
    "unclear, only recorded": (UNCLEAR, RECORD, "accept", "", "checks", ""),
    "an old character set in a name": (
        dmarc(Word.PERMERROR, at="", author_problem="not_utf8"),
        DEFAULT,
        "accept",
        "",
        "checks",
        "",
    ),
    # -- known forwarders
    "forwarder by SPF": (
        with_(REJECTED, spf=spf("pass", "bounce.list.example")),
        WITH_FORWARDERS,
        "accept",
        "",
        "known_forwarder",
        "trusted_forwarder",
    ),
    "forwarder by HELO": (
        with_(REJECTED, spf=spf("fail"), helo=spf("pass", "mx.alumni.example")),
        WITH_FORWARDERS,
        "accept",
        "",
        "known_forwarder",
        "trusted_forwarder",
    ),
    "forwarder by DKIM": (
        with_(REJECTED, dkim=VIA_LIST),
        WITH_FORWARDERS,
        "accept",
        "",
        "known_forwarder",
        "trusted_forwarder",
    ),
    "forwarder by ARC": (
        with_(REJECTED, arc=SEALED),
        WITH_FORWARDERS,
        "accept",
        "",
        "known_forwarder",
        "trusted_forwarder",
    ),
    "forwarded junk": (
        with_(JUNK, dkim=VIA_LIST),
        WITH_FORWARDERS,
        "accept",
        "",
        "known_forwarder",
        "trusted_forwarder",
    ),
    "forwarded, policy hidden": (with_(HIDDEN, dkim=VIA_LIST), WITH_FORWARDERS, "accept", "", "known_forwarder", ""),
    "forwarded and good": (with_(dmarc(Word.PASS), dkim=VIA_LIST), WITH_FORWARDERS, "accept", "", "checks", ""),
    "not in the list": (with_(REJECTED, dkim=VIA_LIST), DEFAULT, "refuse", "550 5.7.1", "dmarc_reject", ""),
    "not proven": (
        with_(REJECTED, dkim=dkim("fail", domain="list.example"), spf=spf("softfail", "list.example")),
        WITH_FORWARDERS,
        "refuse",
        "550 5.7.1",
        "dmarc_reject",
        "",
    ),
    "proven for a part of the body": (
        with_(REJECTED, dkim=dkim("pass", domain="list.example", limited=True)),
        WITH_FORWARDERS,
        "refuse",
        "550 5.7.1",
        "dmarc_reject",
        "",
    ),
    "a name that only looks like it": (
        with_(REJECTED, dkim=dkim("pass", domain="evillist.example")),
        WITH_FORWARDERS,
        "refuse",
        "550 5.7.1",
        "dmarc_reject",
        "",
    ),
    "an older seal": (
        with_(REJECTED, arc=ArcResult(Word.PASS, 2, ("list.example", "evil.example"))),
        WITH_FORWARDERS,
        "refuse",
        "550 5.7.1",
        "dmarc_reject",
        "",
    ),
    "a broken chain": (
        with_(REJECTED, arc=ArcResult(Word.FAIL, 2, ("bank.example", "list.example"))),
        WITH_FORWARDERS,
        "refuse",
        "550 5.7.1",
        "dmarc_reject",
        "",
    ),
    "a seal, with ARC off": (
        with_(REJECTED, arc=SEALED),
        msgspec.structs.replace(WITH_FORWARDERS, arc=Mode.OFF),
        "refuse",
        "550 5.7.1",
        "dmarc_reject",
        "",
    ),
    "nobody vouches for an unclear From": (
        with_(dmarc(Word.FAIL, "reject", author_problem="several_fields"), dkim=VIA_LIST, arc=SEALED),
        WITH_FORWARDERS,
        "refuse",
        "550 5.7.1",
        "dmarc_reject",
        "",
    ),
    "a seal alone is no trust": (with_(REJECTED, arc=SEALED), DEFAULT, "refuse", "550 5.7.1", "dmarc_reject", ""),
    # -- SPF and DKIM, enforced
    "SPF fail": (Checks(spf=spf("fail")), ALL, "refuse", "550 5.7.23", "spf_fail", ""),
    "SPF softfail": (Checks(spf=spf("softfail")), ALL, "accept", "", "checks", ""),
    "SPF permerror": (Checks(spf=spf("permerror")), ALL, "accept", "", "checks", ""),
    "SPF temperror": (Checks(spf=spf("temperror")), ALL, "defer", "451 4.7.24", "spf_unknown", ""),
    "SPF fail, recorded": (Checks(spf=spf("fail")), DEFAULT, "accept", "", "checks", ""),
    "HELO fail alone": (Checks(spf=spf("none"), helo=spf("fail")), ALL, "accept", "", "checks", ""),
    "SPF fail of a forwarder": (
        Checks(spf=spf("fail"), dkim=VIA_LIST),
        ALL_FORWARDED,
        "accept",
        "",
        "known_forwarder",
        "",
    ),
    "unsigned": (Checks(dkim=()), ALL, "refuse", "550 5.7.20", "dkim_none", ""),
    "a broken signature": (Checks(dkim=dkim("fail", "permerror")), ALL, "refuse", "550 5.7.20", "dkim_none", ""),
    "a signature over a part": (Checks(dkim=dkim("pass", limited=True)), ALL, "refuse", "550 5.7.20", "dkim_none", ""),
    "one good signature": (Checks(dkim=dkim("fail", "pass")), ALL, "accept", "", "checks", ""),
    "a key that did not come": (Checks(dkim=dkim("fail", "temperror")), ALL, "defer", "451 4.7.20", "dkim_unknown", ""),
    "unsigned, recorded": (Checks(dkim=()), DEFAULT, "accept", "", "checks", ""),
    "a broken chain of ARC": (Checks(arc=ArcResult(Word.FAIL)), ALL, "accept", "", "checks", ""),
    # -- lists
    "listed, reject": (Checks(listings=listed("reject")), DEFAULT, "refuse", "554 5.7.1", "blocklist", ""),
    "listed, junk": (Checks(listings=listed("junk")), DEFAULT, "junk", "", "blocklist", ""),
    "listed, record": (Checks(listings=listed("record")), DEFAULT, "accept", "", "checks", ""),
    "not listed": (Checks(listings=listed("reject", hit=False)), DEFAULT, "accept", "", "checks", ""),
    "a list out of order": (
        Checks(listings=listed("reject", hit=False, error="switched off")),
        DEFAULT,
        "accept",
        "",
        "checks",
        "",
    ),
    "a listed forwarder": (
        Checks(dkim=VIA_LIST, listings=listed("reject")),
        WITH_FORWARDERS,
        "refuse",
        "554 5.7.1",
        "blocklist",
        "",
    ),
    # -- the order
    "listed before DMARC": (with_(REJECTED, listings=listed("reject")), ALL, "refuse", "554 5.7.1", "blocklist", ""),
    "DMARC before SPF": (with_(REJECTED, spf=spf("fail")), ALL, "refuse", "550 5.7.1", "dmarc_reject", ""),
    "SPF before DKIM": (Checks(spf=spf("fail"), dkim=()), ALL, "refuse", "550 5.7.23", "spf_fail", ""),
    "refused before put off": (with_(HIDDEN, spf=spf("fail")), ALL, "refuse", "550 5.7.23", "spf_fail", ""),
    "put off before junk": (with_(HIDDEN, listings=listed("junk")), ALL, "defer", "451 4.7.0", "dmarc_unknown", ""),
    "refused before junk": (with_(JUNK, dkim=()), ALL, "refuse", "550 5.7.20", "dkim_none", ""),
    "junk by the list before junk by DMARC": (
        with_(JUNK, listings=listed("junk")),
        DEFAULT,
        "junk",
        "",
        "blocklist",
        "",
    ),
    "a second list": (
        Checks(listings=(*listed("junk", "a.example"), *listed("reject", "b.example"))),
        DEFAULT,
        "refuse",
        "554 5.7.1",
        "blocklist",
        "",
    ),
}


@pytest.mark.parametrize(
    ("checks", "settings", "disposition", "said", "rule", "override"), ROWS.values(), ids=ROWS.keys()
)
def test_rows(
    checks: Checks, settings: AuthenticationSettings, disposition: str, said: str, rule: str, override: str
) -> None:
    verdict = judge_authentication(AuthenticationFacts(checks), settings)
    assert (verdict.disposition, verdict.rule, verdict.override) == (disposition, rule, override), verdict
    assert str(verdict.reply or "").startswith(said)
    assert (verdict.reply is None) is (said == "")
    refusal = verdict.refusal
    assert (refusal is None) is (disposition in {"accept", "junk"})
    if refusal is not None:
        assert refusal.rule == rule
        assert refusal.reason
        assert refusal.reply.is_permanent is (disposition == "refuse")
    assert bool(verdict.reason) is (rule != "checks")


def test_the_reply_names_the_domain_whose_policy_it_is() -> None:
    verdict = judge_authentication(AuthenticationFacts(REJECTED), DEFAULT)
    assert str(verdict.reply) == "550 5.7.1 rejected because of the DMARC policy of bank.example"
    assert "policy of bank.example is reject" in verdict.reason


def test_the_reply_of_a_list_says_which() -> None:
    verdict = judge_authentication(AuthenticationFacts(Checks(listings=listed("reject"))), DEFAULT)
    assert str(verdict.reply) == "554 5.7.1 rejected: 192.0.2.1 is listed by zen.example"


def test_notices_need_no_signature() -> None:
    verdict = judge_authentication(AuthenticationFacts(Checks(dkim=()), null_path=True), ALL)
    assert verdict.disposition is Disposition.ACCEPT


def test_words_for_the_event() -> None:
    checks = Checks(
        helo=spf("none"),
        spf=spf("pass"),
        dkim=dkim("fail", "pass"),
        dmarc=DmarcResult(Word.FAIL, "bank.example", "bank.example", policy=DmarcPolicy.REJECT),
        arc=ArcResult(Word.NONE),
        reverse=Reverse("mx.example", confirmed=True),
        listings=(*listed("record"), *listed("record", "other.example", hit=False)),
    )
    assert judge_authentication(AuthenticationFacts(checks), RECORD).words == {
        "helo": "none",
        "spf": "pass",
        "dkim": "pass",
        "dmarc": "fail",
        "dmarc_policy": "reject",
        "arc": "none",
        "iprev": "pass",
        "blocklist": "zen.example",
    }
    assert judge_authentication(AuthenticationFacts(Checks()), RECORD).words == {}


def test_a_failing_dns_never_refuses_for_good() -> None:
    words = [None, *SpfWord]
    for spf_word, dkim_word, dmarc_word in itertools.product(words, [None, *Word], [None, *Word]):
        if SpfWord.FAIL is spf_word or dmarc_word is Word.FAIL or dkim_word not in {None, Word.PASS, Word.TEMPERROR}:
            continue
        checks = Checks(
            spf=spf(spf_word.value) if spf_word else None,
            dkim=dkim(dkim_word.value) if dkim_word else None,
            dmarc=DmarcResult(dmarc_word, "bank.example", "bank.example", policy=DmarcPolicy.REJECT)
            if dmarc_word
            else None,
        )
        verdict: Judgement = judge_authentication(AuthenticationFacts(checks), ALL)
        assert verdict.disposition is not Disposition.REFUSE


def test_recording_changes_nothing() -> None:
    for checks, *_ in ROWS.values():
        quiet = msgspec.structs.replace(checks, listings=())
        assert judge_authentication(AuthenticationFacts(quiet), RECORD).disposition is Disposition.ACCEPT


def test_the_forwarder_is_named() -> None:
    assert known_forwarder(Checks(dkim=VIA_LIST), WITH_FORWARDERS) == "known forwarder list.example, proven by DKIM"
    assert known_forwarder(Checks(dkim=VIA_LIST), DEFAULT) == ""


def test_the_explanation_of_a_domain_reaches_the_peer_as_its_own_words() -> None:
    result = SpfResult(SpfWord.FAIL, "bank.example", "-all", explanation="see https://bank.example/why" + "!" * 999)
    judgement = judge_authentication(AuthenticationFacts(Checks(spf=result)), ALL)
    assert judgement.reply is not None
    first, second, third = judgement.reply.encode().split(b"\r\n")[:3]
    assert first.startswith(b"550-5.7.23 SPF validation failed")
    assert second == b"550-5.7.23 the domain bank.example explains:"
    assert third.startswith(b"550 5.7.23 see https://bank.example/why!!")
    assert len(third) < 320
    assert "its explanation: see https://bank.example/why!" in judgement.reason
    # Where SPF is recorded only, the event has it.
    recorded = judge_authentication(AuthenticationFacts(Checks(spf=result)), DEFAULT)
    assert recorded.words["spf_explanation"].startswith("see https://bank.example/why!!")
    assert len(recorded.words["spf_explanation"]) == 300


NAMES = AuthenticationSettings(reverse=Mode.ENFORCE, helo=Mode.ENFORCE, forwarders=FORWARDERS)
GOOD_NAME = Reverse("mail.far.example", confirmed=True)


@pytest.mark.parametrize(
    ("reverse", "hello", "expected", "rule"),
    [
        (GOOD_NAME, HelloWord.CONFIRMED, "", "checks"),
        (GOOD_NAME, HelloWord.OTHER, "", "checks"),
        (GOOD_NAME, HelloWord.TEMPERROR, "", "checks"),
        (GOOD_NAME, HelloWord.UNKNOWN, "550 5.7.1", "helo_name"),
        (GOOD_NAME, HelloWord.MALFORMED, "550 5.7.1", "helo_name"),
        (GOOD_NAME, HelloWord.UNQUALIFIED, "550 5.7.1", "helo_name"),
        (GOOD_NAME, HelloWord.OURS, "550 5.7.1", "helo_name"),
        (Reverse("evil.example"), HelloWord.CONFIRMED, "550 5.7.25", "reverse_name"),
        (Reverse(), HelloWord.CONFIRMED, "550 5.7.25", "reverse_name"),
        (Reverse(temporary=True), HelloWord.CONFIRMED, "451 4.7.25", "reverse_unknown"),
        (Reverse(temporary=True), HelloWord.OURS, "550 5.7.1", "helo_name"),
        (None, None, "", "checks"),
    ],
)
def test_the_names_of_a_client(reverse: Reverse | None, hello: HelloWord | None, expected: str, rule: str) -> None:
    # A known forwarder answers for what is in the message, not for the names of its machine.
    for checks in (Checks(reverse=reverse, hello=hello), Checks(spf=VIA, reverse=reverse, hello=hello)):
        judgement = judge_authentication(AuthenticationFacts(checks), NAMES)
        assert (str(judgement.reply or "")[:10].strip(), judgement.rule) == (expected, rule)
        recorded = judge_authentication(AuthenticationFacts(checks), DEFAULT)
        assert (recorded.disposition, recorded.rule) == (Disposition.ACCEPT, "checks")
        assert recorded.words.get("helo_name") == hello


VIA = spf("pass", "list.example")


def test_a_list_that_said_nothing_is_not_taken_for_one_that_lists_nothing() -> None:
    checks = Checks(
        listings=listed("reject", "zen.example", hit=False) + listed("reject", "dead.example", hit=False, error="x")
    )
    words = judge_authentication(AuthenticationFacts(checks), DEFAULT).words
    assert (words["blocklist"], words["blocklist_silent"]) == ("none", "dead.example")
