"""Who hears what: RFC 3461 sections 4.1 and 5.2, RFC 5321 section 6.1."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from staffetta.delivery.bounce import NO_REPLY, NOTHING, Author, Notices, Notifier, last_reply
from staffetta.delivery.courier import Report, Try
from staffetta.delivery.settle import Moment, settle
from staffetta.mail.envelope import Notify, Return
from staffetta.mail.identity import IdentitySource
from staffetta.mail.outcome import Outcome, Result
from staffetta.policy.retry import RetrySettings
from staffetta.spool.contract import Claim, SpoolUnavailable
from staffetta.testing.office import FailingSpool, outcome
from staffetta.testing.spooled import START, Letter, new_message

OK, LATER, NO = outcome(Result.DELIVERED), outcome(Result.DEFERRED), outcome(Result.FAILED)
N = Notify
BODY = b"Subject: hello\r\nMessage-ID: <1@example.org>\r\n\r\nsecret words\r\n"


def notifier(spool: FailingSpool, targets: Any = None) -> Notifier:
    found = targets or (lambda to: [(to, f"mx:{to.domain}")])
    return Notifier(spool, "relay.example", IdentitySource(lambda count: b"r" * count), found, RetrySettings())


def claim(notify: tuple[Notify, ...] = (), *, count: int = 1, sender: str = "anna@example.org", **more: Any) -> Claim:
    letter = Letter("one", [f"r{number}@example.net" for number in range(count)], sender, BODY)
    new = new_message(letter)
    recipients = tuple(msgspec.structs.replace(one, notify=notify) for one in new.recipients)
    path = msgspec.structs.replace(new.message.sender, **more)
    return Claim(msgspec.structs.replace(new.message, sender=path), recipients, new.head + BODY)


def after(one: Claim, *outcomes: Outcome, dsn: bool = False, targets: Any = None) -> Notices:
    all_of_them = outcomes if len(outcomes) > 1 else outcomes * len(one.recipients)
    report = Report((Try(all_of_them, "mx.example.net", dsn=dsn),))
    settlement = settle(one, report, Moment(START + 60, lambda: 0.5), RetrySettings(), 0)
    return asyncio.run(notifier(FailingSpool(lambda: START), targets).after(one, settlement, report, START + 60))


def kinds(notices: Notices) -> list[str]:
    return [str(getattr(event, "kind", "")) for event in notices.events]


@pytest.mark.parametrize(
    ("notify", "result", "dsn", "expected"),
    [
        ((), NO, False, ["failed"]),
        ((), OK, False, []),
        ((), LATER, False, []),
        ((N.FAILURE,), NO, False, ["failed"]),
        ((N.FAILURE,), NO, True, ["failed"]),
        ((N.SUCCESS,), NO, False, []),
        ((N.SUCCESS,), OK, False, ["delivered"]),
        ((N.SUCCESS,), OK, True, []),
        ((N.SUCCESS, N.FAILURE), NO, False, ["failed"]),
        ((N.FAILURE, N.DELAY), OK, False, []),
        ((N.NEVER,), NO, False, []),
        ((N.NEVER,), OK, False, []),
        ((N.DELAY,), NO, False, []),
    ],
)
def test_who_wants_to_hear(notify: tuple[Notify, ...], result: Outcome, dsn: bool, expected: list[str]) -> None:
    assert kinds(after(claim(notify), result, dsn=dsn)) == expected


@pytest.mark.parametrize("result", [NO, OK])
def test_the_null_path_hears_nothing(result: Outcome) -> None:
    assert after(claim((N.SUCCESS, N.FAILURE), sender=""), result) == NOTHING


def test_nobody_hears_for_a_local_sender_that_does_not_exist() -> None:
    assert after(claim(), NO, targets=lambda _: []) == NOTHING


def test_one_notice_for_all_who_failed_and_one_for_all_who_got_it() -> None:
    notices = after(claim((N.SUCCESS, N.FAILURE), count=5), NO, OK, NO, LATER, OK)
    assert kinds(notices) == ["failed", "delivered"]
    failed, delivered = notices.messages
    for number, message in ((0, failed), (2, failed), (1, delivered), (4, delivered)):
        assert b"r%d@example.net" % number in message.head
    assert b"r1@example.net" not in failed.head
    assert b"r3@example.net" not in failed.head + delivered.head


def test_a_notice_is_a_message_from_the_null_path_to_the_sender() -> None:
    [message] = after(claim(), NO).messages
    assert str(message.message.sender.reverse_path) == ""
    assert [(str(one.address), one.destination, one.next_attempt_at) for one in message.recipients] == [
        ("anna@example.org", "mx:example.org", START + 60)
    ]
    assert message.message.size == len(message.head)
    assert not message.claim
    assert b"\n" not in message.head.replace(b"\r\n", b"")


def test_a_notice_to_an_alias_goes_to_all_it_stands_for() -> None:
    def targets(to: Any) -> Any:
        return [(to, "local:example.org"), (to, "mx:elsewhere.example")]

    [message] = after(claim(), NO, targets=targets).messages
    assert [(one.index, one.destination) for one in message.recipients] == [
        (0, "local:example.org"),
        (1, "mx:elsewhere.example"),
    ]


@pytest.mark.parametrize(("ret", "whole"), [(None, False), (Return.HEADERS, False), (Return.FULL, True)])
def test_how_much_of_the_original_goes_back(ret: Return | None, whole: bool) -> None:
    [message] = after(claim(ret=ret), NO).messages
    assert b"Subject: hello" in message.head
    assert (b"secret words" in message.head) is whole


@pytest.mark.parametrize("broken", [False, True])
def test_the_original_is_read_where_it_is_not_at_hand_and_missed_where_it_cannot_be(broken: bool) -> None:
    async def main() -> None:
        spool = FailingSpool(lambda: START)
        if broken:
            spool.broken = {"content"}
        await spool.commit(new_message(Letter("one", body=BODY)))
        one = msgspec.structs.replace(claim(), content=None)
        report = Report((Try((NO,)),))
        settlement = settle(one, report, Moment(START, lambda: 0.5), RetrySettings(), 0)
        [message] = (await notifier(spool).after(one, settlement, report, START)).messages
        assert (b"Subject: hello" in message.head) is not broken

    asyncio.run(main())


def test_a_list_of_names_that_cannot_be_read_is_told_to_the_caller() -> None:
    def targets(_: object) -> Any:
        raise SpoolUnavailable("no")

    with pytest.raises(SpoolUnavailable):
        after(claim(), NO, targets=targets)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("450 4.2.0 busy", "450 4.2.0 busy"),
        ("450 busy", "450 busy"),
        ("550", "550 "),
        ("", str(NO_REPLY)),
        ("no", str(NO_REPLY)),
        ("abc 4.2.0 x", str(NO_REPLY)),
        ("\u0661\u0662\u0663 x", str(NO_REPLY)),
        ("²50 x", str(NO_REPLY)),
    ],
)
def test_the_reply_that_the_queue_remembers(text: str, expected: str) -> None:
    one = msgspec.structs.replace(claim().recipients[0], last_reply=text)
    assert str(last_reply(one)).strip() == expected.strip()


def test_a_notice_is_from_its_author_and_carries_what_he_signs() -> None:
    async def sign(content: bytes, now: float) -> bytes:
        assert content.startswith(b"From: Mail Delivery System <MAILER-DAEMON@home.example>\r\n")
        assert now == START + 60
        return b"DKIM-Signature: of home.example\r\n"

    one = claim()
    report = Report((Try((NO,), "mx.example.net"),))
    settlement = settle(one, report, Moment(START + 60, lambda: 0.5), RetrySettings(), 0)
    spool, identities = FailingSpool(lambda: START), IdentitySource(lambda count: b"r" * count)
    writer = Notifier(
        spool,
        "mx.home.example",
        identities,
        lambda to: [(to, f"mx:{to.domain}")],
        RetrySettings(),
        author=Author("home.example", sign),
    )
    (made,) = asyncio.run(writer.after(one, settlement, report, START + 60)).messages
    assert made.head.startswith(b"DKIM-Signature: of home.example\r\nFrom: Mail Delivery System")
    assert made.message.size == len(made.head)
    assert b"Reporting-MTA: dns; mx.home.example\r\n" in made.head
