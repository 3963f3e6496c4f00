"""The verbs for runs that are there: compare, rename, again, remove, restore, trash, move; and a sweep."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from app.cli.main import main
from app.config.presets import load
from app.jobs import directory, supervisor
from app.jobs.directory import JobDirectory, Status
from app.jobs.metrics import MetricsWriter
from app.runs.request_paths import SAMPLES
from app.runs.submission import submit
from app.workspace import Workspace

DATA = str(SAMPLES / "pirate.json")


@pytest.fixture(autouse=True)
def nothing_starts(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The supervisor is not called, and what was queued is ended."""
    monkeypatch.setattr(supervisor, "ensure_running", lambda workspace: None)
    yield
    for job in directory.all_jobs(workspace):
        job.write_status(Status(state="stopped"))


@pytest.fixture
def pair(workspace: Workspace) -> list[JobDirectory]:
    """Two finished runs of different ranks."""
    made = []
    for rank in (4, 8):
        config = load("cpu-starter").config.changed({"adapter.r": rank, "data.file": DATA})
        job = submit.start(workspace, config, queue=True, name=f"rank {rank}")
        metrics = MetricsWriter(job.metrics_file)
        for step in (1, 2):
            metrics.write({"step": step, "loss": 3.0 / step + rank, "time": float(step)})
        metrics.close()
        job.write_status(Status(state="finished", step=2, of=2))
        made.append(job)
    return made


def said(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_runs_are_compared(pair: list[JobDirectory], capsys: pytest.CaptureFixture[str]) -> None:
    ids = [job.id for job in pair]
    found = said(capsys, "jobs", "compare", *ids)
    assert [row["name"] for row in found["settings"] if row["differs"]] == ["adapter.r"]
    assert {row["name"]: row["best"] for row in found["figures"]}["last_loss"] == [0]
    assert main(["jobs", "compare", *ids, "--differences"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["adapter.r", "4", "8"] for line in lines) and "training.seed" not in str(lines)
    assert main(["jobs", "compare", *ids, "--csv"]) == 0
    table = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert table[0] == ["", "rank 4", "rank 8"] and ["training.max_steps", "80", "80"] in table
    assert main(["jobs", "compare", *ids, "--metrics-csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_a_run_is_removed_and_restored(
    workspace: Workspace, pair: list[JobDirectory], capsys: pytest.CaptureFixture[str]
) -> None:
    job = pair[0]
    assert said(capsys, "jobs", "remove", job.id) == {"id": job.id, "removed": True, "restorable": True}
    assert [one["id"] for one in said(capsys, "jobs", "list")] == [pair[1].id]
    assert [one["id"] for one in said(capsys, "jobs", "trash")] == [job.id]
    assert said(capsys, "jobs", "restore", job.id)["dir"] == str(job.path)
    assert said(capsys, "jobs", "remove", job.id, "--forever")["restorable"] is False
    assert said(capsys, "jobs", "trash") == []
    said(capsys, "jobs", "remove", pair[1].id)
    assert said(capsys, "jobs", "trash", "--empty") == {"deleted": 1}
    assert said(capsys, "jobs", "list") == []


def test_former_names_of_verbs_are_understood_and_not_listed(
    pair: list[JobDirectory], capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "jobs", "remove", pair[0].id)
    assert said(capsys, "jobs", "bin") == said(capsys, "jobs", "trash") != []
    assert main(["jobs", "recipe", pair[1].id]) == main(["jobs", "script", pair[1].id]) == 1
    line, same_line = capsys.readouterr().err.splitlines()
    assert line == same_line and "Start the run first" in line
    with pytest.raises(SystemExit):
        main(["jobs", "--help"])
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert {"trash", "script"} <= set(listed) and not {"bin", "recipe"} & set(listed)


def test_a_run_is_renamed_and_repeated(pair: list[JobDirectory], capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        said(capsys, "jobs", "rename", pair[0].id, "--name", "mine", "--note", "good", "--tags", "a,b")["name"]
        == "mine"
    )
    shown = said(capsys, "jobs", "show", pair[0].id)
    assert (shown["name"], shown["note"], shown["tags"], shown["paused"]) == ("mine", "good", ["a", "b"], False)
    again = said(capsys, "jobs", "again", pair[0].id)
    assert said(capsys, "jobs", "show", again["id"])["config"] == pair[0].config


def test_a_sweep_is_listed_and_needs_a_yes(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--preset", "cpu-starter", "--data", DATA, "--name", "ranks"]
    words += ["--sweep", "adapter.r=4,8", "--sweep", "training.learning_rate=1e-4,2e-4"]
    assert main(words) == 2
    shown = capsys.readouterr()
    assert "4 runs" in shown.err and "--yes" in shown.err and "r=8 lr=0.0002" in shown.err
    assert directory.all_jobs(workspace) == []
    found = said(capsys, *words, "--yes")
    assert found["sweep"] == "ranks" and len(found["runs"]) == 4
    last = found["runs"][3]["id"]
    assert said(capsys, "jobs", "move", last, "--by", "-3") == {"id": last, "place": 1}
