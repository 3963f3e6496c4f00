"""A name that a row gives twice costs the row, with both said; nothing is dropped without a word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.data.reading.readers import read_rows
from app.data.reading.records.repeated_names import refuse_repeated_names
from app.data.reading.rows import BadRow, Row, RowProblem

WHOLE = '{"instruction": "Say it", "output": "It."}'
TWICE = {
    "two answers": ('{"instruction": "Name a colour", "output": "red", "output": "blue"}', "output"),
    "spaces before the colon": ('{"instruction" : "a", "instruction" : "b", "output" : "c"}', "instruction"),
    "in a message": (
        '{"messages": [{"role": "user", "content": "a", "content": "b"}, {"role": "assistant", "content": "c"}]}',
        "content",
    ),
    "escaped": ('{"instruction": "a", "outp\\u0075t": "b", "output": "c"}', "output"),
}


def read(folder: Path, name: str, text: str) -> tuple[list[dict[str, object]], list[RowProblem]]:
    (folder / name).write_text(text, encoding="utf-8")
    records = list(read_rows(folder / name))
    rows = [record.fields for record in records if isinstance(record, Row)]
    return rows, [record for record in records if isinstance(record, RowProblem)]


@pytest.mark.parametrize("form", ["lines", "array", "pretty"])
@pytest.mark.parametrize("kind", TWICE)
def test_a_name_given_twice_costs_its_row_and_is_named(tmp_path: Path, kind: str, form: str) -> None:
    text, name = TWICE[kind]
    written = {
        "lines": f"{WHOLE}\n{text}\n{WHOLE}\n",
        "array": f"[{WHOLE},\n{text},\n{WHOLE}]",
        "pretty": "[\n" + ",\n".join(one.replace(", ", ",\n  ") for one in (WHOLE, text, WHOLE)) + "\n]",
    }[form]
    rows, problems = read(tmp_path, "rows.jsonl" if form == "lines" else "rows.json", written)
    assert rows == [json.loads(WHOLE)] * 2
    assert len(problems) == 1 and f"gives {name} twice" in problems[0].message


@pytest.mark.parametrize(
    "text",
    [
        '{"output": "red", "output": "red", "instruction": "a"}',
        '{"instruction": "Write JSON", "output": "{\\"a\\": 1, \\"a\\": 2}"}',
        '{"instruction": "Say \\"hi\\": now", "output": "\\"ho\\": then"}',
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}',
        '[{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]',
    ],
)
def test_the_same_value_again_and_json_in_a_text_are_no_loss(text: str) -> None:
    refuse_repeated_names(json.loads(text), text)


def test_what_is_refused_is_what_the_parser_would_have_dropped() -> None:
    text = '{"a": {"b": 1, "c": 2, "b": 3}}'
    with pytest.raises(BadRow, match="gives b twice"):
        refuse_repeated_names(json.loads(text), text)
