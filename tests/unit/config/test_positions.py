"""The index of positions: hand-made corners, and generated documents where each key must stand where it is said to."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staffetta.config.positions import Path, positions
from staffetta.config.toml import toml_key, toml_string, toml_text

CORNERS = """\
top = 1   # comment with [brackets] = "x"
dotted . "key one" = 'a = b' # "
'literal' = '''
inside = 1
[not a table]''''
multi = \"\"\"
[nor this] \\\"\"\" x = 1
\"\"\"\"\"
after = 2
list = [ # x
  "a]", 'b', # ]
  { in = [1, 2], deep.er = "}" },
  1979-05-27 07:32:00,
]

[table]
x = { a = { b = 1 }, c = [[1], [2]] }
[ "quo.ted" . inner ]
y = 1
[[many.things]]
name = "first"
[many.things.sub]
z = 1
[[many.things]]
name = "second"
[[many.things.more]]
n = 1
[[many.things.more]]
n = 2
[table.late]
w = 1"""

WHERE: dict[Path, tuple[int, str, str]] = {
    ("top",): (1, "top", "1"),
    ("dotted",): (2, "dotted", ""),
    ("dotted", "key one"): (2, '"key one"', "'a = b'"),
    ("literal",): (3, "'literal'", "'''\ninside = 1\n[not a table]''''"),
    ("multi",): (6, "multi", '"""\n[nor this] \\""" x = 1\n"""""'),
    ("after",): (9, "after", "2"),
    ("list", 0): (11, '"a]"', '"a]"'),
    ("list", 1): (11, "'b'", "'b'"),
    ("list", 2, "in", 1): (12, "2", "2"),
    ("list", 2, "deep", "er"): (12, "er", '"}"'),
    ("list", 3): (13, "1979-05-27 07:32:00", "1979-05-27 07:32:00"),
    ("table",): (16, "[table]", ""),
    ("table", "x", "a", "b"): (17, "b", "1"),
    ("table", "x", "c", 1, 0): (17, "2", "2"),
    ("quo.ted", "inner"): (18, '[ "quo.ted" . inner ]', ""),
    ("quo.ted", "inner", "y"): (19, "y", "1"),
    ("many", "things", 0): (20, "[[many.things]]", ""),
    ("many", "things", 0, "name"): (21, "name", '"first"'),
    ("many", "things", 0, "sub", "z"): (23, "z", "1"),
    ("many", "things", 1, "name"): (25, "name", '"second"'),
    ("many", "things", 1, "more", 0, "n"): (27, "n", "1"),
    ("many", "things", 1, "more", 1, "n"): (29, "n", "2"),
    ("table", "late", "w"): (31, "w", "1"),
}


def leaves(value: Any, path: Path = ()) -> list[Path]:
    """Every path of a document, tables and elements of lists too."""
    found: list[Path] = [path] if path else []
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inside:
        found += leaves(one, (*path, name))
    return found


@pytest.mark.parametrize("path", WHERE, ids=str)
def test_corners(path: Path) -> None:
    index = positions(CORNERS)
    line, key, value = WHERE[path]
    span = index.key(path)
    assert span is not None
    assert CORNERS[span.start : span.end] == key
    assert index.place(span).line == line
    if value:
        held = index.values[path]
        assert CORNERS[held.start : held.end] == value


def test_corners_are_complete() -> None:
    index = positions(CORNERS)
    missing = [path for path in leaves(tomllib.loads(CORNERS)) if path not in index.keys and path not in index.values]
    assert missing == []
    assert index.repeated == []


def test_a_path_that_is_not_there_gives_what_is_around_it() -> None:
    index = positions("[a.b]\nc = 1\n")
    assert index.key(("a", "b", "missing")) == index.key(("a", "b"))
    assert index.key(("nowhere",)) is None


def test_length_ends_with_the_line() -> None:
    index = positions('x = [\n  "a",\n]\n')
    place = index.place(index.values["x",])
    assert (place.line, place.column, place.length) == (1, 5, 1)


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("a = 1\nb = 2\na = 3\n", ("a",)),
        ("[t]\nx = 1\n[u]\n[t]\n", ("t",)),
        ("[t]\nx = 1\ny = { z = 1, z = 2 }\n", ("t", "y", "z")),
        ("t = 1\n[t]\n", ("t",)),
    ],
)
def test_what_comes_again(text: str, again: Path) -> None:
    assert [path for path, _ in positions(text).repeated] == [again]


KEYS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8) | st.from_regex(
    r"[a-zA-Z0-9_-]{1,8}", fullmatch=True
)
TEXTS = st.text(st.sampled_from("ab \"'#[]{}=,.\\\t\u00fc\u4e2d\n"), max_size=12)
SCALARS = st.booleans() | st.integers(-99, 99) | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
TABLES = st.dictionaries(KEYS, VALUES, max_size=4)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """TOML in many hands: blanks, comments, quoted and dotted keys, headers, arrays of tables."""
    blank = st.sampled_from(["", " ", "\t", "  "])
    noise = st.sampled_from(["", "\n", "# [x] = \"'\n", "  # c\n\n"])
    lines: list[str] = []

    def pairs(table: dict[str, Any]) -> None:
        for name, value in table.items():
            key = draw(st.sampled_from([toml_key([name]), toml_string(name)]))
            text = toml_text(value)
            if isinstance(value, list) and value:
                gap = draw(st.sampled_from(["", "\n", " # ]\n", "\n\n  "]))
                text = f"[{gap}" + f",{gap}".join(toml_text(item) for item in value) + f"{gap}]"
            elif isinstance(value, str) and "'" not in value and "\n" not in value and draw(st.booleans()):
                text = f"'{value}'"
            lines.append(f"{draw(noise)}{draw(blank)}{key}{draw(blank)}={draw(blank)}{text}{draw(blank)}\n")

    pairs(draw(TABLES))
    for name, table in draw(st.dictionaries(KEYS, TABLES, max_size=3)).items():
        lines.append(f"[{draw(blank)}t{draw(blank)}.{draw(blank)}{toml_string(name)}{draw(blank)}]  # x\n")
        pairs(table)
    for table in draw(st.lists(TABLES, max_size=3)):
        lines.append(f"{draw(noise)}[[many.{draw(blank)}arrays]]\n")
        pairs(table)
        if draw(st.booleans()):
            lines.append("[many.arrays.under]\n")
            pairs(draw(TABLES))
    return "".join(lines)


@given(documents())
def test_each_key_stands_where_the_index_says(text: str) -> None:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # a name at the top that is a table below as well
    index = positions(text)
    for path in leaves(document):
        span = index.keys.get(path)
        name = path[-1]
        if span is None:
            assert isinstance(name, int)
            span = index.values[path]
        else:
            shown = text[span.start : span.end]
            if not shown.startswith("["):
                assert tomllib.loads(f"{shown} = 1") == {name: 1}
            elif isinstance(name, str):
                assert toml_string(name) in shown or name in shown
        place = index.place(span)
        line = index.line(place.line)
        assert line[place.column - 1 :].startswith(text[span.start : span.end].partition("\n")[0])
        value = document
        for step in path:
            value = value[step]
        if path in index.values:
            held = index.values[path]
            assert tomllib.loads(f"v = {text[held.start : held.end]}") == {"v": value}


@given(st.text(st.sampled_from("ab=\"'[]{}.,#\\\n \t1"), max_size=60))
def test_what_is_no_toml_never_fails(text: str) -> None:
    index = positions(text)
    for span in (*index.keys.values(), *index.values.values()):
        index.line(index.place(span).line)
