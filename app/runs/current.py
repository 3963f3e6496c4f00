"""Which jobs and runs a person is shown: what lives now, what to follow, the run that was picked, the filter."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from app.config.schema import RunConfig, parse
from app.errors import JobError, WorkbenchError, keyed
from app.jobs import directory as jobs
from app.jobs.directory import JobDirectory, Status
from app.runs.on_disk import artifacts
from app.workspace import Workspace

# The newest jobs are looked at; an older one that still runs is a queue longer than anyone has seen.
_LOOKED_AT = 200
# A job is followed a little longer than it lives, so that its end is shown.
_LATELY_S = 10.0
# What the filter of states offers, and the states it stands for.
STATES: dict[str, frozenset[str]] = {
    "all": frozenset(),
    "going": frozenset({"queued", "starting", "running", "stopping", "pausing", "silent"}),
    "finished": frozenset({"finished"}),
    "paused": frozenset({"paused", "stopped", "interrupted"}),
    "failed": frozenset({"failed"}),
}


def living_jobs(workspace: Workspace) -> list[JobDirectory]:
    """Return the jobs that live now, newest first."""
    return [job for job in reversed(jobs.all_jobs(workspace)[-_LOOKED_AT:]) if job.recorded_status().live]


def current_job(workspace: Workspace) -> JobDirectory | None:
    """Return the job to follow: the newest living one that owns the accelerator, else any that lives."""
    living = [job for job in living_jobs(workspace) if job.status().live]
    owners = [job for job in living if job.kind.accelerator and not job.kind.gives_way]
    return next(iter(owners or living), None)


def is_busy(workspace: Workspace) -> bool:
    """Tell whether a job runs or has just ended. An engine that waits for questions is nothing to follow."""
    lately = time.time() - _LATELY_S
    newest = (job for job in jobs.all_jobs(workspace)[-_LOOKED_AT:] if not job.kind.gives_way)
    return any(status.live or (status.ended or 0.0) > lately for status in (job.recorded_status() for job in newest))


def training_runs(workspace: Workspace) -> list[JobDirectory]:
    """Return the training runs, newest first."""
    return list(reversed(artifacts.training_jobs(workspace)))


def shown_run(workspace: Workspace, selected: object) -> JobDirectory | None:
    """Return the run that was picked, while it exists; else the newest."""
    runs = training_runs(workspace)
    return next((job for job in runs if job.id == selected), runs[0] if runs else None)


def is_gone(workspace: Workspace, selected: object) -> bool:
    """Tell whether a run was picked that is there no more."""
    return bool(selected) and all(job.id != selected for job in training_runs(workspace))


def picked_run(workspace: Workspace, selected: object) -> JobDirectory | None:
    """Return the run to act on: the one that was picked, or the newest where none was.

    Raises JobError for one that was picked and is gone: what was meant for it must not happen to another.
    """
    job = shown_run(workspace, selected)
    if selected and (job is None or job.id != selected):
        raise JobError(
            keyed("run_is_gone", "The run {id} is no longer here", id=f"{selected!s:.80}"),
            keyed("removed_elsewhere", "it was removed, perhaps in another window"),
            keyed("choose_another_run", "choose another run"),
        )
    return job


@dataclass(frozen=True)
class Filter:
    """Which runs are shown: every word must be found in the run, and its state must be of the kind."""

    words: str = ""
    states: str = "all"

    @classmethod
    def of(cls, words: object, states: object) -> Filter:
        """Return the filter of what a form holds; anything odd shows all."""
        kind = states if isinstance(states, str) and states in STATES else "all"
        return cls(words.strip().lower()[:200] if isinstance(words, str) else "", kind)

    def takes(self, job: JobDirectory) -> bool:
        """Tell whether a run is shown."""
        kinds = STATES[self.states]
        if kinds and state_word(job, job.status()) not in kinds:
            return False
        if not self.words:
            return True
        text = _searched(job)
        return all(word in text for word in self.words.split())


EVERY = Filter()


def _searched(job: JobDirectory) -> str:
    """Return the text in which the filter looks."""
    config = config_of(job)
    parts = [job.id, job.name, job.label.note, *job.label.tags, str(job.job.get("sweep", ""))]
    if config is not None:
        parts += [config.model.name, config.method, f"r={config.adapter.r}", Path(config.data.file).name]
    return " ".join(parts).lower()


def config_of(job: JobDirectory) -> RunConfig | None:
    """Return a run's settings, or None when they are of another version and cannot be read."""
    try:
        return parse(job.config, job.id)
    except WorkbenchError:
        return None


def state_word(job: JobDirectory, status: Status) -> str:
    """Return the state as a person would say it: a run that was paused has not simply stopped.

    What a running job was asked to do is said at once: it looks for it between two steps, or once its libraries are
    loaded.
    """
    if status.silent:
        return "silent"
    if job.paused(status):
        return "paused"
    if not status.live or not job.stop_requested():
        return status.state
    return "pausing" if job.pause_requested() else "stopping"
