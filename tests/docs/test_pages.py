"""Every command of README and guides is executed as it stands there, and says what the page says it says.

How a page is written (CONTRIBUTING.md has it with examples):

- In a `console` fence a line that begins with `$ ` is a command; lines behind it are what it prints. Commands of a page
  run one after another in one shell, in an empty folder, on a terminal of 120 columns. Every command has to end with
  status 0, or the page says what else happens (`|| echo "status $?"`). `...` stands for any text within a line, and
  alone for any lines; times, ids, sizes and the like need not be the same, what is not shown is not compared.
- A `sh` fence is the same without output and without `$ `.
- `<!-- file: NAME -->` in front of a fence: its content is written to that file. `<!-- file: NAME = TEXT -->` stands
  alone, for a file that the reader has.
- `staffetta run` serves in the background from then on; `<!-- stop -->` ends it, and so does the end of the page.
  `<!-- fresh -->` ends it too, and goes on in an empty folder.
- `<!-- publish -->`: what `staffetta init` said to publish is in the DNS from then on.
- `<!-- needs: jq -->`: the page is skipped where that program is missing, and fails where CI=true.
- What no test can run stands in a `text` fence, or indented, with its `$ `, and with the reason in NOT_EXECUTED.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from conftest import World  # what the fixture of that name gives

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PAGE_SECONDS = 60
PAGES_AT_ONCE = 3
READER = "anna"
"""The account in the pages, whoever runs the tests."""

HOME = "/home/anna/relay"
"""The folder in the pages."""

PORTS = (2525, 2587, 2465, 8080, 1025)
"""Ports of ours that pages write; each page gets free ones instead."""

NOT_EXECUTED = {
    "make run": "takes minutes and makes its own environment; tests/scenarios runs the same demo",
    "make test": "would run this test inside itself",
    "make check": "runs before the tests in .ci/run",
    "make reference": "writes into the source; tests/docs/test_reference.py compares what it would write",
    "make bench": "takes a quarter of an hour",
    ".venv/bin/python -m pytest": "would run tests inside a test",
    "staffetta init smarthost smtp.provider.example --output /etc": "writes to /etc; the page runs it elsewhere first",
    "staffetta init domain office.example --output /etc": "writes to /etc; the page runs it elsewhere first",
    "staffetta service install": "writes to /etc; tests/unit/cli_service installs it under another root",
    "staffetta account passwd": "asks for a password on a terminal",
    "staffetta queue hold from:anna@office.example": "nothing of hers waits there; the guide for bulk mail holds some",
    "staffetta check relay --live": "executed on docs/how-to/somebody-complains.md",
    "systemctl": "needs systemd as the first process",
    "docker": "needs a container engine; tests/unit/packaging runs the entry script without one",
}
"""Commands in `text` fences and why no test runs them."""

WITHOUT_COMMANDS: dict[str, str] = {
    "docs/index.md": "it only leads elsewhere",
    "docs/guides/abuse-desk.md": "its one command is executed on docs/how-to/somebody-complains.md",
}
"""Pages on which nothing is executed and why."""


class Step(NamedTuple):
    """One thing that a page does: `kind` is file, run, stop, fresh or publish."""

    kind: str
    line: int
    text: str
    expected: tuple[str, ...] = ()
    name: str = ""


def pages() -> list[Path]:
    """README and everything below docs that teaches."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "index.md"]
    for folder in ("guides", "how-to"):
        found += sorted((ROOT / "docs" / folder).glob("*.md"))
    return found


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def read(page: Path) -> tuple[list[Step], list[tuple[int, str]], set[str]]:
    """The steps of a page, its commands in `text` fences, and the programs that it needs."""
    steps: list[Step] = []
    quoted: list[tuple[int, str]] = []
    needs: set[str] = set()
    lines = page.read_text(encoding="utf-8").split("\n")
    number, named = 0, ""
    while number < len(lines):
        line = lines[number]
        number += 1
        if found := re.fullmatch(r"<!-- (file|stop|fresh|publish|needs)(?:: (.+))? -->", line.strip()):
            word, value = found[1], found[2] or ""
            if word == "file" and " = " in value:
                steps.append(Step("file", number, value.partition(" = ")[2] + "\n", name=value.partition(" = ")[0]))
            elif word == "file":
                named = value
            elif word == "needs":
                needs.update(value.split())
            else:
                steps.append(Step(word, number, ""))
        elif opened := re.fullmatch(r"( *)```(\w*)", line):
            begin = number
            while lines[number].strip() != "```":
                number += 1
            block = [one.removeprefix(opened[1]) for one in lines[begin:number]]
            number += 1
            if named:
                steps.append(Step("file", begin, "\n".join(block) + "\n", name=named))
                named = ""
            elif opened[2] == "console":
                steps += commands(block, begin)
            elif opened[2] == "sh":
                steps += [Step("run", begin + place + 1, text) for place, text in enumerate(block) if text.strip()]
            elif opened[2] in {"text", ""}:
                quoted += [(begin + place + 1, text[2:]) for place, text in enumerate(block) if text[:2] == "$ "]
        elif line.startswith("    $ "):
            quoted.append((number, line[6:]))
        elif line.strip():
            assert not named, f"{page}:{number}: no fence behind <!-- file: {named} -->"
    return steps, quoted, needs


