"""All runs as a table that the browser sorts."""

from __future__ import annotations

from pathlib import Path

from app.config.presets import load
from app.jobs import directory, requests
from app.jobs.metrics import MetricsWriter
from app.runs.current import Filter, training_runs
from app.ui.shell.language import Translator
from app.ui.tabs.train import run_table
from app.workspace import open_workspace

T = Translator()


def test_each_run_is_a_row_that_sorts_by_its_values_and_leads_to_it(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    for name, loss in (("<b>first</b>", 0.5), ("second", 12.0)):
        job = directory.create(workspace, "train", load("cpu-starter").config.as_dict(), name=name)
        metrics = MetricsWriter(job.metrics_file)
        metrics.write({"step": 7, "loss": loss, "time": 1.0})
        metrics.close()
        job.write_status(directory.Status(state="finished", step=7, of=7))
        if name == "second":
            going = directory.create(workspace, "train", load("cpu-starter").config.as_dict(), name="going")
            going.write_status(directory.Status(state="queued"))
    shown = run_table.table(training_runs(workspace), T)
    assert shown.count("<tr>") == 4
    assert 'data-sort="0.5"' in shown and 'data-sort="12"' in shown
    assert "<b>first" not in shown
    assert f'href="#/train/{job.id}"' in shown


def test_tags_stand_in_the_table_and_the_filter_finds_them(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    for name in ("first", "second"):
        job = directory.create(workspace, "train", load("cpu-starter").config.as_dict(), name=name)
    requests.relabel(job, tags="keep, <i>low</i> rank")
    runs = training_runs(workspace)
    shown = run_table.table(runs, T)
    assert shown.count("wb-tag") == 2 and "<i>" not in shown
    assert 'data-sort="keep, &lt;i&gt;low&lt;/i&gt; rank"' in shown
    assert [one.id for one in runs if Filter.of("keep", "all").takes(one)] == [job.id]


def test_one_run_is_no_table(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    directory.create(workspace, "train", load("cpu-starter").config.as_dict())
    assert run_table.table(training_runs(workspace), T) == ""
