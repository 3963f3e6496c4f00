"""Guards of a run: losses that go wrong, early stopping, the best state, a full disk."""

import json
import math
import os
import re
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.errors import DiskError, DivergedError, ModelError
from app.jobs.child import JobChild
from app.jobs.metrics import events_of, read_rows, steps_of
from app.models.names import resolve
from app.runs.submission import submit
from app.training import checkpoints, save_checks
from app.training.monitoring import trackers
from app.training.monitoring.divergence import Divergence
from app.workspace import Workspace
from tests.training.in_process import DATA, go, prepare, run, small, stop_at

pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_loss_that_falls_or_wavers_does_not_diverge() -> None:
    watch = Divergence(factor=2.0, steps=3)
    assert not any(watch.add(4.0 * 0.97**step + 0.5 * math.sin(step)) for step in range(100))
    assert not watch.add(1000.0)  # one spike is no divergence
    assert math.isclose(Divergence(2.0, 3).best, math.inf)


def test_a_loss_that_leaves_its_best_for_good_diverges_once() -> None:
    watch = Divergence(factor=2.0, steps=3)
    losses = [1.0] * 20 + [10.0] * 20
    told = [step for step, loss in enumerate(losses) if watch.add(loss)]
    # The smoothed loss is 2.01 after the first 10 and rises, so the third one above twice the best is step 22.
    assert told == [22]
    resumed = Divergence(factor=2.0, steps=3)
    resumed.replay([*losses[:21], None])
    assert resumed.smoothed == pytest.approx(0.9 + 10 * 0.1, rel=0.1)
    assert [step for step, loss in enumerate(losses[21:], 21) if resumed.add(loss)] == [22]


