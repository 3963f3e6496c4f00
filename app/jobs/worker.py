"""The process of every job: `python -m app.jobs.worker JOB_DIRECTORY [LOCK]`, or `--warm SOCKET` before there is a job.

LOCK is the descriptor of the job's lock, taken by whoever starts this process; without it the lock is taken here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path

import psutil

from app.jobs import lock, warm
from app.jobs.child import Work, run_job, run_locked
from app.jobs.directory import JobDirectory

# Steps of the scheduler's courtesy: five give a process beside it three quarters of a core that both want (sched(7)).
NICER_BY = 5


def _make_way() -> None:
    """Let the page and its answers go before this process where both want the processor.

    On a processor a run takes every core for hours; nothing is lost to it while nobody else asks.
    """
    with suppress(psutil.Error, OSError):
        here = psutil.Process()
        if sys.platform == "win32":
            here.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        else:
            here.nice(min(19, here.nice() + NICER_BY))


def _work_of(directory: JobDirectory) -> Work:
    """Return what a job's kind does; its libraries are loaded here, or are already."""
    work: Work = import_module(directory.kind.module).work
    return work


def main() -> int:
    """Run the job of the directory named on the command line."""
    _make_way()
    if sys.argv[1] == "--warm":
        handed = warm.wait_for_job(int(sys.argv[2]))
        return 0 if handed is None else run_locked(handed, partial(_work_of, handed))
    directory = JobDirectory(Path(sys.argv[1]).absolute())

    find_work = partial(_work_of, directory)
    if directory.processes > 1:
        return _run_in_processes(directory, find_work)
    if len(sys.argv) > 2:
        lock.keep(int(sys.argv[2]))
        return run_locked(directory, find_work)
    return run_job(directory, find_work)


def _run_in_processes(directory: JobDirectory, find_work: Callable[[], Work]) -> int:
    """Run a job of several processes: this one starts them, and each of them comes here again, with its rank."""
    module = import_module(directory.kind.launcher)
    if "RANK" in os.environ:
        ended: int = module.run_one(directory, find_work())
        return ended
    if len(sys.argv) > 2:
        lock.keep(int(sys.argv[2]))
    elif not lock.FileLock(directory.lock_file).acquire(timeout_s=60.0):
        return 1
    started: int = module.launch(directory)
    return started


if __name__ == "__main__":
    sys.exit(main())
