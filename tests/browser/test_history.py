"""The Train room in a browser: two ticked runs side by side, and as a file."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from app.config.presets import load
from app.jobs import directory, supervisor
from app.jobs.directory import JobDirectory
from app.jobs.metrics import MetricsWriter
from app.runs import request_paths
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
            {"adapter.r": rank, "data.file": str(request_paths.SAMPLES / "pirate.json")}
        )
        with supervisor.admission(workspace):  # the page would start a run that waits
            job = directory.create(workspace, "train", config.as_dict(), name=f"rank {rank}")
            metrics = MetricsWriter(job.metrics_file)
            for step in range(1, STEPS + 1):
                loss = 1.0 + 3 * math.exp(-step / (8 * rank))
                metrics.write(
                    {"step": step, "loss": loss, "time": float(step), "rss_bytes": 6e8, "tokens_per_s": 900.0}
                )
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
        page.wait_for_function("n => document.querySelectorAll('#wb-runs [aria-checked=true]').length > n", arg=index)
    page.wait_for_selector("#wb-compare-table td:has-text('Rank')")
    assert page.locator("#wb-compare-chart path.wb-line-strong").count() == 2
    with page.expect_download() as saved:
        page.click("#wb-csv-curves")
    with Path(saved.value.path()).open(encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == 2 * STEPS + 1
    opened.watch.check()


def test_what_is_deleted_is_asked_about_by_name_and_size(
    served: RunningPage, runs: list[JobDirectory], open_page: Callable[..., Opened]
) -> None:
    opened = open_page(served)
    page = opened.page
    opened.tab("train")
    page.wait_for_selector("#wb-run .wb-state")
    page.click("#wb-run-remove")
    newest = page.inner_text("#wb-run .wb-run-head b")
    page.wait_for_selector(f"#wb-remove-question:has-text('“{newest}”')")
    page.click("#wb-remove-no")
    page.wait_for_selector("#wb-remove-question", state="hidden")
    for name in (newest, "rank 4" if newest == "rank 8" else "rank 8"):
        page.click("#wb-run-remove")
        page.wait_for_selector(f"#wb-remove-question:has-text('“{name}”')")
        page.click("#wb-remove-yes")
        page.wait_for_selector("#wb-remove-question", state="hidden")
        page.wait_for_function("name => !document.querySelector('#wb-runs').innerText.includes(name)", arg=name)
    page.click("#wb-bin .label-wrap")
    page.wait_for_selector("#wb-bin-list li >> nth=1")
    page.click("#wb-bin-empty")
    page.wait_for_selector("#wb-bin-question:has-text('2 runs')")
    page.click("#wb-bin-no")
    page.wait_for_selector("#wb-bin-question", state="hidden")
    assert page.locator("#wb-bin-list li").count() == 2
    page.click("#wb-bin-list [data-pick^='delete:'] >> nth=0")
    page.wait_for_selector("#wb-bin-question:has-text('for good')")
    page.click("#wb-bin-yes")
    page.wait_for_selector("#wb-bin-list li >> nth=1", state="detached")
    assert page.locator("#wb-bin-list li").count() == 1
    opened.watch.check()
