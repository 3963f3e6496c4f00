"""A measurement of a plan's settings, handed in as a job."""

from __future__ import annotations

from dataclasses import dataclass

from app.config.schema import RunConfig
from app.errors import JobError, WorkspaceError
from app.jobs import directory as jobs
from app.jobs.directory import JobDirectory
from app.planner.history import CPU
from app.reading import parsed_as
from app.runs import request_paths
from app.runs.submission import submit
from app.workspace import Workspace

# Measured on when no data is chosen yet: short rows, but the plan is held against the same length.
_SAMPLE = request_paths.SAMPLES / "pirate.json"


def start(workspace: Workspace, config: RunConfig) -> JobDirectory:
    """Hand in a measurement of these settings and return its job. Raises WorkbenchError."""
    file = request_paths.data_file(workspace, config.data.file) if config.data.file else _SAMPLE
    request_paths.model_name(workspace, config.model.name)
    return submit.start(workspace, config.changed({"data.file": str(file)}), kind="measure")


@dataclass(frozen=True)
class Peak:
    """The most that was allocated, planned or measured."""

    allocated_peak: float


@dataclass(frozen=True)
class Measured:
    """What a measurement found on a device."""

    device: str
    predicted: Peak
    measured: Peak

    @property
    def on_processor(self) -> bool:
        """Tell whether there is no card."""
        return self.device == CPU

    @property
    def off_percent(self) -> float:
        """Return how far the plan is off."""
        return 100 * (self.measured.allocated_peak / max(1, self.predicted.allocated_peak) - 1)


@dataclass(frozen=True)
class Standing:
    """How a measurement stands: what it does, or what it found, or why it found nothing."""

    ended: bool = False
    phase: str = ""
    found: Measured | None = None
    reason: str = ""


def standing(workspace: Workspace, job_id: str) -> Standing | None:
    """Return how a measurement stands, None where it is not there."""
    try:
        status = jobs.find(workspace, job_id).status()
    except (JobError, WorkspaceError):
        return None
    if not status.final:
        return Standing(phase=status.phase or status.state)
    try:
        return Standing(ended=True, found=parsed_as(Measured, status.result))
    except ValueError:
        return Standing(ended=True, reason=status.page_reason or status.state)
