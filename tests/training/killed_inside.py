"""A training child that kills itself at a chosen moment: python killed_inside.py JOB WHERE.

WHERE is `step-N`, after the row of that step is written, or `save-N`, when half of the optimiser's file of that
checkpoint is on the disk. Everything else is the real child.
"""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from app.jobs.child import JobChild, run_job
from app.jobs.directory import JobDirectory
from app.training import worker as training

job, place = sys.argv[1:]
kind, _, number = place.partition("-")
real_metric, real_save = JobChild.metric, torch.save


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def metric(self: JobChild, row: Mapping[str, Any]) -> None:
    real_metric(self, row)
    if kind == "step" and row["step"] == int(number):
        die()


def save(thing: object, file: Any, *args: Any, **settings: Any) -> None:
    real_save(thing, file, *args, **settings)
    path = Path(str(file))
    if kind == "save" and (path.parent.name, path.name) == (f"checkpoint-{number}", "optimizer.pt"):
        os.truncate(path, path.stat().st_size // 2)
        die()


JobChild.metric = metric  # type: ignore[method-assign]
torch.save = save
sys.exit(run_job(JobDirectory(Path(job)), lambda: training.work))
