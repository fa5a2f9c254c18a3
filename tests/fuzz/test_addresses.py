"""Addresses: any text is an address with one meaning, or AddressError; every relay trick is refused or harmless."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from staffetta.mail.address import (
    POSTMASTER,
    AddressError,
    Mailbox,
    NullPath,
    Postmaster,
    parse_forward_path,
    parse_mailbox,
    parse_reverse_path,
)
from staffetta.mail.domain import AddressLiteral, Domain

REFUSED = [
    "",
    "<>",
    "<postmaster@>",
    "<u>",
    "<u@ext.example.>",
    "<u@.>",
    "<u@.ext.example>",
    "<u@ext..example>",
    "<u@>",
    "<@ext.example>",
    "<.u@ext.example>",
    "<u.@ext.example>",
    "<u..v@ext.example>",
    "<ext.example!u>",
    '<"u@ext.example">',
    '<"u%ext.example">',
    '<""@local.example>',
    '<"u"v@local.example>',
    '<"u"@"local.example">',
    "<u@ext.example@local.example>",
    "<u@local.example@ext.example>",
    "<@ext.example@local.example>",
    "<@ext.example,u@local.example>",
    "<@ext.example:>",
    "<@ext.example:postmaster>",
    "<@:u@local.example>",
    "<@a@b:u@local.example>",
    "<u@192.0.2.1>",
    "<u@3221225985>",
    "<u@0xc0000201>",
    "<u@0xc0.0.2.1>",
    "<u@[0xc0.0.2.1]>",
    "<u@[0300.0.2.1]>",
    "<u@[192.0.2]>",
    "<u@[2001:db8::1]>",
    "<u@[IPv6:fe80::1%lo]>",
    "<u@[IPv6:192.0.2.1]>",
    "<u@[192.0.2.1>",
    "<u@192.0.2.1]>",
    "<u@[]>",
    "<u@[tag:x]>",
    "<u@local.example(comment)>",
    "<(comment)u@local.example>",
    "<u@ext.example\0.local.example>",
    "<u\0@local.example>",
    "<u\\@ext.example@local.example>",
    '<"u\\"@ext.example>"@local.example',
    "<<u@local.example>>",
    "<u@local.example>,<v@ext.example>",
    "<u@local.example;v@ext.example>",
    "<u@local.example,v@ext.example>",
    "<u@ext.example u@local.example>",
    "u@local.example",
    "<u@local.example",
    "u@local.example>",
    "<:include:/etc/passwd@local.example>",
    "<u@-local.example>",
    "<u@local-.example>",
    "<u@local_host.example>",
    "<u@xn--a.example>",
    "<u@xn--.example>",
    "<u@XN--BCHER-KVA8445FOA.example>",
    f"<{'u' * 65}@local.example>",
    f"<u@{'x' * 64}.example>",
    f"<u@{'x.' * 130}example>",
    "<u @local.example>",
    "< u@local.example>",
    "<u@local.example\n>",
    "<u@local.example\r\nRCPT TO:<v@ext.example>",
    "<u@local.example\u2028>",
    "<ü@local.example>",
    "<u@bücher.example>",
]

REFUSED_WITH_UTF8 = [
    "<u\uff20ext.example@local.example>",  # full-width at
    "<u\ufe6bext.example@local.example>",  # small at
    "<u\uff05ext.example@local.example>",  # full-width percent
    "<u@ext.example\u3002local.example>",  # ideographic full stop
    "<u@ext.example\uff0elocal.example>",  # full-width full stop
    "<u@lo\u200dcal.example>",  # zero width joiner
    "<u@lo\u00adcal.example>",  # soft hyphen
    "<u\u00adv@local.example>",
    "<u\u200bv@local.example>",
    "<u\u202ev@local.example>",
    "<u\u0085v@local.example>",
    "<u\u2028v@local.example>",
    "<u\u00a0v@local.example>",
    "<u\ud800v@local.example>",
    "<u\ue000v@local.example>",
    "<u@loc\u212aal.example>",  # Kelvin
    "<\u212aarl@local.example>",
    "<u\u2026v@local.example>",  # an ellipsis is three dots to somebody
    "<u@\uff11\uff12\uff17.0.0.1>",
    "<u@l\u043ecal..example>",
    "<e\u0301@local.example>",  # not NFC
]


@pytest.mark.parametrize("path", REFUSED)
def test_refused(path: str) -> None:
    with pytest.raises(AddressError):
        parse_forward_path(path)


@pytest.mark.parametrize("path", REFUSED_WITH_UTF8)
def test_refused_with_smtputf8(path: str) -> None:
    for smtputf8 in (False, True):
        with pytest.raises(AddressError):
            parse_forward_path(path, smtputf8=smtputf8)


LOCAL = Domain("local.example")
HARMLESS = [
    # What looks like another host is only a strange local part of ours; written again, it stays one.
    ("<u%ext.example@local.example>", Mailbox("u%ext.example", LOCAL)),
    ("<ext.example!u@local.example>", Mailbox("ext.example!u", LOCAL)),
    ("<a!b!u@[192.0.2.1]>", Mailbox("a!b!u", AddressLiteral("192.0.2.1"))),
    ('<"u@ext.example"@local.example>', Mailbox("u@ext.example", LOCAL)),
    ('<"u\\"@ext.example>"@local.example>', Mailbox('u"@ext.example>', LOCAL)),
    ('<"x@ext.example y"@local.example>', Mailbox("x@ext.example y", LOCAL)),
    ('<"anna"@local.example>', Mailbox("anna", LOCAL)),
    ('<"\\a\\n\\n\\a"@local.example>', Mailbox("anna", LOCAL)),
    ('<".."@local.example>', Mailbox("..", LOCAL)),
    ("<=?utf-8?q?u=40ext=2Eexample?=@local.example>", Mailbox("=?utf-8?q?u=40ext=2Eexample?=", LOCAL)),
    ("<|/bin/sh@local.example>", Mailbox("|/bin/sh", LOCAL)),
    ("<-froot@local.example>", Mailbox("-froot", LOCAL)),
    ("<${run{x}}@local.example>", Mailbox("${run{x}}", LOCAL)),
    ("<%00@local.example>", Mailbox("%00", LOCAL)),
    ("<@ext.example,@[192.0.2.1]:u@local.example>", Mailbox("u", LOCAL)),
    ("<U@LOCAL.Example>", Mailbox("U", LOCAL)),
    ("<u@[IPv6:::FFFF:127.0.0.1]>", Mailbox("u", AddressLiteral("::ffff:7f00:1"))),
    ("<PostMaster>", POSTMASTER),
    ("<postmaster@ext.example>", Mailbox("postmaster", Domain("ext.example"))),
]


@pytest.mark.parametrize(("path", "meaning"), HARMLESS)
def test_harmless(path: str, meaning: Mailbox | Postmaster) -> None:
    parsed = parse_forward_path(path)
    if isinstance(parsed, Mailbox) and isinstance(meaning, Mailbox) and isinstance(meaning.domain, AddressLiteral):
        assert parsed.local_part == meaning.local_part
        assert isinstance(parsed.domain, AddressLiteral)
    else:
        assert parsed == meaning
    assert parse_forward_path(f"<{parsed}>") == parsed


def test_internationalised() -> None:
    parsed = parse_mailbox("jürgen@Bücher.Example", smtputf8=True)
    assert parsed == Mailbox("jürgen", Domain("xn--bcher-kva.example"))
    assert not parsed.is_ascii


PIECES = st.sampled_from(
    [
        *'<>@"\\.,:;()[]% !\t\r\n\0\x7f|/-',
        "u",
        "A",
        "ext.example",
        "xn--",
        "IPv6:",
        "[",
        "ü",
        "ß",
        "\u212a",
        "\uff20",
        "\u3002",
        "\u200d",
        "\ud800",
        "é",
        "e\u0301",
        "postmaster",
        "0x7f",
        "127.0.0.1",
        "\u2028",
        "\x85",
        "مثال",
    ]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=14).map("".join), st.text(max_size=40))


@settings(max_examples=800, deadline=None)
@given(TEXTS, st.booleans(), st.booleans())
@example("u@xn--0", True, True)
def test_any_text(text: str, smtputf8: bool, bracketed: bool) -> None:
    path = f"<{text}>" if bracketed else text
    for parse in (parse_forward_path, parse_reverse_path):
        try:
            parsed = parse(path, smtputf8=smtputf8)
        except AddressError:
            continue
        assert bracketed or path.startswith("<")
        if isinstance(parsed, NullPath):
            assert path == "<>"
            continue
        written = str(parsed)
        assert written.isprintable()
        assert smtputf8 or written.isascii()
        assert parse(f"<{written}>", smtputf8=smtputf8) == parsed
        if isinstance(parsed, Mailbox):
            assert str(parsed.domain).isascii()
            assert str(parsed.domain) == str(parsed.domain).lower().replace("ipv6", "IPv6")
            assert written.endswith(f"@{parsed.domain}")
            assert str(parsed.domain).count("@") == 0
