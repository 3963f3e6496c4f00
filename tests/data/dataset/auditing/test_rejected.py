"""What is left out can be taken away: every row with its line, the reason, and the row as it came."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.data.chat_template.render import Renderer
from app.data.chat_template.tokenizer import ModelTokenizer
from app.data.dataset.auditing.audit import Check
from app.data.dataset.auditing.rejected import write_rejected
from app.data.dataset.options import DataOptions
from app.data.reading.readers import read_rows
from app.data.reading.rows import Row, RowProblem

FOX = "The quick brown fox jumps over the lazy dog and then it goes home to sleep for a very long time"
ROWS: list[Any] = [
    {"question": "a", "answer": "b"},
    {"question": "a", "answer": "b"},
    {"question": FOX, "answer": FOX},
    {"question": FOX.upper(), "answer": FOX},
    {"question": "mail", "answer": "me@corp.io"},
    {"question": "empty", "answer": ""},
    '{"question": "torn',
    {"question": "long", "answer": "word " * 400},
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in ROWS), "utf-8")
    return path


def dropped(source: Path, options: DataOptions, renderer: Renderer | None) -> list[tuple[int, str, Any]]:
    out = source.with_name("dropped.jsonl")
    written = write_rejected(lambda: read_rows(source), out, options, renderer)
    lines = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert written.rows == len(lines)
    return [(line["line"], line["kind"], line["row"]) for line in lines]


def test_only_what_cannot_be_used_without_a_choice(source: Path, chatml: ModelTokenizer) -> None:
    options = DataOptions.checked(max_length=200)
    assert dropped(source, options, Renderer(chatml)) == [
        (6, "empty_answer", ROWS[5]),
        (7, "json", ROWS[6]),
        (8, "over_limit", ROWS[7]),
    ]
    assert dropped(source, options, None) == [(6, "empty_answer", ROWS[5]), (7, "json", ROWS[6])]


def test_choices_are_followed_and_counted_alike(source: Path, chatml: ModelTokenizer) -> None:
    chosen: dict[str, Any] = {"drop": ["duplicate", "near_duplicate"], "repair": ["email"], "over_length": "cut"}
    options, renderer = DataOptions.checked(max_length=200, **chosen), Renderer(chatml)
    found = dropped(source, options, renderer)
    assert [(line, kind) for line, kind, _ in found] == [
        (2, "duplicate"),
        (4, "near_duplicate"),
        (6, "empty_answer"),
        (7, "json"),
        (8, "over_limit"),
    ]
    report = Check(options, renderer).run(read_rows(source))
    assert report.left_out.total() == report.rows - report.usable == len(found)
    assert dict(report.left_out) == {kind: 1 for _, kind, _ in found}


def test_a_broken_row_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b'instruction,output\na,b,c\n"open,x\nd,\xff\n=1+1,e\n')
    found = dropped(path, DataOptions(), None)
    assert [(line, kind, row) for line, kind, row in found] == [
        (2, "columns", "a,b,c"),
        (3, "csv", '"open,x'),
        (4, "encoding", "d,\udcff"),
    ]
    array = tmp_path / "rows.json"
    array.write_text('[{"text": "a"},\n{"text": NaN, "x": [1]},\n{"text": "b"}]')
    assert dropped(array, DataOptions(), None) == [(2, "number", '{"text": NaN, "x": [1]}')]


def test_listed_problems_show_the_row_and_hold_no_long_text(source: Path) -> None:
    def records() -> Iterator[Row | RowProblem]:
        yield RowProblem(1, "json", "broken", "mend it", 1, original="x" * 1_000_000)
        yield Row(2, 2, {"question": "q", "answer": ""})

    report = Check(DataOptions()).run(records())
    assert [len(report.excerpts[0]), report.excerpts[1]] == [302, '{"question": "q", "answer": ""}']
    assert report.problems[0].original == ""
