"""The evaluation's job from request to result: figures, comparisons, curves, what was trained, what the run notes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from app.config import presets
from app.data.dataset.build import build
from app.data.dataset.options import DataOptions
from app.errors import DataError, ModelError, UsageError
from app.evaluation.held_out import job as evaluation_job
from app.evaluation.held_out import records, results
from app.evaluation.held_out.forgetting import best
from app.evaluation.held_out.requests import EvaluationRequest, Expectations, checked
from app.evaluation.held_out.results import CurvePoint, EvaluationResult, as_csv, rows_as_csv
from app.jobs.child import JobChild
from app.jobs.directory import JobDirectory, create
from app.models.names import resolve
from app.workspace import Workspace, open_workspace, source_sha256
from tests.models import tiny_models

pytestmark = tiny_models.PEFT_WARNING
ROWS = [{"prompt": f"the house number {n}", "completion": f"by the sea {n}"} for n in range(12)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_model(tmp_path_factory.mktemp("evaluated") / "base", tie_word_embeddings=False)


def _file(folder: Path, rows: list[dict[str, Any]]) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def _run(workspace: Workspace, base: Path, rows: list[dict[str, Any]]) -> JobDirectory:
    """Return a run that trained some rows, as it lies on disk: its dataset, and an adapter as its result."""
    source = workspace.root / "trained.jsonl"
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    config = presets.load("cpu-starter").config.changed({"data.file": str(source), "model.name": str(base)})
    job = create(workspace, "train", config.as_dict(), data_sha256=source_sha256(source))
    built = build(source, base, DataOptions.of(config), workspace.root / "datasets")
    assert built is not None
    (job.path / "dataset.json").write_text(json.dumps({"hash": built.path.name, "packed": True}))
    job.result.mkdir()
    tiny_models.save_adapter(job.result / "adapter", base, seed=1, r=4)
    for step in (10, 20):
        checkpoint = tiny_models.save_adapter(job.checkpoints / f"step-{step}", base, seed=step, r=4)
        (checkpoint / "complete.json").write_text(json.dumps({"step": step, "files": {}}))
    return job


def _evaluated(workspace: Workspace, **given: Any) -> tuple[JobDirectory, EvaluationResult]:
    config = {"quant": "none", "dtype": "fp32", "max_tokens": 4, **given}
    job = create(workspace, "evaluate", config)
    outcome, _ = evaluation_job.work(JobChild(job))
    found = results.read(job)
    assert outcome == "finished" and found is not None
    return job, found


def test_from_request_to_the_runs_own_record(base: Path, tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path / "workspace")
    run = _run(workspace, base, ROWS[:3])
    near = {"prompt": ROWS[0]["prompt"], "completion": "quite another answer"}
    data = _file(tmp_path, [near, *ROWS[1:]])
    job, found = _evaluated(
        workspace,
        model=str(base),
        data=str(data),
        adapters={"mine": str(run.result / "adapter")},
        titles={"mine": "My adapter"},
        metrics=["loss", "exact_match", "chrf", "regex"],
        expectations={"pattern": "."},
        probe=str(data),
        forgetting=True,
        curves=["weight", "step"],
        weights=[0.0, 0.5, 1.0],
    )
    plain, mine = found.columns
    assert (found.n, plain.name, mine.title) == (12, "base", "My adapter") and mine.hash
    assert mine.loss is not None and mine.perplexity == pytest.approx(math.exp(mine.loss))
    loss = mine.metrics["loss"]
    assert loss.value == mine.loss and loss.low < loss.value < loss.high and loss.n == 12
    assert plain.forgetting is not None and plain.forgetting.kl == pytest.approx(0, abs=1e-6)
    assert mine.forgetting is not None and mine.forgetting.kl > 0 and mine.forgetting.probes == 12
    pairs = {pair.metric: pair for pair in found.paired}
    assert set(pairs) == {"loss", "exact_match", "chrf", "regex"} and pairs["loss"].a == "mine"
    assert pairs["loss"].better + pairs["loss"].worse == 12 and pairs["exact_match"].same == 12
    told = found.contamination[0]
    assert (told.equal, told.near, told.rows) == (2, 1, (1, 2, 3)) and told.run == run.id
    weight, steps = found.curves
    assert [point.at for point in weight.points] == [0.0, 0.5, 1.0] and weight.points[0].gain == 0
    assert weight.metric == "exact_match" and [point.at for point in steps.points] == [10.0, 20.0]
    assert weight.points[2].kl == pytest.approx(mine.forgetting.kl, rel=1e-3)
    (noted,) = records.of_run(run)
    assert noted.folder == "result/adapter" and noted.column.hash == mine.hash and noted.job == job.id
    assert noted.trained == 3
    assert noted.base is not None and noted.base.loss == plain.loss
    assert "My adapter,loss," in as_csv(found) and rows_as_csv(found).count("\n") == 13


def test_rows_that_were_trained_can_be_left_out(base: Path, tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path / "workspace")
    run = _run(workspace, base, ROWS[:3])
    given = {"model": str(base), "adapters": {"mine": str(run.result / "adapter")}, "skip_trained": True}
    _, found = _evaluated(workspace, data=str(_file(tmp_path, ROWS)), metrics=["loss"], limit=5, **given)
    assert found.n == 5 and [row.row for row in found.rows] == [4, 5, 6, 7, 8] and found.left_out == {"trained": 3}
    assert not found.contamination[0].rows and found.contamination[0].run == run.id  # none of those that are left
    with pytest.raises(DataError, match="Every row"):
        _evaluated(workspace, data=str(_file(tmp_path, ROWS[:2])), metrics=["loss"], **given)


def test_a_metric_that_no_row_can_be_held_to_is_refused(base: Path, tmp_path: Path) -> None:
    workspace, data = open_workspace(tmp_path / "workspace"), str(_file(tmp_path, ROWS[:2]))
    with pytest.raises(DataError, match="No row can be measured by json_schema"):
        _evaluated(workspace, model=str(base), data=data, metrics=["json_schema"])
    _, found = _evaluated(workspace, model=str(base), data=data)
    assert list(found.columns[0].metrics) == ["loss", "exact_match", "f1"] and not found.paired


def test_a_stop_ends_it(base: Path, tmp_path: Path) -> None:
    config = {"model": str(base), "data": str(_file(tmp_path, ROWS)), "quant": "none", "dtype": "fp32"}
    job = create(open_workspace(tmp_path / "workspace"), "evaluate", config)
    job.stop_file.write_text("now")
    assert evaluation_job.work(JobChild(job))[0] == "stopped"


def test_requests_are_refused_before_a_process_starts(tmp_path: Path) -> None:
    data = str(_file(tmp_path, ROWS[:1]))
    good = EvaluationRequest("starter", data)
    assert checked(good).model == resolve("starter") and checked(good).adapters == {}
    wrong = [
        EvaluationRequest("starter", data, metrics=("bleurt",)),
        EvaluationRequest("starter", data, adapters={"base": str(tmp_path)}),
        EvaluationRequest("starter", data, weights=(9.0,)),
        EvaluationRequest("starter", data, expectations=Expectations(pattern="(")),
        EvaluationRequest("starter", data, expectations=Expectations(schema_text="[1]")),
        EvaluationRequest("starter", data, expectations=Expectations(schema_text='{"type": "nothing"}')),
        EvaluationRequest("starter", data, expectations=Expectations(choices=("one",))),
        EvaluationRequest("starter", data, expectations=Expectations(tolerance=-1.0)),
    ]
    for request in wrong:
        with pytest.raises(UsageError):
            checked(request)
    with pytest.raises(ModelError):
        checked(EvaluationRequest("starter", data, adapters={"a": str(tmp_path / "gone")}))


def test_the_marked_point_forgets_least_of_those_that_keep_the_gain() -> None:
    def points(*pairs: tuple[float, float]) -> list[CurvePoint]:
        return [CurvePoint(float(place), gain, gain, kl, 0.0) for place, (gain, kl) in enumerate(pairs)]

    assert best(points((0.0, 0.0), (0.90, 0.2), (0.96, 0.5), (1.0, 1.4))) == 2.0
    assert best(points((0.0, 0.0), (1.0, 0.3), (0.97, 0.1))) == 2.0
    assert best(points((0.0, 0.0), (-0.1, 0.4))) is None and best([]) is None
