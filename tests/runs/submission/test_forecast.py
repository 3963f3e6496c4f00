"""What a run will take is foreseen from its own settings and from runs like it, and is silent where nobody can know."""

from __future__ import annotations

import pytest

from app.config.presets import load
from app.config.schema import RunConfig
from app.jobs import directory
from app.jobs.metrics import MetricsWriter
from app.planner import estimate
from app.planner.machine import request_here
from app.runs.draft import Draft
from app.runs.submission import forecast
from app.workspace import Workspace


def plan(**changes: object) -> RunConfig:
    dotted = {"training.max_steps": -1, "data.packing": False, "data.validation_split": 0.0}
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return load("cpu-starter").config.changed({**dotted, **named})


def finished(workspace: Workspace, config: RunConfig, seconds_a_step: float) -> None:
    job = directory.create(workspace, "train", config.as_dict())
    metrics = MetricsWriter(job.metrics_file)
    for step in range(11):
        metrics.write({"step": step, "loss": 1.0, "time": 100.0 + step * seconds_a_step})
    metrics.close()
    job.write_status(directory.Status(state="finished", step=10, of=10))


@pytest.mark.parametrize(("epochs", "steps"), [(1.0, 13), (2.0, 26), (0.5, 7), (1.5, 20)])
def test_epochs_are_steps_as_the_trainer_counts_them(workspace: Workspace, epochs: float, steps: int) -> None:
    config = plan(
        training__num_train_epochs=epochs,
        training__per_device_train_batch_size=4,
        training__gradient_accumulation_steps=2,
    )
    assert forecast.of(workspace, Draft(config, rows=100)).steps == steps


def test_steps_are_not_guessed_where_they_depend_on_the_rows(workspace: Workspace) -> None:
    assert forecast.of(workspace, Draft(plan(), rows=0)).steps is None
    assert forecast.of(workspace, Draft(plan(data__packing=True), rows=100)).steps is None
    assert forecast.of(workspace, Draft(plan(data__packing=True, training__max_steps=7), rows=0)).steps == 7


def test_the_time_is_that_of_a_run_with_steps_of_the_same_size(workspace: Workspace) -> None:
    config = plan(training__max_steps=50)
    assert forecast.of(workspace, Draft(config, rows=100)).seconds is None
    finished(workspace, config.changed({"training.learning_rate": 1e-5}), 2.0)
    assert forecast.of(workspace, Draft(config, rows=100)).seconds == pytest.approx(100, rel=0.15)
    longer = config.changed({"data.max_length": config.data.max_length // 2})
    assert forecast.of(workspace, Draft(longer, rows=100)).seconds is None


def test_the_peak_is_the_planners_and_missing_for_a_model_that_nobody_knows(workspace: Workspace) -> None:
    config = plan()
    assert forecast.of(workspace, Draft(config)).peak_bytes == estimate(request_here(config, workspace)).device_peak
    assert forecast.of(workspace, Draft(config.changed({"model.name": "/nowhere/model"}))).peak_bytes is None
