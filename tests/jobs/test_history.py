"""What can be done with runs that are there: name, order, pause, remove, bring back, compare."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from app.config.presets import load
from app.errors import JobError
from app.jobs import directory, labels, queue, requests
from app.jobs import trash as removed
from app.jobs.directory import JobDirectory, Status
from app.jobs.metrics import MetricsWriter
from app.runs.results import comparison, summary
from app.workspace import Workspace


def run(workspace: Workspace, name: str = "", state: str = "finished", **changes: object) -> JobDirectory:
    config = load("cpu-starter").config.changed(changes)
    job = directory.create(workspace, "train", config.as_dict(), name=name)
    job.write_status(Status(state=state, step=4, of=4))  # type: ignore[arg-type]
    return job


def log(job: JobDirectory, losses: list[float], **more: float) -> None:
    writer = MetricsWriter(job.metrics_file)
    for step, loss in enumerate(losses, start=1):
        writer.write({"step": step, "loss": loss, "time": 100.0 + 2 * step, **more})
    writer.close()


def test_a_name_and_a_note_lie_beside_the_request(workspace: Workspace) -> None:
    job = run(workspace, "first")
    asked = job.job_file.read_bytes()
    requests.relabel(job, name="  second\nname ", note="better than r=4")
    again = directory.find(workspace, job.id)
    assert (again.name, again.label.note) == ("second name", "better than r=4")
    assert (
        again.describe().as_dict()["name"] == "second name" and again.describe().as_dict()["note"] == "better than r=4"
    )
    requests.relabel(job, name="")
    assert job.name == "first" and job.label.note == "better than r=4"
    assert job.job_file.read_bytes() == asked


def test_tags_are_told_apart_by_commas_of_any_script_and_stay_when_only_the_name_changes(workspace: Workspace) -> None:
    job = run(workspace, "first")
    requests.relabel(job, tags=" baseline, Keep，keep、 low  rank,," + "x" * 100)
    assert job.label.tags == ("baseline", "Keep", "low rank", "x" * labels.LONGEST_TAG)
    requests.relabel(job, name="second")
    assert job.label.tags[:2] == ("baseline", "Keep") and job.describe().tags == job.label.tags
    requests.relabel(job, tags="")
    assert job.label == labels.Label("second")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"name": 5}', '{"tags": 7}', '{"tags": [1, null]}', '{"name": "' + "x" * 9000 + '"}']
)
def test_a_damaged_label_is_no_obstacle(tmp_path: Path, text: str) -> None:
    (tmp_path / "label.json").write_text(text)
    assert len(labels.read(tmp_path / "label.json").name) <= labels.LONGEST_NAME


def test_a_removed_run_comes_back_as_it_was(workspace: Workspace) -> None:
    job = run(workspace, "mine")
    log(job, [3.0, 2.0])
    before = {path.name: path.read_bytes() for path in job.path.iterdir() if path.is_file()}
    removed.move_to_trash(workspace, job)
    assert not job.path.exists() and directory.all_jobs(workspace) == []
    assert [one.id for one in removed.trashed(workspace)] == [job.id]
    assert removed.size_bytes(workspace) > 0
    back = removed.restore(workspace, job.id)
    after = {path.name: path.read_bytes() for path in back.path.iterdir() if path.is_file()}
    after.pop("lock")
    assert after == before
    with pytest.raises(JobError, match="in the trash"):
        removed.restore(workspace, job.id)


def test_a_living_or_waiting_run_is_not_removed(workspace: Workspace) -> None:
    job = run(workspace, state="queued")
    with pytest.raises(JobError, match="jobs stop"):
        removed.move_to_trash(workspace, job)
    assert job.path.is_dir()
    job.write_status(Status(state="stopped"))


def test_an_emptied_trash_is_gone_for_good(workspace: Workspace) -> None:
    for name in ("one", "two"):
        removed.move_to_trash(workspace, run(workspace, name))
    assert removed.empty(workspace) == 2
    assert removed.trashed(workspace) == [] and removed.empty(workspace) == 0


def test_what_an_older_version_removed_comes_back_and_can_be_deleted(workspace: Workspace) -> None:
    one, two, three = (run(workspace, name) for name in ("one", "two", "three"))
    (workspace.root / "bin").mkdir()
    for job in (one, two):
        job.path.rename(workspace.root / "bin" / job.id)
    removed.move_to_trash(workspace, three)
    assert [job.id for job in removed.trashed(workspace)] == sorted((one.id, two.id, three.id))
    assert removed.size_bytes(workspace) > 0
    assert removed.restore(workspace, one.id).path == one.path
    removed.move_to_trash(workspace, one)
    assert removed.purge(workspace, [two.id]) == 1
    assert removed.empty(workspace) == 2 and removed.trashed(workspace) == []


def test_the_queue_is_in_order_until_a_person_moves_one(workspace: Workspace) -> None:
    jobs = [run(workspace, str(n), state="queued") for n in range(4)]
    names = [job.name for job in queue.waiting(workspace)]
    assert names == ["0", "1", "2", "3"]
    assert requests.move(workspace, jobs[3], -2) == 2
    assert requests.move(workspace, jobs[0], 99) == 4
    late = run(workspace, "late", state="queued")
    assert [job.name for job in queue.waiting(workspace)] == ["3", "1", "2", "0", "late"]
    for job in (*jobs, late):
        job.write_status(Status(state="stopped"))
    with pytest.raises(JobError, match="does not wait"):
        requests.move(workspace, jobs[1], -1)


def test_a_run_handed_in_anew_comes_last(workspace: Workspace) -> None:
    jobs = [run(workspace, str(n), state="queued") for n in range(3)]
    requests.move(workspace, jobs[2], -2)
    queue.forget(workspace, jobs[2])
    assert [job.name for job in queue.waiting(workspace)] == ["0", "1", "2"]
    for job in jobs:
        job.write_status(Status(state="stopped"))


def test_only_a_run_that_trains_is_paused(workspace: Workspace) -> None:
    for job in (run(workspace, state="queued"), run(workspace)):
        with pytest.raises(JobError, match="paused"):
            requests.pause(workspace, job)
        job.write_status(Status(state="stopped"))
    assert not job.paused(job.status())
    job.stop_file.write_text("1.0 pause\n")
    assert job.paused(job.status()) and job.describe().as_dict()["paused"] is True
    assert not job.stop_forced()


def test_a_record_counts_the_time_of_training_only(workspace: Workspace) -> None:
    job = run(workspace)
    writer = MetricsWriter(job.metrics_file)
    for step, time_s in ((1, 100.0), (2, 110.0)):
        writer.write({"step": step, "loss": 3.0 - step, "time": time_s, "rss_bytes": step * 10, "tokens_per_s": 5.0})
    writer.write({"event": "validation", "message": "", "eval_loss": 1.5, "step": 2, "time": 111.0})
    writer.write({"event": "resumed", "message": "", "step": 2, "time": 9000.0})
    for step, time_s in ((3, 9100.0), (4, 9105.0)):
        writer.write({"step": step, "loss": 3.0 - step / 2, "time": time_s, "rss_bytes": 5, "tokens_per_s": 7.0})
    writer.close()
    record = summary.of(job)
    assert (record.best_loss, record.last_loss, record.best_validation) == (1.0, 1.0, 1.5)
    assert record.seconds == 15.0
    assert (record.memory_bytes, record.on_card, record.tokens_per_s) == (20.0, False, 6.0)
    assert summary.of(run(workspace)) == summary.RunSummary()


def test_a_comparison_marks_the_best_and_the_differences(workspace: Workspace) -> None:
    one = run(workspace, "one", **{"adapter.r": 4})
    two = run(workspace, "two", **{"adapter.r": 8})
    log(one, [3.0, 1.0], rss_bytes=10.0)
    log(two, [3.0, 2.0], rss_bytes=9.0)
    found = comparison.compare([one, two])
    best = {row.name: row.best for row in found.figures}
    assert best["last_loss"] == (0,) and best["memory_bytes"] == (1,)
    assert best["seconds"] == () and best["last_validation"] == ()
    assert [row.name for row in found.differing] == ["adapter.r"]
    assert json.loads(json.dumps(found.as_dict()))["runs"][1]["name"] == "two"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "=cmd|' /C calc'!A0"])
@pytest.mark.fault("A18")
def test_no_cell_of_a_csv_is_a_formula(workspace: Workspace, name: str) -> None:
    one, two = run(workspace), run(workspace, "two")
    requests.relabel(one, name=name)
    one.label_file.write_text(json.dumps({"name": name, "note": ""}))
    log(one, [3.0, 1.0])
    found = comparison.compare([one, two])
    for text in (comparison.table_csv(found), comparison.metrics_csv([one, two])):
        rows = list(csv.reader(io.StringIO(text)))
        assert any(name.strip() in cell for row in rows for cell in row)
        assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t"))]
    assert len(list(csv.reader(io.StringIO(comparison.metrics_csv([one]))))) == 3
