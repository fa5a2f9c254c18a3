"""Tag lists: what is one, and what is none."""

from __future__ import annotations

import pytest

from staffetta.mailauth.dkim.tags import LIST_OCTETS, TAGS, TagError, decode_base64, parse_tags, words


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        (b"", {}),
        (b" ; ", None),
        (b"v=1", {"v": "1"}),
        (b" v = 1 ; p= ab c ;", {"v": "1", "p": "ab c"}),
        (b"v=1;\r\n\tp=a\r\n b;\r\n", {"v": "1", "p": "a b"}),
        (b"a=b=c==", {"a": "b=c=="}),
        (b"p=", {"p": ""}),
        (b"V=1;v=2", {"V": "1", "v": "2"}),
        ("i=ö@bücher.example".encode(), {"i": "ö@bücher.example"}),
        (b"v=1;v=1", None),
        (b"v=1;;p=2", None),
        (b"v", None),
        (b"=1", None),
        (b"1v=1", None),
        (b"v v=1", None),
        (b"s=a\0b", None),
        (b"s=a\rb", None),
        (b"s=a\nb", None),
        (b"s=\xff", None),
        (b"a=" + b"x" * LIST_OCTETS, None),
        (b";".join(b"a%d=" % n for n in range(TAGS + 1)), None),
    ],
)
def test_tag_lists(text: bytes, tags: dict[str, str] | None) -> None:
    if tags is None:
        with pytest.raises(TagError):
            parse_tags(text)
    else:
        assert parse_tags(text) == tags
        assert list(parse_tags(text)) == list(tags)


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("", b""),
        ("YWI=", b"ab"),
        ("Y W\tI =", b"ab"),
        ("YWI", b"ab"),
        ("YW=I", None),
        ("Y", None),
        ("YWI=YWI=", None),
        ("YW_I", None),
        ("YWÍ", None),
        ("YWI===", None),
    ],
)
def test_base64(text: str, octets: bytes | None) -> None:
    if octets is None:
        with pytest.raises(TagError):
            decode_base64(text)
    else:
        assert decode_base64(text) == octets


def test_words() -> None:
    assert words("from : to:\tsubject") == ["from", "to", "subject"]
