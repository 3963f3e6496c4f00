from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.data.reading.readers import read_rows
from app.data.reading.rows import Row, RowProblem

A = [{"instruction": f"Say {i}", "output": f"It is {i}."} for i in range(3)]
B = [{"instruction": f"Name {i}", "output": f"{i}!"} for i in range(2)]
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]


def lines(rows: list[dict[str, str]]) -> str:
    return "\n".join(map(json.dumps, rows))


def read(folder: Path, name: str, text: str) -> tuple[list[dict[str, object]], list[RowProblem], list[str]]:
    (folder / name).write_text(text, encoding="utf-8")
    reading = read_rows(folder / name)
    records = list(reading)
    problems = [record for record in records if isinstance(record, RowProblem)]
    return [record.fields for record in records if isinstance(record, Row)], problems, reading.notes


ALL = {
    "array on one line": json.dumps(A + B),
    "two arrays": json.dumps(A, indent=1) + "\n" + json.dumps(B, indent=1) + "\n",
    "two arrays on two lines": json.dumps(A) + "\n" + json.dumps(B),
    "two arrays on one line": json.dumps(A) + json.dumps(B),
    "second array with a mark": json.dumps(A, indent=1) + "\n\ufeff" + json.dumps(B, indent=1),
    "array, then lines": json.dumps(A, indent=1) + "\n" + lines(B),
    "pretty objects": "\n".join(json.dumps(row, indent=2) for row in A + B),
    "objects with commas": ",\n".join(map(json.dumps, A + B)) + ",\n",
    "objects on one line": " ".join(map(json.dumps, A + B)),
    "array of arrays": json.dumps([A, B]),
    "array of arrays, pretty": json.dumps([A, B], indent=1),
    "two wrapped arrays": json.dumps({"data": A}) + "\n" + json.dumps({"data": B}),
    "described": json.dumps({"version": "1.0", "name": 'a "b"', "data": A + B}),
    "comments": "// mine\n["
    + json.dumps(A[0])
    + ",\n/* two */\n"
    + ",\n// more\n".join(map(json.dumps, A[1:] + B))
    + "]",
    "open brackets on the first row": "[" + ",\n".join(map(json.dumps, A + B)) + "]",
}


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".txt", ""])
@pytest.mark.parametrize("kind", ALL)
def test_no_row_is_lost_however_lists_are_written(tmp_path: Path, kind: str, suffix: str) -> None:
    if kind == "comments" and suffix in (".txt", ""):
        pytest.skip("text that begins with a comment is no JSON by its looks")
    rows, problems, _ = read(tmp_path, f"rows{suffix}", ALL[kind])
    assert rows == A + B and not problems


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("order", [("train", "test"), ("test", "train"), ("validation", "train", "test")])
def test_of_saved_splits_the_training_rows_are_read(
    tmp_path: Path, order: tuple[str, ...], indent: int | None, suffix: str
) -> None:
    splits = {name: A if name == "train" else B for name in order}
    rows, problems, notes = read(tmp_path, f"rows{suffix}", json.dumps(splits, indent=indent))
    assert rows == A and not problems
    assert len(notes) == 1 and "'train' is trained" in notes[0] and "2 rows of 'test'" in notes[0]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"data": A, "more": B}),
        json.dumps({"mine": A, "yours": B}, indent=1),
        json.dumps({"test": A}),
        json.dumps(A) + "\nthe end",
        json.dumps(A, indent=1) + "\n} ]",
        json.dumps({"train": A})[:-1] + ", oops }",
    ],
)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_what_is_not_read_is_complained_about(tmp_path: Path, text: str, suffix: str) -> None:
    rows, problems, _ = read(tmp_path, f"rows{suffix}", text)
    assert problems and rows in ([], A)


def test_a_list_of_turns_is_one_conversation(tmp_path: Path) -> None:
    for text in (json.dumps(TURNS), json.dumps(TURNS) + "\n" + json.dumps(TURNS)):
        rows, problems, _ = read(tmp_path, "rows.jsonl", text)
        assert rows == [{"messages": TURNS}] * len(text.splitlines()) and not problems
    rows, _, _ = read(tmp_path, "rows.json", json.dumps([TURNS, TURNS], indent=1))
    assert rows == [{"messages": TURNS}] * 2


def test_a_long_array_on_one_line_of_a_jsonl_file_is_read(tmp_path: Path) -> None:
    many = [{"text": f"{i} " + "word " * 300} for i in range(4000)]
    rows, problems, _ = read(tmp_path, "rows.jsonl", json.dumps(many))
    assert rows == many and not problems
