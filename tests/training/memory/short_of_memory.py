"""A training child that runs out of memory at chosen moments: python short_of_memory.py JOB WHERE...

WHERE is `load`, or `step-N:ROWS`: at step N, as long as the micro-batch has more than ROWS rows. The error of an
accelerator is raised by hand. With `cap-` in front nothing is raised: from then on the process may take no more address
space, and the libraries run into that by themselves. Everything else is the real child.
"""

import resource
import sys
from pathlib import Path

import psutil
import torch

from app.jobs.child import run_job
from app.jobs.directory import JobDirectory
from app.training import assembly
from app.training import worker as training
from app.training.trainers.trainer import WorkbenchTrainer

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB."
# Room under the cap for what does not grow with the batch.
SLACK_BYTES = 1 << 20
job, *places = sys.argv[1:]
limits: dict[int, tuple[int, bool]] = {}
for place in places:
    where, separator, rows = place.partition(":")
    if separator:
        limits[int(where.rpartition("-")[2])] = (int(rows), place.startswith("cap-"))
load_base = assembly.load_base
real_step = WorkbenchTrainer.training_step


def cap() -> None:
    """Forbid this process to take more address space than it has."""
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + SLACK_BYTES, resource.RLIM_INFINITY))


def uncap() -> None:
    """Lift the cap."""
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def short_load(*args: object, **settings: object) -> object:
    if "load" in places:
        raise torch.OutOfMemoryError(FULL)
    cap() if "cap-load" in places else uncap()
    return load_base(*args, **settings)  # type: ignore[arg-type]


def short_step(self: WorkbenchTrainer, *args: object, **settings: object) -> torch.Tensor:
    most_rows, capped = limits.get(self.state.global_step + 1, (self.args.per_device_train_batch_size, False))
    if self.args.per_device_train_batch_size <= most_rows:
        uncap()
    elif capped:
        cap()
    else:
        raise torch.OutOfMemoryError(FULL)
    return real_step(self, *args, **settings)


assembly.load_base = short_load
WorkbenchTrainer.training_step = short_step  # type: ignore[method-assign]
sys.exit(run_job(JobDirectory(Path(job)), lambda: training.work))
