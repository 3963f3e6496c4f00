import time
from dataclasses import replace
from pathlib import Path

import pytest

from app.errors import JobError, WorkspaceError
from app.jobs import directory
from app.jobs.directory import Status
from app.jobs.lock import FileLock
from app.workspace import Workspace


def make(workspace: Workspace) -> directory.JobDirectory:
    return directory.create(workspace, "selftest", {"steps": 3}, name="x", seed=7)


def test_job_yaml_says_what_was_asked(workspace: Workspace) -> None:
    job = directory.find(workspace, make(workspace).id)
    assert job.config == {"steps": 3}
    assert job.job["seed"] == 7 and job.job["schema"] == 1
    assert job.job["versions"]["torch"].startswith("2.13.0")
    assert job.status().state == "queued"


def test_a_live_status_without_a_lock_is_interrupted(workspace: Workspace) -> None:
    job = make(workspace)
    job.write_status(Status(state="running", step=4, heartbeat=time.time()))
    assert job.status().state == "interrupted"
    lock = FileLock(job.lock_file)
    assert lock.acquire()
    assert job.status().state == "running"
    lock.release()
    job.write_status(replace(job.recorded_status(), state="finished"))
    assert job.status().state == "finished"


def test_a_start_has_a_moment_to_take_its_lock(workspace: Workspace) -> None:
    job = make(workspace)
    job.write_status(Status(state="starting", heartbeat=time.time()))
    assert job.status().state == "starting"
    job.write_status(Status(state="starting", heartbeat=time.time() - 60))
    assert job.status().state == "interrupted"


def test_a_child_without_a_heartbeat_is_shown_as_silent(workspace: Workspace) -> None:
    job = make(workspace)
    lock = FileLock(job.lock_file)
    assert lock.acquire()
    job.write_status(Status(state="running", heartbeat=time.time() - 60))
    assert job.status().state == "running" and job.status().silent
    assert job.describe()["responding"] is False
    lock.release()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "running", "step": {}}'])
def test_a_damaged_status_is_told_as_interrupted(workspace: Workspace, text: str) -> None:
    job = make(workspace)
    job.status_file.write_text(text)
    assert job.status().state == "interrupted"


def test_a_secret_is_in_a_file_of_its_own(workspace: Workspace) -> None:
    job = directory.create(workspace, "engine", {"model": "starter"}, "canary-secret")
    assert job.secret_file.read_text() == "canary-secret"
    assert job.secret_file.stat().st_mode & 0o077 == 0
    assert "canary-secret" not in job.job_file.read_text()


def test_unknown_and_damaged_jobs_are_clear_errors(workspace: Workspace) -> None:
    with pytest.raises(JobError, match="jobs list"):
        directory.find(workspace, "20260101-000000-train-abcdef")
    with pytest.raises(WorkspaceError):
        directory.find(workspace, "../../etc")
    job = make(workspace)
    Path(job.job_file).write_text("kind: nothing\n")
    with pytest.raises(JobError, match="cannot be read"):
        _ = directory.find(workspace, job.id).config


def test_time_left_follows_the_last_steps(workspace: Workspace) -> None:
    job = make(workspace)
    lock = FileLock(job.lock_file)
    assert lock.acquire()
    job.write_status(Status(state="running", step=10, of=20, heartbeat=time.time()))
    job.metrics_file.write_text("".join(f'{{"step": {s}, "loss": 1, "time": {100 + 2 * s}}}\n' for s in range(1, 11)))
    assert job.eta_seconds() == pytest.approx(20.0)
    lock.release()
    assert job.eta_seconds() is None
