"""The two-minute tour: the whole loop on the bundled model and data, one step a tab.

Where the tour stands is a small file in the workspace and the job directories it names; a reloaded page, another
browser or a restarted server goes on at the same step.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from app.config import presets
from app.errors import UsageError, WorkbenchError, keyed
from app.files import replace_file
from app.jobs import directory as jobs
from app.jobs.directory import JobDirectory
from app.reading import parsed_json
from app.runs import dataset_selection
from app.runs.dataset_selection import DatasetSelection
from app.runs.draft import CPU_PRESET, Draft
from app.runs.on_disk import artifacts
from app.runs.on_disk.artifacts import Artifact
from app.runs.submission import start
from app.ui.tabs.export import tab as export
from app.ui.tabs.playground import chooser
from app.workspace import Workspace

# The tab of each step, in order.
STEPS = ("plan", "data", "train", "playground", "export")
_SAMPLE = "pirate.json"
_ROWS = 300


@dataclass(frozen=True)
class Tour:
    """Where the tour stands: the step (an index of STEPS), and the jobs it has started."""

    step: int = 0
    run: str = ""
    merge: str = ""

    @property
    def tab(self) -> str:
        """Return the tab of this step."""
        return STEPS[self.step]


def _file(workspace: Workspace) -> Path:
    return workspace.root / "tour.json"


def read(workspace: Workspace) -> Tour | None:
    """Return where the tour stands, or None when none is under way."""
    try:
        tour = Tour(**parsed_json(_file(workspace).read_text(encoding="utf-8")))
        return tour if isinstance(tour.step, int) and 0 <= tour.step < len(STEPS) else None
    except (OSError, ValueError, TypeError):
        return None


def _write(workspace: Workspace, tour: Tour) -> Tour:
    replace_file(_file(workspace), json.dumps(asdict(tour)))
    return tour


def begin(workspace: Workspace) -> Tour:
    """Start the tour, or start it again."""
    return _write(workspace, Tour())


def end(workspace: Workspace) -> None:
    """End the tour and free the engine's memory; its run and its merged model stay."""
    _file(workspace).unlink(missing_ok=True)
    chooser.free_memory(workspace)


def draft() -> Draft:
    """Return what the tour trains: the starter on the processor, with a sample set."""
    planned = Draft(presets.load(CPU_PRESET).config, planned=True)
    return planned.with_data(sample(), _ROWS)


def sample() -> DatasetSelection:
    """Return the data of the tour."""
    return dataset_selection.sample(_SAMPLE)


def advance(workspace: Workspace, tour: Tour) -> Tour:
    """Do what the next step needs and return it. Raises WorkbenchError and stays where it was when that fails."""
    following = replace(tour, step=min(tour.step + 1, len(STEPS) - 1))
    if following.tab == "train" and job_of(workspace, tour.run) is None:
        following = replace(following, run=start.start(workspace, draft(), queue=False).id)
    elif following.tab == "playground":
        artifact(workspace, tour)  # raises while the run is not there to be tried
    elif following.tab == "export" and not tour.merge:
        following = replace(following, merge=export.merge(workspace, artifact(workspace, tour).value).id)
    return _write(workspace, following)


def artifact(workspace: Workspace, tour: Tour) -> Artifact:
    """Return the adapter that the tour trained. Raises UsageError before it is finished."""
    try:
        return artifacts.find(workspace, tour.run)
    except WorkbenchError:
        raise UsageError(
            keyed("the_run_has_not_finished", "The run has not finished"),
            "",
            keyed("wait_for_it_or_start_the", "wait for it, or start the tour again"),
        ) from None


def job_of(workspace: Workspace, job_id: str) -> JobDirectory | None:
    """Return a job of the tour while it exists."""
    try:
        return jobs.find(workspace, job_id) if job_id else None
    except WorkbenchError:
        return None


def state(workspace: Workspace, tour: Tour) -> str:
    """Return how the step's own work stands: ready, busy or failed."""
    job = {"train": tour.run, "export": tour.merge}.get(tour.tab, "")
    if not job:
        return "ready"
    found = job_of(workspace, job)
    if found is None:
        return "failed"
    status = found.status()
    if not status.final:
        return "busy"
    return "ready" if status.state == "finished" else "failed"
