"""Arguments of commands, as a table."""

from __future__ import annotations

import pytest

from staffetta.mail.address import NULL_PATH, POSTMASTER, Mailbox
from staffetta.mail.domain import Domain
from staffetta.mail.envelope import Body, Notify, Recipient, Return, Sender
from staffetta.protocol.commands import CommandError, parse_bdat, parse_hello, parse_mail, parse_rcpt

ANNA = Mailbox("anna", Domain("example.org"))

MAIL = [
    ("FROM:<anna@example.org>", Sender(ANNA)),
    ("from:<anna@EXAMPLE.org>", Sender(ANNA)),
    ("FrOm: <anna@example.org>", Sender(ANNA)),
    ("FROM:<>", Sender(NULL_PATH)),
    ("FROM:<> SIZE=0", Sender(NULL_PATH, declared_size=0)),
    ("FROM:<anna@example.org> size=00012", Sender(ANNA, declared_size=12)),
    ('FROM:<"a>b"@example.org>', Sender(Mailbox("a>b", Domain("example.org")))),
    ('FROM:<"a> SIZE=1 b"@example.org> SIZE=2', Sender(Mailbox("a> SIZE=1 b", Domain("example.org")), declared_size=2)),
    ("FROM:<@relay.example:anna@example.org>", Sender(ANNA)),
    ("FROM:<anna@example.org> BODY=7BIT", Sender(ANNA)),
    ("FROM:<anna@example.org> body=8BitMime", Sender(ANNA, body=Body.EIGHT_BIT_MIME)),
    ("FROM:<anna@example.org> RET=full ENVID=a+2Bb+3Dc+20d", Sender(ANNA, ret=Return.FULL, envid="a+b=c d")),
    ("FROM:<anna@example.org> AUTH=e+3Dmc2@example.com", Sender(ANNA)),
    ("FROM:<ü@example.org> SMTPUTF8", Sender(Mailbox("ü", Domain("example.org")), smtputf8=True)),
]

MAIL_REFUSED = [
    ("", 501),
    ("FROM", 501),
    ("FROM:", 501),
    ("FROM :<anna@example.org>", 501),
    ("FROM:  <anna@example.org>", 501),
    ("FROM:anna@example.org", 501),
    ("FROM:<anna@example.org", 501),
    ("FROM:<anna@example.org>>", 501),
    ("FROM:<<anna@example.org>", 501),
    ("FROM:<anna@example.org><bob@example.org>", 501),
    ("FROM:<anna@example.org> <bob@example.org>", 501),
    ("FROM:<anna@example.org>SIZE=1", 501),
    ("FROM:<anna@example.org>  SIZE=1", 501),
    ('FROM:<"anna@example.org>', 501),
    ('FROM:<"a\\"@example.org>', 501),
    ("TO:<anna@example.org>", 501),
    ("FROM:<anna>", 501),
    ("FROM:<anna@example.org> SIZE", 501),
    ("FROM:<anna@example.org> SIZE=", 501),
    ("FROM:<anna@example.org> SIZE=-1", 501),
    ("FROM:<anna@example.org> SIZE=+1", 501),
    ("FROM:<anna@example.org> SIZE=1_0", 501),
    ("FROM:<anna@example.org> SIZE=\u0661", 501),
    ("FROM:<anna@example.org> SIZE=999999999999999999999", 501),
    ("FROM:<anna@example.org> SIZE=101", 552),
    ("FROM:<anna@example.org> SIZE=99999999999999999999", 552),
    ("FROM:<anna@example.org> BODY=BINARYMIME", 501),
    ("FROM:<anna@example.org> SMTPUTF8=1", 501),
    ("FROM:<anna@example.org> SMTPUTF8 SMTPUTF8", 501),
    ("FROM:<anna@example.org> SIZE=1 size=1", 501),
    ("FROM:<anna@example.org> \u017fIZE=1", 501),
    ("FROM:<anna@example.org> \u017fIZE=1 SMTPUTF8", 501),
    ("FROM:<anna@example.org> SIZE=\u0661 SMTPUTF8", 501),
    ("FROM:<anna@example.org> RET=", 501),
    ("FROM:<anna@example.org> ENVID=a=b", 501),
    ("FROM:<anna@example.org> ENVID=a+2", 501),
    ("FROM:<anna@example.org> ENVID=a+2b", 501),
    ("FROM:<anna@example.org> ENVID=+0A", 501),
    ("FROM:<anna@example.org> ENVID=+00", 501),
    ("FROM:<anna@example.org> ENVID=+E9", 501),
    ("FROM:<anna@example.org> ENVID=" + "x" * 101, 501),
    ("FROM:<anna@example.org> AUTH=+0D+0A", 501),
    ("FROM:<anna@example.org> -X=1", 501),
    ("FROM:<anna@example.org> MT-PRIORITY=3", 555),
    ("FROM:<anna@example.org> NOTIFY=NEVER", 555),
    ("FROM:<anna@example.org> ORCPT=rfc822;a", 555),
    ("FROM:<ü@example.org>", 553),
    ("FROM:<anna@bücher.example>", 553),
]

