"""The curves of a run, read from its metrics file as it grows.

A poll reads only what was added since the last one; numbers are kept in arrays, so a run of 100,000 steps costs a few
MB. What is kept here is a cache of the file: a restarted server, or another one, reads the same curves again.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from app.jobs.metrics import Row, parse_lines
from app.reading import is_finite, is_number
from app.runs.results.series import Point, Series

NAMES = (
    "loss",
    "eval_loss",
    "learning_rate",
    "grad_norm",
    "tokens_per_s",
    "rewards_margin",
    "rewards_accuracy",
    "rewards_chosen",
    "rewards_rejected",
    "kl",
    "vram_bytes",
    "rss_bytes",
    "gpu_load_percent",
    "gpu_temperature_c",
    "gpu_power_w",
    "ram_free_bytes",
    "disk_free_bytes",
)
# Curves of this many runs are kept; the page shows one and compares a few.
_KEPT_RUNS = 12
_KEPT_EVENTS = 200


@dataclass
class Curves:
    """Everything drawn of one run.

    `events` are the event rows, newest last. `clock` has the seconds of training at each logged step: the time between
    a stop and the resume after it is not counted.
    """

    series: dict[str, Series] = field(default_factory=lambda: {name: Series() for name in NAMES})
    clock: Series = field(default_factory=Series)
    events: list[Row] = field(default_factory=list)
    inode: int = 0
    offset: int = 0
    _last_time: float | None = None

    def points(self, name: str) -> list[Point]:
        """Return (step, value) of one series."""
        return self.series[name].points()

    def __getitem__(self, name: str) -> Series:
        return self.series[name]

    def add(self, row: Row) -> None:
        """Take one row of the file."""
        if row.get("event") == "resumed":
            self._last_time = None
        if "event" in row and "eval_loss" not in row:
            self.events = [*self.events, row][-_KEPT_EVENTS:]
            return
        step = row.get("step")
        if not is_finite(step):
            return
        wrong = row.get("not_finite")
        for name in NAMES:
            value = row.get(name)
            if is_finite(value):
                self.series[name].add(float(step), float(value))
            elif is_number(value) or (isinstance(wrong, list) and name in wrong):
                self.series[name].add(float(step), math.nan)
        if "event" not in row and is_finite(row.get("time")):
            self._tick(float(step), float(row["time"]))

    def _tick(self, step: float, time_s: float) -> None:
        passed = 0.0 if self._last_time is None else max(0.0, time_s - self._last_time)
        self._last_time = time_s
        before = self.clock.at(step - 1e-9) if len(self.clock) and self.clock.steps[0] < step else 0.0
        self.clock.add(step, (before or 0.0) + passed)


_cache: OrderedDict[Path, Curves] = OrderedDict()
_lock = threading.Lock()


def read(metrics_file: Path) -> Curves:
    """Return the curves of a metrics file as it stands now; an absent file has none."""
    with _lock:
        curves = _cache.pop(metrics_file, None) or Curves()
        try:
            file = metrics_file.open("rb")
        except OSError:  # not begun, or removed
            return Curves()
        with file:
            stat = os.fstat(file.fileno())
            if stat.st_ino != curves.inode or stat.st_size < curves.offset:
                curves = Curves(inode=stat.st_ino)  # replaced: a resumed run goes back to its checkpoint
            if stat.st_size > curves.offset:
                file.seek(curves.offset)
                data = file.read()
                complete = data.rfind(b"\n") + 1  # a line still being written is left for the next poll
                for row in parse_lines(data[:complete]):
                    curves.add(row)
                curves.offset += complete
        _cache[metrics_file] = curves
        while len(_cache) > _KEPT_RUNS:
            _cache.popitem(last=False)
        return curves
