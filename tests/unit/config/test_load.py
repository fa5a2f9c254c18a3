"""Loading as a whole: never half, never an exception, never slow; and what a folder of files cannot hold."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from staffetta.config.load import LARGEST, Loaded, Problems, load
from staffetta.config.problems import Level, Problem, render, render_problem
from staffetta.config.schema import DoorTls, HopTls, Role
from staffetta.config.toml import toml_text

EVERY_KEY = (Path(__file__).parent / "every_key.toml").read_text(encoding="utf-8")
START = 'version = 1\nhostname = "mail.example.org"\n'
DOOR = START + '[listen.lan]\nbind = ["*:2525"]\nrole = "relay"\n'
ODD: list[object] = ["", "x", "\x00", "*", "file:", "[", -1, 0, 2**70, True, [], ["", 1], [[]], {}, {"x": 1}, 1.5]


def texts(problems: tuple[Problem, ...]) -> list[str]:
    return [f"{problem.code} {problem.message}" for problem in problems]


def test_no_file(tmp_path: Path, workshop: Any) -> None:
    found = workshop.load(tmp_path / "staffetta.toml")
    assert render(found.problems).split("\n")[0] == "staffetta.toml  C110  there is no such file"


def test_a_folder_is_no_file(tmp_path: Path, workshop: Any) -> None:
    assert texts(workshop.load(tmp_path).problems) == ["C110 the file cannot be read (Is a directory)"]


def test_a_file_that_is_too_large(tmp_path: Path, workshop: Any) -> None:
    found = workshop.problems(tmp_path, "#" * (LARGEST + 1))
    assert texts(found) == ["C110 the file is larger than 1 MiB"]


def test_lists_without_end(tmp_path: Path, workshop: Any) -> None:
    found = workshop.problems(tmp_path, DOOR + "[limits]\nhops = " + "[" * 3000 + "]" * 3000)
    assert texts(found) == ["C110 the file nests lists or tables too deeply"]


@pytest.mark.parametrize("depth", [100, 200, 300, 400])
def test_deep_lists_are_wrong_values(tmp_path: Path, workshop: Any, depth: int) -> None:
    found = workshop.problems(tmp_path, DOOR + "[limits]\nhops = " + "[" * depth + "]" * depth)
    assert found[0].code in {"C104", "C110"}


@pytest.fixture
def not_root() -> Iterator[None]:
    """Root reads everything; be nobody for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


def test_a_file_that_is_closed_to_us(tmp_path: Path, workshop: Any, request: pytest.FixtureRequest) -> None:
    file = tmp_path / "staffetta.toml"
    file.write_text(DOOR)
    file.chmod(0o000)
    request.getfixturevalue("not_root")
    (problem,) = workshop.load(file).problems
    assert problem.code == "C110"


def test_a_good_file_has_nothing_said_against_it(tmp_path: Path, workshop: Any) -> None:
    assert workshop.problems(tmp_path, DOOR) == ()


def test_windows_line_ends(tmp_path: Path, workshop: Any) -> None:
    file = tmp_path / "staffetta.toml"
    file.write_bytes(DOOR.replace("\n", "\r\n").encode() + b"hop = 1\r\n")
    (problem,) = workshop.load(file).problems
    assert (problem.line, problem.column, problem.excerpt) == (6, 1, "hop = 1")


def test_the_machine_gives_the_name(tmp_path: Path, workshop: Any) -> None:
    text = DOOR.replace('hostname = "mail.example.org"\n', "")
    assert str(workshop.loaded(tmp_path, text).config.hostname) == "box.example.net"
    found = load(tmp_path / "staffetta.toml", {}, machine_name="box")
    assert isinstance(found, Loaded)
    assert texts(found.warnings)[0].startswith('C230 hostname is not written, and the machine\'s name "box"')


def test_the_digest_names_the_text(tmp_path: Path, workshop: Any) -> None:
    first = workshop.loaded(tmp_path, DOOR).digest
    assert workshop.loaded(tmp_path, DOOR).digest == first
    assert workshop.loaded(tmp_path, DOOR + "#").digest != first


