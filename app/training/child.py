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
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import get_peft_model
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    set_seed,
)

from app.config import RunConfig, parse
from app.errors import JobError, MemoryShortError
from app.jobs.child import JobChild, Outcome, is_out_of_memory
from app.jobs.metrics import rewind
from app.models.identity import fingerprint, write_note
from app.models.loading import device, load_base, load_tokenizer, resolve_dtype
from app.models.names import resolve
from app.training import checkpoints, ladder
from app.training.arguments import lora_config, sft_arguments
from app.training.optimizers import peft_optimizer
from app.training.reporting import JobReporter, SampleReporter
from app.training.room import check_before_save, check_room, saved_bytes
from app.training.rows import TrainingRows, prepare_rows
from app.training.samples import Sampler
from app.training.trainer import WorkbenchTrainer

_ADAPTER_DTYPES = {"auto": torch.float32, "fp32": torch.float32, "bf16": torch.bfloat16}


def work(child: JobChild) -> tuple[Outcome, Mapping[str, Any]]:
    """Run the job's RunConfig to its end or to a stop request."""
    config = ladder.lowered(child.directory, parse(child.config, child.directory.id))
    folder = resolve(config.model.name)
    child.progress(0, 0, phase="reading the data")
    rows = prepare_rows(child, config, folder)
    if rows is None or child.stop_requested():
        return "stopped", {}
    tokenizer = load_tokenizer(folder, revision=config.model.revision)
    if config.data.chat_template or not tokenizer.chat_template:
        # What the rows were written with goes with the adapter, so that it is asked in the same way.
        tokenizer.chat_template = rows.chat_template or None
    trainer = train_down_the_ladder(child, config, tokenizer, rows)
    step = trainer.state.global_step
    if step < trainer.state.max_steps and not trainer.stopped_early:
        return "stopped", {"steps": step}
    if step < trainer.state.max_steps:
        message = f"no lower validation loss since step {trainer.state.best_global_step}"
        child.event("early stop", f"ended early at step {step}: {message}")
    if config.training.load_best_model_at_end:
        take_the_best(child, trainer)
    save_result(child, config, trainer, tokenizer)
    return "finished", report(child, trainer, rows)


def take_the_best(child: JobChild, trainer: WorkbenchTrainer) -> None:
    """Put the weights with the lowest validation loss into the model; its checkpoint was spared from pruning."""
    best = trainer.state.best_global_step
    if not best:
        return
    folder = child.directory.checkpoints / f"step-{best}"
    problem = checkpoints.damage(folder)
    if problem:
        child.event("checkpoint refused", f"the best checkpoint, of step {best}, is not used: {problem}")
        return
    trainer.load_weights(folder)
    child.event("best", f"the result is that of step {best}, validation loss {trainer.state.best_metric:.4f}")


def train_down_the_ladder(
    child: JobChild, config: RunConfig, tokenizer: PreTrainedTokenizerBase, rows: TrainingRows
) -> WorkbenchTrainer:
    """Train; when memory runs out, go on from the newest checkpoint with the ladder's next step.

    Raises MemoryShortError at the ladder's end. The base itself is loaded outside of it: no rung makes it smaller.
    """
    while True:
        child.progress(0, 0, phase="loading the base model")
        model = build_model(config, resolve(config.model.name))
        trainer = build_trainer(child, config, model, tokenizer, rows, watchers(child, config, model, tokenizer, rows))
        try:
            train(child, trainer)
            return trainer
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            said = str(error).splitlines()[0]
        # Outside of the handler, so that its traceback no longer holds the tensors that did not fit.
        del model, trainer
        config = step_down(child, config, said)


def step_down(child: JobChild, config: RunConfig, said: str) -> RunConfig:
    """Take the ladder's next step and free the accelerator. Raises MemoryShortError when there is none."""
    rung = ladder.next_rung(config)
    if rung is None:
        raise MemoryShortError(
            "Out of memory with a micro-batch of 1 and full checkpointing",
            said,
            f"shorten data.max_length (now {config.data.max_length}), lower adapter.r or choose a smaller model; "
            "`plan` says what fits",
        )
    ladder.remember(child.directory, rung)
    child.event("memory step", rung.message)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return config.changed(rung.changes)


def build_model(config: RunConfig, folder: str) -> PreTrainedModel:
    """Load the base and put the adapter on it."""
    return add_adapter(config, load_model(config, folder))


def load_model(config: RunConfig, folder: str) -> PreTrainedModel:
    """Load the base as the run stores it."""
    quantization = config.quantization
    quant = quantization.bnb_4bit_quant_type if quantization.load_in_4bit else "none"
    return load_base(
        folder,
        quant="int8" if quantization.load_in_8bit else quant,
        double_quant=quantization.bnb_4bit_use_double_quant,
        compute_dtype=quantization.bnb_4bit_compute_dtype,
        dtype=config.model.dtype,
        attn_implementation=config.model.attn_implementation,
        revision=config.model.revision,
    )