RCPT = [
    ("TO:<anna@example.org>", Recipient(ANNA)),
    ("to: <anna@example.org>", Recipient(ANNA)),
    ("TO:<Postmaster>", Recipient(POSTMASTER)),
    ("TO:<anna@example.org> NOTIFY=never", Recipient(ANNA, (Notify.NEVER,))),
    ("TO:<anna@example.org> NOTIFY=DELAY,FAILURE", Recipient(ANNA, (Notify.DELAY, Notify.FAILURE))),
    ("TO:<anna@example.org> ORCPT=rfc822;Bob+2Bx@example.com", Recipient(ANNA, (), "rfc822;Bob+x@example.com")),
    ("TO:<anna@example.org> ORCPT=UTF-8;b\\x{F6}b@example.com", Recipient(ANNA, (), "UTF-8;böb@example.com")),
    ("TO:<anna@example.org> ORCPT=rfc822;b+C3+B6b@example.com", Recipient(ANNA, (), "utf-8;böb@example.com")),
]

RCPT_REFUSED = [
    ("TO:<>", 501),
    ("TO:anna@example.org", 501),
    ("FROM:<anna@example.org>", 501),
    ("TO:<anna@example.org> NOTIFY=", 501),
    ("TO:<anna@example.org> NOTIFY", 501),
    ("TO:<anna@example.org> NOTIFY=NEVER,DELAY", 501),
    ("TO:<anna@example.org> NOTIFY=DELAY,DELAY", 501),
    ("TO:<anna@example.org> NOTIFY=,", 501),
    ("TO:<anna@example.org> NOTIFY=SOMETIMES", 501),
    ("TO:<anna@example.org> NOTIFY=DELAY NOTIFY=DELAY", 501),
    ("TO:<anna@example.org> ORCPT=rfc822;b+F6b@example.com", 501),
    ("TO:<anna@example.org> ORCPT=rfc822;b+C2+85b@example.com", 501),
    ("TO:<anna@example.org> ORCPT=x400;b+C3+B6b@example.com", 501),
    ("TO:<anna@example.org> ORCPT=anna@example.org", 501),
    ("TO:<anna@example.org> ORCPT=;anna@example.org", 501),
    ("TO:<anna@example.org> ORCPT=rfc822;", 501),
    ("TO:<anna@example.org> ORCPT=rfc822;a+0Ab", 501),
    ("TO:<anna@example.org> ORCPT=rfc822;a+00b", 501),
    ("TO:<anna@example.org> ORCPT=rfc/822;a", 501),
    ("TO:<anna@example.org> ORCPT=rfc822;" + "x" * 500, 501),
    ("TO:<anna@example.org> ORCPT=utf-8;a\\x{0A}b", 501),
    ("TO:<anna@example.org> ORCPT=utf-8;a\\x{2028}b", 501),
    ("TO:<anna@example.org> ORCPT=utf-8;a\\x{D800}b", 501),
    ("TO:<anna@example.org> ORCPT=utf-8;a\\x{110000}b", 501),
    ("TO:<anna@example.org> ORCPT=utf-8;a\\x{", 501),
    ("TO:<anna@example.org> ORCPT=rfc822;ü", 501),
    ("TO:<anna@example.org> SIZE=1", 555),
    ("TO:<ü@example.org>", 553),
]


