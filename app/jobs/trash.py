"""The trash: ended jobs that were removed. They can come back; they go for good when it is emptied.

Version 0.1 called the folder `bin`: what lies there still comes back and goes the same way.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from app.errors import JobError, keyed
from app.files import folder_bytes
from app.jobs import directory as jobs
from app.jobs import supervisor
from app.jobs.directory import JobDirectory
from app.jobs.lock import FileLock
from app.workspace import Workspace

# A child writes its last word a moment before its process is gone.
_GONE_WITHIN_S = 10.0


def move_to_trash(workspace: Workspace, job: JobDirectory) -> None:
    """Move an ended job into the trash. Raises JobError while it lives or waits."""
    with supervisor.admission(workspace):
        _check_gone(job)
        workspace.trash.mkdir(exist_ok=True)
        job.path.rename(workspace.trash / job.id)


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
            keyed("is", "{id} is {state}", id=job.id, state=status.state),
            keyed("a_living_job_is_not_removed", "a living job is not removed"),
            f"stop it with `jobs stop {job.id}`",
        )
    lock = FileLock(job.lock_file)
    if not lock.acquire(timeout_s=_GONE_WITHIN_S):
        raise JobError(
            keyed("the_process_of_has_not_ended", "The process of {id} has not ended yet", id=job.id),
            keyed("it_still_holds_files", "it still holds files"),
            keyed("try_again_in_a_moment", "try again in a moment"),
        )
    lock.release()


def trashed(workspace: Workspace) -> list[JobDirectory]:
    """List the jobs in the trash, oldest first."""
    listed = [job for folder in folders(workspace) for job in jobs.jobs_in(folder)]
    return sorted(listed, key=lambda job: job.id)


def folders(workspace: Workspace) -> tuple[Path, Path]:
    """Name the folders that removed jobs lie in: today's, and that of version 0.1."""
    return workspace.trash, workspace.root / "bin"


def find(workspace: Workspace, job_id: str) -> JobDirectory:
    """Find a job of the trash. Raises JobError when it is not there."""
    name = workspace.job_dir(job_id).name
    for folder in folders(workspace):
        if JobDirectory(folder / name).job_file.is_file():
            return JobDirectory(folder / name)
    raise JobError(
        keyed("there_is_no_job_in_the", "There is no job {job_id} in the trash", job_id=job_id),
        "",
        "see `jobs trash` for what is there",
        on_page=keyed("open_the_trash_again", "open the trash again"),
    )


def restore(workspace: Workspace, job_id: str) -> JobDirectory:
    """Bring a job back from the trash, as it was. Raises JobError when it is not there."""
    with supervisor.admission(workspace):
        removed = find(workspace, job_id)
        target = workspace.job_dir(job_id)
        if target.exists():
            raise JobError(
                keyed("there_is_a_job_already", "There is a job {job_id} already", job_id=job_id),
                "",
                keyed("remove_that_one_first", "remove that one first"),
            )
        removed.path.rename(target)
    return JobDirectory(target)


def empty(workspace: Workspace) -> int:
    """Delete everything in the trash for good and count the jobs."""
    return _delete(workspace, None)


def purge(workspace: Workspace, job_ids: Collection[str]) -> int:
    """Delete these jobs of the trash for good, and no other; count those that were still there."""
    return _delete(workspace, job_ids)


def _delete(workspace: Workspace, job_ids: Collection[str] | None) -> int:
    """Delete jobs of the trash; without ids all of them, and whatever else lies there."""
    going = workspace.root / "trash.going"
    with supervisor.admission(workspace):
        for leftover in (going, workspace.root / "bin.going"):  # of an emptying that was cut off
            shutil.rmtree(leftover, ignore_errors=True)
        chosen = [job for job in trashed(workspace) if job_ids is None or job.id in job_ids]
        going.mkdir()
        if job_ids is None:
            for number, folder in enumerate(folders(workspace)):
                if folder.is_dir():
                    folder.rename(going / str(number))
        else:
            for job in chosen:
                job.path.rename(going / job.id)
    # Large checkpoints take their time; nobody who starts a job shall wait for them.
    shutil.rmtree(going, ignore_errors=True)
    return len(chosen)


def size_bytes(workspace: Workspace) -> int:
    """Measure how much room the trash takes."""
    return sum(folder_bytes(folder) for folder in folders(workspace))
