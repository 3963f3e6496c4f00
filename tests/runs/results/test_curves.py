"""Curves follow a file that grows, is torn, or is replaced."""

from __future__ import annotations

import json
import math
from pathlib import Path

from app.jobs.metrics import MetricsWriter
from app.runs.results import curves
from tests.pace import at_most


def write(path: Path, first: int, last: int) -> None:
    writer = MetricsWriter(path)
    for step in range(first, last + 1):
        writer.write({"step": step, "loss": 10.0 - step / 100, "learning_rate": 1e-3, "time": float(step)})
    writer.close()


def test_what_is_added_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert curves.read(path).points("loss") == []
    write(path, 1, 5)
    assert len(curves.read(path).points("loss")) == 5
    write(path, 6, 9)
    assert [step for step, _ in curves.read(path).points("loss")] == list(range(1, 10))


def test_a_torn_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, 1, 2)
    with path.open("a") as file:
        file.write('{"step": 3, "lo')
    assert len(curves.read(path).points("loss")) == 2
    with path.open("a") as file:
        file.write('ss": 1.0}\n')
    assert curves.read(path).points("loss")[-1] == (3.0, 1.0)


def test_a_replaced_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, 1, 50)
    assert len(curves.read(path).points("loss")) == 50
    fresh = tmp_path / "fresh"
    write(fresh, 1, 20)
    fresh.replace(path)
    assert len(curves.read(path).points("loss")) == 20


def test_validation_events_and_odd_numbers(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = [
        {"event": "validation", "message": "v", "eval_loss": 1.5, "step": 4},
        {"event": "checkpoint", "message": "c", "step": 4},
        {"step": 5, "loss": None, "not_finite": ["loss"]},
        {"step": "six", "loss": 1.0},
        {"loss": 1.0},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = curves.read(path)
    assert found.points("eval_loss") == [(4.0, 1.5)]
    assert [event["event"] for event in found.events] == ["checkpoint"]
    assert len(found.points("loss")) == 1 and math.isnan(found.points("loss")[0][1])


def test_a_long_run_is_polled_in_milliseconds(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step, "loss": 1.0, "time": 0.0}) + "\n" for step in range(100_000)))
    curves.read(path)
    write(path, 100_000, 100_000)
    with at_most(0.2):
        grown = curves.read(path)
    assert len(grown.points("loss")) == 100_001
