"""Single rows changed, dropped and put back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.errors import DataError, WorkspaceError
from app.runs import dataset_selection, row_edits
from app.runs.dataset_selection import DatasetSelection
from app.workspace import Workspace

ROWS = "question,answer\nWhere is the rope?,In box 7.\nWhere is the saw?,In box 6.\n"


@pytest.fixture
def look(workspace: Workspace, tmp_path: Path) -> DatasetSelection:
    file = tmp_path / "boxes.csv"
    file.write_text(ROWS, encoding="utf-8")
    return dataset_selection.keep_upload(workspace, str(file))


def _rows(look: DatasetSelection) -> list[dict[str, str]]:
    return [dict(row.texts) for row in dataset_selection.rows(look, 0, 9)]


def test_a_row_is_changed_and_dropped_and_put_back_step_by_step(workspace: Workspace, look: DatasetSelection) -> None:
    assert not row_edits.is_changed(look) and row_edits.before(workspace, look) is None
    written = row_edits.changed(workspace, look, 2, {"answer": "In box 9.\nBelow the rope."})
    assert _rows(written)[1] == {"question": "Where is the saw?", "answer": "In box 9.\nBelow the rope."}
    assert _rows(written)[0] == _rows(look)[0] and written.label == "boxes.edited.jsonl"
    dropped = row_edits.changed(workspace, written, 1, None)
    assert [row["question"] for row in _rows(dropped)] == ["Where is the saw?"]
    assert row_edits.before(workspace, dropped) == written and row_edits.before(workspace, written) == look
    assert Path(look.file).read_text(encoding="utf-8") == ROWS


def test_what_is_not_there_is_not_changed(workspace: Workspace, look: DatasetSelection) -> None:
    with pytest.raises(DataError, match="no row 3"):
        row_edits.changed(workspace, look, 3, None)
    with pytest.raises(DataError, match="no text in the column rank"):
        row_edits.changed(workspace, look, 1, {"rank": "8"})
    with pytest.raises(DataError, match="only row"):
        row_edits.changed(workspace, row_edits.changed(workspace, look, 1, None), 1, None)
    with pytest.raises(WorkspaceError):
        row_edits.changed(workspace, DatasetSelection(file="/etc/passwd"), 1, None)


def test_a_line_that_cannot_be_read_is_carried_over_as_it_stands(workspace: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "broken.jsonl"
    good = json.dumps({"question": "a?", "answer": "b"})
    file.write_text(f"{good}\n{{broken\n{good}\n", encoding="utf-8")
    look = dataset_selection.keep_upload(workspace, str(file))
    left = row_edits.changed(workspace, look, 1, None)
    assert Path(left.file).read_text(encoding="utf-8").splitlines() == ["{broken", good]


def test_a_note_that_leads_outside_leads_nowhere(workspace: Workspace, look: DatasetSelection) -> None:
    written = row_edits.changed(workspace, look, 1, None)
    note = Path(f"{written.file}.before.json")
    note.write_text(json.dumps({"file": "/etc/passwd", "label": "x"}), encoding="utf-8")
    assert row_edits.before(workspace, written) is None
