"""The bin: ended jobs that were removed. They can come back; they go for good when the bin is emptied."""

from __future__ import annotations

import shutil
from contextlib import suppress

from app.errors import JobError
from app.jobs import directory as jobs
from app.jobs import supervisor
from app.jobs.directory import JobDirectory
from app.jobs.lock import FileLock
from app.workspace import Workspace

# A child writes its last word a moment before its process is gone.
_GONE_WITHIN_S = 10.0


def discard(workspace: Workspace, job: JobDirectory) -> None:
    """Move an ended job into the bin. Raises JobError while it lives or waits."""
    with supervisor.admission(workspace):
        _check_gone(job)
        workspace.bin.mkdir(exist_ok=True)
        job.path.rename(workspace.bin / job.id)


def delete(workspace: Workspace, job: JobDirectory) -> None:
    """Delete an ended job and everything in it for good. Raises JobError while it lives or waits."""
    with supervisor.admission(workspace):
        _check_gone(job)
        shutil.rmtree(job.path)


def _check_gone(job: JobDirectory) -> None:
    """Raise JobError for a job that lives, waits, or whose process is still there."""
    status = job.status()
    if not status.final:
        raise JobError(
            f"{job.id} is {status.state}", "a living job is not removed", f"stop it with `jobs stop {job.id}`"
        )
    lock = FileLock(job.lock_file)
    if not lock.acquire(timeout_s=_GONE_WITHIN_S):
        raise JobError(f"The process of {job.id} has not ended yet", "it still holds files", "try again in a moment")
    lock.release()


def discarded(workspace: Workspace) -> list[JobDirectory]:
    """Return the jobs in the bin, oldest first."""
    return jobs.jobs_in(workspace.bin)


def find(workspace: Workspace, job_id: str) -> JobDirectory:
    """Return a job of the bin. Raises JobError when it is not there."""
    found = JobDirectory(workspace.bin / workspace.job_dir(job_id).name)
    if not found.job_file.is_file():
        raise JobError(
            f"There is no job {job_id} in the bin", "", "see `jobs bin` for what is there", on_page="open the bin again"
        )
    return found


def restore(workspace: Workspace, job_id: str) -> JobDirectory:
    """Bring a job back from the bin, as it was. Raises JobError when it is not there."""
    with supervisor.admission(workspace):
        found = find(workspace, job_id)
        target = workspace.job_dir(job_id)
        if target.exists():
            raise JobError(f"There is a job {job_id} already", "", "remove that one first")
        found.path.rename(target)
    return JobDirectory(target)


def empty(workspace: Workspace) -> int:
    """Delete everything in the bin for good and return how many jobs it was."""
    going = workspace.root / "bin.going"
    with supervisor.admission(workspace):
        shutil.rmtree(going, ignore_errors=True)  # of an emptying that was cut off
        found = discarded(workspace)
        if workspace.bin.is_dir():
            workspace.bin.rename(going)
    # Large checkpoints take their time; nobody who starts a job shall wait for them.
    shutil.rmtree(going, ignore_errors=True)
    return len(found)


def size_bytes(workspace: Workspace) -> int:
    """Return how much room the bin takes."""
    total = 0
    for file in workspace.bin.rglob("*"):
        with suppress(FileNotFoundError):  # restored or emptied since it was listed
            total += file.stat().st_size if file.is_file() else 0
    return total
