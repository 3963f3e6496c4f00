"""The work of a measuring job: two real optimiser steps on the longest batch, predicted against measured.

The model, its adapter, the trainer and its rehearsal are those of a training run; nothing is saved but the figures.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from app import catalog
from app.config.schema import RunConfig, parse
from app.jobs.child import JobChild, Outcome
from app.models.loading import load_tokenizer, resolve_dtype
from app.models.names import resolve
from app.planner import PlanRequest, estimate
from app.planner.from_config import request_from_config
from app.planner.history import COMPARED, CPU, Measurement, append, predicted_parts
from app.planner.machine import this_machine
from app.planner.request import Dtype
from app.planner.tracing.client import traced
from app.training.assembly import (
    add_adapter,
    build_trainer,
    keep_start,
    load_model,
    starting_adapter,
    starting_folder,
)
from app.training.memory.memory_meter import MemoryMeter, memory_meter
from app.training.number_format import settle_dtype
from app.training.rows import TrainingRows, prepare_rows, settle_packing
from app.training.trainers.trainer import WorkbenchTrainer, longest_rows, row_lengths

STEPS = 2
# A second micro-batch of a step meets the first one's gradients; further ones change nothing.
_MOST_ACCUMULATED = 2
_NAMES: dict[torch.dtype, Dtype] = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


@dataclass
class Marks:
    """Hold readings in bytes: before the model, with the base, after the first step, and the second step's highest."""

    before: int = 0
    with_base: int = 0
    after_first: int = 0
    highest: int = 0
    steps: list[int] = field(default_factory=list)

    def parts(self) -> dict[str, int]:
        """Return the measured parts by the names that the history uses."""
        base, adapter = self.with_base - self.before, self.after_first - self.with_base
        peak = self.highest - self.before
        return dict(zip(COMPARED, (base, adapter, self.highest - self.after_first, peak), strict=True))


class StepMarks(TrainerCallback):  # type: ignore[misc]
    """Read the meter around each step, save nothing, and hear a stop request."""

    def __init__(self, child: JobChild, meter: MemoryMeter, marks: Marks) -> None:
        self.child, self.meter, self.marks = child, meter, marks

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say which step runs and begin to look for its highest moment."""
        self.child.progress(state.global_step, STEPS, phase="measuring")
        self.meter.mark()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Read what the step left and where it peaked."""
        self.marks.steps.append(self.meter.peak())
        gc.collect()
        if state.global_step == 1:
            self.marks.after_first = self.meter.now()
        self.marks.highest = max(self.marks.steps[-1], self.marks.after_first)
        self.child.progress(state.global_step, STEPS, phase="measuring")
        control.should_save = False
        control.should_training_stop = control.should_training_stop or self.child.stop_requested()


def work(child: JobChild) -> tuple[Outcome, Mapping[str, Any]]:
    """Measure the job's RunConfig and keep the result in the history of this machine."""
    config = shortened(parse(child.config, child.directory.id).settled())
    folder = resolve(config.model.name)
    config = settle_dtype(child, settle_packing(child, config, folder), folder)
    keep_start(child.directory, config)
    child.progress(0, STEPS, phase="reading the data")
    rows = prepare_rows(child, config, folder)
    if rows is None or child.stop_requested():
        return "stopped", {}
    found = measure(child, config, folder, _longest_batch(config, rows))
    return ("stopped", {}) if found is None else ("finished", _keep(child, *found))


def measure(child: JobChild, config: RunConfig, folder: str, batch: TrainingRows) -> tuple[Measurement, int] | None:
    """Run the steps of a shortened run on these rows, and compare with the plan; None when a stop came first.

    The second value is what was in use before the model, in bytes.
    """
    meter, marks = memory_meter(), Marks()
    trainer = _built(child, config, folder, batch, meter, marks)
    trainer.train()
    shutil.rmtree(child.directory.path / "work", ignore_errors=True)
    if len(marks.steps) < STEPS:
        return None
    request = traced(_request(config, batch, meter.device), child.directory.path.parents[1])
    return _measurement(request, _known_name(meter.device), marks), marks.before


def _known_name(device: str) -> str:
    """Return the name that the planner looks measurements up by: torch and the system call a GPU otherwise at times."""
    here = this_machine()
    return device if device == CPU or here.kind in (None, "cuda") else here.name


def shortened(config: RunConfig) -> RunConfig:
    """Return the run with as few steps and micro-batches as show its peak."""
    accumulated = min(config.training.gradient_accumulation_steps, _MOST_ACCUMULATED)
    return config.changed({"training.max_steps": STEPS, "training.gradient_accumulation_steps": accumulated})


def _longest_batch(config: RunConfig, rows: TrainingRows) -> TrainingRows:
    """Return the rows of the longest micro-batch, as often as two steps need them."""
    training = config.training
    longest = longest_rows(rows.training, training.per_device_train_batch_size)
    # A small file has fewer rows than the micro-batch: then a row comes twice.
    batch = list(islice(cycle(longest), training.per_device_train_batch_size))
    repeated = rows.training.select(batch * STEPS * training.gradient_accumulation_steps)
    chosen = repeated.flatten_indices(keep_in_memory=True)
    return TrainingRows(chosen, None, rows.count, rows.content_hash, rows.folder)


def _built(
    child: JobChild, config: RunConfig, folder: str, batch: TrainingRows, meter: MemoryMeter, marks: Marks
) -> WorkbenchTrainer:
    """Load and assemble everything as a run does, reading the meter on the way."""
    child.progress(0, STEPS, phase="loading the base model")
    tokenizer = load_tokenizer(folder, revision=config.model.revision)
    gc.collect()
    marks.before = meter.now()
    model = load_model(config, folder)
    gc.collect()
    marks.with_base = meter.now()
    start = starting_folder(child.directory)
    model = add_adapter(config, model) if start is None else starting_adapter(config, model, start)
    return build_trainer(child, config, model, tokenizer, batch, [StepMarks(child, meter, marks)])


def _request(config: RunConfig, batch: TrainingRows, device: str) -> PlanRequest:
    """Return the plan's request for exactly the batch that was run."""
    dtype = _NAMES[resolve_dtype(config.model.dtype)]
    request = request_from_config(config, catalog.find(config.model.name, config.model.revision), dtype)
    lengths = row_lengths(batch.training)[: config.training.per_device_train_batch_size]
    # Packed rows are joined without padding: what counts is their sum.
    length = -(-sum(lengths) // len(lengths)) if config.data.packing else max(lengths)
    return request.changed(seq_len=length, device="cpu" if device == CPU else "cuda", vram_gb=None)


def _measurement(request: PlanRequest, device: str, marks: Marks) -> Measurement:
    return Measurement(
        device=device,
        model=request.model.name,
        method=request.method,
        storage=request.storage,
        seq_len=request.seq_len,
        micro_batch=request.micro_batch,
        rank=request.rank,
        predicted=predicted_parts(estimate(request)),
        measured=marks.parts(),
    )


def _keep(child: JobChild, measurement: Measurement, before_bytes: int) -> dict[str, object]:
    """Write result/measurement.json and the history's line, and return the figures."""
    how = "process" if measurement.device == CPU else "card"
    figures = {**asdict(measurement), "how": how, "before_bytes": before_bytes}
    child.directory.result.mkdir(exist_ok=True)
    (child.directory.result / "measurement.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    append(child.directory.path.parents[1], measurement)
    return figures
