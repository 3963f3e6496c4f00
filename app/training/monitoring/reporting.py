"""From the trainer to the job directory: metrics rows, progress, sealed checkpoints, and back the stop request."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import psutil
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from app import devices
from app.config.schema import RunConfig
from app.errors import DivergedError, keyed
from app.jobs.child import JobChild
from app.jobs.metrics import MetricsWriter, Row, read_rows, steps_of
from app.models.identity import write_note
from app.training import checkpoints, processes
from app.training.monitoring.divergence import Divergence
from app.training.monitoring.host_metrics import Machine
from app.training.monitoring.samples import Sampler


class JobReporter(TrainerCallback):  # type: ignore[misc]
    """Report every logged step, seal every checkpoint, and end the run within one step of a stop request."""

    def __init__(self, child: JobChild, config: RunConfig, base_hash: str = "") -> None:
        """`base_hash` is the identity of the base, noted beside every checkpoint."""
        self.child = child
        self._training = config.training
        self._base_hash = base_hash
        self._process = psutil.Process()
        self._machine = Machine(child.directory.path)
        self._last_tokens, self._last_time = 0.0, time.monotonic()
        self._divergence = Divergence(config.training.divergence_factor, config.training.divergence_steps)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock, take up the curve where it stands, and say how many steps there are."""
        self._last_time = time.monotonic()
        rows = steps_of(read_rows(self.child.directory.metrics_file))
        self._divergence.replay(row["loss"] for row in rows if row["step"] <= state.global_step)
        self.child.progress(state.global_step, state.max_steps, phase="training")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report the step; on a stop request end after it, with a checkpoint."""
        self.child.progress(state.global_step, state.max_steps, phase="training")
        if processes.any_says(self.child.stop_requested()):
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
        """Write the row of a logged step, or the event of a validation.

        Raises DivergedError for a loss that is not finite, and for one that diverges if so set.
        """
        logs = logs or {}
        if "loss" in logs:
            row = self._row(state, logs)
            self.child.metric(row)
            self._judge(row)
        elif "eval_loss" in logs:
            message = keyed("event_validation", "validation loss {loss}", loss=f"{logs['eval_loss']:.4f}")
            rewards = rewards_of(logs, "eval_")
            if "eval_rewards_accuracy" in rewards:
                ahead = f"{rewards['eval_rewards_accuracy']:.0%}"
                message = keyed("event_ahead", "{loss}, the better answer ahead in {share}", loss=message, share=ahead)
            self.child.event("validation", message, eval_loss=logs["eval_loss"], **rewards)

    def _row(self, state: TrainerState, logs: dict[str, float]) -> Row:
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
            **rewards_of(logs),
            "vram_bytes": devices.here().peak_bytes(),
            "rss_bytes": self._process.memory_info().rss,
            **self._machine.row(),
        }

    def _judge(self, row: Row) -> None:
        """Raise, or warn on the curve, when the loss has gone wrong."""
        step, loss = row["step"], row["loss"]
        refuse_not_finite(self.child, step, loss)
        # Losses of preferences fall towards 0, where twice the best is still next to nothing.
        if self._training.objective != "sft" or not self._divergence.add(loss):
            return
        smoothed, best = self._divergence.smoothed, self._divergence.best
        what = keyed(
            "event_above",
            "the smoothed loss {loss} has stayed above {factor} x its best {best}",
            loss=f"{smoothed:.3f}",
            factor=f"{self._divergence.factor:g}",
            best=f"{best:.3f}",
        )
        steps = self._divergence.steps
        self.child.event(
            "diverging", keyed("event_diverging", "{what} for {steps} logged steps", what=what, steps=steps)
        )
        if self._training.on_divergence == "stop":
            raise DivergedError(
                keyed("the_loss_diverged_at_step", "The loss diverged at step {a}", a=step), what, _AFTER
            )

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Save a checkpoint of the best state so far when the best is to be kept."""
        loss = (metrics or {}).get("eval_loss")
        if self._training.load_best_model_at_end and loss is not None:
            control.should_save = control.should_save or state.best_metric is None or loss < state.best_metric

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Seal what the trainer has just saved and remove the oldest checkpoints over the limit."""
        processes.wait_for_all()  # each process has written its random numbers
        if not processes.is_first():
            return
        step = state.global_step
        folder = self.child.directory.checkpoints
        saved = Path(args.output_dir) / f"checkpoint-{step}"
        write_note(saved, self._base_hash)
        checkpoints.seal(saved, folder, step)
        best = state.best_global_step if self._training.load_best_model_at_end else None
        checkpoints.prune(folder, self._training.save_total_limit, spare=best)
        self.child.event("checkpoint", keyed("event_checkpoint", "checkpoint at step {step}", step=step))


class SampleReporter(TrainerCallback):  # type: ignore[misc]
    """Write the answers to the fixed prompts beside the curve: before the first step, then every `every` steps."""

    def __init__(self, child: JobChild, sampler: Sampler, every: int) -> None:
        self._child = child
        self._sampler = sampler
        self._every = every

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask the model as it is before the first step."""
        if state.global_step == 0:
            self._write(0)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask when a validation is due, whether or not there are rows to validate on, and at the end."""
        step = state.global_step
        if step % self._every == 0 or step >= state.max_steps:
            self._write(step)

    def _write(self, step: int) -> None:
        writer = MetricsWriter(self._child.directory.samples_file)
        for answer in self._sampler.answers(self._child.stop_requested):
            writer.write({"step": step, **answer, "time": time.time()})
        writer.close()


# What TRL logs of preferences, by the names of a row of metrics.
_REWARDS = {
    "rewards/accuracies": "rewards_accuracy",
    "rewards/margins": "rewards_margin",
    "rewards/chosen": "rewards_chosen",
    "rewards/rejected": "rewards_rejected",
    "logps/chosen": "logps_chosen",
    "logps/rejected": "logps_rejected",
    "kl": "kl",
}


def rewards_of(logs: dict[str, float], prefix: str = "") -> dict[str, float]:
    """Return what was logged of preferences; nothing in a run of another objective."""
    return {prefix + name: logs[prefix + own] for own, name in _REWARDS.items() if prefix + own in logs}


_AFTER = "resume goes on from the last checkpoint; a lower training.learning_rate or a longer warm-up may help"


def refuse_not_finite(child: JobChild, step: int, value: float) -> None:
    """Raise DivergedError when a loss is not finite, after saying so on the curve."""
    if math.isfinite(value):
        return
    child.event("not finite", keyed("event_not_finite", "the loss at step {step} is {value}", step=step, value=value))
    raise DivergedError(f"The loss is not finite at step {step}", f"it is {value}, and no step can mend that", _AFTER)
