"""What can be tried: the adapters of runs, finished or checkpointed, and the engine that answers for them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.config import RunConfig, parse
from app.engine.requests import start_engine
from app.errors import ConfigError, JobError, UsageError
from app.jobs import directory as jobs
from app.jobs.directory import JobDirectory
from app.models.names import resolve
from app.training import checkpoints
from app.ui import allowed, look
from app.workspace import Workspace, safe_name

# The newest runs are offered; older ones are reached by the command line.
_MOST_RUNS = 40
_MOST_CHECKPOINTS = 5
_VALUE = re.compile(r"([a-z0-9][a-z0-9-]{0,79})(?::([0-9]{1,9}))?")


@dataclass(frozen=True)
class Trial:
    """One adapter that can be loaded: of a run's result, or of a checkpoint at `step`."""

    job: JobDirectory
    config: RunConfig
    folder: Path
    step: int | None = None

    @property
    def value(self) -> str:
        """Return what stands for this adapter in a form."""
        return self.job.id if self.step is None else f"{self.job.id}:{self.step}"

    @property
    def name(self) -> str:
        """Return the run's name, with the step of a checkpoint."""
        name = str(self.job.job.get("name") or self.job.id)[:48]
        return name if self.step is None else f"{name}, step {self.step}"

    @property
    def column(self) -> str:
        """Return the name under which an engine holds it: letters, digits, dots and hyphens, unique by the run."""
        plain = re.sub(r"[^A-Za-z0-9]+", "-", safe_name(self.name)).strip("-")[:40]
        return f"{plain or 'run'}-{self.job.id[-6:]}" + ("" if self.step is None else f"-{self.step}")

    @property
    def quant(self) -> str:
        """Return how the engine stores the base: as it was while the adapter was trained."""
        quantization = self.config.quantization
        return "nf4" if quantization.load_in_4bit else "int8" if quantization.load_in_8bit else "none"


def all_trials(workspace: Workspace) -> list[Trial]:
    """Return every adapter that can be tried, newest run first, a result before its checkpoints."""
    found = []
    for job in list(reversed(training_jobs(workspace)))[:_MOST_RUNS]:
        found += _of_job(job)
    return found


def training_jobs(workspace: Workspace) -> list[JobDirectory]:
    """Return the training runs, oldest first; the kind stands in the id, so no file is read."""
    return [job for job in jobs.all_jobs(workspace) if "-train-" in job.id]


def _of_job(job: JobDirectory) -> list[Trial]:
    try:
        config = parse(job.config, job.id)
    except (ConfigError, JobError):
        return []
    if config.adapter.method == "full":
        return []
    steps = checkpoints.steps(job.checkpoints)[-_MOST_CHECKPOINTS:]
    found = [Trial(job, config, job.checkpoints / f"step-{step}", step) for step in reversed(steps)]
    result = job.result / "adapter"
    return [Trial(job, config, result), *found] if (result / "adapter_config.json").is_file() else found


def find(workspace: Workspace, value: Any) -> Trial:
    """Return the adapter that a form's value stands for. Raises UsageError when there is none."""
    match = _VALUE.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        job = jobs.find(workspace, match[1])
        for trial in _of_job(job):
            if trial.value == value:
                return trial
    raise UsageError("This adapter is not there", "its run may have been removed", "choose another run")


def together(workspace: Workspace, values: Any) -> list[Trial]:
    """Return the chosen adapters. Raises UsageError when there is none, or when they stand on different bases."""
    chosen = [find(workspace, value) for value in (values if isinstance(values, list) else [])]
    if not chosen:
        raise UsageError("No adapter is chosen", "", "choose at least one run")
    bases = {(trial.config.model.name, trial.quant, trial.config.model.dtype) for trial in chosen}
    if len(bases) > 1:
        raise UsageError(
            "These adapters cannot stand side by side",
            "they were trained on different bases: " + ", ".join(sorted(base[0] for base in bases)),
            "choose runs of one base model",
        )
    return chosen


def living_engines(workspace: Workspace) -> list[JobDirectory]:
    """Return the engines that live, newest first."""
    return [
        job for job in reversed(jobs.all_jobs(workspace)) if "-engine-" in job.id and not job.recorded_status().final
    ]


def engine_for(workspace: Workspace, chosen: list[Trial]) -> JobDirectory:
    """Return the living engine that holds the base of these adapters, or start one. Raises WorkbenchError."""
    first = chosen[0]
    allowed.model_name(workspace, first.config.model.name)
    wanted = {"model": resolve(first.config.model.name), "quant": first.quant, "dtype": first.config.model.dtype}
    for job in living_engines(workspace):
        if not job.status().final and all(job.config.get(name) == value for name, value in wanted.items()):
            return job
    adapters = {trial.column: trial.folder for trial in chosen}
    return start_engine(workspace, first.config.model.name, adapters, quant=first.quant, dtype=wanted["dtype"])


def held_out_prompts(trial: Trial) -> list[str]:
    """Return prompts that are not in the training data, where the run was trained on a sample set."""
    name = Path(trial.config.data.file).name
    if name not in look.SAMPLES:
        return []
    file = allowed.SAMPLES / f"{name.partition('.')[0]}.prompts.json"
    try:
        return [str(one["prompt"]) for one in json.loads(file.read_text(encoding="utf-8"))["prompts"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
