"""What the live instruments cost a step: in one run, switched on and off from step to step.

One trainer trains the starter (NF4, packed rows of 256 tokens); our callbacks work in the first and last step of each
group of four and are silent in the two between (on, off, off, on), so that other load on the machine and the drift of
the run hit both alike. A group gives one ratio; the median of all groups is reported with its 95 % interval. The
instruments are the reporter with its metrics row, status file and look for a stop request at every step; checkpoints
and validation, which a run asks for by itself, are off. The heartbeat beats on in a thread; its share is timed apart
and added.
Run it: python -m benchmarks.train_overhead
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from app.config import presets
from app.jobs import directory
from app.jobs.child import HEARTBEAT_S, JobChild
from app.models.loading import load_tokenizer
from app.models.names import resolve
from app.training import assembly
from app.training.rows import prepare_rows
from app.workspace import open_workspace

HOUSE = Path(__file__).resolve().parents[1]
RESULT = HOUSE / "benchmarks" / "results" / "train_overhead.json"
DATA = HOUSE / "assets" / "datasets" / "teacher.json"
_WARM_STEPS = 8
_BEATS = 200


class Switch(TrainerCallback):  # type: ignore[misc]
    """Pass the events of a step on to the instruments in steps of one kind, and note when every step begins."""

    def __init__(self, instruments: Sequence[TrainerCallback]) -> None:
        self.instruments = instruments
        self.begins: list[float] = []
        self.on = True

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Let the instruments take up their work."""
        for instrument in self.instruments:
            instrument.on_train_begin(*args, **kwargs)

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Note the time, which ends the step before too, and switch for the step that begins."""
        self.on = len(self.begins) % 4 in (0, 3)
        self.begins.append(time.perf_counter())

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Report the step in steps that are switched on."""
        for instrument in self.instruments if self.on else ():
            instrument.on_step_end(*args, **kwargs)

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Write the metrics row in steps that are switched on."""
        for instrument in self.instruments if self.on else ():
            instrument.on_log(*args, **kwargs)


def step_seconds(folder: Path, steps: int) -> tuple[list[float], float]:
    """Train and return the seconds of every step after the warm ones, and those of one beat of the heart."""
    config = presets.load("cpu-starter").config.changed(
        {"data.file": str(DATA), "training.max_steps": steps + _WARM_STEPS + 1, "training.save_steps": 10**6}
    )
    child = JobChild(directory.create(open_workspace(folder), "train", config.as_dict()))
    child.begin()
    base = resolve(config.model.name)
    rows = prepare_rows(child, config, base)
    assert rows is not None
    model, tokenizer = assembly.build_model(config, base), load_tokenizer(base)
    switch = Switch(assembly.watchers(child, config, model, tokenizer, rows))
    trainer = assembly.build_trainer(child, config, model, tokenizer, rows, [switch])
    trainer._save_checkpoint = lambda *args, **kwargs: None  # type: ignore[method-assign]
    trainer.train()
    begin = time.perf_counter()
    for _ in range(_BEATS):
        child.progress(steps, steps)
    beat_s = (time.perf_counter() - begin) / _BEATS
    child.end("finished")
    begins = switch.begins[_WARM_STEPS:]
    return [after - before for before, after in itertools.pairwise(begins)], beat_s


def overheads_of(seconds: Sequence[float]) -> list[float]:
    """Return for each group of four steps (on, off, off, on) the share by which those with instruments took longer."""
    groups = [seconds[first : first + 4] for first in range(0, len(seconds) - 3, 4)]
    return [(group[0] + group[3]) / (group[1] + group[2]) - 1 for group in groups]


def interval_of_median(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the median from order statistics (the binomial interval, normal approximation)."""
    ordered, half = sorted(values), 0.98 * math.sqrt(len(values))
    low = max(0, math.floor(len(ordered) / 2 - half))
    return ordered[low], ordered[min(len(ordered) - 1, math.ceil(len(ordered) / 2 + half))]


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds, beat_s = step_seconds(Path(folder), arguments.steps)
    overheads = overheads_of(seconds)
    low, high = interval_of_median(overheads)
    beats = beat_s / HEARTBEAT_S
    found = {
        "steps": len(seconds),
        "groups": len(overheads),
        "step_ms_median": round(1e3 * statistics.median(seconds), 3),
        "overhead_percent_median": round(100 * (statistics.median(overheads) + beats), 3),
        "overhead_percent_95": [round(100 * (low + beats), 3), round(100 * (high + beats), 3)],
        "of_it_heartbeat_percent": round(100 * beats, 3),
        "limit_percent": 2.0,
        "versions": directory.versions(),
    }
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
