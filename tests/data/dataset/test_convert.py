from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.data.dataset.convert import convert
from app.data.dataset.options import DataOptions
from app.data.formats.conversions import conversation_of
from app.data.reading.readers import read_rows
from app.data.reading.rows import Row
from app.errors import DiskError, UsageError

CALL = {"id": "1", "type": "function", "function": {"name": "get", "arguments": {"a": [1, "x"]}}}
ROWS = [
    {"instruction": "a", "output": "=cmd|' /C calc'!A0"},
    {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "你好"}]},
    {
        "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [CALL]}],
        "tools": [{"name": "get"}],
    },
    {"text": "Once upon a time"},
    {"instruction": "a", "output": ""},
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n{bad", "utf-8")
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_canonical_rows_read_back_as_the_same_conversations(source: Path, suffix: str) -> None:
    out = source.with_name("out" + suffix)
    told = convert(read_rows(source), out, DataOptions())
    assert told.as_dict() == {
        "out": str(out), "rows": 4, "left_out": 2, "problem_counts": {"empty_answer": 1, "json": 1}
    }  # fmt: skip
    before = [conversation_of(row) for row in ROWS[:4]]
    after = [conversation_of(_without_empty(row.fields)) for row in read_rows(out) if isinstance(row, Row)]
    assert after == before
    assert not list(source.parent.glob(".*.part"))


def _without_empty(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def test_jsonl_is_the_canonical_form(source: Path) -> None:
    out = source.with_name("out.jsonl")
    convert(read_rows(source), out, DataOptions())
    lines = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert lines[1] == {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "你好"}]}
    assert lines[2]["messages"][1]["tool_calls"] == [CALL]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_missing_folder_is_named_and_is_no_full_disk(source: Path, suffix: str) -> None:
    with pytest.raises(DiskError, match="There is no folder"):
        convert(read_rows(source), source.parent / "gone" / f"out{suffix}", DataOptions())


@pytest.mark.parametrize("name", ["out.csv", "out.xlsx", "out.tsv", "out"])
def test_no_form_that_a_spreadsheet_would_run(source: Path, name: str) -> None:
    """A18: cells that begin with = + - @ are formulas to a spreadsheet, so there is no CSV."""
    with pytest.raises(UsageError, match=r"\.jsonl and \.parquet"):
        convert(read_rows(source), source.with_name(name), DataOptions())
    assert not source.with_name(name).exists()
