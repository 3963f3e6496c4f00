"""A draft becomes a run: under a name of its own, and only with a model and data that the page may open."""

from __future__ import annotations

from collections.abc import Collection

from app.jobs.directory import JobDirectory
from app.runs import request_paths
from app.runs.current import training_runs
from app.runs.draft import Draft
from app.runs.submission import submit
from app.workspace import Workspace


def start(workspace: Workspace, draft: Draft, *, queue: bool) -> JobDirectory:
    """Hand in the draft as a run. Raises WorkbenchError, also for a file or model outside the workspace."""
    refuse_outside(workspace, draft)
    taken = {job.name for job in training_runs(workspace)}
    return submit.start(workspace, draft.config, queue=queue, name=run_name(draft, taken))


def refuse_outside(workspace: Workspace, draft: Draft) -> None:
    """Raise WorkbenchError for a model, an adapter or a file outside the workspace."""
    request_paths.model_name(workspace, draft.config.model.name)
    if draft.config.adapter.start_from:
        request_paths.adapter_folder(workspace, draft.config.adapter.start_from)
    if draft.config.data.file:
        request_paths.data_file(workspace, draft.config.data.file)


def run_name(draft: Draft, taken: Collection[str] = ()) -> str:
    """Return a name for people: the data, the model, and a number where the name is taken."""
    data = draft.label.rsplit(".", 1)[0][:24]
    model = draft.config.model.name.rsplit("/", 1)[-1][:24]
    name = f"{data} on {model}" if data else model
    numbered = (f"{name} {number}" for number in range(2, len(taken) + 3))
    return name if name not in taken else next(one for one in numbered if one not in taken)
