from __future__ import annotations

import pytest

from app.cli.verbs.jobs import follow
from app.jobs import directory
from app.jobs.directory import Status
from app.workspace import Workspace


def test_what_a_job_says_on_its_way_is_told_once_at_the_command_line(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    job = directory.create(workspace, "selftest", {})
    job.add_event("note", "2 of 22 rows are left out")
    job.add_event("checkpoint", "checkpoint at step 2")
    job.add_event("early stop", "ended early at step 4")
    job.write_status(Status(state="finished"))
    follow(job)
    told = [line.partition(": ")[2] for line in capsys.readouterr().err.splitlines()]
    assert told == ["note: 2 of 22 rows are left out", "early stop: ended early at step 4", "finished"]
