"""The work of a training job.

data -> base model -> adapter -> trainer -> checkpoints -> result. What the trainer reads are the very tokens and labels
that the data tab shows.
"""

from __future__ import annotations

import gc
import json
import pickle
import shutil
import time
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from app import devices
from app.config.schema import RunConfig, parse
from app.errors import DataError, JobError, MemoryShortError, keyed, one_line
from app.jobs.child import JobChild, Outcome, is_out_of_memory
from app.jobs.metrics import rewind
from app.models.identity import fingerprint, write_note
from app.models.loading import load_tokenizer
from app.models.names import resolve
from app.training import checkpoints, processes
from app.training.assembly import build_model, build_trainer, keep_start, starting_folder, store_of, watchers
from app.training.memory import oom_fallback
from app.training.memory.spending import settle_spending
from app.training.number_format import settle_dtype
from app.training.rows import TrainingRows, prepare_rows, settle_packing
from app.training.save_checks import check_room, saved_bytes, told_with_figures
from app.training.trainers.preference import StoppedBeforehandError
from app.training.trainers.trainer import WorkbenchTrainer


def work(child: JobChild) -> tuple[Outcome, Mapping[str, Any]]:
    """Run the job's RunConfig to its end or to a stop request."""
    config = parse(child.config, child.directory.id).settled()
    folder = resolve(config.model.name)
    config, rows = settled_rows(child, config, folder)
    if rows is None:
        return "stopped", {}
    check_rows(child, config, rows)
    tokenizer = load_tokenizer(folder, revision=config.model.revision)
    if config.data.chat_template or not tokenizer.chat_template:
        # What the rows were written with goes with the adapter, so that it is asked in the same way.
        tokenizer.chat_template = rows.chat_template or None
    try:
        trainer = train_down_the_ladder(child, config, tokenizer, rows)
    except StoppedBeforehandError:
        return "stopped", {}
    step = trainer.state.global_step
    if step < trainer.state.max_steps and not trainer.stopped_early:
        return "stopped", {"steps": step}
    if step < trainer.state.max_steps:
        best = trainer.state.best_global_step
        child.event(
            "early stop",
            keyed(
                "event_ended_early",
                "ended early at step {step}: no lower validation loss since step {best}",
                step=step,
                best=best,
            ),
        )
    if config.training.load_best_model_at_end:
        take_the_best(child, trainer)
    idle = learned_nothing(trainer)
    if idle:
        child.event(
            "note",
            keyed(
                "event_idle",
                "{idle}; a warm-up begins at 0: train more steps, or set training.warmup_steps to 0",
                idle=idle,
            ),
        )
    if not processes.is_first():
        return "finished", {}
    save_result(child, config, trainer, tokenizer)
    return "finished", report(child, trainer, rows)


def settled_rows(child: JobChild, config: RunConfig, folder: str) -> tuple[RunConfig, TrainingRows | None]:
    """Return the run's settings with all settled that was left open, and its rows; None when a stop was asked for.

    Of several processes the first one does the work, and the others read what it has kept.
    """
    rows = None
    if processes.is_first():
        config = settled_config(child, config, folder)
        keep_start(child.directory, config)
        child.progress(0, 0, phase="reading the data")
        rows = prepare_rows(child, config, folder)
    if processes.any_says(child.stop_requested() or (processes.is_first() and rows is None)):
        return config, None
    if rows is None:
        config = settled_config(child, config, folder)
        rows = prepare_rows(child, config, folder)
    return config, rows


def settled_config(child: JobChild, config: RunConfig, folder: str) -> RunConfig:
    """Return the settings with packing, number format and spent memory settled, and the steps of the ladder taken."""
    config = settle_dtype(child, settle_packing(child, config, folder), folder)
    return oom_fallback.lowered(child.directory, settle_spending(child, config)).settled()


def weight_marks(trainer: WorkbenchTrainer) -> list[tuple[float, float]]:
    """Return two sums over each trained weight: they stay the same only where the weight does."""
    found = []
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            values = parameter.detach().double()
            found.append((float(values.sum()), float(values.square().sum())))
    return found


