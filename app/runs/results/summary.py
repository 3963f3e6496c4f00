"""What a run has come to so far, in a few numbers: for its card, for a comparison, for the command line."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from app.jobs.directory import JobDirectory
from app.runs.results import curves
from app.runs.results.curves import Curves
from app.runs.results.series import Point, Series

_SPARK_POINTS = 60
_KEPT = 1000


@dataclass(frozen=True)
class RunSummary:
    """The figures of a run; None where nothing was logged.

    `seconds` is the time spent training, without waiting and without the time between a stop and a resume.
    `memory_bytes` is the highest of the card (`on_card`), else of the process. `spark` is the loss in few points.
    """

    steps: int = 0
    best_loss: float | None = None
    last_loss: float | None = None
    best_validation: float | None = None
    last_validation: float | None = None
    seconds: float | None = None
    tokens_per_s: float | None = None
    memory_bytes: float | None = None
    on_card: bool = False
    spark: tuple[Point, ...] = ()


_cache: OrderedDict[Path, tuple[tuple[int, int], RunSummary]] = OrderedDict()
_lock = threading.Lock()


def of(job: JobDirectory) -> RunSummary:
    """Return the record of a run as its metrics file stands now. A file that has not changed is not read again."""
    try:
        stat = job.metrics_file.stat()
    except OSError:
        return RunSummary()
    mark = (stat.st_ino, stat.st_size)
    with _lock:
        known = _cache.get(job.metrics_file)
    if known is not None and known[0] == mark:
        return known[1]
    record = from_curves(curves.read(job.metrics_file))
    with _lock:
        _cache[job.metrics_file] = (mark, record)
        while len(_cache) > _KEPT:
            _cache.popitem(last=False)
    return record


def from_curves(found: Curves) -> RunSummary:
    """Return the record of a run's curves."""
    loss, validation = found["loss"], found["eval_loss"]
    on_card = len(found["vram_bytes"]) > 0
    losses, validations, paces = loss.totals(), validation.totals(), found["tokens_per_s"].totals()
    memory = found["vram_bytes" if on_card else "rss_bytes"].totals()
    return RunSummary(
        steps=int(loss.steps[-1]) if len(loss) else 0,
        best_loss=losses.lowest if losses else None,
        last_loss=_last(loss),
        best_validation=validations.lowest if validations else None,
        last_validation=_last(validation),
        seconds=_last(found.clock),
        tokens_per_s=paces.mean if paces else None,
        memory_bytes=memory.highest if memory else None,
        on_card=on_card,
        spark=tuple(loss.thinned(_SPARK_POINTS)),
    )


def _last(series: Series) -> float | None:
    return series.values[-1] if len(series) else None
