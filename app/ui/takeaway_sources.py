"""What can be taken away: the adapters of runs, and merged models; and the jobs that took them somewhere before."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import ModelError, UsageError
from app.jobs import directory as jobs
from app.jobs.directory import JobDirectory
from app.models.names import is_local, resolve
from app.ui import trials
from app.ui.trials import Trial
from app.workspace import Workspace, safe_name

# The places that something can go to, in the order of the cards; `model` is the merge.
TARGETS = ("adapter", "model", "gguf", "ollama", "vllm", "hub")
_FOR_ADAPTERS = ("adapter", "model", "vllm")
_MODEL = re.compile(r"model:([a-z0-9][a-z0-9-]{0,79})")
# The newest jobs are looked at; older ones are reached by the command line.
_MOST_JOBS = 60


@dataclass(frozen=True)
class Source:
    """An adapter of a run (with its trial) or a merged model."""

    value: str
    name: str
    stem: str
    folder: Path
    base: str
    trial: Trial | None = None

    def takes(self, target: str) -> bool:
        """Tell whether this can go there; a model is merged already."""
        return self.trial is not None or target not in _FOR_ADAPTERS

    @property
    def weights_bytes(self) -> int | None:
        """Return the size of the model that a merge writes, or None where the base is not on this machine."""
        folder = self.folder
        if self.trial is not None:
            try:
                resolved = resolve(self.base)
            except ModelError:  # moved or removed since; the job says so when it is asked for
                return None
            if not is_local(resolved):
                return None
            folder = Path(resolved)
        return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def choices(workspace: Workspace) -> list[tuple[str, str]]:
    """Return everything that can be taken away, as choices of a form: adapters first."""
    adapters = [(trial.name, trial.value) for trial in trials.all_trials(workspace) if not trial.whole]
    return adapters + [(source.name, source.value) for source in _models(workspace)]


def find(workspace: Workspace, value: Any) -> Source:
    """Return what a form's value stands for. Raises UsageError when it is not there."""
    if isinstance(value, str) and _MODEL.fullmatch(value):
        for source in _models(workspace):
            if source.value == value:
                return source
        raise UsageError("This model is not there", "it may have been removed", "choose another")
    trial = trials.find(workspace, value)
    if trial.whole:
        return _trained(trial)
    return Source(trial.value, trial.name, trial.column, trial.folder, trial.config.model.name, trial)


def _models(workspace: Workspace) -> list[Source]:
    """Return the models of full fine-tuning, and the merged ones that are still where a merge put them."""
    found = [_trained(trial) for trial in trials.all_trials(workspace) if trial.whole]
    for job in _newest(workspace, "merge"):
        folder = trials.merged_model(job)
        if folder is not None:
            found.append(Source(f"model:{job.id}", folder.name, safe_name(folder.name), folder, ""))
    return found


def _trained(trial: Trial) -> Source:
    """Return a model that was trained as a whole; nothing is left to merge."""
    return Source(trial.value, trial.name, trial.column, trial.folder, "")


def newest_jobs(workspace: Workspace, source: Source) -> dict[str, JobDirectory]:
    """Return the newest job of a source for every place that it went to."""
    found: dict[str, JobDirectory] = {}
    for job in [*_newest(workspace, "merge"), *_newest(workspace, "export")]:
        config = job.config
        target = str(config.get("to") or "model")
        if str(source.folder.absolute()) in (config.get("adapter"), config.get("model")):
            found.setdefault(target, job)
    return found


def _newest(workspace: Workspace, kind: str) -> list[JobDirectory]:
    return jobs.all_jobs(workspace, kind)[::-1][:_MOST_JOBS]
