"""Garbage in every file of a job directory: no reader crashes or hangs, and one bad job hides no other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.errors import JobError
from app.jobs import directory, queue, supervisor
from app.jobs import trash as removed
from app.jobs.directory import JobDirectory, Status
from app.jobs.metrics import MetricsWriter, events_of, last_row, read_rows, rewind, steps_of, tail_rows
from app.runs.results import curves, summary
from app.training import checkpoints
from app.ui.shell.language import Translator
from app.ui.tabs.train import live_panel, run_cards, run_view
from app.workspace import Workspace, open_workspace

SAY = Translator("en")
MANY = settings(
    max_examples=25,
    deadline=5000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
    database=None,
)
HUGE = st.sampled_from([10**400, -(10**400), 1e308, -1e308, 1 << 63, float("nan"), float("inf"), -0.0, True])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | HUGE
LEAVES |= st.sampled_from(["\ud800", "\x00", "../../etc/passwd", "running", "finished", "\u202e"])
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner))


def objects(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects of which any of these names may be missing or hold anything."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, VALUES))


def texts(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """The bytes of a JSON file that holds such a value, whole or cut off; or any bytes at all."""
    written = values.map(lambda value: json.dumps(value).encode())
    return written | st.tuples(written, st.integers(0, 40)).map(lambda pair: pair[0][: -pair[1] or None]) | st.binary()


STATUS = objects(list(Status.__dataclass_fields__))
ROWS = objects(["step", "loss", "time", "event", "message", "eval_loss", "not_finite", "tokens_per_s", "rss_bytes"])
JOB = objects(["schema", "id", "kind", "created", "name", "sweep", "varies", "versions", "config", "seed", "again"])


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, JobDirectory]]:
    """A workspace with a sound run beside the one that is filled with garbage."""
    workspace = open_workspace(tmp_path_factory.mktemp("fuzz") / "workspace")
    sound = directory.create(workspace, "train", {"model": {"name": "starter"}}, name="sound")
    sound.write_status(Status(state="finished", step=1, of=1))
    yield workspace, sound


def fresh(workspace: Workspace) -> JobDirectory:
    """Return a job in the same place each time, as it is made."""
    job = JobDirectory(workspace.jobs / "20260101-000000-train-abcdef")
    job.path.mkdir(exist_ok=True)
    for file in job.path.iterdir():
        file.unlink()
    described = {"schema": 1, "id": job.id, "kind": "train", "created": 1.0, "config": {"model": {"name": "x"}}}
    job.job_file.write_text(yaml.safe_dump(described), encoding="utf-8")
    job.write_status(Status(state="stopped"))
    return job


def read_everything(workspace: Workspace, sound: JobDirectory, job: JobDirectory) -> None:
    """Read a job by every way that the page, the command line and the supervisor have."""
    before = sorted(workspace.root.parent.rglob("*"))
    assert sound.id in [one.id for one in directory.all_jobs(workspace)]
    looks: list[Callable[[], Any]] = [
        job.status,
        lambda: json.dumps(job.describe().as_dict()),
        lambda: job.name.encode(),
        job.eta_seconds,
        lambda: summary.of(job),
        lambda: queue.waiting(workspace),
        lambda: removed.trashed(workspace),
        lambda: run_cards.waiting(workspace, SAY).encode(),
        lambda: run_view.head(job, SAY).encode(),
        lambda: [str(part).encode() for part in vars(live_panel.live(workspace, job.id, SAY)).values()],
        lambda: supervisor.Supervisor(workspace)._open_jobs(),
    ]
    for look in looks:
        try:
            look()
        except JobError:
            assert not job.readable  # it is left out of every list
    assert sorted(workspace.root.parent.rglob("*")) == before


@MANY
@given(data=texts(STATUS | VALUES))
@example(data=b'{"state": "running", "step": 1, "beat": "x", "of": null, "result": 3, "pid": "x"}')
@example(data=b'{"state": ["running"], "step": true}')
@example(data=b'{"state": "running", "step": ' + b"9" * 5000 + b"}")
@example(data=b"[" * 100_000)
def test_any_status(house: tuple[Workspace, JobDirectory], data: bytes) -> None:
    workspace, sound = house
    job = fresh(workspace)
    job.status_file.write_bytes(data)
    read_everything(workspace, sound, job)


@MANY
@given(rows=st.lists(texts(ROWS | VALUES), max_size=5))
@example(rows=[b'{"step": 1, "loss": 1' + b"0" * 400 + b"}"])
@example(rows=[b'{"step": 1, "loss": 1.0, "not_finite": 3}', b'{"step": [], "loss": {}, "time": "x"}'])
@example(rows=[b'{"step": 1, "loss": 1.0, "time": null}', b'{"step": 2, "loss": 1.0, "time": null}'])
@example(rows=[b"[" * 100_000, b'{"event": "validation", "eval_loss": "x", "step": null}'])
@example(rows=[b'{"event": [1], "message": {}, "step": NaN}', b'{"step": Infinity, "loss": -Infinity}'])
def test_any_rows_of_metrics(house: tuple[Workspace, JobDirectory], rows: list[bytes]) -> None:
    workspace, sound = house
    job = fresh(workspace)
    job.metrics_file.write_bytes(b"\n".join([*rows, b""]))
    job.write_status(Status(state="running", step=1, of=9))
    read_everything(workspace, sound, job)
    events_of(steps_of(read_rows(job.metrics_file)))
    last_row(job.metrics_file)
    writer = MetricsWriter(job.metrics_file)
    writer.write({"step": 7, "loss": 0.5})
    writer.close()
    assert tail_rows(job.metrics_file)[-1]["step"] == 7
    rewind(job.metrics_file, 6)
    assert all(row.get("step") != 7 for row in read_rows(job.metrics_file))
    assert len(curves.read(job.metrics_file)["loss"]) <= len(rows)


@MANY
@given(data=texts(JOB | VALUES))
@example(data=b'{"kind": ["train"], "config": {}}')
@example(data=b'{"kind": "train", "config": []}')
@example(data=b'{"kind": "train"}')
@example(data=b"a: &a [" + b"*a, " * 50 + b"]")
@example(data=b"{" * 100_000)
@example(data=b"kind: train\nconfig: {a: !!python/object/apply:os.system [touch x]}")
def test_any_job_file(house: tuple[Workspace, JobDirectory], data: bytes) -> None:
    workspace, sound = house
    job = fresh(workspace)
    directory._parsed.cache_clear()
    job.job_file.write_bytes(data)
    read_everything(workspace, sound, job)


@MANY
@given(label=texts(objects(["name", "note"]) | VALUES), order=texts(st.lists(VALUES) | VALUES))
@example(label=b'{"name": "\\ud800"}', order=b"[" * 100_000)
@example(label=b"[" * 100_000, order=b'[["x"], null, "20260101-000000-train-abcdef"]')
def test_any_label_and_any_queue(house: tuple[Workspace, JobDirectory], label: bytes, order: bytes) -> None:
    workspace, sound = house
    job = fresh(workspace)
    job.label_file.write_bytes(label)
    job.write_status(Status(state="queued"))
    (workspace.root / "queue.json").write_bytes(order)
    read_everything(workspace, sound, job)
    queue.forget(workspace, job)
    assert queue.move(workspace, job, 0) == 1


@MANY
@given(data=texts(objects(["step", "files"]) | st.fixed_dictionaries({"files": st.dictionaries(st.text(), VALUES)})))
@example(data=b"[" * 100_000)
@example(data=b'{"files": {"/etc/passwd": {"bytes": 1}}}')
@example(data=b'{"files": {"\\u0000": {"bytes": 1, "sha256": ""}}}')
def test_any_manifest_is_damage_and_opens_nothing_outside(tmp_path: Path, data: bytes) -> None:
    folder = tmp_path / "checkpoints" / "step-7"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "complete.json").write_bytes(data)
    assert checkpoints.damage(folder)
    assert checkpoints.newest(tmp_path / "checkpoints")[0] is None


def test_a_manifest_that_points_outside_is_damage(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"x")
    folder = tmp_path / "checkpoints" / "step-7"
    folder.mkdir(parents=True)
    for name in ("../../outside", str(outside)):
        facts = {"bytes": 1, "sha256": checkpoints.file_sha256(outside)}
        (folder / "complete.json").write_text(json.dumps({"step": 7, "files": {name: facts}}))
        assert "outside" in checkpoints.damage(folder)
