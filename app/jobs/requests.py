"""What the page and the command line ask of jobs: submit, stop, pause, resume, move, name, wait.

Each call writes into directories and returns; none of them owns a process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from app.errors import BusyError, JobError, keyed
from app.files import replace_file
from app.jobs import directory as jobs
from app.jobs import queue as waiting_line
from app.jobs import supervisor, warm
from app.jobs.directory import JobDirectory, Status
from app.jobs.kinds import KINDS
from app.jobs.labels import Label
from app.jobs.lock import is_held
from app.workspace import Workspace


def submit(
    workspace: Workspace,
    kind: str,
    config: Mapping[str, object],
    *,
    queue: bool = False,
    secret: str | None = None,
    **facts: object,
) -> JobDirectory:
    """Hand in a job and return its directory at once.

    Raises BusyError when the accelerator has an owner and `queue` is off. A playground engine gives way: it is asked to
    stop, and the job starts when it has gone.
    """
    with supervisor.admission(workspace):
        gone = _claim(workspace, queue) if KINDS[kind].accelerator else []
        job = jobs.create(workspace, kind, config, secret, **facts)
        _tell_unloaded(job, gone)
        supervisor.ensure_running(workspace)
    return job


def expect_run(workspace: Workspace) -> None:
    """Say that a run may be handed in soon, so that its libraries are loaded meanwhile. Costs a look at one file.

    Where that cannot be, nothing is said: the run will start a few seconds later.
    """
    if warm.wish(workspace):
        with suppress(JobError, OSError), supervisor.admission(workspace):
            supervisor.ensure_running(workspace)


def ensure_supervised(workspace: Workspace) -> None:
    """See that somebody looks after jobs that wait or are to be written down, after a crash of the whole machine too.

    Cheap while a supervisor lives, else a look at every job.
    """
    if is_held(supervisor.supervisor_lock(workspace)):
        return
    if any(not job.recorded_status().final for job in jobs.all_jobs(workspace)):
        with supervisor.admission(workspace):
            supervisor.ensure_running(workspace)


def _claim(workspace: Workspace, queue: bool) -> list[JobDirectory]:
    """Make room on the accelerator, or raise BusyError. Return the jobs that were asked to give way."""
    gone = []
    for owner in jobs.all_jobs(workspace):
        status = owner.status()
        if status.final or not owner.kind.accelerator:
            continue
        if owner.kind.gives_way:
            _stop(owner)
            gone.append(owner)
        elif not queue:
            raise _busy(owner, status)
    return gone


def busy(workspace: Workspace) -> BusyError | None:
    """Return what refuses a job that does not queue, None while the accelerator is free or its owner gives way."""
    for owner in jobs.all_jobs(workspace):
        if owner.kind.accelerator and not owner.kind.gives_way:
            status = owner.status()
            if not status.final:
                return _busy(owner, status)
    return None


def _busy(owner: JobDirectory, status: Status) -> BusyError:
    return BusyError(
        keyed("busy", "Another run owns the accelerator: {owner} is {state}", owner=owner.id, state=status.state),
        keyed("one_job", "one job uses it at a time"),
        f"wait, add it to the queue (--queue), or stop that one with `jobs stop {owner.id}`",
        on_page=keyed("wait_or_queue", "wait, or stop that one above; a run can be queued behind it"),
    )


def _tell_unloaded(job: JobDirectory, gone: list[JobDirectory]) -> None:
    """Say in the job's own events which engines gave way to it."""
    for engine in gone:
        message = keyed(
            "event_unloaded",
            "{engine} was unloaded: one job uses the accelerator at a time",
            engine=engine.name or engine.id,
        )
        job.add_event("unloaded", message)


def stop(workspace: Workspace, job: JobDirectory, force: bool = False) -> Status:
    """Ask a job to end after its current step and save; with `force`, by TERM and after 10 s by KILL.

    A job that still waits ends at once. Asking again, or asking a job that ended, does nothing more. Return the status
    before the request.
    """
    with supervisor.admission(workspace):
        return _stop(job, force)


