"""Where trackers write: into the job, since the trainer's working folder goes when the run ends."""

from __future__ import annotations

import os

from app.config.schema import RunConfig
from app.jobs.directory import JobDirectory

# The variable by which each one is told its folder; what a person has set already is left as it is.
_FOLDERS = {"tensorboard": "TENSORBOARD_LOGGING_DIR", "wandb": "WANDB_DIR"}


def settle(job: JobDirectory, config: RunConfig) -> None:
    """Give the run's trackers a folder in the job; one that keeps its curves elsewhere needs none."""
    for tracker in config.training.report_to:
        if tracker in _FOLDERS and _FOLDERS[tracker] not in os.environ:
            folder = job.path / tracker
            folder.mkdir(exist_ok=True)
            os.environ[_FOLDERS[tracker]] = str(folder)
