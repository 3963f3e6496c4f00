"""Run a training job in this process: the real child's work, with the libraries imported once for many runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from app.config import presets
from app.config.schema import RunConfig
from app.jobs import directory
from app.jobs.child import JobChild, run_locked
from app.jobs.directory import JobDirectory
from app.workspace import Workspace

DATA = Path(__file__).parents[2] / "assets" / "datasets" / "pirate.json"


def small(**changes: object) -> RunConfig:
    """Return settings of a run of a second or two: rows of 64 tokens, packed; `__` stands for a dot."""
    return presets.load("cpu-starter").config.changed(
        {
            "data.file": str(DATA),
            "data.max_length": 64,
            "data.validation_split": 0.1,
            "training.max_steps": 12,
            "training.warmup_steps": 0,
            "training.eval_steps": 6,
            "training.save_steps": 6,
            **{name.replace("__", "."): value for name, value in changes.items()},
        }
    )


def prepare(workspace: Workspace, config: RunConfig) -> JobDirectory:
    """Make the directory of a training job."""
    return directory.create(workspace, "train", config.as_dict())


def go(job: JobDirectory) -> JobDirectory:
    """Run or resume a job and return it. Without its lock: a process gives that back only when it ends."""
    from app.training import worker

    run_locked(job, lambda: worker.work)
    return job


def run(workspace: Workspace, config: RunConfig) -> JobDirectory:
    """Run a config to its end."""
    return go(prepare(workspace, config))


def stop_at(job: JobDirectory, step: int) -> None:
    """Run a job whose stop is asked for while the row of the step before is written: it ends after `step`."""
    written = JobChild.metric

    def metric(self: JobChild, row: Mapping[str, Any]) -> None:
        written(self, row)
        if row["step"] == step - 1:
            job.stop_file.touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JobChild, "metric", metric)
        go(job)
