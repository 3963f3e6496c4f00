"""CONTRIBUTING.md and the ways of docs/architecture.md name files and names that are there."""

import ast
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PAGES = {name: (PROJECT / name).read_text(encoding="utf-8") for name in ("CONTRIBUTING.md", "docs/architecture.md")}
STOPS = sorted({stop for text in PAGES.values() for stop in re.findall(r"`(app/[\w/]+\.py::\w+)`", text)})


def names_in(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


@pytest.mark.parametrize("stop", STOPS)
def test_a_name_in_the_pages_is_there(stop: str) -> None:
    file, _, name = stop.partition("::")
    assert name in names_in(PROJECT / file)


def test_every_file_that_the_worked_examples_name_is_there() -> None:
    paths = re.findall(r"`((?:app|tests|assets)/[\w/.]+)`", PAGES["CONTRIBUTING.md"])
    assert not [path for path in paths if "CODE" not in path and not (PROJECT / path).exists()]


def test_each_worked_example_is_short_and_names_code_and_a_test() -> None:
    examples = re.split(r"^## Add ", PAGES["CONTRIBUTING.md"], flags=re.MULTILINE)[1:]
    assert len(examples) == 8
    for example in examples:
        assert "::" in example and "`tests/" in example.replace("`python -m app.config.reference`", "`tests/"), example
        assert len(re.findall(r"^\d\. ", example, re.MULTILINE)) <= 3


def test_each_way_has_at_most_ten_stops() -> None:
    ways = re.split(r"^### ", PAGES["docs/architecture.md"].partition("## Five ways")[2], flags=re.MULTILINE)[1:]
    assert len(ways) == 5
    assert all(3 <= len(re.findall(r"^\d+\. ", way, re.MULTILINE)) <= 10 for way in ways)
