"""The Train room's buttons in a browser: pause and resume, bin and restore, a sweep; the test plays the child."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from app.jobs import directory, requests
from app.jobs.directory import JobDirectory, Status
from app.jobs.lock import FileLock
from app.jobs.metrics import MetricsWriter
from app.presets import load
from app.ui import allowed
from app.workspace import Workspace, open_workspace
from tests.browser.conftest import Opened
from tests.ui.running_page import RunningPage

CONFIG = load("cpu-starter").config.changed({"data.file": str(allowed.SAMPLES / "pirate.json")})
WAITING = "#wb-waiting .wb-queue li"


@pytest.fixture
def played(served: RunningPage) -> Iterator[JobDirectory]:
    """A run that lives as long as the test holds its lock; nothing else is started beside it."""
    workspace = open_workspace(served.workspace)
    job = directory.create(workspace, "train", CONFIG.as_dict(), name="played")
    lock = FileLock(job.lock_file)
    assert lock.acquire()
    writer = MetricsWriter(job.metrics_file)
    for step in range(1, 31):
        writer.write({"step": step, "loss": 4.0 - step / 20, "time": float(step)})
    writer.close()
    job.write_status(Status(state="running", step=30, of=90, phase="training"))  # without a beat it is never silent
    yield job
    for one in directory.all_jobs(workspace):
        if not one.status().final:
            one.write_status(Status(state="stopped"))
    lock.release()


def waiting(workspace: Workspace) -> list[JobDirectory]:
    return [job for job in directory.all_jobs(workspace) if job.recorded_status().state == "queued"]


def test_a_run_is_paused_resumed_removed_and_restored(
    served: RunningPage, played: JobDirectory, open_page: Callable[..., Opened]
) -> None:
    opened, workspace = open_page(served), open_workspace(served.workspace)
    page = opened.page
    opened.tab("train")
    page.click("#wb-run-pause")
    page.wait_for_selector("#wb-run .wb-state:has-text('pausing')")
    assert played.pause_requested()
    played.write_status(Status(state="stopped", step=31, of=90, ended=time.time()))
    page.wait_for_selector("#wb-run .wb-state:has-text('paused')")
    page.click("#wb-run-resume")
    page.wait_for_selector(WAITING)  # its old process, played here, has not gone yet
    assert [job.id for job in waiting(workspace)] == [played.id]
    page.click(f"{WAITING} [data-pick^=out]")
    page.wait_for_selector("#wb-run .wb-state:has-text('stopped')")

    other = directory.create(workspace, "train", CONFIG.as_dict(), name="to the bin")
    other.write_status(Status(state="finished", step=9, of=9))
    page.click("#wb-runs .wb-card-body:has-text('to the bin')")
    page.wait_for_selector("#wb-run:has-text('to the bin')")
    page.click("#wb-run-remove")
    page.wait_for_selector("#wb-runs .wb-card:has-text('to the bin')", state="detached")
    assert not other.path.exists()
    page.click("#wb-bin .label-wrap")
    page.click("#wb-bin-list [data-pick^=restore]")
    page.wait_for_selector("#wb-runs .wb-card:has-text('to the bin')")
    assert other.status().state == "finished"
    opened.watch.check()


def test_a_sweep_is_counted_then_queued(
    served: RunningPage, played: JobDirectory, open_page: Callable[..., Opened]
) -> None:
    opened, workspace = open_page(served), open_workspace(served.workspace)
    page = opened.page
    opened.tab("train")
    page.click("#wb-runs .wb-card-body:has-text('played')")
    page.click("#wb-run-box .label-wrap")
    page.click("#wb-run-clone")  # its settings and data become the draft
    page.wait_for_selector("#wb-use-plan", state="visible")
    opened.tab("train")
    page.click("#wb-sweep-open")
    page.locator("#wb-sweep input, #wb-sweep textarea").nth(0).fill("4,8,none")
    page.wait_for_selector("#wb-sweep-shown .wb-error")
    assert page.locator("#wb-sweep-go").is_disabled()
    page.locator("#wb-sweep input, #wb-sweep textarea").nth(0).fill("4,8")
    page.wait_for_function("document.querySelectorAll('#wb-sweep-shown li').length === 2")
    page.click("#wb-sweep-go:not([disabled])")
    page.wait_for_function(f"document.querySelectorAll('{WAITING}').length === 2")
    assert sorted(job.config["adapter"]["r"] for job in waiting(workspace)) == [4, 8]
    for job in waiting(workspace):
        assert re.search("r=[48]", job.name)
        requests.stop(workspace, job)
    played.write_status(replace(played.recorded_status(), state="stopped"))
    opened.watch.check()