@pytest.mark.parametrize(("argument", "expected"), MAIL)
def test_mail(argument: str, expected: Sender) -> None:
    assert parse_mail(argument, 100) == expected


@pytest.mark.parametrize(("argument", "code"), MAIL_REFUSED)
def test_mail_refused(argument: str, code: int) -> None:
    with pytest.raises(CommandError) as refused:
        parse_mail(argument, 100)
    assert refused.value.reply.code == code


@pytest.mark.parametrize(("argument", "expected"), RCPT)
def test_rcpt(argument: str, expected: Recipient) -> None:
    assert parse_rcpt(argument, smtputf8=False) == expected


@pytest.mark.parametrize(("argument", "code"), RCPT_REFUSED)
def test_rcpt_refused(argument: str, code: int) -> None:
    with pytest.raises(CommandError) as refused:
        parse_rcpt(argument, smtputf8=False)
    assert refused.value.reply.code == code


def test_rcpt_with_smtputf8() -> None:
    given = parse_rcpt("TO:<ü@example.org> ORCPT=utf-8;ö@example.com", smtputf8=True)
    assert given == Recipient(Mailbox("ü", Domain("example.org")), (), "utf-8;ö@example.com")


@pytest.mark.parametrize("number", [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029])
@pytest.mark.parametrize("encoded", [True, False])
def test_decoded_text_is_printable(number: int, encoded: bool) -> None:
    """S6: no parameter smuggles a control character, raw or encoded, at whatever the framing let through."""
    raw = f"+{number:02X}" if encoded and number < 0x100 else f"\\x{{{number:04X}}}" if encoded else chr(number)
    for argument in (
        f"FROM:<a@b.example> ENVID=x{raw}y",
        f"FROM:<a@b.example> AUTH=x{raw}y",
        f"FROM:<a{chr(number)}@b.example>",
    ):
        try:
            parsed = parse_mail(f"{argument} SMTPUTF8" if " " in argument else argument, 100)
        except CommandError:
            continue
        assert parsed.envid is None or parsed.envid.isprintable()
        assert str(parsed.reverse_path).isprintable()
    for kind in ("rfc822", "utf-8"):
        try:
            recipient = parse_rcpt(f"TO:<a@b.example> ORCPT={kind};x{raw}y", smtputf8=True)
        except CommandError:
            continue
        assert recipient.orcpt is not None
        assert recipient.orcpt.isprintable()


@pytest.mark.parametrize(
    ("argument", "expected"),
    [("0", (0, False)), ("0 LAST", (0, True)), ("123 last", (123, True)), ("9" * 19, (int("9" * 19), False))],
)
def test_bdat(argument: str, expected: tuple[int, bool]) -> None:
    assert parse_bdat(argument) == expected


@pytest.mark.parametrize(
    "argument",
    [
        "",
        "LAST",
        "-1",
        "+1",
        "1_0",
        "0x10",
        "1.0",
        " 1",
        "1  LAST",
        "1 LAST 2",
        "1LAST",
        "1 FIRST",
        "\u0661",
        "²",
        "9" * 20,
    ],
)
def test_bdat_refused(argument: str) -> None:
    with pytest.raises(CommandError):
        parse_bdat(argument)


@pytest.mark.parametrize(
    "name", ["client.example", "[192.0.2.1]", "[IPv6:::1]", "x", "my computer", "under_score", "(;)", "x" * 255]
)
def test_hello(name: str) -> None:
    assert parse_hello(name) == name


@pytest.mark.parametrize("name", ["", "x" * 256, "bücher.example"])
def test_hello_refused(name: str) -> None:
    with pytest.raises(CommandError):
        parse_hello(name)
