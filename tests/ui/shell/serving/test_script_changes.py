"""The framework's script is changed in the places that are known, and left alone where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.ui.shell.serving import script_changes


@pytest.mark.parametrize("change", script_changes.CHANGES, ids=lambda change: change.file)
def test_every_change_fits_the_installed_framework(change: script_changes.Change) -> None:
    """A new version of the framework, in which a piece reads otherwise, is slow and says nothing: here it fails."""
    files = [path.read_text(encoding="utf-8") for path in script_changes.ASSETS.glob(f"{change.file}*.js")]
    assert [text.count(change.before) for text in files if change.before in text] == [1]


def test_a_piece_that_is_not_there_leaves_the_script_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Blocks-1.js").write_text("another version", encoding="utf-8")
    monkeypatch.setattr(script_changes, "ASSETS", tmp_path)
    assert script_changes.changed_files.__wrapped__() == {}


def test_no_change_needs_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a version where only some pieces fit, what they name is there, or is asked for first."""
    for change in script_changes.CHANGES:
        made = {word for word in ("wbMade", "wbPlaces") if word in change.after}
        for word in made:
            assert f"let {word}" in change.after or f"const {word}" in change.after or f"typeof {word}" in change.after
