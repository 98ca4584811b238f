"""`docs/security.md`: each test that it names is there, and no threat is without one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "security.md").read_text()

ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("|") and not line.startswith(("| ---", "| threat |", "| who |"))
]
THREATS = [row for row in ROWS if len(row) == 3]
_NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def names_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def test_every_test_that_the_page_names_is_there() -> None:
    named = _NAMED.findall(PAGE)
    assert len(named) > 60
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (TESTS / path).is_file() or name not in names_in(TESTS / path)
    ]
    assert missing == []


def test_every_threat_has_a_defence_and_a_test() -> None:
    assert len(THREATS) > 40
    for threat, defence, tests in THREATS:
        assert threat and defence
        assert _NAMED.sub("", tests).strip(", ") == "", tests
        assert _NAMED.search(tests), threat
