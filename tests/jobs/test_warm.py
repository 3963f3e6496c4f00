"""A worker without a job yet: it owns nothing, gets one job, and never outlives its use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from app.config import presets
from app.jobs import directory, requests, supervisor, warm
from app.jobs.lock import is_held
from app.workspace import Workspace

DATA = Path(__file__).parents[2] / "assets" / "datasets" / "pirate.json"
pytestmark = pytest.mark.skipif(not warm.CAN_WARM, reason="this system hands no descriptors over")


@pytest.fixture
def expected(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace in which a run is expected, with its warm worker under way."""
    monkeypatch.setenv("WORKBENCH_WARM", "1")
    monkeypatch.setattr(warm, "LEAST_FREE_BYTES", 0)
    requests.expect_run(workspace)
    return workspace


def until(found: Callable[[], object], seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def supervisors(workspace: Workspace) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(workspace.root) in (process.info["cmdline"] or []) and "app.jobs.supervisor" in process.info["cmdline"]
    ]


def warm_workers(workspace: Workspace) -> list[psutil.Process]:
    found = []
    for each in supervisors(workspace):
        with suppress(psutil.NoSuchProcess):  # of one that ends in between two looks, a zombie among them
            found += [child for child in each.children() if is_warm(child)]
    return found


def is_warm(process: psutil.Process) -> bool:
    try:
        return "--warm" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.slow
def test_the_expected_run_is_handed_to_the_worker_that_waits(expected: Workspace) -> None:
    until(lambda: warm_workers(expected))
    (waiting,) = warm_workers(expected)
    config = presets.load("cpu-starter").config.changed({"data.file": str(DATA), "training.max_steps": 1})
    job = requests.submit(expected, "train", config.as_dict())
    status = requests.wait(job, lambda status: status.state == "running", timeout_s=90)
    assert status.pid == waiting.pid and is_held(job.lock_file)
    assert not warm_workers(expected) or warm_workers(expected) == [waiting]
    assert requests.wait(job, timeout_s=180).state == "finished", job.log_file.read_text()
    assert "train_runtime" in job.log_file.read_text()
    until(lambda: has_ended(waiting))
    until(lambda: not is_held(job.lock_file))


@pytest.mark.slow
def test_a_killed_supervisor_takes_it_along(expected: Workspace) -> None:
    until(lambda: warm_workers(expected))
    (waiting,), (above,) = warm_workers(expected), supervisors(expected)
    above.kill()
    until(lambda: has_ended(waiting))


def test_it_is_let_go_when_another_job_owns_the_accelerator_or_nobody_wishes(expected: Workspace) -> None:
    until(lambda: warm_workers(expected))
    (waiting,) = warm_workers(expected)
    job = requests.submit(expected, "selftest", {"steps": 500, "step_s": 0.02})
    status = requests.wait(job, lambda status: status.state == "running", timeout_s=60)
    until(lambda: not warm_workers(expected))
    assert status.pid != waiting.pid
    requests.stop(expected, job)
    assert requests.wait(job, timeout_s=60).state == "stopped"
    until(lambda: warm_workers(expected))
    past = time.time() - warm.WISH_S - 1
    os.utime(expected.root / "warm.wish", (past, past))
    until(lambda: not warm_workers(expected))


def test_nothing_is_started_where_it_is_switched_off(workspace: Workspace) -> None:
    requests.expect_run(workspace)
    assert not warm.wished(workspace) and not is_held(supervisor.supervisor_lock(workspace))


def test_a_wish_is_written_down_once_in_a_while(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_WARM", "1")
    assert warm.wish(workspace) and not warm.wish(workspace) and warm.wished(workspace)


@pytest.mark.parametrize(
    ("kind", "facts", "fits"),
    [("train", {}, True), ("measure", {}, True), ("train", {"processes": 2}, False), ("engine", {}, False)],
)
def test_only_training_in_one_process_fits(
    workspace: Workspace, kind: str, facts: dict[str, object], fits: bool
) -> None:
    assert warm.fits(directory.create(workspace, kind, {}, **facts)) is fits
