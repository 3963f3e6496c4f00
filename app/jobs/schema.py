"""The schema of job.yaml: older ones are brought up by numbered steps when they are read; newer ones are refused.

The file itself is never rewritten. Whoever changes what job.yaml means adds one to `NEWEST` and a step that brings a
job of the number before to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

NEWEST = 1
Job = dict[str, Any]


def _from_0(job: Job) -> Job:
    """Bring up a job that was written without a number: what is missing gets the value that it always had."""
    return {"name": "", "versions": {}, **job}


STEPS: dict[int, Callable[[Job], Job]] = {0: _from_0}


def migrated(job: Job) -> Job:
    """Return a job in the newest schema. Raises ValueError for one that was written by a newer workbench."""
    number = job.get("schema", 0)
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ValueError("its schema is no number")
    if number > NEWEST:
        raise ValueError(
            f"it was written by a newer version (schema {number}, known here: {NEWEST}); update to read it"
        )
    for step in range(number, NEWEST):
        job = {**STEPS[step](job), "schema": step + 1}
    return job
