"""The kinds of job: which module a child runs, and who shares the accelerator."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of job.

    module: where the child finds its `work`; imported by the child alone.
    accelerator: whether it owns the accelerator while it lives; there is one owner at a time.
    gives_way: whether it is stopped when another job asks for the accelerator.
    """

    module: str
    accelerator: bool
    gives_way: bool = False


KINDS = {
    "train": Kind("app.training.child", accelerator=True),
    "measure": Kind("app.training.measure", accelerator=True),
    "engine": Kind("app.engine.child", accelerator=True, gives_way=True),
    "merge": Kind("app.export.child", accelerator=False),
    "blend": Kind("app.export.child", accelerator=False),
    "export": Kind("app.export.child", accelerator=False),
    "suite": Kind("app.engine.suite", accelerator=True),
    "inspect": Kind("app.export.child", accelerator=False),
    "download": Kind("app.downloads", accelerator=False),
    "selftest": Kind("app.jobs.selftest", accelerator=True),
}
