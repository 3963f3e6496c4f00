"""docs/speed.md says what the measurements say, and nothing that was not measured."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import speed_page


def test_the_page_is_that_of_the_measurements() -> None:
    assert speed_page.FILE.read_text(encoding="utf-8") == speed_page.page(), "run `python -m benchmarks.speed_page`"


def test_a_new_measurement_changes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in speed_page.RESULTS.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    held = json.loads((tmp_path / "first_step.json").read_text())
    held["ratio"] = {"median": 0.123, "min": 0.1, "max": 0.2}
    (tmp_path / "first_step.json").write_text(json.dumps(held))
    (tmp_path / "merge.json").unlink()
    monkeypatch.setattr(speed_page, "RESULTS", tmp_path)
    rows = [line for line in speed_page.page().splitlines() if "../benchmarks/results" in line]
    assert any("0.12x | 0.10 to 0.20 |" in row for row in rows)
    merged = [row for row in rows if "merge.json" in row]
    assert merged and all("not measured" in row for row in merged)


def test_every_figure_has_its_command() -> None:
    for figure in speed_page.FIGURES:
        assert hasattr(import_module(figure.command.split()[2]), "main"), figure.command


def test_figures_are_not_measured_only_where_a_card_or_a_quiet_machine_is_wanted() -> None:
    lacking = {figure.source for figure in speed_page.FIGURES if speed_page.value_of(figure) is None}
    assert lacking <= {"throughput_gpu", "train_speed"}
