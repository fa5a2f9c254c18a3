"""Macros expanded: the examples of RFC 7208 section 7.4, odd local parts, and bounds."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from staffetta.mailauth.spf.macros import (
    TEXT_OCTETS,
    VALUE_OCTETS,
    Facts,
    Macro,
    MacroError,
    expand_name,
    expand_text,
    parse_domain_spec,
    parse_macros,
)

FACTS = Facts(
    "strong-bad",
    "email.example.com",
    "email.example.com",
    4,
    0xC0000203,
    "mx.example.org",
    "mx.receiver.example",
    1234567890.75,
    "mx.example.org",
)
FACTS6 = msgspec.structs.replace(FACTS, version=6, address=0x20010DB8_00000000_00000000_0000CB01)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("%{s}", "strong-bad@email.example.com"),
        ("%{o}", "email.example.com"),
        ("%{d}", "email.example.com"),
        ("%{d4}", "email.example.com"),
        ("%{d3}", "email.example.com"),
        ("%{d2}", "example.com"),
        ("%{d1}", "com"),
        ("%{dr}", "com.example.email"),
        ("%{d2r}", "example.email"),
        ("%{l}", "strong-bad"),
        ("%{l-}", "strong.bad"),
        ("%{lr}", "strong-bad"),
        ("%{lr-}", "bad.strong"),
        ("%{l1r-}", "strong"),
        ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
        ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
        ("%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"),
        ("%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"),
        ("%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
        ("%{D002}", "example.com"),
        ("%{d99999999999999999999}", "email.example.com"),
        ("%{h}", "mx.example.org"),
        ("%{p}", "mx.example.org"),
        ("%{S}", "strong-bad%40email.example.com"),
        ("%{l+/_=,.-}", "strong.bad"),
        ("a%%b%_c%-d.example", "a%b c%20d.example"),
        ("x.example.", "x.example"),
    ],
)
def test_names(text: str, name: str) -> None:
    assert expand_name(parse_macros(text), FACTS) == name


def test_ipv6_names() -> None:
    name = expand_name(parse_macros("%{ir}.%{v}._spf.%{d2}"), FACTS6)
    assert name == "1.0.B.C.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.B.D.0.1.0.0.2.ip6._spf.example.com"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("%{c} at %{t} by %{r}.", "192.0.2.3 at 1234567890 by mx.receiver.example."),
        ("%{R}", "mx.receiver.example"),
        ("http://x/?s=%{S}&i=%{I}", "http://x/?s=strong-bad%40email.example.com&i=192.0.2.3"),
    ],
)
def test_texts(text: str, shown: str) -> None:
    assert expand_text(parse_macros(text, explains=True), FACTS) == shown


def test_ipv6_is_shown_as_people_read_it() -> None:
    assert expand_text(parse_macros("%{c}", explains=True), FACTS6) == "2001:db8::cb01"
    assert expand_text(parse_macros("%{r}", explains=True), msgspec.structs.replace(FACTS, receiver="")) == "unknown"


@pytest.mark.parametrize(
    ("local_part", "name", "shown"),
    [
        ("a b", "a b.x.y", "a b"),
        ("a\r\nX: b", "a\r\nX: b.x.y", "a??X: b"),
        ("%{d}", "%{d}.x.y", "%{d}"),
        ('"@"', '"@".x.y', '"@"'),
        ("..", "...x.y", ".."),
        ("\x1b[31m", "\x1b[31m.x.y", "?[31m"),
        ("m\u00fcller", None, "m?ller"),
        ("\ud800", None, "?"),
        ("\u2028", None, "?"),
        ("a" * (VALUE_OCTETS + 1), None, "a" * TEXT_OCTETS),
    ],
)
def test_local_parts_of_every_kind(local_part: str, name: str | None, shown: str) -> None:
    """RFC 8616 section 4: what is not ASCII matches nothing. Values are not expanded again."""
    facts = msgspec.structs.replace(FACTS, local_part=local_part)
    assert expand_name(parse_macros("%{l}.x.y"), facts) == name
    assert expand_text(parse_macros("%{l}", explains=True), facts) == shown


def test_a_long_name_loses_labels_on_its_left() -> None:
    facts = msgspec.structs.replace(FACTS, local_part=".".join(["abcdefghi"] * 30))
    name = expand_name(parse_macros("%{l}.x.example"), facts)
    assert name == ".".join(["abcdefghi"] * 24) + ".x.example"
    assert len(name) <= 253
    # Exactly as long as may be, and one more.
    facts = msgspec.structs.replace(FACTS, local_part="b." + "a" * 251)
    assert expand_name(parse_macros("%{l}"), facts) == "b." + "a" * 251
    facts = msgspec.structs.replace(FACTS, local_part="bc." + "a" * 251)
    assert expand_name(parse_macros("%{l}"), facts) == "a" * 251
    facts = msgspec.structs.replace(FACTS, local_part="x.b." + "a" * 251)
    assert expand_name(parse_macros("%{l}"), facts) == "b." + "a" * 251
    facts = msgspec.structs.replace(FACTS, local_part="a" * 254)
    assert expand_name(parse_macros("%{l}"), facts) == ""


def test_a_name_that_blows_up_is_made_no_longer_than_needed() -> None:
    """Thousands of macros of 300 octets: the name is right, and only its right end was made."""
    start = time.process_time()
    facts = msgspec.structs.replace(FACTS, local_part=".".join(["abc"] * 75))
    assert expand_name((Macro("l", escape=True),) * 20_000 + (".x.y",), facts) == ".".join(["abc"] * 62) + ".x.y"
    assert expand_text((Macro("l"),) * 100_000, facts) == (".".join(["abc"] * 75) * 2)[:TEXT_OCTETS]
    assert time.process_time() - start < 0.2


@pytest.mark.parametrize("text", ["", "%{c}", "a.%{r}", "a:%{x}.b", "a%", "%(d).x", "%{d", "%{d\u017f}", "a", "a.b.-"])
def test_wrong_domains(text: str) -> None:
    with pytest.raises(MacroError):
        parse_domain_spec(text)


@given(
    st.lists(
        st.sampled_from(
            [*"%{}slodipvhcrtSLOD019r.-+,/_= ax", "%{l}", "%{d2r}", "%{i}", "%{s+}", "%{H}", "%%", "%_", "%-", ".com"]
        ),
        max_size=60,
    ).map("".join),
    st.text(max_size=600),
)
def test_any_text_is_bounded_or_refused(text: str, value: str) -> None:
    facts = msgspec.structs.replace(FACTS, local_part=value, helo=value)
    try:
        pieces = parse_macros(text, explains=True)
    except MacroError:
        return
    shown = expand_text(pieces, facts)
    assert len(shown) <= TEXT_OCTETS
    assert shown.isascii()
    assert shown == "" or shown.isprintable()
    name = expand_name(pieces, facts)
    assert name is None or (name.isascii() and len(name) <= 253)