def add_adapter(config: RunConfig, model: PreTrainedModel) -> PreTrainedModel:
    """Put the adapter on a base, or open the whole of it to training."""
    if config.adapter.method == "full":
        return model.requires_grad_(True).train()
    # The seed is set just before the adapter's random start, so that nothing done earlier can move it.
    set_seed(config.training.seed)
    return get_peft_model(model, lora_config(config))


def build_trainer(
    child: JobChild,
    config: RunConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: TrainingRows,
    callbacks: Sequence[TrainerCallback],
) -> WorkbenchTrainer:
    """Assemble the trainer from the run's parts."""
    work_folder = child.directory.path / "work"
    dtype = resolve_dtype(config.model.dtype)
    arguments = sft_arguments(config, work_folder, dtype, device().type, validate=rows.validation is not None)
    full = config.adapter.method == "full"
    return WorkbenchTrainer(
        model=model,
        args=arguments,
        train_dataset=rows.training,
        eval_dataset=rows.validation,
        processing_class=tokenizer,
        callbacks=list(callbacks),
        optimizers=(None if full else peft_optimizer(config, model, arguments), None),
        adapter_dtype=None if full else _ADAPTER_DTYPES[config.adapter.dtype],
        before_save=lambda: check_before_save(child, model),
    )


def watchers(
    child: JobChild,
    config: RunConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: TrainingRows,
) -> list[TrainerCallback]:
    """Return what watches the training: the reporter, the fixed prompts, early stopping."""
    training = config.training
    full = config.adapter.method == "full"
    base_hash = "" if full else fingerprint(resolve(config.model.name), revision=config.model.revision)
    watching: list[TrainerCallback] = [JobReporter(child, config, base_hash)]
    if training.sample_prompts:
        sampler = Sampler(model, tokenizer, training.sample_prompts, training.sample_tokens)
        watching.append(SampleReporter(child, sampler, every=training.eval_steps))
    if training.early_stopping_patience is not None and rows.validation is not None:
        watching.append(EarlyStoppingCallback(training.early_stopping_patience, training.early_stopping_threshold))
    return watching


def train(child: JobChild, trainer: WorkbenchTrainer) -> None:
    """Train from the newest complete checkpoint, or from the start."""
    checkpoint, passed = checkpoints.newest(child.directory.checkpoints)
    for damaged in passed:
        child.event("checkpoint refused", f"checkpoint at step {damaged.step} is not used: {damaged.problem}")
    step = checkpoint.step if checkpoint else 0
    dropped = child.rewind_metrics(step)
    rewind(child.directory.samples_file, step if checkpoint else -1)
    shutil.rmtree(child.directory.path / "work", ignore_errors=True)
    if checkpoint:
        again = f"; {dropped} later steps are run again" if dropped else ""
        child.event("resumed", f"resumed from the checkpoint at step {step}{again}", step=step)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    except pickle.UnpicklingError:
        # torch's own words advise to open it all the same.
        raise JobError(
            f"The checkpoint step-{step} is not opened",
            "it holds more than numbers, and such a file can run code",
            f"remove the folder checkpoints/step-{step} to go on from the one before, if you trust the rest",
        ) from None
    shutil.rmtree(child.directory.path / "work", ignore_errors=True)


def save_result(
    child: JobChild, config: RunConfig, trainer: WorkbenchTrainer, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Write the adapter (or the whole model) and its tokenizer; the folder appears only when it is complete."""
    name = "model" if config.adapter.method == "full" else "adapter"
    child.progress(trainer.state.global_step, trainer.state.max_steps, phase="saving the result")
    check_room(child, saved_bytes(trainer.model, states=0))
    child.directory.result.mkdir(exist_ok=True)
    fresh, target = child.directory.result / f"{name}.part", child.directory.result / name
    shutil.rmtree(fresh, ignore_errors=True)
    trainer.model.save_pretrained(str(fresh))
    write_note(fresh, fingerprint(resolve(config.model.name), revision=config.model.revision))
    tokenizer.save_pretrained(str(fresh))
    (fresh / "README.md").unlink(missing_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def report(child: JobChild, trainer: WorkbenchTrainer, rows: TrainingRows) -> dict[str, Any]:
    """Write result/report.json and return its figures."""
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    trainable = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
    figures = {
        "steps": trainer.state.global_step,
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "trainable_params": trainable,
        "best_step": trainer.state.best_global_step,
        "best_eval_loss": trainer.state.best_metric,
        "rows": rows.count,
        "dataset": rows.content_hash,
        "vram_peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        "ended": time.time(),
    }
    path = child.directory.result / "report.json"
    path.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return figures
