"""The memory ladder: what a run changes when memory runs out, least harmful first.

The micro-batch is halved and accumulation raised so that the effective batch stays; then checkpointing is raised; then
the run stops and says so. What was changed is kept beside the job, because job.yaml is never rewritten.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from app.config import RunConfig
from app.jobs.directory import JobDirectory, replace_file

_FILE = "ladder.json"


@dataclass(frozen=True)
class Rung:
    """One step down: the settings to run with and the sentence for the curve."""

    changes: dict[str, Any]
    message: str


def next_rung(config: RunConfig) -> Rung | None:
    """Return the next step down from these settings, or None when there is none."""
    training = config.training
    rows, accumulation = training.per_device_train_batch_size, training.gradient_accumulation_steps
    if rows > 1:
        effective = rows * accumulation
        fewer = next(count for count in range(rows // 2, 0, -1) if effective % count == 0)
        return Rung(
            {
                "training.per_device_train_batch_size": fewer,
                "training.gradient_accumulation_steps": effective // fewer,
            },
            f"out of memory: micro-batch {rows} -> {fewer}, accumulation {accumulation} -> {effective // fewer}; "
            f"the effective batch stays {effective}",
        )
    if config.memory.checkpointing != "full":
        message = f"out of memory: checkpointing {config.memory.checkpointing} -> full; the effective batch stays"
        return Rung({"memory.checkpointing": "full"}, message)
    return None


def lowered(job: JobDirectory, config: RunConfig) -> RunConfig:
    """Return the config with every step that this job has taken so far."""
    file = job.path / _FILE
    return config.changed(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else config


def remember(job: JobDirectory, rung: Rung) -> None:
    """Keep a step for this job's later attempts."""
    file = job.path / _FILE
    taken = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    replace_file(file, json.dumps({**taken, **rung.changes}))
