from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from app.data.reading.readers import read_rows
from app.data.reading.rows import Row, RowProblem
from tests.pace import at_most

Rows = list[tuple[str, ...]]


def read(folder: Path, name: str, text: str) -> tuple[Rows, list[RowProblem]]:
    (folder / name).write_bytes(text.encode())
    records = list(read_rows(folder / name))
    rows = [tuple(record.fields.values()) for record in records if isinstance(record, Row)]
    return rows, [record for record in records if isinstance(record, RowProblem)]


def written(rows: Rows, delimiter: str, end: str = "\n") -> str:
    return end.join(delimiter.join(cells) for cells in [("question", "answer"), *rows]) + end


PLAIN = [(f"Question {i}?", f"Answer {i}.") for i in range(12)]


@pytest.mark.parametrize(("suffix", "delimiter"), [(".tsv", "\t"), (".csv", ","), (".csv", ";"), (".csv", "|")])
@pytest.mark.parametrize("cell", ['What is a 5" pipe?', 'A 7" one', 'He said "yes', 'so "it" is', 'ends in 5"'])
def test_a_bare_quote_inside_a_cell_joins_no_rows(tmp_path: Path, suffix: str, delimiter: str, cell: str) -> None:
    rows = [*PLAIN]
    rows[2], rows[9], rows[10] = (cell, "Yes."), ("Which?", cell), (cell, cell)
    assert read(tmp_path, f"rows{suffix}", written(rows, delimiter)) == (rows, [])


@pytest.mark.parametrize("cell", ['"open', '"Yes" he said', '"5 inch', '"a" and "b"s'])
def test_a_quote_that_opens_a_cell_falsely_costs_its_own_row_at_most(tmp_path: Path, cell: str) -> None:
    rows = [*PLAIN]
    rows[2], rows[6], rows[9] = (cell, "x"), ("What?", cell), (cell, "y")
    assert read(tmp_path, "rows.tsv", written(rows, "\t")) == (rows, [])
    good, problems = read(tmp_path, "rows.csv", written(rows, ","))
    assert good == [row for row in rows if cell not in row] and [problem.line for problem in problems] == [4, 8, 11]


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("inner", ["\n", "\r\n", "\r"])
def test_quoted_cells_keep_line_breaks_of_any_kind(tmp_path: Path, delimiter: str, end: str, inner: str) -> None:
    rows = [("one", f"A{inner}B"), (f'two{inner}{inner}lines, "quoted"', f"{inner}C"), ("plain", "D"), ('5" pipe', "E")]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows([("question", "answer"), *rows])
    found, problems = read(tmp_path, "rows.csv", text.getvalue())
    plain = [tuple(cell.replace("\r\n", "\n").replace("\r", "\n") for cell in row) for row in rows]
    assert not problems
    assert [tuple(cell.replace("\r\n", "\n").replace("\r", "\n") for cell in row) for row in found] == plain


def test_files_of_different_line_ends_after_one_another_keep_their_rows(tmp_path: Path) -> None:
    for ends in (("\r", "\n"), ("\n", "\r"), ("\r\n", "\r"), ("\r", "\r\n")):
        body = written(PLAIN, ",", ends[0]) + written(PLAIN, ",", ends[1]).partition(ends[1])[2]
        assert read(tmp_path, "rows.csv", body) == (PLAIN + PLAIN, []), ends


def test_many_open_quotes_take_no_time(tmp_path: Path) -> None:
    text = written([('"open', "x"), *[("a" * 20, "b")] * 3000] * 20, ",")
    with at_most(5):
        rows, problems = read(tmp_path, "rows.csv", text)
    assert len(rows) == 60_000 and len(problems) == 20


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("This is my first sentence.\nSecond.\n", "This is my first sentence."),
        ('"My first, with\na break."\nSecond\n', "My first, with\na break."),
        ("我是第一行。\n我是第二行。\n", "我是第一行。"),
        ("Roses are red violets are blue\nsugar\n", "Roses are red violets are blue"),
    ],
)
def test_a_text_where_the_name_of_the_only_column_should_be_is_a_row(tmp_path: Path, text: str, first: str) -> None:
    (tmp_path / "a.csv").write_text(text, "utf-8")
    reading = read_rows(tmp_path / "a.csv")
    rows = [row.fields for row in reading if isinstance(row, Row)]
    assert rows[0] == {"text": first}
    assert len(rows) == 2
    assert any("first cell is a text" in note for note in reading.notes)


def test_a_name_of_the_only_column_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nOne.\n")
    assert [row.fields for row in read_rows(tmp_path / "a.csv") if isinstance(row, Row)] == [{"text": "One."}]


@pytest.mark.parametrize("delimiter", ["^", "\x1f", "\x01", "¦"])
def test_rare_delimiters_are_found(tmp_path: Path, delimiter: str) -> None:
    (tmp_path / "a.csv").write_text(f"question{delimiter}answer\na, b{delimiter}c\n", "utf-8")
    rows = [row.fields for row in read_rows(tmp_path / "a.csv") if isinstance(row, Row)]
    assert rows == [{"question": "a, b", "answer": "c"}]
