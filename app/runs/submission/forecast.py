"""What a run will take before it is started: steps, time and peak memory, as far as they are known."""

from __future__ import annotations

import math
from dataclasses import dataclass

from app.config.schema import RunConfig
from app.errors import WorkbenchError
from app.planner import estimate
from app.planner.machine import request_here
from app.runs.current import config_of, training_runs
from app.runs.draft import Draft
from app.runs.results import summary
from app.workspace import Workspace

# Runs that are looked at for a pace, newest first.
_LOOKED_AT = 20


@dataclass(frozen=True)
class Forecast:
    """What is foreseen; None where nobody can know yet. `peak_bytes` is the planner's."""

    steps: int | None = None
    seconds: float | None = None
    peak_bytes: int | None = None


def of(workspace: Workspace, draft: Draft) -> Forecast:
    """Return what a draft will take. The time comes from the newest run of this model with steps of the same size."""
    config = draft.config
    steps = _steps(config, draft.rows)
    pace = _seconds_a_step(workspace, config) if steps else None
    seconds = steps * pace if steps and pace else None
    return Forecast(steps, seconds, _peak(workspace, config))


def _steps(config: RunConfig, rows: int) -> int | None:
    """Return the optimiser steps, as transformers' trainer counts them: a part of an epoch is a part of its steps.

    With packing, an epoch's steps are known only when the rows have been packed.
    """
    training = config.training
    if training.max_steps > 0:
        return training.max_steps
    if config.data.packing or not rows:
        return None
    kept = rows * (1 - config.data.validation_split)
    return math.ceil(training.num_train_epochs * math.ceil(kept / config.effective_batch))


def _seconds_a_step(workspace: Workspace, config: RunConfig) -> float | None:
    for job in training_runs(workspace)[:_LOOKED_AT]:
        other = config_of(job)
        if other is None or _size(other) != _size(config):
            continue
        found = summary.of(job)
        if found.seconds and found.steps > 1:
            return found.seconds / found.steps
    return None


def _size(config: RunConfig) -> tuple[object, ...]:
    """Return what the time of a step hangs on."""
    return (config.model.name, config.method, config.data.max_length, config.data.packing, config.effective_batch)


def _peak(workspace: Workspace, config: RunConfig) -> int | None:
    try:
        return estimate(request_here(config, workspace)).device_peak
    except WorkbenchError:  # a model that cannot be planned; the Plan tab says why
        return None
