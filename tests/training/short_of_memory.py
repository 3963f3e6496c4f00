"""A training child whose accelerator runs out of memory at chosen moments: python short_of_memory.py JOB WHERE...

WHERE is `load`, or `step-N:ROWS`: at step N, as long as the micro-batch has more than ROWS rows. Everything else is the
real child.
"""

import sys
from pathlib import Path

import torch

from app.jobs.child import run_job
from app.jobs.directory import JobDirectory
from app.training import child as training
from app.training.trainer import WorkbenchTrainer

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB."
job, *places = sys.argv[1:]
limits = {
    int(step.removeprefix("step-")): int(rows) for step, _, rows in (p.partition(":") for p in places if ":" in p)
}
load_base = training.load_base
real_step = WorkbenchTrainer.training_step


def short_load(*args: object, **settings: object) -> object:
    raise torch.OutOfMemoryError(FULL)


def short_step(self: WorkbenchTrainer, *args: object, **settings: object) -> torch.Tensor:
    limit = limits.get(self.state.global_step + 1)
    if limit is not None and self.args.per_device_train_batch_size > limit:
        raise torch.OutOfMemoryError(FULL)
    return real_step(self, *args, **settings)


if "load" in places:
    training.load_base = short_load
WorkbenchTrainer.training_step = short_step  # type: ignore[method-assign]
sys.exit(run_job(JobDirectory(Path(job)), lambda: training.work))
