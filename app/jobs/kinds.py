"""The kinds of job: which module a child runs, and who shares the accelerator."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One kind of job.

    module: where the child finds its `work`; imported by the child alone.
    accelerator: whether it owns the accelerator while it lives; there is one owner at a time.
    gives_way: whether it is stopped when another job asks for the accelerator.
    launcher: the module that runs it in several processes; empty where it has only one.
    """

    module: str
    accelerator: bool
    gives_way: bool = False
    launcher: str = ""


KINDS = {
    "train": Kind("app.training.worker", accelerator=True, launcher="app.training.processes"),
    "measure": Kind("app.training.memory.measure", accelerator=True),
    "profile": Kind("app.training.profile.job", accelerator=True),
    "engine": Kind("app.engine.worker", accelerator=True, gives_way=True),
    "merge": Kind("app.export.worker", accelerator=False),
    "blend": Kind("app.export.worker", accelerator=False),
    "export": Kind("app.export.worker", accelerator=False),
    "suite": Kind("app.evaluation.suite_job", accelerator=True),
    "evaluate": Kind("app.evaluation.held_out.job", accelerator=True),
    "inspect": Kind("app.export.worker", accelerator=False),
    "download": Kind("app.hub.downloads", accelerator=False),
    "fetch": Kind("app.hub.model_files", accelerator=False),
    "push": Kind("app.hub.push", accelerator=False),
    "selftest": Kind("app.jobs.selftest", accelerator=True),
}
