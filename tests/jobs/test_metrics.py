import json
from pathlib import Path

import pytest

from app.jobs import metrics


def rows_of(path: Path) -> list[int]:
    return [row["step"] for row in metrics.steps_of(metrics.read_rows(path))]


@pytest.mark.fault("F9")
def test_a_torn_last_line_is_skipped_and_the_file_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = metrics.MetricsWriter(path)
    writer.write({"step": 1, "loss": 2.0})
    writer.close()
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    assert rows_of(path) == [1]
    writer = metrics.MetricsWriter(path)
    writer.write({"step": 2, "loss": 1.0})
    writer.close()
    assert rows_of(path) == [1, 2]


def test_numbers_that_are_not_finite_become_null_and_are_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = metrics.MetricsWriter(path)
    writer.write({"step": 1, "loss": float("nan"), "grad_norm": float("inf")})
    writer.close()
    row = json.loads(path.read_text())
    assert row["loss"] is None and row["grad_norm"] is None
    assert row["not_finite"] == ["loss", "grad_norm"]


def test_rewind_drops_later_steps_and_keeps_events(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = metrics.MetricsWriter(path)
    for step in range(1, 6):
        writer.write({"step": step, "loss": 1.0})
    writer.write({"event": "checkpoint", "message": "", "step": 5})
    writer.close()
    assert metrics.rewind(path, 3) == 2
    assert rows_of(path) == [1, 2, 3]
    assert len(metrics.events_of(metrics.read_rows(path))) == 1
    assert metrics.rewind(path, 3) == 0


def test_thin_keeps_first_and_last() -> None:
    rows = [{"step": step} for step in range(5000)]
    thinned = metrics.thin(rows, 1000)
    assert len(thinned) == 1000
    assert thinned[0] == rows[0] and thinned[-1] == rows[-1]
    assert metrics.thin(rows[:10], 1000) == rows[:10]


def test_last_row_carries_the_newest_validation_loss(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert metrics.last_row(path) is None
    writer = metrics.MetricsWriter(path)
    writer.write({"step": 1, "loss": 2.0})
    writer.write({"event": "validation", "message": "", "eval_loss": 1.5, "step": 1})
    writer.write({"step": 2, "loss": 1.0})
    writer.close()
    row = metrics.last_row(path)
    assert row is not None and (row["step"], row["loss"], row["eval_loss"]) == (2, 1.0, 1.5)


def test_the_end_of_a_file_is_parsed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n')
    parsed = []
    parse = metrics.parse_lines
    monkeypatch.setattr(metrics, "parse_lines", lambda data: parsed.append(data) or parse(data))
    assert [metrics.tail_rows(path)[-1]["step"] for _ in range(5)] == [1] * 5
    assert len(parsed) == 1
    writer = metrics.MetricsWriter(path)
    writer.write({"step": 2, "loss": 1.0})
    writer.close()
    assert metrics.tail_rows(path)[-1]["step"] == 2
    metrics.rewind(path, 1)
    assert metrics.tail_rows(path)[-1]["step"] == 1
    path.unlink()
    assert metrics.tail_rows(path) == []


def test_few_ends_of_files_are_kept(tmp_path: Path) -> None:
    for number in range(50):
        path = tmp_path / f"{number}.jsonl"
        path.write_text('{"step": 1, "loss": 2.0}\n')
        metrics.tail_rows(path)
    assert len(metrics._tails) <= metrics._KEPT_TAILS
