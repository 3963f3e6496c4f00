"""Runs side by side on the page: the best figure is marked, differences stand out, values read as people say them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.config.presets import load
from app.jobs import directory
from app.jobs.directory import JobDirectory
from app.jobs.metrics import MetricsWriter
from app.runs.results.comparison import compare
from app.ui.shell.language import Translator
from app.ui.tabs.train import compare_view
from app.workspace import open_workspace

T = Translator("en")


@pytest.fixture
def two(tmp_path: Path) -> list[JobDirectory]:
    """Two finished runs that differ in rank, in data and in what came of them."""
    workspace, jobs = open_workspace(tmp_path), []
    for rank, loss, name in ((8, 2.0, "<i>small</i>"), (64, 1.0, "large")):
        changes = {"adapter.r": rank, "data.file": f"/data/of/{rank}.jsonl"}
        job = directory.create(workspace, "train", load("cpu-starter").config.changed(changes).as_dict(), name=name)
        metrics = MetricsWriter(job.metrics_file)
        for step in range(1, 6):
            metrics.write({"step": step, "loss": loss / step, "time": 10.0 * step * (rank / 8)})
        metrics.close()
        job.write_status(directory.Status(state="finished", step=5, of=5))
        jobs.append(job)
    return jobs


def row_of(table: str, name: str) -> str:
    (row,) = [row for row in table.split("<tr>") if f'title="{name}"' in row]
    return row


def test_the_best_of_a_figure_is_marked_once_and_settings_have_no_best(two: list[JobDirectory]) -> None:
    table = compare_view.table(compare(two), False, T)
    losses = row_of(table, "best_loss").split("<td")
    assert "wb-best" not in losses[2] and "wb-best" in losses[3] and "0.2000" in losses[3]
    rank = row_of(table, "adapter.r")
    assert rank.count("wb-differs") == 2 and "wb-best" not in rank
    assert "wb-differs" not in row_of(table, "model.name") and "<i>small" not in table


def test_only_differences_leaves_out_what_is_the_same(two: list[JobDirectory]) -> None:
    table = compare_view.table(compare(two), True, T)
    assert 'title="adapter.r"' in table and 'title="model.name"' not in table
    same = compare_view.table(compare([two[0], two[0]]), True, T)
    assert 'colspan="3"' in same and 'title="adapter.r"' not in same


def test_a_file_is_its_name_with_the_whole_path_beside_it(two: list[JobDirectory]) -> None:
    row = row_of(compare_view.table(compare(two), False, T), "data.file")
    assert ">8.jsonl<" in row and 'title="/data/of/8.jsonl"' in row


def test_losses_lie_over_one_another_by_step_and_by_time(two: list[JobDirectory]) -> None:
    by_step = compare_view.overlay(two, False, False, T)
    by_time = compare_view.overlay(two, True, False, T)
    assert "series-0" in by_step and "series-1" in by_step and "&lt;i&gt;small" in by_step
    ends = [{path.split()[-2] for path in re.findall(r' d="(M[^"]+)"', one)} for one in (by_step, by_time)]
    assert len(ends[0]) < len(ends[1])  # at the same step, and at different times
    assert T("train.no_points") in compare_view.overlay([], False, False, T)
