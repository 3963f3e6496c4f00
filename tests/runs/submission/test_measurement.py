"""A measurement of a plan's settings: what is handed in, and how it stands while it runs and when it ended."""

from __future__ import annotations

import pytest

from app.config.presets import load
from app.errors import WorkspaceError
from app.jobs import directory, supervisor
from app.jobs.directory import Status
from app.runs.submission import measurement
from app.workspace import Workspace


@pytest.fixture
def unstarted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let jobs be handed in and wait."""
    monkeypatch.setattr(supervisor, "ensure_running", lambda workspace: None)


@pytest.mark.usefixtures("unstarted")
def test_without_data_a_sample_is_measured_on(workspace: Workspace) -> None:
    config = load("cpu-starter").config.changed({"data.file": ""})
    job = measurement.start(workspace, config)
    assert job.kind is not None and job.config["data"]["file"].endswith("pirate.json")
    with pytest.raises(WorkspaceError):
        measurement.start(workspace, config.changed({"data.file": "/etc/passwd"}))


def test_it_stands_as_it_ended(workspace: Workspace) -> None:
    job = directory.create(workspace, "measure", load("cpu-starter").config.as_dict())
    job.write_status(Status(state="queued"))
    assert measurement.standing(workspace, job.id) == measurement.Standing(phase="queued")
    figures = {"device": "cpu", "predicted": {"allocated_peak": 200}, "measured": {"allocated_peak": 150}}
    job.write_status(Status(state="finished", result=figures))
    found = measurement.standing(workspace, job.id)
    assert found is not None and found.ended and found.found is not None
    assert found.found.on_processor and found.found.off_percent == pytest.approx(-25)
    job.write_status(Status(state="failed", reason="it broke"))
    failed = measurement.standing(workspace, job.id)
    assert failed is not None and failed.found is None and "it broke" in str(failed.reason)
    assert measurement.standing(workspace, "20260101-000000-measure-abcdef") is None
    assert measurement.standing(workspace, "../../etc") is None
