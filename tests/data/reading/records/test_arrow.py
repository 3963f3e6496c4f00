"""Cells that Arrow can hold and a row cannot: each costs its own row, and none the process."""

from __future__ import annotations

import datetime
import decimal
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from app.data.reading.readers import read_rows
from app.data.reading.rows import Row, RowProblem
from app.errors import DataError
from tests.pace import at_most


def written(path: Path, columns: dict[str, Any]) -> Path:
    table = pa.table(columns)
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    return path


def text_column(*offsets: int) -> Any:
    starts = pa.py_buffer(struct.pack(f"<{len(offsets)}i", *offsets))
    return pa.Array.from_buffers(pa.string(), len(offsets) - 1, [None, starts, pa.py_buffer(b"ab\xff\xfecd")])


def read(path: Path) -> tuple[list[Row], list[RowProblem]]:
    records = list(read_rows(path))
    return [r for r in records if isinstance(r, Row)], [r for r in records if isinstance(r, RowProblem)]


NAMESAKES = pa.StructArray.from_arrays([pa.array(["a", "b"]), pa.array(["c", "d"])], ["k", "k"])
BAD_CELLS = {
    "a date beyond the calendar": (pa.array([1, 2**31 - 1], pa.date32()), "shape", [2]),
    "a time without end": (pa.array([1, 2**62], pa.duration("s")), "shape", [2]),
    "a zone that nobody knows": (pa.array([None, 1], pa.timestamp("s", tz="Mars/Phobos")), "shape", [2]),
    "fields of one name": (NAMESAKES, "shape", [1, 2]),
    "bytes that are no text": (text_column(0, 2, 6), "encoding", [2]),
    "NUL in a message": (pa.array([[{"content": "a"}], [{"content": "a\0"}]]), "nul", [2]),
    "a message over the cap": (pa.array([[{"content": "a"}], [{"content": "a" * 5_000_000}]]), "too_long", [2]),
}


@pytest.mark.parametrize("name", BAD_CELLS)
def test_a_bad_cell_costs_its_own_row(tmp_path: Path, name: str) -> None:
    column, kind, lines = BAD_CELLS[name]
    rows, problems = read(written(tmp_path / "rows.arrow", {"text": ["good", "fine"], "more": column}))
    assert [(problem.line, problem.kind) for problem in problems] == [(line, kind) for line in lines]
    assert len(rows) == 2 - len(lines) and all(problem.fix for problem in problems)


@pytest.mark.parametrize("offsets", [(0, -100, 6), (0, 2, 2**30), (6, 0, 6)])
def test_cells_outside_of_the_file_are_refused_before_they_are_read(tmp_path: Path, offsets: tuple[int, ...]) -> None:
    path = written(tmp_path / "rows.arrow", {"text": text_column(0, 2, 6)})
    data, honest = path.read_bytes(), struct.pack("<3i", 0, 2, 6)
    assert data.count(honest) == 1
    path.write_bytes(data.replace(honest, struct.pack("<3i", *offsets)))
    with pytest.raises(DataError, match="Line 1"):
        read(path)


def test_cells_become_what_json_would_hold(tmp_path: Path) -> None:
    cells = {
        "bytes": [b"hello"],
        "picture": [b"\x89PNG\xff"],
        "price": [decimal.Decimal("1.50")],
        "day": [datetime.date(2024, 1, 2)],
        "missing": [float("nan")],
        "runs": pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), pa.array(["x"])),
    }
    rows, _ = read(written(tmp_path / "rows.arrow", cells))
    assert list(rows[0].fields.values()) == ["hello", None, "1.50", "2024-01-02", None, "x"]


@pytest.mark.parametrize(
    "column",
    [
        pa.RunEndEncodedArray.from_arrays(pa.array([1_000_000], pa.int32()), pa.array(["long text " * 20])),
        pa.nulls(2_000_000_000),
    ],
    ids=["runs", "nulls"],
)
def test_rows_made_from_nothing_are_refused_at_once(tmp_path: Path, column: Any) -> None:
    path = written(tmp_path / "rows.arrow", {"text": column})
    with at_most(1), pytest.raises(DataError, match="rows and more than one a byte"):
        read(path)


def test_columns_of_one_name_are_told_apart(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pa.ipc.new_stream(str(tmp_path / "rows"), table.schema) as writer:  # the stream form, without a suffix
        writer.write_table(table)
    rows, _ = read(tmp_path / "rows")
    assert rows[0].fields == {"text": "a", "text_2": "b"}


def test_values_deep_in_lists_and_objects_become_what_json_holds(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    cells = [{"when": datetime.date(2024, 5, 1), "raw": [b"text", b"\xff"], "share": [float("nan"), 0.5]}]
    table = pa.table({"a": pa.array(cells), "m": pa.array([[("k", b"v")]], pa.map_(pa.string(), pa.binary()))})
    pq.write_table(table, tmp_path / "deep.parquet")
    (row,) = read_rows(tmp_path / "deep.parquet")
    assert isinstance(row, Row)
    assert row.fields["a"] == {"when": "2024-05-01", "raw": ["text", None], "share": [None, 0.5]}
    assert row.fields["m"] == [["k", "v"]]
