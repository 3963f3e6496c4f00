"""The child's side of a job while its folder is there, and when it is not any more."""

from __future__ import annotations

import shutil
import signal
import time

import pytest

from app.jobs import child, directory
from app.jobs.child import JobChild
from app.workspace import Workspace


def wait_until_stopped(made: JobChild, limit_s: float) -> bool:
    end = time.monotonic() + limit_s
    while not made._terminated.is_set() and time.monotonic() < end:
        time.sleep(0.01)
    return made._terminated.is_set()


def test_a_job_whose_folder_was_deleted_stops(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "HEARTBEAT_S", 0.01)
    job = directory.create(workspace, "engine", {})
    made = JobChild(job)
    made.begin()
    try:
        assert not wait_until_stopped(made, 0.5)  # many beats with the folder there
        shutil.move(job.path, workspace.root / "away")
        shutil.move(workspace.root / "away", job.path)
        assert not wait_until_stopped(made, 0.5)
        shutil.rmtree(job.path)
        assert wait_until_stopped(made, 60)
    finally:
        made._ended.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
