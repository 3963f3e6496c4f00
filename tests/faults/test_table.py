"""The table of faults and attacks in docs/security.md says what the tests are, no more and no less."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[2]
TABLE = HOUSE / "docs" / "security.md"
F_CASES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 24, 26)
A_CASES = (1, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 16, 17, 18, 19, 21, 23)
CASES = {f"F{number}" for number in F_CASES} | {f"A{number}" for number in A_CASES}
_ROW = re.compile(r"\| ([FA][0-9]+) \| [^|]+ \| (.+) \|")


def marked() -> set[tuple[str, str]]:
    """Return (case, file::test) of every test that is marked for a case, read from the source."""
    found = set()
    for path in (HOUSE / "tests").rglob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        if "mark.fault(" not in text:
            continue
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef):
                name = f"{path.relative_to(HOUSE / 'tests').as_posix()}::{node.name}"
                found |= {(case, name) for mark in node.decorator_list if (case := _case(mark))}
    return found


def _case(mark: ast.expr) -> str:
    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
        return str(ast.literal_eval(mark.args[0]))
    return ""


def told() -> set[tuple[str, str]]:
    """Return (case, file::test) of every row of the table."""
    rows = [_ROW.fullmatch(line) for line in TABLE.read_text(encoding="utf-8").splitlines()]
    return {(row[1], test) for row in rows if row for test in re.findall(r"`([^`]+)`", row[2])}


def test_the_table_is_equal_to_the_tests() -> None:
    assert told() - marked() == set(), "the table names tests that are not there, or not marked for the case"
    assert marked() - told() == set(), "tests are marked for a case and are not in the table"


def test_every_case_has_a_test() -> None:
    assert {case for case, _ in marked()} == CASES
