from __future__ import annotations

import json
from pathlib import Path

from app.data.dataset.build import build
from app.data.dataset.options import DataOptions
from app.models.names import STARTER, resolve
from app.training.rows import notes_of


def test_a_run_says_what_is_not_trained_of_its_file(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "w"}, {"role": "assistant", "content": "x", "weight": 0.5}]
    rows = [
        *({"question": f"What is {i}?", "answer": f"It is {i}."} for i in range(5)),
        *({"question": "", "answer": "a"}, {"question": None, "answer": "b"}, {"question": "q", "answer": "nan"}),
        *({"question": "What is 1?", "answer": "It is 1."}, {"messages": said}),
    ]
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    options = DataOptions.checked(drop=["duplicate"], max_length=64)
    built = build(source, Path(resolve(STARTER)), options, tmp_path / "datasets")
    assert built is not None and built.manifest["rows"] == 6
    assert built.manifest["left_out"] == {"empty_question": 2, "missing_value": 1, "duplicate": 1}
    left_out, weights = notes_of(built.manifest)
    assert left_out.startswith("4 of 10 rows are left out (2 empty_question, 1 duplicate, 1 missing_value)")
    assert weights.startswith("1 of the rows have a loss weight other than 0 and 1")
    assert notes_of({"rows_read": 3, "left_out": {}, "warnings": []}) == []