def learned_nothing(trainer: WorkbenchTrainer) -> str:
    """Return why the run has learned nothing, or nothing: no trained weight differs from what it began with."""
    if trainer.began_with != weight_marks(trainer):
        return ""
    norms = [entry.get("grad_norm") for entry in trainer.state.log_history if "loss" in entry]
    if norms and all(norm == 0 for norm in norms):
        return keyed("event_no_gradient", "nothing was learned: every gradient was 0")
    steps = trainer.state.global_step
    if steps == 1:
        return keyed(
            "event_small_rate_once",
            "nothing was learned: no weight has changed, as the learning rate of the only step was 0 or too small",
        )
    return keyed(
        "event_small_rate",
        "nothing was learned: no weight has changed, as the learning rate of the {steps} steps was 0 or too small",
        steps=steps,
    )


def check_rows(child: JobChild, config: RunConfig, rows: TrainingRows) -> None:
    """Say on the curve what so few rows mean. Raises DataError for settings that need rows that were not kept back."""
    training, share = config.training, config.data.validation_split
    if share and rows.validation is None:
        message = keyed(
            "event_none_validates",
            "none of the {rows} rows was kept back to validate on, {share} of them is too few",
            rows=rows.count,
            share=f"{share:g}",
        )
        if training.early_stopping_patience is not None or training.load_best_model_at_end:
            raise DataError(
                f"{message[0].upper()}{message[1:]}",
                keyed(
                    "early_stopping_and_keeping_the_best_need_a_validation",
                    "early stopping and keeping the best need a validation loss",
                ),
                keyed(
                    "raise_data_validation_split_add_rows_or_switch_both",
                    "raise data.validation_split, add rows, or switch both off",
                ),
            )
        child.event("note", message)
    thumbs = set(rows.training["label"]) if training.objective == "kto" else set()
    if thumbs == {True}:
        child.event("note", keyed("event_only_up", "every thumb is up, so nothing says what is worse: add some down"))
    if thumbs == {False}:
        child.event(
            "note", keyed("event_only_down", "every thumb is down, so nothing says what is better: add some up")
        )
    if len(rows.training) < config.effective_batch:
        count, batch = len(rows.training), config.effective_batch
        packed = keyed(
            "event_one_pass_packed",
            "one pass over the data has {rows} packed rows, fewer than the effective batch of {batch}: every step "
            "sees all of them",
            rows=count,
            batch=batch,
        )
        plain = keyed(
            "event_one_pass",
            "one pass over the data has {rows} rows, fewer than the effective batch of {batch}: every step sees all of "
            "them",
            rows=count,
            batch=batch,
        )
        child.event("note", packed if config.data.packing else plain)


def take_the_best(child: JobChild, trainer: WorkbenchTrainer) -> None:
    """Put the weights with the lowest validation loss into the model; its checkpoint was spared from pruning."""
    best = trainer.state.best_global_step
    if not best:
        return
    folder = child.directory.checkpoints / f"step-{best}"
    problem = checkpoints.damage(folder)
    if problem:
        child.event(
            "checkpoint refused",
            keyed(
                "event_best_refused",
                "the best checkpoint, of step {step}, is not used: {problem}",
                step=best,
                problem=problem,
            ),
        )
        return
    trainer.load_weights(folder)
    child.event(
        "best",
        keyed(
            "event_best",
            "the result is that of step {step}, validation loss {loss}",
            step=best,
            loss=f"{trainer.state.best_metric:.4f}",
        ),
    )


def train_down_the_ladder(
    child: JobChild, config: RunConfig, tokenizer: PreTrainedTokenizerBase, rows: TrainingRows
) -> WorkbenchTrainer:
    """Train; when memory runs out, go on from the newest checkpoint with the ladder's next step.

    Raises MemoryShortError at the ladder's end. The base itself is loaded outside of it: no rung makes it smaller.
    """
    while True:
        child.progress(0, 0, phase="loading the base model")
        start, store = starting_folder(child.directory), store_of(child.directory)
        model = build_model(config, resolve(config.model.name), start, store)
        trainer: WorkbenchTrainer | None = None
        try:
            watching = watchers(child, config, model, tokenizer, rows)
            trainer = build_trainer(child, config, model, tokenizer, rows, watching)
            train(child, trainer)
            return trainer
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            said = one_line(error)
        # Outside of the handler, so that its traceback no longer holds the tensors that did not fit.
        del model, trainer, watching
        config = step_down(child, config, said)


