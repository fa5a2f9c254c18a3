"""The house rules that a machine can check: who may import whom, what tier 1 never touches, sizes, names.

A failure names the file and the line. The size limits are ratchets: RATCHET holds today's exceptions and only shrinks.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "staffetta"

TIERS = {
    "mail": 0,
    "message": 1,
    "protocol": 1,
    "dns": 2,
    "mailauth": 2,
    "tlspolicy": 2,
    "policy": 3,
    "spool": 3,
    "accounts": 3,
    "mailbox": 3,
    "net": 4,
    "observe": 4,
    "intake": 5,
    "delivery": 5,
    "access": 5,
    "control": 6,
    "config": 6,
    "console": 6,
    "cli": 6,
    "sendmail": 6,
}
"""Imports never point up, and packages form no circle; the trades of tier 5 do not know one another.
`app`, `demo` and `testing` may import everything; of the rest only `cli` may start them."""

FORBIDDEN_IN_TIER_ONE = {"asyncio", "socket", "ssl", "time", "random", "logging", "threading", "os"}
WORDS_WITHOUT_IDEA = {"utils", "util", "helpers", "common", "misc", "base"}
MODULE_LINES = 400
FUNCTION_LINES = 60
RATCHET: dict[str, int] = {}
"""Exceptions, `file` or `file:function` to its size today. Only ever make this smaller."""


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def package_of(path: Path) -> str:
    relative = path.relative_to(SOURCE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path: Path) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found.append((node.lineno, node.module or ""))
            if node.module == "staffetta":
                found += [(node.lineno, f"staffetta.{alias.name}") for alias in node.names]
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    package = package_of(path)
    if package not in TIERS:
        assert package in {"app", "demo", "testing", "__init__", "__main__"}, f"{path}: a package without a tier"
        return
    for line, name in imports(path):
        if not name.startswith("staffetta."):
            continue
        other = name.split(".")[1]
        if other == package or other == "__version__":
            continue
        if package == "cli" and other in {"app", "demo"}:
            continue
        assert other in TIERS, f"{path}:{line}: {package} imports {other}"
        assert TIERS[other] <= TIERS[package], f"{path}:{line}: {package} imports {other}, which is above it"
        if TIERS[other] == 5:
            assert TIERS[package] != 5, f"{path}:{line}: {package} imports {other}: the trades do not know one another"


def test_packages_form_no_circle() -> None:
    arrows: dict[str, set[str]] = {}
    for path in modules():
        names = [name.split(".")[1] for _, name in imports(path) if name.startswith("staffetta.")]
        arrows.setdefault(package_of(path), set()).update(name for name in names if name in TIERS)
    for package in TIERS:
        arrows.get(package, set()).discard(package)

    def reach(package: str, trail: tuple[str, ...]) -> None:
        assert package not in trail, f"a circle: {' -> '.join((*trail, package))}"
        for other in sorted(arrows.get(package, ())):
            reach(other, (*trail, package))

    for package in TIERS:
        reach(package, ())


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_tier_one_has_no_io_and_no_clock(path: Path) -> None:
    package = package_of(path)
    if TIERS.get(package, 9) > 1:
        return
    for line, name in imports(path):
        assert name.split(".")[0] not in FORBIDDEN_IN_TIER_ONE, f"{path}:{line}: {name} in tier {TIERS[package]}"


@pytest.mark.parametrize("package", ["policy"])
def test_judges_have_no_io_and_no_clock(package: str) -> None:
    for path in (SOURCE / package).rglob("*.py"):
        for line, name in imports(path):
            assert name.split(".")[0] not in FORBIDDEN_IN_TIER_ONE, f"{path}:{line}: {name} in {package}"


def test_modules_and_functions_fit() -> None:
    found: dict[str, int] = {}
    for path in modules():
        name = str(path.relative_to(SOURCE))
        text = path.read_text()
        lines = text.count("\n")
        if lines > MODULE_LINES:
            found[name] = lines
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                if size > FUNCTION_LINES:
                    found[f"{name}:{node.name}"] = size
    grown = {name: size for name, size in found.items() if size > RATCHET.get(name, 0)}
    assert not grown, f"past {MODULE_LINES} lines a module, {FUNCTION_LINES} a function: {grown}"
    assert set(RATCHET) <= set(found), "an exception is no longer needed: remove it from RATCHET"


def test_names_have_an_idea() -> None:
    assert not [path for path in modules() if path.stem in WORDS_WITHOUT_IDEA]


def test_every_module_says_what_it_is_for() -> None:
    assert not [str(path) for path in modules() if not ast.get_docstring(ast.parse(path.read_text()))]
