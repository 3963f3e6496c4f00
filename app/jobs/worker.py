"""The process of every job: `python -m app.jobs.worker JOB_DIRECTORY [LOCK]`.

LOCK is the descriptor of the job's lock, taken by whoever starts this process; without it the lock is taken here.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from app.jobs import lock
from app.jobs.child import Work, run_job, run_locked
from app.jobs.directory import JobDirectory


def main() -> int:
    """Run the job of the directory named on the command line."""
    directory = JobDirectory(Path(sys.argv[1]).absolute())

    def find_work() -> Work:
        work: Work = import_module(directory.kind.module).work
        return work

    if len(sys.argv) > 2:
        lock.keep(int(sys.argv[2]))
        return run_locked(directory, find_work)
    return run_job(directory, find_work)


if __name__ == "__main__":
    sys.exit(main())
