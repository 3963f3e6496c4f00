"""What `data check` prints for people."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.main import main


def test_what_is_wrong_with_all_rows_has_no_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"q": "a", "a": "b"}\n{"q": "c", "a": "d"}\n', encoding="utf-8")
    assert main(["data", "check", str(file), "--map", "user=nosuch", "--map", "assistant=a"]) == 0
    printed = capsys.readouterr().out
    assert "line 2: The row has no column nosuch" in printed
    assert "\nNothing would be trained" in printed and "None" not in printed
    assert "full" not in printed, "of no rows none is packed"