def commands(block: list[str], begin: int) -> Iterator[Step]:
    """The commands of one fence. A line goes on that ends in a backslash or inside quotes, or opens a here-document."""
    place = 0
    while place < len(block):
        assert block[place].startswith("$ "), f"line {begin + place + 1}: output without a command"
        at, text = place, block[place][2:]
        place += 1
        while text.endswith("\\") or text.count("'") % 2:
            text += "\n" + block[place].removeprefix("> ")
            place += 1
        if here := re.search(r"<<'?(\w+)'?$", text):
            while not text.endswith(f"\n{here[1]}"):
                text += "\n" + block[place].removeprefix("> ")
                place += 1
        shown = place
        while place < len(block) and not block[place].startswith("$ "):
            place += 1
        yield Step("run", begin + at + 1, text, tuple(one for one in block[shown:place] if one.strip()))


class Sandbox:
    """One page: a folder, free ports, one shell on a terminal, a relay in the background."""

    def __init__(self, folder: Path, world: World) -> None:
        self.folder = folder
        self.world = world
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.hops = world.ports
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("STAFFETTA_")}
        self.variables = {
            **inherited,
            **world.variables,
            "STAFFETTA_CONSOLE_BIND": f"127.0.0.1:{self.ports[8080]}",
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "COLUMNS": "120",
            "TERM": "xterm",
            "NO_COLOR": "1",
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "PS1": "",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        for name in ("SUDO_USER", "CI", "PYTEST_CURRENT_TEST"):
            self.variables.pop(name, None)

    def run(self, steps: list[Step]) -> list[tuple[Step, int, list[str]]]:
        """Do everything; each command's status and the lines that it printed."""
        script = self.folder.parent / "page.sh"
        script.write_text("\n".join([PREAMBLE.format(ports=self._sed()), *self._lines(steps)]) + "\n")
        self.folder.mkdir()
        text = on_terminal(["bash", str(script)], self.folder, self.variables, self._publish)
        found = []
        for step, number in zip(steps, range(len(steps)), strict=True):
            if step.kind == "run":
                part = re.search(rf"\x01{number}\x02(.*)\x01{number} (\d+)\x02", text, re.DOTALL)
                assert part is not None, f"line {step.line}: never ended: {step.text}\n{text}"
                found.append((step, int(part[2]), self._shown(part[1])))
        return found

    def _lines(self, steps: list[Step]) -> Iterator[str]:
        for number, step in enumerate(steps):
            if step.kind == "file":
                source = self.folder.parent / f"file{number}"
                source.write_text(step.text)
                yield f'mkdir -p "$(dirname "{step.name}")" && cp {source} "{step.name}" && chmod 600 "{step.name}"'
                yield "__ports"
            elif step.kind == "stop":
                yield "__stop"
            elif step.kind == "fresh":
                yield f'__stop; mkdir -p "$__top/{number}"; cd "$__top/{number}"'
            elif step.kind == "publish":
                yield "printf '\\003'; while [ ! -e .published ]; do command sleep 0.02; done; rm .published"
            else:
                yield f"printf '\\001{number}\\002'"
                yield self._served(step.text) if is_serving(step.text) else self._with_ports(step.text)
                yield f"printf '\\001{number} %s\\002' $?; __ports"

    def _publish(self, text: str) -> None:
        """Put into the DNS what `init` printed last, all but the address, which is that of nobody here."""
        records: dict[str, dict[str, list[str]]] = {}
        for name, kind, value in re.findall(r"^  (\S+) +(MX|TXT|SRV) +(.+?)\r?$", text, re.MULTILINE):
            records.setdefault(name, {}).setdefault(kind, []).append(value)
        assert records, "nothing to publish was printed"
        for name, texts in records.items():
            self.world.zone.put(name, texts)
        (self.folder / ".published").touch()

    def _served(self, text: str) -> str:
        text = text.partition("  #")[0].strip()
        if ">" in text:
            return f"{text} &\n__pid=$!; __ready {text.partition('>')[0]}"
        return f"STAFFETTA_LOG_FORMAT=text {text} >.relay.log 2>&1 &\n__pid=$!; __ready {text}; cat .relay.log"

    def _with_ports(self, text: str) -> str:
        for ours, free in self.ports.items():
            text = re.sub(rf"(?<![\w.]){ours}(?!\w)", str(free), text)
        return text

    def _sed(self) -> str:
        rules = [rf"s/:{ours}\b/:{free}/g" for ours, free in self.ports.items()]
        rules += [rf"s/\(smtp\.provider\.example\):{port}\b/\1:{real}/g" for port, real in self.hops.items()]
        return "; ".join(rules)

    def _shown(self, text: str) -> list[str]:
        text = re.sub(re.escape(str(self.folder)) + r"(/\d+)?\b", HOME, text)
        for ours, free in (*self.ports.items(), *self.hops.items()):
            text = re.sub(rf"\b{free}\b", str(ours), text)
        lines = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in CONTROL.sub("", text).split("\n")]
        return [line for line in lines if line and not line.startswith(AS_ROOT)]


CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
"""What moves and colours on a terminal."""

AS_ROOT = "staffetta: running as root:"
"""A warning that only those see who run the tests as root."""

PREAMBLE = """\
__pid=
__top=$PWD
__ports() {{ find "$__top" -maxdepth 3 -name '*.toml' -exec sed -i '{ports}' {{}} + ; }}
__ready() {{
    shift 2
    for __try in $(seq 100); do
        staffetta health "$@" >/dev/null 2>&1 && return 0
        kill -0 "$__pid" 2>/dev/null || {{ wait "$__pid"; return; }}
        command sleep 0.05
    done
    return 99
}}
__stop() {{ if [ -n "$__pid" ]; then kill "$__pid" 2>/dev/null; wait "$__pid" 2>/dev/null; __pid=; fi; }}
sleep() {{  # a busy machine needs longer than the page says until what was sent has met its first attempt
    command sleep "$1"
    [ -n "$__pid" ] || return 0
    for __try in $(seq 20); do
        __told=$(staffetta status --json 2>/dev/null) || [ $? = 1 ] || return 0
        case "$__told" in *'"queued":0,"active":0'*) return 0 ;; esac
        command sleep 0.2
    done
}}
trap __stop EXIT
exec </dev/null
"""


def is_serving(text: str) -> bool:
    return re.match(r"staffetta( -c \S+)? run\b", text) is not None


CANDIDATES = iter(range(3000 + os.getpid() * 1009 % 6000, 9990))
"""Each is given to one page only. Test runs that began together, with neighbouring process ids, are far apart."""


def free_ports(count: int) -> list[int]:
    """Ports of four digits, as the pages have, so that carets stay where they are."""
    found: list[int] = []
    for port in CANDIDATES:
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", port))
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports")