def step_down(child: JobChild, config: RunConfig, said: str) -> RunConfig:
    """Take the ladder's next step and free the accelerator. Raises MemoryShortError when there is none."""
    bought = parse(child.config, child.directory.id).memory.checkpointing == "auto"
    rung = oom_fallback.next_rung(config, bought)
    if rung is None:
        raise MemoryShortError(
            "Out of memory with a micro-batch of 1 and full checkpointing",
            said,
            f"shorten data.max_length (now {config.data.max_length}), lower adapter.r or choose a smaller model; "
            "`plan` says what fits",
        )
    oom_fallback.remember(child.directory, rung)
    if processes.count() > 1:
        child.directory.add_event("memory step", rung.message)
        raise processes.StartAgain
    child.event("memory step", rung.message)
    gc.collect()
    devices.here().empty_cache()
    return config.changed(rung.changes)


def train(child: JobChild, trainer: WorkbenchTrainer) -> None:
    """Train from the newest complete checkpoint, or from the start."""
    checkpoint, passed = checkpoints.newest(child.directory.checkpoints)
    for damaged in passed:
        child.event(
            "checkpoint refused",
            keyed(
                "event_refused",
                "checkpoint at step {step} is not used: {problem}",
                step=damaged.step,
                problem=damaged.problem,
            ),
        )
    step = checkpoint.step if checkpoint else 0
    dropped = child.rewind_metrics(step)
    if processes.is_first():
        rewind(child.directory.samples_file, step if checkpoint else -1)
        shutil.rmtree(child.directory.path / "work", ignore_errors=True)
    processes.wait_for_all()
    if checkpoint:
        message = keyed("event_resumed", "resumed from the checkpoint at step {step}", step=step)
        if dropped:
            message = keyed(
                "event_resumed_again",
                "{resumed}; {dropped} later steps are run again",
                resumed=message,
                dropped=dropped,
            )
        child.event("resumed", message, step=step)
    trainer.began_with = weight_marks(trainer)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    except pickle.UnpicklingError:
        # torch's own words advise to open it all the same.
        raise JobError(
            f"The checkpoint step-{step} is not opened",
            "it holds more than numbers, and such a file can run code",
            f"remove the folder checkpoints/step-{step} to go on from the one before, if you trust the rest",
        ) from None
    processes.wait_for_all()
    if processes.is_first():
        shutil.rmtree(child.directory.path / "work", ignore_errors=True)


def save_result(
    child: JobChild, config: RunConfig, trainer: WorkbenchTrainer, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Write the adapter (or the whole model) and its tokenizer; the folder appears only when it is complete."""
    name = "model" if config.adapter.method == "full" else "adapter"
    child.progress(trainer.state.global_step, trainer.state.max_steps, phase="saving the result")
    needed_bytes = saved_bytes(trainer.model, states=0)
    check_room(child, needed_bytes)
    child.directory.result.mkdir(exist_ok=True)
    fresh, target = child.directory.result / f"{name}.part", child.directory.result / name
    shutil.rmtree(fresh, ignore_errors=True)
    with told_with_figures(child, needed_bytes):
        trainer.model.save_pretrained(str(fresh))
        write_note(fresh, fingerprint(resolve(config.model.name), revision=config.model.revision))
        tokenizer.save_pretrained(str(fresh))
    (fresh / "README.md").unlink(missing_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def report(child: JobChild, trainer: WorkbenchTrainer, rows: TrainingRows) -> dict[str, object]:
    """Write result/report.json and return its figures."""
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    trainable = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
    figures = {
        "steps": trainer.state.global_step,
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "trainable_params": trainable,
        "learned_nothing": learned_nothing(trainer) or None,
        "best_step": trainer.state.best_global_step,
        "best_eval_loss": trainer.state.best_metric,
        "rows": rows.count,
        "dataset": rows.content_hash,
        "vram_peak_bytes": devices.here().peak_bytes(),
        "ended": time.time(),
    }
    path = child.directory.result / "report.json"
    path.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return figures
