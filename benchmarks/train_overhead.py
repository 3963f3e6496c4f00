"""What the live instruments cost: the same trainer with and without our callbacks and checks, paired step by step.

Both trainers train the starter (NF4, rows of 256 tokens) in one process, a block of steps each in turn (A, B, B, A),
so that other load hits both alike. The instruments are the reporter with its metrics row, status file and stop file
at every step; checkpoints and validation, which a run asks for by itself, are off in both.
Run it: python -m benchmarks.train_overhead
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from app import presets
from app.jobs import directory
from app.jobs.child import JobChild
from app.models.loading import load_tokenizer
from app.models.names import resolve
from app.training import child as training
from app.training.rows import prepare_rows
from app.workspace import open_workspace

HOUSE = Path(__file__).resolve().parents[1]
RESULT = HOUSE / "benchmarks" / "results" / "train_overhead.json"
DATA = HOUSE / "assets" / "datasets" / "teacher.json"


class Clock(TrainerCallback):  # type: ignore[misc]
    """Note when each step has ended, after everything that belongs to it."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Note the end of the step before."""
        self.ends.append(time.perf_counter())


def block(folder: Path, steps: int, *, instruments: bool) -> list[float]:
    """Train `steps` steps and return the seconds of each, the first five left out."""
    config = presets.load("cpu-starter").config.changed(
        {"data.file": str(DATA), "training.max_steps": steps + 6, "training.save_steps": 10**6}
    )
    job = directory.create(open_workspace(folder), "train", config.as_dict())
    child = JobChild(job)
    child.begin()
    base = resolve(config.model.name)
    rows = prepare_rows(child, config, base)
    assert rows is not None
    model, tokenizer = training.build_model(config, base), load_tokenizer(base)
    watching = training.watchers(child, config, model, tokenizer, rows) if instruments else []
    trainer = training.build_trainer(child, config, model, tokenizer, rows, watching)
    trainer._save_checkpoint = lambda *args, **kwargs: None  # type: ignore[method-assign]
    for reporter in watching:
        reporter.on_save = lambda *args, **kwargs: None  # type: ignore[method-assign]
    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    child.end("finished")
    return [after - before for before, after in zip(clock.ends[5:], clock.ends[6:], strict=False)]


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    medians: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        block(Path(folder), 5, instruments=True)  # libraries and files are warm for both
        for pair in range(arguments.pairs):
            for instruments in (True, False) if pair % 2 else (False, True):
                times = block(Path(folder), arguments.steps, instruments=instruments)
                medians[instruments].append(statistics.median(times))
    overheads = [with_ / without - 1 for with_, without in zip(medians[True], medians[False], strict=True)]
    found = {
        "step_ms_with": [round(1e3 * value, 3) for value in medians[True]],
        "step_ms_without": [round(1e3 * value, 3) for value in medians[False]],
        "overhead_percent": [round(100 * value, 2) for value in overheads],
        "overhead_percent_median": round(100 * statistics.median(overheads), 2),
        "limit_percent": 2.0,
        "versions": directory.versions(),
    }
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
