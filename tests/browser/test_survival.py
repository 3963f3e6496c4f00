"""A run does not need its page: the tab is closed, the server killed, and the next page shows the whole curve."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.config import presets
from app.jobs import requests
from app.jobs.metrics import read_rows, steps_of
from app.runs.submission import submit
from app.workspace import open_workspace
from tests.browser.conftest import Opened
from tests.ui.running_page import RunningPage

DATA = Path(__file__).parents[2] / "assets" / "datasets" / "pirate.json"
STEPS = 60


@pytest.mark.timeout(900)
@pytest.mark.fault("F1")
@pytest.mark.fault("F2")
def test_tab_closed_and_server_killed(open_page: Callable[..., Opened], tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path / "workspace")
    config = presets.load("cpu-starter").config.changed({"data.file": str(DATA), "training.max_steps": STEPS})
    with RunningPage(workspace.root) as served:
        job = submit.start(workspace, config, name="survivor")
        opened = open_page(served)
        opened.page.click("#tab-train-button")
        requests.wait(job, lambda status: status.phase == "training" and status.step >= 5, timeout_s=300)
        pid = job.status().pid
        opened.page.close()
        assert served.process is not None
        served.process.kill()
        served.process.wait(timeout=20)
    at_kill = job.status().step
    time.sleep(5)
    assert job.status().pid == pid
    assert job.status().state == "finished" or job.status().step > at_kill
    with RunningPage(workspace.root) as again:
        opened = open_page(again)
        opened.page.click("#tab-train-button")
        opened.page.wait_for_selector("#wb-run .wb-state")
        assert requests.wait(job, timeout_s=500).state == "finished"
        opened.page.wait_for_function(
            "document.querySelector('#wb-run').innerText.includes('finished')", timeout=20_000
        )
        assert f"{STEPS} of {STEPS}" in opened.page.inner_text("#wb-run")
        assert opened.page.locator("#wb-charts path.wb-line-strong").count() >= 5
    assert job.status().pid == pid
    assert [row["step"] for row in steps_of(read_rows(job.metrics_file))] == list(range(1, STEPS + 1))