def pause(workspace: Workspace, job: JobDirectory) -> Status:
    """Ask a run to save, free the accelerator and wait to be resumed at the same step. Return the status before.

    Raises JobError for a job that is not training.
    """
    with supervisor.admission(workspace):
        status = job.status()
        if job.job["kind"] != "train" or not status.live:
            raise JobError(
                keyed("is", "{id} is {state}", id=job.id, state=status.state),
                keyed("only_a_run_that_trains_is", "only a run that trains is paused"),
                "",
            )
        if not job.stop_requested():
            replace_file(job.stop_file, f"{time.time()} pause\n")
        return status


def _stop(job: JobDirectory, force: bool = False) -> Status:
    status = job.status()
    if status.state == "queued":
        job.write_status(replace(status, state="stopped", reason="stopped before it began", ended=time.time()))
    elif status.live and (not job.stop_requested() or (force and not job.stop_forced())):
        replace_file(job.stop_file, f"{time.time()}{' force' if force else ''}\n")
    return status


def resume(workspace: Workspace, job: JobDirectory, *, queue: bool = False) -> None:
    """Put an ended job back in line; its child goes on from the newest complete checkpoint.

    Raises JobError for a job that lives or has finished, BusyError as `submit` does.
    """
    with supervisor.admission(workspace):
        status = job.status()
        if not status.final:
            raise JobError(
                keyed("is", "{id} is {state}", id=job.id, state=status.state),
                keyed("only_an_ended_run_can_be", "only an ended run can be resumed"),
                "",
            )
        if status.state == "finished":
            raise JobError(
                keyed("has_finished", "{id} has finished", id=job.id),
                keyed("there_is_nothing_left_to_do", "there is nothing left to do"),
                keyed("start_a_new_run_for_more", "start a new run for more steps"),
            )
        if job.kind.accelerator:
            _tell_unloaded(job, _claim(workspace, queue))
        waiting_line.forget(workspace, job)
        job.stop_file.unlink(missing_ok=True)
        queued = replace(status, state="queued", reason="", reason_on_page="", kind="", ended=None)
        # A process that has not left yet is seen off by its number before the next one starts.
        job.write_status(queued if is_held(job.lock_file) else replace(queued, pid=None))
        supervisor.ensure_running(workspace)


def move(workspace: Workspace, job: JobDirectory, places: int) -> int:
    """Move a waiting job `places` towards the end, or, negative, towards the front. Return its place, from 1.

    Raises JobError when it does not wait.
    """
    with supervisor.admission(workspace):
        if job.recorded_status().state != "queued":
            raise JobError(
                keyed("does_not_wait", "{id} does not wait", id=job.id),
                keyed("only_a_waiting_job_has_a", "only a waiting job has a place in the queue"),
                "",
            )
        return waiting_line.move(workspace, job, places)


def relabel(job: JobDirectory, name: str | None = None, note: str | None = None, tags: str | None = None) -> Label:
    """Change what a person calls a job, its note, or its tags (with commas between); None leaves what is there."""
    old = job.label
    together = ",".join(old.tags) if tags is None else tags
    label = Label.of(old.name if name is None else name, old.note if note is None else note, together)
    replace_file(job.label_file, label.to_json())
    return label


def wait(
    job: JobDirectory,
    until: Callable[[Status], bool] = lambda status: status.final,
    *,
    timeout_s: float | None = None,
    seen: Callable[[Status], None] = lambda status: None,
    poll_s: float = 0.2,
) -> Status:
    """Wait until the status satisfies `until` or is final, and return it. `seen` is called at each look.

    Raises JobError after `timeout_s` seconds.
    """
    end = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        status = job.status()
        seen(status)
        if status.final or until(status):
            return status
        if end is not None and time.monotonic() > end:
            raise JobError(
                f"{job.id} did not get there within {timeout_s:.0f} s", f"it is {status.state}", "see its log"
            )
        time.sleep(poll_s)
