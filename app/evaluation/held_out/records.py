"""What a run was found to be worth: figures of evaluations, noted in the run's own folder, one JSON line each.

The lines outlive the evaluation's job. They carry the adapter's hash, so that nobody reads them as those of a result
that was trained on since.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from app.evaluation.held_out.results import ColumnResult, EvaluationResult
from app.jobs.directory import JobDirectory, holding
from app.reading import parsed_as, parsed_json

_FILE = "evaluations.jsonl"
# Of a longer file the newest lines are read.
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Evaluated:
    """One evaluation of one result of a run.

    `folder` is relative to the run; `base` has the base's figures; `trained` counts the rows that the run trained,
    near ones too.
    """

    folder: str
    data: str
    n: int
    column: ColumnResult
    base: ColumnResult | None = None
    job: str = ""
    time: float = 0.0
    trained: int = 0


def note(result: EvaluationResult, folders: Mapping[str, Path], job_id: str) -> None:
    """Append the figures of every column to the run that its folder lies in; a run that is gone is passed over."""
    for name, folder in folders.items():
        run, column = holding(folder), result.column(name)
        if run is None or column is None:
            continue
        where = folder.absolute().relative_to(run.path).as_posix()
        trained = sum(len(one.rows) for one in result.contamination if one.column == name)
        line = Evaluated(where, result.data, result.n, column, result.column("base"), job_id, time.time(), trained)
        with suppress(OSError), (run.path / _FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(line), ensure_ascii=False) + "\n")


def of_run(job: JobDirectory) -> list[Evaluated]:
    """Return the evaluations of a run, newest first; a damaged line is passed over."""
    file = job.path / _FILE
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - _MOST_BYTES))
            lines = opened.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    found = []
    for line in reversed(lines):
        with suppress(ValueError):
            found.append(parsed_as(Evaluated, parsed_json(line)))
    return found
