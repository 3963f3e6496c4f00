"""Who may write an export's place: one at a time, and never what has come there meanwhile."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from app.errors import ExportError
from app.export import staging
from app.export.requests import ExportRequest, MergeRequest, start_export, start_merge
from app.jobs import directory
from app.jobs.lock import FileLock
from app.runs.on_disk import exports
from app.workspace import open_workspace
from tests.models import tiny_models


def test_a_place_that_was_taken_between_the_look_and_the_lock_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, acquire = tmp_path / "out", FileLock.acquire

    def published_first(self: FileLock, timeout_s: float = 0.0) -> bool:
        out.mkdir()  # the export before this one comes to its place and lets go
        return acquire(self, timeout_s)

    monkeypatch.setattr(FileLock, "acquire", published_first)
    with pytest.raises(ExportError, match="exists"), staging.opened(out):
        raise AssertionError("a second export of the place began")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_one_export_at_a_time_writes_a_place(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staging.sole_writer(out), pytest.raises(ExportError, match="Another export"), staging.sole_writer(out):
        raise AssertionError("two write at once")
    with staging.sole_writer(out):
        pass
    assert not list(tmp_path.iterdir())


def test_a_place_that_a_living_job_writes_is_refused_at_once(tmp_path: Path) -> None:
    workspace, out = open_workspace(tmp_path / "workspace"), tmp_path / "out"
    adapter = str(tiny_models.save_adapter(tmp_path / "adapter", tiny_models.save_model(tmp_path / "base")))
    job = directory.create(workspace, "merge", asdict(MergeRequest(adapter, str(out))))
    with FileLock(job.lock_file):  # as its child holds it
        job.write_status(directory.Status(state="running"))
        for hand_in in (
            lambda: start_merge(workspace, MergeRequest(adapter, str(out))),
            lambda: start_export(workspace, ExportRequest("adapter", str(out), adapter)),
        ):
            with pytest.raises(ExportError, match=f"Another export is writing .*out. By the job {job.id}"):
                hand_in()
    assert [one.id for one in directory.all_jobs(workspace)] == [job.id]


def test_a_place_of_the_workspace_that_a_job_waits_to_write_is_not_free(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path / "workspace")
    source = exports.Source("", "mine", "mine", tmp_path, "")
    first = exports.free_place(workspace, source, "gguf")
    job = directory.create(workspace, "export", {"out": str(first)})  # waits in the queue
    assert first.name == "mine-gguf" and exports.free_place(workspace, source, "gguf").name == "mine-gguf-2"
    job.write_status(directory.Status(state="failed"))
    assert exports.free_place(workspace, source, "gguf") == first
