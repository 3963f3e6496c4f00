"""The schema of job.yaml: older ones are brought up, newer ones are refused with one line."""

from __future__ import annotations

import pytest
import yaml

from app.errors import JobError
from app.jobs import directory, schema
from app.jobs.directory import JobDirectory
from app.workspace import Workspace


def written(workspace: Workspace, number: object) -> JobDirectory:
    job = directory.create(workspace, "selftest", {"steps": 3})
    raw = yaml.safe_load(job.job_file.read_text())
    raw = {name: value for name, value in raw.items() if name not in ("schema", "versions")}
    job.job_file.write_text(yaml.safe_dump(raw if number is None else {**raw, "schema": number}))
    return JobDirectory(job.path)


def test_an_older_job_is_brought_up_and_its_file_left_alone(workspace: Workspace) -> None:
    job = written(workspace, None)
    before = job.job_file.read_bytes()
    assert job.job["schema"] == schema.NEWEST and job.config == {"steps": 3} and job.job["versions"] == {}
    assert job.job_file.read_bytes() == before


def test_there_is_a_step_for_every_older_schema() -> None:
    assert sorted(schema.STEPS) == list(range(schema.NEWEST))


@pytest.mark.parametrize("number", [schema.NEWEST + 1, -1, "1", True, 1.0])
def test_a_newer_or_odd_schema_is_refused(workspace: Workspace, number: object) -> None:
    job = written(workspace, number)
    with pytest.raises(JobError, match="newer version" if number == schema.NEWEST + 1 else "schema"):
        _ = job.job
    assert job.id not in [one.id for one in directory.all_jobs(workspace)]
