"""From the trainer to the job directory: metrics rows, progress, sealed checkpoints, and back the stop request."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from app.jobs.child import JobChild
from app.models.identity import write_note
from app.training import checkpoints


class JobReporter(TrainerCallback):  # type: ignore[misc]
    """Report every logged step, seal every checkpoint, and end the run within one step of a stop request."""

    def __init__(self, child: JobChild, keep: int, base_hash: str = "") -> None:
        """`base_hash` is the identity of the base, noted beside every checkpoint."""
        self.child = child
        self.keep = keep
        self._base_hash = base_hash
        self._process = psutil.Process()
        self._last_tokens, self._last_time = 0.0, time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock and say how many steps there are."""
        self._last_time = time.monotonic()
        self.child.progress(state.global_step, state.max_steps, phase="training")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report the step; on a stop request end after it, with a checkpoint."""
        self.child.progress(state.global_step, state.max_steps, phase="training")
        if self.child.stop_requested():
            control.should_training_stop = True
            control.should_save = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write the row of a logged step, or the event of a validation."""
        logs = logs or {}
        if "loss" in logs:
            self.child.metric(self._row(state, logs))
        elif "eval_loss" in logs:
            self.child.event("validation", f"validation loss {logs['eval_loss']:.4f}", eval_loss=logs["eval_loss"])

    def _row(self, state: TrainerState, logs: dict[str, float]) -> dict[str, Any]:
        now, tokens = time.monotonic(), logs.get("num_tokens", 0.0)
        fresh_tokens = tokens - self._last_tokens
        pace = fresh_tokens / max(now - self._last_time, 1e-9)
        self._last_tokens, self._last_time = tokens, now
        return {
            "step": state.global_step,
            "loss": logs["loss"],
            "learning_rate": logs.get("learning_rate"),
            "grad_norm": logs.get("grad_norm"),
            "epoch": state.epoch,
            "token_accuracy": logs.get("mean_token_accuracy"),
            "tokens": fresh_tokens,
            "tokens_per_s": pace,
            "vram_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
            "rss_bytes": self._process.memory_info().rss,
        }

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Seal what the trainer has just saved and remove the oldest checkpoints over the limit."""
        step = state.global_step
        folder = self.child.directory.checkpoints
        saved = Path(args.output_dir) / f"checkpoint-{step}"
        write_note(saved, self._base_hash)
        checkpoints.seal(saved, folder, step)
        checkpoints.prune(folder, self.keep)
        self.child.event("checkpoint", f"checkpoint at step {step}")
