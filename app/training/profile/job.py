"""The work of a profiling job: a few real steps of a run under a stopwatch, and the limit of this machine beside them.

Model, adapter, rows, trainer and instruments are those of the run; nothing is saved but the figures.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import wraps
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from app import devices
from app.config.schema import RunConfig, parse
from app.jobs.child import JobChild, Outcome
from app.models.loading import device, load_tokenizer
from app.models.names import resolve
from app.planner.step_profile import Part, StepProfile
from app.training.assembly import build_model, build_trainer, keep_start, starting_folder, watchers
from app.training.profile.instrument import INSTRUMENTS, STEP, around_optimiser, instrumented, seconds_of_parts
from app.training.profile.products import Products
from app.training.profile.stopwatch import Stopwatch
from app.training.rows import TrainingRows
from app.training.trainers.trainer import WorkbenchTrainer
from app.training.worker import settled_rows

# The first step allocates, warms caches and is preceded by the rehearsal of the longest batch.
_WARM_STEPS = 1


@dataclass
class Steps:
    """Opens a scope for every step behind the first, and notes how long each took; a last one may be traced."""

    trainer: WorkbenchTrainer
    stopwatch: Stopwatch
    wanted: int
    trace: str
    seconds: list[float] = field(default_factory=list)
    tokens: int = 0
    _open: AbstractContextManager[None] | None = None
    _tracing: torch.profiler.profile | None = None

    def install(self) -> None:
        """Hear of the end of each step: logging is its last part."""
        inner = self.trainer._maybe_log_save_evaluate

        @wraps(inner)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.stopwatch.scope(INSTRUMENTS):
                found = inner(*args, **kwargs)
            self.step_ended()
            return found

        self.stopwatch.replace(self.trainer, "_maybe_log_save_evaluate", timed)

    def step_ended(self) -> None:
        """Close the step's scope, and open the next one's."""
        if self._tracing is not None:
            self._tracing.stop()
            self._tracing.export_chrome_trace(self.trace)
            self._tracing, self.stopwatch.tracing = None, False
        if self._open is not None:
            self._open.__exit__(None, None, None)
            self.seconds.append(self.stopwatch.read(1).seconds - sum(self.seconds))
            self._open, self.stopwatch.running = None, False
        done = self.trainer.state.global_step - _WARM_STEPS
        if 0 <= done < self.wanted:
            if done == 0:
                self.tokens = -self._tokens()
            self.stopwatch.running = True
            self._open = self.stopwatch.scope(STEP)
            self._open.__enter__()
        elif done == self.wanted:
            self.tokens += self._tokens()
            if self.trace:
                self.stopwatch.tracing = True
                self._tracing = torch.profiler.profile()
                self._tracing.start()

    def _tokens(self) -> int:
        return int(getattr(self.trainer, "_total_train_tokens", 0))


class Guard(TrainerCallback):  # type: ignore[misc]
    """Time the optimiser once there is one, save and validate nothing, and hear a stop request."""

    def __init__(self, child: JobChild) -> None:
        self.child = child
        self.trainer: WorkbenchTrainer | None = None
        self.stopwatch: Stopwatch | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Put a scope around the optimiser."""
        assert self.trainer is not None and self.stopwatch is not None
        around_optimiser(self.trainer, self.stopwatch)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Say how far it is; the run's own reporter has said its part."""
        self.child.progress(state.global_step, args.max_steps, phase="profiling")
        control.should_save = control.should_evaluate = False
        control.should_training_stop = control.should_training_stop or self.child.stop_requested()


def work(child: JobChild) -> tuple[Outcome, Mapping[str, Any]]:
    """Profile the job's RunConfig; `steps` and `trace` of job.yaml say how many steps, and whether one is traced."""
    wanted, trace = int(child.directory.job.get("steps", 3)), bool(child.directory.job.get("trace"))
    config = parse(child.config, child.directory.id).settled()
    steps = _WARM_STEPS + wanted + trace
    config = config.changed({"training.max_steps": steps, "training.logging_steps": 1, "training.num_processes": 1})
    keep_start(child.directory, config)
    config, rows = settled_rows(child, config, resolve(config.model.name))
    if rows is None:
        return "stopped", {}
    child.directory.result.mkdir(exist_ok=True)
    profile = profiled(child, config, rows, wanted, str(child.directory.result / "trace.json") if trace else "")
    shutil.rmtree(child.directory.path / "work", ignore_errors=True)
    if profile is None:
        return "stopped", {}
    text = json.dumps(asdict(profile), indent=1)
    (child.directory.result / "profile.json").write_text(text, encoding="utf-8")
    return "finished", {"seconds": profile.seconds, "share_of_limit": profile.share_of_limit}


def profiled(child: JobChild, config: RunConfig, rows: TrainingRows, wanted: int, trace: str) -> StepProfile | None:
    """Run the steps of a shortened run and return where their time went; None when a stop came first."""
    child.progress(0, 0, phase="loading the base model")
    folder = resolve(config.model.name)
    tokenizer = load_tokenizer(folder, revision=config.model.revision)
    model = build_model(config, folder, starting_folder(child.directory))
    rows = TrainingRows(rows.training, None, rows.count, rows.content_hash, rows.folder, rows.chat_template)
    guard, stopwatch, products = Guard(child), Stopwatch(device()), Products()
    watching = [*watchers(child, config, model, tokenizer, rows), guard]
    trainer = build_trainer(child, config, model, tokenizer, rows, watching)
    guard.trainer, guard.stopwatch = trainer, stopwatch
    steps = Steps(trainer, stopwatch, wanted, trace)
    with instrumented(trainer, stopwatch, products):
        steps.install()
        trainer.train()
    if len(steps.seconds) < wanted:
        return None
    scopes = stopwatch.read(wanted)
    seconds = seconds_of_parts(scopes, trainer.model)
    dtype = trainer.model.get_input_embeddings().weight.dtype
    found, alone = products.measured(wanted, dtype, device())
    return StepProfile(
        device=devices.here().name,
        dtype=str(dtype).removeprefix("torch."),
        model=config.model.name,
        steps=wanted,
        seconds=scopes.seconds,
        least_seconds=min(steps.seconds),
        most_seconds=max(steps.seconds),
        tokens=steps.tokens / wanted,
        parts=[Part(name, spent, spent / scopes.seconds) for name, spent in seconds.items()],
        products=found,
        products_seconds=alone,
        share_of_limit=alone / scopes.seconds if found else None,
        scopes=scopes,
    )
