"""The memory ladder: what a run changes when memory runs out, least harmful first.

What was bought with free memory is given back first, step by step: weights that are kept dequantised, then layers that
are not recomputed. Then the reference of a preference run reads beforehand; the micro-batch is halved and accumulation
raised so that the effective batch stays; checkpointing is raised; then the run stops and says so. What was changed is
kept beside the job, because job.yaml is never rewritten.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.config.objectives import LEAST_KTO_ROWS, WITH_REFERENCE
from app.config.schema import RunConfig
from app.errors import keyed
from app.files import replace_file
from app.jobs.directory import JobDirectory
from app.reading import read_object

_FILE = "ladder.json"


@dataclass(frozen=True)
class Rung:
    """One step down: the settings to run with and the sentence for the curve."""

    changes: dict[str, object]
    message: str


def next_rung(config: RunConfig, bought: bool = False) -> Rung | None:
    """Return the next step down from these settings, or None when there is none.

    `bought` says that how much is recomputed was not asked for but bought with memory that was thought to be free.
    """
    training = config.training
    if config.memory.dequantized_layers or (bought and config.memory.checkpointing != "full"):
        return _given_back(config)
    rows, accumulation = training.per_device_train_batch_size, training.gradient_accumulation_steps
    if training.objective in WITH_REFERENCE and not training.precompute_ref_log_probs:
        message = keyed("event_oom_reference", "out of memory: the reference reads all rows once, before training")
        return Rung({"training.precompute_ref_log_probs": True}, message)
    effective, least = rows * accumulation, LEAST_KTO_ROWS if training.objective == "kto" else 1
    evenly = effective // training.num_processes
    fewer = next((count for count in range(rows // 2, least - 1, -1) if evenly % count == 0), None)
    if fewer is not None:
        return Rung(
            {
                "training.per_device_train_batch_size": fewer,
                "training.gradient_accumulation_steps": effective // fewer,
            },
            keyed(
                "event_oom_batch",
                "out of memory: micro-batch {rows} -> {fewer}, accumulation {before} -> {after}; the effective batch "
                "stays {effective}",
                rows=rows,
                fewer=fewer,
                before=accumulation,
                after=effective // fewer,
                effective=effective,
            ),
        )
    if config.memory.checkpointing != "full":
        message = keyed(
            "event_oom_full",
            "out of memory: checkpointing {mode} -> full; the effective batch stays",
            mode=config.memory.checkpointing,
        )
        return Rung({"memory.checkpointing": "full"}, message)
    return None


def _given_back(config: RunConfig) -> Rung:
    """Return a step that gives back half of the kept weights, and then the layers that are not recomputed."""
    layers, mode = config.memory.dequantized_layers or 0, config.memory.checkpointing
    if layers:
        message = keyed(
            "event_oom_kept",
            "out of memory: layers that keep dequantised weights {before} -> {after}",
            before=layers,
            after=layers // 2,
        )
        return Rung({"memory.dequantized_layers": layers // 2}, message)
    more = "every-2" if mode not in ("every-2", "full") else "full"
    message = keyed("event_oom_mode", "out of memory: checkpointing {before} -> {after}", before=mode, after=more)
    return Rung({"memory.checkpointing": more}, message)


def lowered(job: JobDirectory, config: RunConfig) -> RunConfig:
    """Return the config with every step that this job has taken so far."""
    file = job.path / _FILE
    return config.changed(_taken(file))


def remember(job: JobDirectory, rung: Rung) -> None:
    """Keep a step for this job's later attempts."""
    file = job.path / _FILE
    replace_file(file, json.dumps({**_taken(file), **rung.changes}))


def _taken(file: Path) -> dict[str, Any]:
    """Return the steps of the attempts before; a damaged record is taken anew, one attempt at a time."""
    try:
        return read_object(file)
    except (OSError, ValueError):
        return {}
