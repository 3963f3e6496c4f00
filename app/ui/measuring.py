"""The Plan tab's measurement: hand it in, and say how it stands or what it found."""

from __future__ import annotations

from typing import Any

from app import runs
from app.config import RunConfig
from app.errors import JobError, WorkspaceError
from app.jobs import directory as jobs
from app.planner.history import CPU
from app.ui import allowed, figures, notices
from app.ui.language import Speech
from app.ui.markup import Html
from app.workspace import Workspace

# Measured on when no data is chosen yet: short rows, but the plan is held against the same length.
_SAMPLE = allowed.SAMPLES / "pirate.json"


def begin(workspace: Workspace, config: RunConfig) -> str:
    """Hand in a measurement of these settings and return the job's id. Raises WorkbenchError."""
    file = allowed.data_file(workspace, config.data.file) if config.data.file else _SAMPLE
    allowed.model_name(workspace, config.model.name)
    return runs.start(workspace, config.changed({"data.file": str(file)}), kind="measure").id


def standing(workspace: Workspace, job_id: Any, say: Speech) -> tuple[Html, bool]:
    """Return how a measurement stands, in one line, and whether it has ended."""
    if not isinstance(job_id, str) or not job_id:
        return Html(""), False
    try:
        status = jobs.find(workspace, job_id).status()
    except (JobError, WorkspaceError):
        return Html(""), False
    if not status.final:
        return notices.note(say("plan.measuring", phase=status.phase or status.state)), False
    if not status.result:
        return notices.note(say("plan.measure_failed", reason=status.page_reason or status.state)), True
    return notices.note(_found(status.result, say)), True


def _found(result: dict[str, Any], say: Speech) -> str:
    predicted, measured = (result[name]["allocated_peak"] for name in ("predicted", "measured"))
    return say(
        "plan.measured_cpu" if result["device"] == CPU else "plan.measured",
        device=result["device"],
        measured=figures.gigabytes(measured),
        predicted=figures.gigabytes(predicted),
        off=f"{100 * (measured / max(1, predicted) - 1):+.1f}",
    )
