"""Datasets of the hub on this disk: fetched as models are, gone on with after a pause, listed and removed."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from app.cli.main import main
from app.errors import DiskError, JobError, UsageError
from app.hub import downloads, model_files, transfer
from app.hub.transfer import Listing
from app.jobs import directory, requests
from app.jobs.child import JobChild
from app.runs.on_disk import models_on_disk
from app.workspace import Workspace
from tests.hub.model_hub import SHA, Hub, cache, hub

__all__ = ["cache", "hub"]

ROWS = {"train-1.jsonl": b'{"text": "a"}\n' * 20_000, "train-2.jsonl": b'{"text": "b"}\n' * 150_000}
KEYS = {"id", "kind", "bytes", "licence", "complete", "path", "type", "files"}


def told(workspace: Workspace, capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, object]]:
    """Return what a verb of `models` answers, as a list."""
    capsys.readouterr()
    assert main(["models", *words, "--json", "--workspace", str(workspace.root)]) == 0
    said = json.loads(capsys.readouterr().out)
    return said if isinstance(said, list) else [said]


def test_a_dataset_is_fetched_listed_and_removed(
    hub: str, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    Hub.files = dict(ROWS)
    (said,) = told(workspace, capsys, "fetch", "o/n", "--dataset")
    folder = workspace.uploads / "hub" / "o--n"
    assert said["dataset"] == "o/n" and said["folder"] == str(folder / SHA[:12]) and said["licence"] == "mit"
    assert {path.name: path.read_bytes() for path in (folder / SHA[:12]).rglob("*")} == ROWS  # and nothing beside
    starter, found = told(workspace, capsys, "list")
    assert set(starter) == set(found) == KEYS and (starter["type"], starter["kind"]) == ("model", "bundled")
    assert (found["id"], found["type"], found["kind"]) == ("o/n", "dataset", "dataset")
    assert found["licence"] == "mit" and found["complete"] is True and found["files"] == 2
    assert found["bytes"] >= sum(map(len, ROWS.values()))  # type: ignore[operator]
    (gone,) = told(workspace, capsys, "remove", "o/n")
    assert gone["type"] == "dataset" and gone["files"] == 2 and not folder.exists()
    assert [one["id"] for one in told(workspace, capsys, "list")] == ["starter"]
    assert main(["models", "fetch", "o/n", "--part", "x", "--workspace", str(workspace.root)]) == 2


@pytest.mark.parametrize(("free_bytes", "fits"), [(5_000_000_000, False), (5_100_000_000, True)])
@pytest.mark.parametrize(
    ("module", "config", "listed"),
    [(downloads, {"dataset": "o/n"}, "rows.jsonl"), (model_files, {"model": "o/n"}, "model.safetensors")],
)
def test_what_has_no_room_is_refused_before_a_byte_comes(
    cache: Path,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    config: dict[str, str],
    listed: str,
    free_bytes: int,
    fits: bool,
) -> None:
    """A gibibyte stays free beside what comes."""
    monkeypatch.setattr(module, "_listing", lambda name: Listing(SHA, "mit", [(listed, 4 * 10**9), ("c", 9)]))
    monkeypatch.setattr(transfer, "disk_free_bytes", lambda folder: free_bytes)
    monkeypatch.setattr(transfer, "ended", lambda *_: False)  # the download itself, as if it was stopped at once
    folder = workspace.uploads / "hub" / "o--n"
    child = JobChild(directory.create(workspace, "download", {**config, "folder": str(folder)}))
    if fits:
        assert module.work(child) == ("stopped", {})
        return
    with pytest.raises(DiskError, match=r"o/n has no room on this disk. 4\.0 GB are to be fetched, 5\.0 GB are free"):
        module.work(child)
    assert not list(folder.glob("*")) and not list(cache.rglob("*.incomplete"))


def test_a_paused_dataset_goes_on_with_what_is_missing(hub: str, workspace: Workspace) -> None:
    Hub.files, Hub.slow = dict(ROWS), True
    job = downloads.start(workspace, "o/n", part="train")
    first, every = len(ROWS["train-1.jsonl"]), sum(map(len, ROWS.values()))
    now = requests.wait(job, lambda status: first <= status.step < every, timeout_s=60, poll_s=0.02)
    assert now.of == every and now.state == "running"
    requests.stop(workspace, job)
    assert requests.wait(job, timeout_s=30).state == "stopped"
    (found,) = [one for one in models_on_disk.on_disk(workspace) if one.type == "dataset"]
    assert not found.complete and found.id == "o/n" and found.bytes >= first
    Hub.slow, Hub.asked = False, []
    again = models_on_disk.go_on(workspace, "o/n")
    assert again.config["part"] == "train"
    status = requests.wait(again, timeout_s=60)
    assert status.state == "finished", status.reason
    assert {path.name: path.read_bytes() for path in Path(str(status.result["folder"])).iterdir()} == ROWS
    fetched = {asked.partition("@")[0] for asked in Hub.asked}
    assert "train-2.jsonl" in fetched and "train-1.jsonl" not in fetched
    assert not list((workspace.uploads / "hub" / "o--n").glob(".part-*"))


def test_a_dataset_of_the_hubs_cache_and_one_in_use(cache: Path, workspace: Workspace) -> None:
    snapshot = cache / "datasets--o--cached" / "snapshots" / SHA
    snapshot.mkdir(parents=True)
    (snapshot / "README.md").write_text("---\nlicense:\n- cc-by-4.0\n---\n")
    rows = workspace.uploads / "hub" / "o--cached" / "0123456789ab"
    rows.mkdir(parents=True)
    (rows / "train.jsonl").write_text("{}\n")
    here, cached = [one for one in models_on_disk.on_disk(workspace) if one.type == "dataset"]
    assert (cached.id, cached.licence, cached.complete) == ("o/cached", "cc-by-4.0", True)
    with pytest.raises(UsageError, match="is more than one thing"):
        models_on_disk.remove(workspace, "o/cached")
    job = requests.submit(workspace, "selftest", {"steps": 500, "step_s": 0.05, "data": {"files": [str(rows)]}})
    with pytest.raises(JobError, match=f"is in use. By {job.id}"):
        models_on_disk.remove(workspace, here.path)
    models_on_disk.remove(workspace, cached.path)
    assert rows.is_dir() and not snapshot.exists()
    requests.stop(workspace, job)
    requests.wait(job, timeout_s=30)
    models_on_disk.remove(workspace, here.path)
    assert not rows.parent.exists()


def test_a_model_that_a_job_calls_by_its_short_name_is_in_use(cache: Path, workspace: Workspace) -> None:
    (cache / "models--Qwen--Qwen3-0.6B" / "snapshots" / SHA).mkdir(parents=True)
    job = requests.submit(workspace, "selftest", {"steps": 500, "step_s": 0.05, "model": {"name": "qwen3-0.6b"}})
    with pytest.raises(JobError, match="is in use"):
        models_on_disk.remove(workspace, "Qwen/Qwen3-0.6B")
    requests.stop(workspace, job)
    requests.wait(job, timeout_s=30)
    models_on_disk.remove(workspace, "Qwen/Qwen3-0.6B")
