import errno
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from app.errors import JobError, WorkspaceError
from app.files import replace_file
from app.jobs import directory
from app.jobs.child import JobChild
from app.jobs.directory import Status
from app.jobs.lock import FileLock, is_held
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


def test_a_start_of_which_no_process_came_waits_still(workspace: Workspace) -> None:
    job = make(workspace)
    lock = FileLock(job.lock_file)
    assert lock.acquire()
    job.write_status(Status(state="starting").with_heartbeat())
    assert job.status().state == "starting"
    lock.release()
    assert job.status().state == "queued"


def test_a_child_that_begins_between_two_looks_is_no_interruption(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make(workspace)
    job.write_status(Status(state="running", pid=1))
    lock, really_held = FileLock(job.lock_file), is_held

    def begun_after_the_look(path: Path) -> bool:
        held = really_held(path)
        if not held:
            assert lock.acquire()
            job.write_status(Status(state="running", pid=2))
        return held

    monkeypatch.setattr("app.jobs.lock.is_held", begun_after_the_look)
    assert (job.status().state, job.status().pid) == ("running", 2)
    lock.release()


def test_a_child_without_a_heartbeat_is_shown_as_silent(workspace: Workspace) -> None:
    job = make(workspace)
    lock = FileLock(job.lock_file)
    assert lock.acquire()
    # What the clock on the wall says does not matter: it may have been set back or forward.
    job.write_status(replace(Status(state="running").with_heartbeat(), heartbeat=time.time() - 3600))
    assert not job.status().silent
    job.write_status(Status(state="running", heartbeat=time.time() + 3600, beat=time.monotonic() - 60))
    assert job.status().state == "running" and job.status().silent
    assert job.describe().as_dict()["responding"] is False
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


def test_a_full_disk_does_not_take_the_last_word(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make(workspace)
    job.write_status(Status(state="running", phase="a phase so long that the last word is shorter" * 9))

    def no_room(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(directory, "replace_file", no_room)
    child = JobChild(job)
    child.end("failed", reason="the disk is full", kind="disk")
    assert (job.status().state, job.status().kind) == ("failed", "disk")


def test_many_hands_replace_one_file(tmp_path: Path) -> None:
    file = tmp_path / "label.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: replace_file(file, f"{number}" * 1000), range(200)))
    assert file.read_text() in {f"{number}" * 1000 for number in range(200)}
    assert [path.name for path in tmp_path.iterdir()] == ["label.json"]


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
    # A pause of a night lies between steps 7 and 8, and the clock was set back after step 8.
    times = {step: 100 + 2 * step + (30_000 if step == 8 else 0) for step in range(1, 11)}
    job.metrics_file.write_text("".join(f'{{"step": {s}, "loss": 1, "time": {t}}}\n' for s, t in times.items()))
    assert job.eta_seconds() == pytest.approx(20.0)
    lock.release()
    assert job.eta_seconds() is None