def test_paths_are_relative_to_the_file(tmp_path: Path, workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    workshop.loaded(tmp_path / "etc", START + 'data_dir = "../data"\n' + DOOR[len(START) :])
    monkeypatch.chdir(tmp_path)
    found = load(Path("etc/staffetta.toml"), {})
    assert isinstance(found, Loaded)
    assert found.config.data_dir == tmp_path / "etc" / "../data"


DOORS = [
    # role, written keys, [tls] there: tls, auth, trust
    ("mx", "", False, DoorTls.OFF, False, []),
    ("mx", "", True, DoorTls.STARTTLS, False, []),
    ("mx", "auth = true", True, DoorTls.STARTTLS, True, []),
    ("submission", "", True, DoorTls.STARTTLS, True, []),
    ("submission", 'tls = "legacy"', True, DoorTls.LEGACY, True, []),
    ("relay", "", False, DoorTls.OFF, False, ["127.0.0.0/8", "::1/128"]),
    ("relay", "", True, DoorTls.STARTTLS, True, ["127.0.0.0/8", "::1/128"]),
    ("relay", 'tls = "off"', True, DoorTls.OFF, False, ["127.0.0.0/8", "::1/128"]),
    ("relay", "trust = []", True, DoorTls.STARTTLS, True, []),
    ("relay", "auth = false", True, DoorTls.STARTTLS, False, ["127.0.0.0/8", "::1/128"]),
]


@pytest.mark.parametrize(("role", "keys", "certificate", "tls", "auth", "trust"), DOORS)
def test_doors_by_default(
    tmp_path: Path, workshop: Any, role: str, keys: str, certificate: bool, tls: DoorTls, auth: bool, trust: list[str]
) -> None:
    text = START + f'[listen.a]\nbind = ["*:2525"]\nrole = "{role}"\n{keys}\n'
    if certificate:
        workshop.make_file(tmp_path, "mail.pem", "certificate:mail:mail.example.org")
        workshop.make_file(tmp_path, "mail.key", "key:mail")
        text += '[tls]\ncertificate = "mail.pem"\nkey = "mail.key"\n'
    (door,) = workshop.loaded(tmp_path, text).config.listeners
    assert (door.role, door.tls_at(2525), door.auth) == (Role(role), tls, auth)
    assert [str(network) for network in door.trust] == trust


ROUTES = [
    # via, other keys: port, level
    ('"smtp.example.com"', "", 25, HopTls.VERIFY),
    ('"smtp.example.com"', 'login = "a"\npassword = "b"', 587, HopTls.VERIFY),
    ('"smtp.example.com"', 'tls = "implicit"', 465, HopTls.IMPLICIT),
    ('"smtp.example.com:465"', "", 465, HopTls.IMPLICIT),
    ('"smtp.example.com:2525"', "", 2525, HopTls.VERIFY),
    ('"192.0.2.1"', "", 25, HopTls.OPPORTUNISTIC),
    ('"[2001:db8::1]:26"', "", 26, HopTls.OPPORTUNISTIC),
    ('["smtp.example.com"]', 'tls = "off"', 25, HopTls.OFF),
]


@pytest.mark.parametrize(("via", "keys", "port", "level"), ROUTES)
def test_routes_by_default(tmp_path: Path, workshop: Any, via: str, keys: str, port: int, level: HopTls) -> None:
    config = workshop.loaded(tmp_path, DOOR + f"[route.a]\nvia = {via}\n{keys}\n").config
    route, default = config.routes
    assert (route.via[0].port, route.tls_to(route.via[0])) == (port, level)
    assert default.tls_to(None) is HopTls.OPPORTUNISTIC


OVERLAPS = [
    ("*:25", "*:25", True),
    ("*:25", "192.0.2.1:25", True),
    ("*:25", "[::1]:25", True),
    ("0.0.0.0:25", "192.0.2.1:25", True),
    ("0.0.0.0:25", "[::1]:25", False),
    ("0.0.0.0:25", "[::]:25", False),
    ("[::]:25", "[2001:DB8::1]:25", True),
    ("[2001:db8::1]:25", "[2001:DB8:0::1]:25", True),
    ("192.0.2.1:25", "192.0.2.2:25", False),
    ("*:25", "*:26", False),
    ("*:0", "*:0", False),
    ("localhost:25", "127.0.0.1:25", True),
    ("localhost:25", "192.0.2.1:25", False),
    ("*:25", "localhost:25", True),
]


@pytest.mark.parametrize(("first", "second", "clash"), OVERLAPS)
def test_two_doors(tmp_path: Path, workshop: Any, first: str, second: str, clash: bool) -> None:
    for bind in (
        f'bind = ["{first}"]\nrole = "relay"\n[listen.b]\nbind = ["{second}"]',
        f'bind = ["{first}", "{second}"]',
    ):
        found = workshop.problems(tmp_path, START + f'[listen.a]\n{bind}\nrole = "relay"\n')
        assert ("C205" in {problem.code for problem in found}) == clash


@pytest.mark.parametrize(
    ("trust", "code"),
    [
        ('["10.0.0.0/8"]', ""),
        ('["2001:db8::/32"]', ""),
        ('["11.0.0.0/8", "10.0.0.0/7"]', "C203"),
        ('["0.0.0.0/0"]', "C202"),
        ('["::/0"]', "C202"),
        ('["2000::/3"]', "C202"),
        ('["::ffff:0:0/96"]', "C202"),
        ('["0.0.0.0-127.255.255.255", "64.0.0.0/2", "128.0.0.0/1"]', "C202"),
        ('["1.0.0.0-223.255.255.255"]', "C202"),
        ('["1.0.0.0-223.255.255.254"]', "C203"),
    ],
)
def test_who_is_trusted(tmp_path: Path, workshop: Any, trust: str, code: str) -> None:
    found = workshop.problems(tmp_path, DOOR + f"trust = {trust}\n")
    assert {problem.code for problem in found} == ({code} if code else set())


@pytest.mark.parametrize(
    ("first", "second", "shadowed"),
    [
        ('to = ["a.example"]', 'to = ["a.example"]', True),
        ('to = ["*"]', 'to = [".a.example"]', True),
        ('to = [".a.example"]', 'to = ["x.a.example"]', True),
        ('to = [".a.example"]', 'to = [".x.a.example"]', True),
        ('to = [".a.example"]', 'to = ["a.example"]', False),
        ('to = ["a.example"]', 'to = [".a.example"]', False),
        ('to = ["a.example"]', 'to = ["*"]', False),
        ('from = ["s.example"]', 'to = ["a.example"]', False),
        ('from = ["s.example"]', 'from = ["s.example"]\nto = ["a.example"]', True),
        ('from = ["s.example"]', 'from = ["s.example", "t.example"]', False),
        ("", 'from = ["s.example"]', True),
    ],
)
def test_which_route_hides_which(tmp_path: Path, workshop: Any, first: str, second: str, shadowed: bool) -> None:
    found = workshop.problems(tmp_path, DOOR + f"[route.a]\n{first}\n[route.b]\n{second}\n")
    assert ("C207" in {problem.code for problem in found}) == shadowed


def test_what_is_implied_may_be_written(tmp_path: Path, workshop: Any) -> None:
    text = DOOR + '[route.office]\nvia = "smtp.example.com"\n[route.default]\nvia = "mx"\n'
    assert [route.name for route in workshop.loaded(tmp_path, text).config.routes] == ["office", "default"]


def test_every_value_may_be_odd(tmp_path: Path, workshop: Any) -> None:
    document = tomllib.loads(EVERY_KEY.replace('certificate = "tls/mail.pem"\nkey = "tls/mail.key"\n', ""))
    file = tmp_path / "staffetta.toml"
    for path in paths(document):
        for odd in ODD:
            file.write_text("".join(f"{name} = {toml_text(value)}\n" for name, value in replaced(document, path, odd)))
            found = workshop.load(file)
            assert isinstance(found, Loaded | Problems)
            if isinstance(found, Problems):
                assert any(problem.level is Level.ERROR for problem in found.problems)
                assert render(found.problems).replace("\n", "").isprintable()


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if not isinstance(value, dict):
        return [path]
    return [path] * bool(path) + [deep for name, inside in value.items() for deep in paths(inside, (*path, name))]


def replaced(document: dict[str, Any], path: tuple[Any, ...], odd: object) -> list[tuple[str, Any]]:
    def changed(value: Any, rest: tuple[Any, ...]) -> Any:
        return {**value, rest[0]: changed(value[rest[0]], rest[1:])} if rest else odd

    return list(changed(document, path).items())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_broken_files_are_refused_in_words(tmp_path: Path, workshop: Any, data: st.DataObject) -> None:
    text = EVERY_KEY
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 30)))
        text = text[:start] + data.draw(st.text(st.sampled_from("ab1\"'[]{}=.,#\n\\ \u00fc"), max_size=6)) + text[end:]
    found = workshop.problems(tmp_path, text)
    assert render(found).replace("\n", "").isprintable()
    for problem in found:
        assert 0 <= problem.line <= text.count("\n") + 1


