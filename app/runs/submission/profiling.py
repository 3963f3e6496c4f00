"""A profile of a run's steps, handed in as a job and read back."""

from __future__ import annotations

from app.config.schema import RunConfig
from app.errors import JobError, UsageError
from app.jobs import directory
from app.jobs.directory import JobDirectory
from app.planner.step_profile import StepProfile
from app.reading import parsed_as, read_object
from app.runs import request_paths
from app.runs.submission import submit
from app.workspace import Workspace

MOST_STEPS = 100
# Profiled on when no data is named.
_SAMPLE = request_paths.SAMPLES / "pirate.json"


def start(
    workspace: Workspace, config: RunConfig, *, steps: int = 3, trace: bool = False, run: str = ""
) -> JobDirectory:
    """Hand in a profile of `steps` steps and return its job; `trace` adds one under torch's own profiler.

    `run` is the id of the run whose settings these are, so that `newest` finds the profile again.

    Raises WorkbenchError for what no run can be, and UsageError for more steps than MOST_STEPS.
    """
    if not 1 <= steps <= MOST_STEPS:
        raise UsageError(f"{steps} steps are not profiled", "", f"choose 1 to {MOST_STEPS}")
    if not config.data.file:
        config = config.changed({"data.file": str(_SAMPLE)})
    return submit.start(workspace, config, kind="profile", steps=steps, trace=trace, run=run)


def newest(workspace: Workspace, run: str) -> JobDirectory | None:
    """Return the newest profile that was asked for of a run."""
    found = reversed(directory.all_jobs(workspace, "profile"))
    return next((job for job in found if job.job.get("run") == run), None)


def read(job: JobDirectory) -> StepProfile:
    """Return what a profile found. Raises JobError where it has not ended well."""
    try:
        return parsed_as(StepProfile, read_object(job.result / "profile.json"))
    except (OSError, ValueError):
        status = job.status()
        raise JobError(
            f"{job.id} has no profile", status.reason or status.state, f"its log is {job.log_file}"
        ) from None


def lines(profile: StepProfile) -> list[str]:
    """Return a profile as text: the parts, and how near the step is to this machine's limit."""
    spread = f"{profile.least_seconds:.3f} to {profile.most_seconds:.3f} s"
    found = [
        f"{profile.model} on {profile.device}, {profile.dtype}: {profile.seconds:.3f} s a step ({spread}, "
        f"{profile.steps} steps), {profile.tokens:.0f} tokens a step",
        "",
    ]
    for part in profile.parts:
        found.append(f"{part.name:24}{part.seconds:9.4f} s{100 * part.share:7.1f} %")
    if profile.share_of_limit is not None:
        best = max(product.gflops for product in profile.products)
        found += [
            "",
            f"{100 * profile.share_of_limit:.0f} % of this machine's limit: the products of the base's matrices take "
            f"{profile.products_seconds:.3f} s alone, at up to {best:,.0f} GFLOP/s",
        ]
    return found
