"""Run a training job in this process: the real child's work, with the libraries imported once for many runs."""

from pathlib import Path

from app import presets
from app.config import RunConfig
from app.jobs import directory
from app.jobs.child import run_job
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
    """Run or resume a job and return it."""
    from app.training import child

    run_job(job, lambda: child.work)
    return job


def run(workspace: Workspace, config: RunConfig) -> JobDirectory:
    """Run a config to its end."""
    return go(prepare(workspace, config))
