"""Hostile files (A11): a typed error or a problem with its line, within seconds, and the good rows stay."""

from __future__ import annotations

import gzip
import json
import resource
import zipfile
from pathlib import Path

import pytest

from app.data.reading.readers import read_rows
from app.data.reading.rows import Row, RowProblem
from app.errors import DataError
from tests.pace import at_most

GOOD = json.dumps({"instruction": "Say hi", "output": "hi"})


def outcome(path: Path) -> tuple[int, list[RowProblem]]:
    """Read a file within 5 seconds of processor time and 500 MB more than before."""
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with at_most(5):
            records = list(read_rows(path))
    finally:
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before < 500_000
    return sum(isinstance(r, Row) for r in records), [r for r in records if isinstance(r, RowProblem)]


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        ("depth", "[" * 100_000 + "]" * 100_000),
        ("depth", '{"text": ' + '{"a":' * 200 + "1" + "}" * 201),
        ("number", '{"text": ' + "9" * 5000 + "}"),
        ("number", '{"text": NaN}'),
        ("number", '{"text": -Infinity}'),
        ("nul", '{"text": "a\\u0000b"}'),
        ("nul", '{"text": "a\0b"}'),
        ("encoding", '{"text": "\\ud800 alone"}'),
        ("json", '{"text": "never closed'),
        ("columns", json.dumps({f"c{i}": i for i in range(20_000)})),
        ("too_long", '{"text": "' + "x" * 17_000_000 + '"}'),
        ("too_long", json.dumps({str(i): i for i in range(1_000_000)})),
    ],
    ids=lambda value: value if len(value) < 20 else "row",
)
@pytest.mark.fault("A11")
def test_one_bad_line_never_costs_the_good_ones(tmp_path: Path, kind: str, bad: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{GOOD}\n{bad}\n{GOOD}\n", "utf-8")
    good, problems = outcome(path)
    assert good == 2
    assert [(problem.line, problem.kind) for problem in problems] == [(2, kind)]
    assert problems[0].message and problems[0].fix


@pytest.mark.parametrize("kind", ["depth", "number", "too_long"])
def test_one_bad_value_in_an_array_never_costs_the_good_ones(tmp_path: Path, kind: str) -> None:
    bad = {
        "depth": "[" * 100_000 + "]" * 100_000,
        "number": '{"text": [1, "]", NaN]}',
        "too_long": '{"text": "' + ("x" * 999 + '\\"') * 20_000 + '"}',
    }[kind]
    path = tmp_path / "rows.json"
    path.write_text(f"[{GOOD},\n{bad},\n{GOOD}]", "utf-8")
    good, problems = outcome(path)
    assert (good, [problem.kind for problem in problems], problems[0].line) == (2, [kind], 2)


def test_a_broken_value_without_end_in_an_array(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(f"[{GOOD},\n" + '{"text": "' + '\\"' * 20_000_000)
    with pytest.raises(DataError, match="Line 2"):
        outcome(path)


def test_a_byte_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD.encode() + b'\n{"text": "\xff"}\n' + GOOD.encode())
    good, problems = outcome(path)
    assert good == 2 and problems[0].kind == "encoding" and problems[0].line == 2


@pytest.mark.fault("A11")
def test_a_line_of_a_gigabyte(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as file:
        file.write(GOOD.encode() + b'\n{"text": "')
        for _ in range(1000):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n' + GOOD.encode())
    good, problems = outcome(path)
    path.unlink()
    assert good == 2 and [(problem.line, problem.kind) for problem in problems] == [(2, "too_long")]


@pytest.mark.parametrize("content", [b"0", b"{}\n"])
@pytest.mark.fault("A11")
def test_archives_that_grow_a_thousandfold(tmp_path: Path, content: bytes) -> None:
    data = content * (20_000_000 // len(content))
    packed = tmp_path / "bomb.jsonl.gz"
    packed.write_bytes(gzip.compress(data, 6))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", data)
    for path in (packed, tmp_path / "bomb.zip"):
        with pytest.raises(DataError, match="unpacks to more than"):
            outcome(path)


def test_an_honest_repetitive_archive_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n".join(json.dumps({"text": f"row {i} " * 20}).encode() for i in range(20_000))))
    assert outcome(path) == (20_000, [])


@pytest.mark.fault("A11")
def test_a_million_columns(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text(",".join(map(str, range(1_000_000))) + "\n1,2\n")
    with pytest.raises(DataError, match="Line 1: The header cannot be read"):
        outcome(path)


@pytest.mark.fault("A11")
def test_ten_million_empty_cells(tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    path.write_text("instruction,output\na,b\n" + "," * 10_000_000 + "\nc,d\n")
    good, problems = outcome(path)
    assert good == 2 and [(problem.line, problem.kind) for problem in problems] == [(3, "too_long")]


@pytest.mark.fault("A11")
def test_quotes_opened_on_every_line(tmp_path: Path) -> None:
    path = tmp_path / "quotes.csv"
    path.write_text("instruction,output\n" + '"open,b\n' * 999 + "c,d\n")
    good, problems = outcome(path)
    assert good + len(problems) >= 500 and problems[-1].line == 1000


def test_binary_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "picture.bin"
    path.write_bytes(bytes(100_000))
    with pytest.raises(DataError, match=r"not text|empty"):
        outcome(path)