def test_all_mistakes_in_one_run(tmp_path: Path, workshop: Any) -> None:
    text = START + '[listen.a]\nbind = ["*:x", "y"]\nrole = "z"\nq = 1\n[limits]\nhops = "1"\nidle = 1\n[nothing]\n'
    assert [problem.line for problem in workshop.problems(tmp_path, text)] == [4, 4, 5, 6, 8, 9, 10]


def test_the_shape_of_a_problem() -> None:
    problem = Problem(
        code="C103",
        level=Level.ERROR,
        file="staffetta.toml",
        line=12,
        column=1,
        length=12,
        message='unknown key "pasword_file" in [deliver.default]',
        cure='did you mean "password_file"?',
        nearest="password_file",
        excerpt='pasword_file = "office.pw"',
    )
    assert render_problem(problem) == (
        'staffetta.toml:12  C103  unknown key "pasword_file" in [deliver.default]\n'
        '   12 | pasword_file = "office.pw"\n'
        '      | ^^^^^^^^^^^^  did you mean "password_file"?'
    )
    assert list(problem.fields()) == ["code", "level", "file", "line", "column", "length", "message", "cure", "nearest"]


def test_long_and_wide_lines(tmp_path: Path, workshop: Any) -> None:
    text = DOOR + "x = 1 # " + "y" * 500 + '\n"中文" = 1\n\ttrsut = ["a"]\n'
    long, wide, tabbed = [render_problem(problem).split("\n") for problem in workshop.problems(tmp_path, text)]
    assert len(long[1]) < 130
    assert wide[2].startswith("      | ^^^^^^  ")
    assert tabbed[1:] == ['    8 |  trsut = ["a"]', '      |  ^^^^^  did you mean "trust"?']


def test_secrets_in_lists_and_tables_stay_covered(tmp_path: Path, workshop: Any) -> None:
    text = (
        DOOR + 'route = { a = { login = "x", password = "hunter2", hop = 1 }, b = { passwd = ["hunter2"], x = 1 } }\n'
    )
    shown = render(workshop.problems(tmp_path, text))
    assert "hunter2" not in shown
    assert "hop" in shown