def on_terminal(words: list[str], folder: Path, variables: dict[str, str], asked: Callable[[str], None]) -> str:
    """What a program prints on a terminal, until it ends. Everything that it started ends with it.

    `asked` is called with what was printed so far when the program prints the control character 3.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    process = subprocess.Popen(
        words, cwd=folder, env=variables, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    watch = threading.Timer(PAGE_SECONDS, lambda: os.killpg(process.pid, signal.SIGKILL))
    watch.start()
    octets = b""
    try:
        while True:
            try:
                more = os.read(ours, 65536)
            except OSError:  # nobody has the other end any more
                break
            if not more:
                break
            octets += more
            if b"\3" in more:
                asked(octets.decode("utf-8", "replace"))
    finally:
        process.wait()
        watch.cancel()
        watch.join()
        os.close(ours)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return octets.decode("utf-8", "backslashreplace")


SAME = (
    (re.compile(r"\b01[0-9A-Z]{24}\b"), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(T[\d:.]+Z)?\b"), "<date>"),
    (re.compile(r"\b\d\d:\d\d(:\d\d(\.\d+)?)?\b"), "<time>"),
    (re.compile(r"\b\d+(\.\d+)? (ms|s|min|h|d|days)\b"), "<span>"),
    (re.compile(r"\b\d+(\.\d+)? (B|KiB|MiB|GiB)\b"), "<size>"),
    (re.compile(r"\bs\d{6}([a-z]?)\b"), "<selector>"),
    (re.compile(rf"\b{re.escape(getpass.getuser())}\b"), READER),
    (re.compile(r"\s+"), " "),
)
"""What may be different each time."""


ANY_TEXT = re.compile(r"(\\ )?\\\.\\\.\\\.(\\ )?")
"""`...` as `re.escape` leaves it, with the blanks around it."""


def plain(line: str) -> str:
    for pattern, word in SAME:
        line = pattern.sub(word, line)
    return line.strip()


def agrees(expected: tuple[str, ...], printed: list[str]) -> bool:
    """True when the lines of the page are those that were printed; `...` is any text, and alone any lines."""
    parts = [
        r"(?:[^\n]*\n)*?" if line.strip() == "..." else ANY_TEXT.sub("[^\n]*", re.escape(plain(line))) + "\n"
        for line in expected
    ]
    return re.fullmatch("".join(parts), "".join(plain(line) + "\n" for line in printed)) is not None


Said = list[tuple[Step, int, list[str]]]


def perform(page: Path, folder: Path, new_world: Callable[[Path], World]) -> Said:
    """Everything that a page does, in a world of its own."""
    with new_world(folder / "world") as world:
        return Sandbox(folder / "page", world).run(read(page)[0])


@pytest.fixture(scope="session")
def performances(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, new_world: Callable[[Path], World]
) -> Iterator[dict[Path, Future[Said]]]:
    """The pages of this run, some at a time: most of a page is waiting."""
    # Other tests have a parameter of that name too.
    wanted = [page for item in request.session.items if isinstance(page := _params(item).get("page"), Path)]
    with ThreadPoolExecutor(PAGES_AT_ONCE) as pool:
        yield {
            page: pool.submit(perform, page, tmp_path_factory.mktemp("page"), new_world)
            for page in wanted
            if not missing_for(page) and name_of(page) not in WITHOUT_COMMANDS
        }
        pool.shutdown(cancel_futures=True)


def _params(item: pytest.Item) -> dict[str, Any]:
    callspec = getattr(item, "callspec", None)
    return callspec.params if callspec is not None else {}


def missing_for(page: Path) -> list[str]:
    """Programs that the page needs and this machine has not."""
    return sorted(name for name in read(page)[2] if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_command_does_what_the_page_says(page: Path, performances: dict[Path, Future[Said]]) -> None:
    if missing := missing_for(page):
        assert os.environ.get("CI") != "true", f"missing: {', '.join(missing)}"
        pytest.skip(f"missing: {', '.join(missing)}")
    executed = [step for step in read(page)[0] if step.kind == "run"]
    assert bool(executed) != (name_of(page) in WITHOUT_COMMANDS), "nothing is executed: say why in WITHOUT_COMMANDS"
    if not executed:
        return
    wrong = []
    for step, status, printed in performances[page].result():
        if status != 0 or (step.expected and not agrees(step.expected, printed)):
            shown = "\n".join(printed)
            wrong.append(f"{name_of(page)}:{step.line}: $ {step.text}\nstatus {status}, printed:\n{shown}\n")
    assert not wrong, "\n".join(wrong)


def test_commands_that_are_not_executed_have_a_reason() -> None:
    found: set[str] = set()
    for page in pages():
        for number, text in read(page)[1]:
            known = [one for one in NOT_EXECUTED if text.startswith(one)]
            assert known, f"{name_of(page)}:{number}: in a text fence, so never executed, and without a reason: {text}"
            found.update(known)
    assert found == set(NOT_EXECUTED), f"no page has it any more: {set(NOT_EXECUTED) - found}"


def test_each_shape_of_the_readme_takes_at_most_four_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shapes = text.partition("\n## Use it\n")[2].partition("\n## ")[0].split("\n### ")[1:]
    counts = [len(re.findall(r"^\$ ", shape, re.MULTILINE)) for shape in shapes]
    assert len(counts) == 3
    assert max(counts) <= 4, counts


def test_links_lead_somewhere() -> None:
    wrong: list[str] = []
    for page in [*pages(), *(ROOT / "docs" / "reference").glob("*.md")]:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            if ":" in path:
                continue
            leads = (page.parent / path) if path else page
            if not leads.exists():
                wrong.append(f"{name_of(page)}: {target}")
            elif anchor and leads.suffix == ".md" and anchor not in anchors(leads):
                wrong.append(f"{name_of(page)}: {target}: no such heading")
    assert not wrong, wrong


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        (("a ... c",), ["a b c"], True),
        (("a ... c",), ["a c"], True),
        (("a ... c",), ["a b d"], False),
        (("a", "...", "d"), ["a", "b", "c", "d"], True),
        (("a", "d"), ["a", "b", "d"], False),
        (("a",), ["a", "b"], False),
        (("12:00 1.0 KiB 3 ms",), ["13:59  7 B   1 s"], True),
        (("...", "status 8"), ["status 8"], True),
    ],
)
def test_what_counts_as_the_same(expected: tuple[str, ...], printed: list[str], same: bool) -> None:
    assert agrees(expected, printed) is same
