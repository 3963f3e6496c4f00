"""The Train room in a browser: two ticked runs side by side, and as a file."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from app.jobs import directory
from app.jobs.directory import JobDirectory
from app.jobs.metrics import MetricsWriter
from app.presets import load
from app.ui import allowed
from app.workspace import open_workspace
from tests.browser.conftest import Opened
from tests.ui.running_page import RunningPage

STEPS = 200


@pytest.fixture(scope="module")
def runs(served: RunningPage) -> list[JobDirectory]:
    """Two finished runs of different ranks."""
    workspace = open_workspace(served.workspace)
    made = []
    for rank in (4, 8):
        config = load("cpu-starter").config.changed(
            {"adapter.r": rank, "data.file": str(allowed.SAMPLES / "pirate.json")}
        )
        job = directory.create(workspace, "train", config.as_dict(), name=f"rank {rank}")
        metrics = MetricsWriter(job.metrics_file)
        for step in range(1, STEPS + 1):
            loss = 1.0 + 3 * math.exp(-step / (8 * rank))
            metrics.write({"step": step, "loss": loss, "time": float(step), "rss_bytes": 6e8, "tokens_per_s": 900.0})
        metrics.close()
        job.write_status(directory.Status(state="finished", step=STEPS, of=STEPS))
        made.append(job)
    return made


def test_ticked_runs_stand_side_by_side_and_leave_as_a_file(
    served: RunningPage, runs: list[JobDirectory], open_page: Callable[..., Opened]
) -> None:
    opened = open_page(served)
    page = opened.page
    opened.tab("train")
    for index in range(2):
        page.locator("#wb-runs .wb-tick-box").nth(index).click()
        page.wait_for_function("n => document.querySelectorAll('[aria-checked=true]').length > n", arg=index)
    page.wait_for_selector("#wb-compare-table td:has-text('Rank')")
    assert page.locator("#wb-compare-chart path.wb-line-strong").count() == 2
    with page.expect_download() as saved:
        page.click("#wb-csv-curves")
    with Path(saved.value.path()).open(encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == 2 * STEPS + 1
    opened.watch.check()