@pytest.mark.fault("F14")
def test_a_loss_that_is_not_finite_is_shown_and_ends_the_run(workspace: Workspace, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(resolve("starter"), damaged)
    weights = load_file(damaged / "model.safetensors")
    weights["model.norm.weight"][0] = math.inf
    save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
    job = run(workspace, small(model__name=str(damaged)))
    status, rows = job.status(), read_rows(job.metrics_file)
    assert (status.state, status.kind) == ("failed", "diverged")
    assert "not finite at step 1" in status.reason
    (shown,) = steps_of(rows)
    assert shown["loss"] is None and "loss" in shown["not_finite"]
    assert [row["event"] for row in events_of(rows) if row["event"] != "note"] == ["not finite", "failed"]
    assert not checkpoints.found(job.checkpoints)


def test_weights_that_are_not_finite_are_not_saved(workspace: Workspace) -> None:
    child = JobChild(prepare(workspace, small()))
    layer = torch.nn.Linear(4, 4)
    save_checks.check_before_save(child, layer)
    with torch.no_grad():
        layer.weight[0, 0] = math.nan
    with pytest.raises(DivergedError, match="weights are not finite"):
        save_checks.check_before_save(child, layer)
    child.end("stopped")


@pytest.mark.parametrize("choice", [pytest.param("warn", marks=pytest.mark.slow), "stop"])
@pytest.mark.fault("F14")
def test_divergence_warns_or_stops(choice: str, workspace: Workspace) -> None:
    wild = {"training__learning_rate": 1.0, "training__divergence_steps": 2, "training__divergence_factor": 1.05}
    job = run(workspace, small(**wild, training__on_divergence=choice))
    status = job.status()
    told = [row for row in events_of(read_rows(job.metrics_file)) if row["event"] == "diverging"]
    assert told
    assert (status.state, status.kind) == (("finished", "") if choice == "warn" else ("failed", "diverged"))


@pytest.mark.slow
def test_early_stopping_ends_as_finished_and_a_resume_keeps_its_patience(workspace: Workspace) -> None:
    # No gain counts as one, so the second validation after the first is the last: at step 6.
    config = small(
        training__early_stopping_patience=2,
        training__early_stopping_threshold=100,
        training__eval_steps=2,
        training__save_steps=5,
    )
    whole = run(workspace, config)
    status = whole.status()
    assert status.state == "finished" and status.result["steps"] == 6
    assert any(row["event"] == "early stop" for row in events_of(read_rows(whole.metrics_file)))
    stopped = prepare(workspace, config)
    stop_at(stopped, 5)
    assert stopped.status().step == 5
    stopped.stop_file.unlink()
    go(stopped)
    assert stopped.status().result["steps"] == 6


def test_the_best_state_is_kept_and_is_the_result(workspace: Workspace) -> None:
    config = small(
        training__load_best_model_at_end=True,
        training__learning_rate=2e-2,
        training__eval_steps=2,
        training__save_steps=12,
        training__save_total_limit=1,
    )
    job = run(workspace, config)
    assert job.status().state == "finished", job.status().reason
    validated = [row["eval_loss"] for row in read_rows(job.metrics_file) if "eval_loss" in row]
    best = job.status().result["best_step"]
    assert job.status().result["best_eval_loss"] == min(validated) < validated[-1]
    assert set(checkpoints.steps(job.checkpoints)) == {best, 12} and best < 12
    saved = job.checkpoints / f"step-{best}" / "adapter_model.safetensors"
    assert (job.result / "adapter" / "adapter_model.safetensors").read_bytes() == saved.read_bytes()


def test_a_run_killed_between_its_last_step_and_its_last_word_takes_no_step_more(workspace: Workspace) -> None:
    job = run(workspace, small(training__max_steps=4, training__save_steps=2, training__eval_steps=2))
    told = job.status()
    made = (job.result / "adapter" / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(job.result)
    job.write_status(replace(told, state="running", result={}))
    assert job.status().state == "interrupted"
    again = go(job).status()
    assert again.state == "finished", again.reason
    assert [row["step"] for row in steps_of(read_rows(job.metrics_file))] == [1, 2, 3, 4]
    assert (job.result / "adapter" / "adapter_model.safetensors").read_bytes() == made
    assert {**again.result, "ended": 0} == {**told.result, "ended": 0}


@pytest.mark.slow
def test_a_disk_that_fills_up_fails_as_disk_and_the_run_goes_on_later(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = prepare(workspace, small(training__save_steps=3))
    monkeypatch.setattr(
        save_checks, "disk_free_bytes", lambda _: 10**9 if not checkpoints.steps(job.checkpoints) else 10**6
    )
    go(job)
    status = job.status()
    assert (status.state, status.kind) == ("failed", "disk") and "saving needs" in status.reason
    assert [found.problem for found in checkpoints.found(job.checkpoints)] == [""]
    monkeypatch.undo()
    assert go(job).status().state == "finished"
    assert [row["step"] for row in steps_of(read_rows(job.metrics_file))] == list(range(1, 13))


@pytest.mark.fault("F7")
def test_a_file_that_may_not_grow_in_the_middle_of_a_save_costs_that_checkpoint_only(workspace: Workspace) -> None:
    job = prepare(workspace, small(training__save_steps=3))
    stop_at(job, 3)
    job.stop_file.unlink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Below the optimizer's file of two numbers a weight, above the adapter's own.
    weights = (job.checkpoints / "step-3" / "adapter_model.safetensors").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (weights + 50_000, limits[1]))
    try:
        go(job)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (job.status().state, job.status().kind) == ("failed", "disk")
    assert re.search("Saving needs about [0-9.]+ MB, [0-9,.]+ MB are free", job.status().reason)
    assert [(found.step, found.problem) for found in checkpoints.found(job.checkpoints)] == [(3, "")]
    assert go(job).status().state == "finished"


@pytest.mark.fault("F8")
def test_room_is_checked_with_figures(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    child = JobChild(prepare(workspace, small()))
    monkeypatch.setattr(save_checks, "disk_free_bytes", lambda folder: 100_000_000 if Path(folder).is_dir() else 0)
    save_checks.check_room(child, 60_000_000)
    with pytest.raises(DiskError, match="100 MB are free, saving needs 134 MB"):
        save_checks.check_room(child, 100_000_000)
    child.end("stopped")


def test_rows_too_few_to_keep_any_back_are_told_or_refused(workspace: Workspace, tmp_path: Path) -> None:
    few = tmp_path / "few.json"
    few.write_text(json.dumps(json.loads(DATA.read_text())[:2]))
    settings = {"data__file": str(few), "data__validation_split": 0.01, "training__max_steps": 1}
    settings["training__gradient_accumulation_steps"] = 8
    told = run(workspace, small(**settings))
    notes = [row["message"] for row in events_of(read_rows(told.metrics_file)) if row["event"] == "note"]
    notes = [note for note in notes if not note.startswith("Spends")]
    assert told.status().state == "finished"
    assert "none of the 2 rows was kept back" in notes[0] and "fewer than the effective batch" in notes[1]
    refused = run(workspace, small(**settings, training__load_best_model_at_end=True)).status()
    assert (refused.state, refused.kind) == ("failed", "data") and "aise data.validation_split" in refused.reason


def test_a_module_to_save_that_is_not_there_is_refused(workspace: Workspace) -> None:
    status = run(workspace, small(adapter__modules_to_save=["nothing"])).status()
    assert status.state == "failed"
    assert "the model has no module nothing; it has embed_tokens" in status.reason


def test_trackers_write_into_the_job(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "")  # so that what is set below is taken back
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR")
    monkeypatch.setenv("WANDB_DIR", "/elsewhere")
    job = prepare(workspace, small())
    trackers.settle(job, small(training__report_to=["tensorboard", "wandb", "trackio"]))
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(job.path / "tensorboard")
    assert os.environ["WANDB_DIR"] == "/elsewhere"


def test_a_folder_that_can_only_be_planned_with_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    starter = Path(resolve("starter"))
    for name, lacks in (("config.json", "no weights"), ("model.safetensors", "no tokenizer")):
        shutil.copy(starter / name, folder)
        with pytest.raises(ModelError, match=lacks):
            submit.check(workspace, small(model__name=str(folder)))
    shutil.copy(starter / "tokenizer.json", folder)
    submit.check(workspace, small(model__name=str(folder)))


def test_a_run_whose_rate_was_0_says_that_nothing_was_learned(workspace: Workspace) -> None:
    job = run(workspace, small(training__max_steps=1, training__warmup_steps=1, data__validation_split=0.0))
    (note,) = [row for row in events_of(read_rows(job.metrics_file)) if "nothing was learned" in row["message"]]
    assert note["event"] == "note" and "training.warmup_steps" in note["message"]
    assert "the only step" in job.status().result["learned_nothing"]


def test_a_run_that_learned_does_not_say_so(workspace: Workspace) -> None:
    job = run(workspace, small(training__max_steps=1, data__validation_split=0.0))
    assert not [row for row in events_of(read_rows(job.metrics_file)) if "learned" in row["message"]]
    assert job.status().result["learned_nothing"] is None
