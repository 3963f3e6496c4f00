"""The order of the jobs that wait: as they were handed in, unless a person moved one.

queue.json in the workspace lists the jobs that were waiting when one was moved; jobs that it does not name come after
them. Everything here is called under the admission lock, except where a page only looks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from app.files import replace_file
from app.jobs import directory as jobs
from app.jobs.directory import JobDirectory
from app.reading import parsed_json
from app.workspace import Workspace


def waiting(workspace: Workspace) -> list[JobDirectory]:
    """Return the jobs that wait, the next one first."""
    return in_order(workspace, jobs.all_jobs(workspace))


def in_order(workspace: Workspace, found: Iterable[JobDirectory]) -> list[JobDirectory]:
    """Return those of the jobs that wait, the next one first."""
    queued = [job for job in found if job.status().state == "queued"]
    places = {job_id: place for place, job_id in enumerate(_read(workspace))}
    return sorted(queued, key=lambda job: (places.get(job.id, len(places)), _handed_in_ns(job), job.id))


def move(workspace: Workspace, job: JobDirectory, places: int) -> int:
    """Move a waiting job towards the front (negative) or the end. Return its new place, counted from 1."""
    order = [other.id for other in waiting(workspace)]
    old = order.index(job.id)
    new = max(0, min(len(order) - 1, old + places))
    order.insert(new, order.pop(old))
    replace_file(_file(workspace), json.dumps(order))
    return new + 1


def forget(workspace: Workspace, job: JobDirectory) -> None:
    """Forget a place that a job had before; it is handed in anew and comes last."""
    order = _read(workspace)
    if job.id in order:
        replace_file(_file(workspace), json.dumps([other for other in order if other != job.id]))


def _file(workspace: Workspace) -> Path:
    return workspace.root / "queue.json"


def _read(workspace: Workspace) -> list[str]:
    try:
        order = parsed_json(_file(workspace).read_bytes())
    except (OSError, ValueError):
        return []
    return [name for name in order if isinstance(name, str)] if isinstance(order, list) else []


def _handed_in_ns(job: JobDirectory) -> int:
    try:
        return job.status_file.stat().st_mtime_ns
    except OSError:  # taken away since it was listed
        return 0
