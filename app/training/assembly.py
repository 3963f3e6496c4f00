"""A run assembled from its settings: base, adapter, trainer, and what watches the training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import get_peft_model
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    set_seed,
)

from app.config import RunConfig
from app.errors import ConfigError, Problem
from app.jobs.child import JobChild
from app.models.identity import fingerprint
from app.models.loading import device, load_base, resolve_dtype
from app.models.names import resolve
from app.training import trackers
from app.training.arguments import lora_config, sft_arguments
from app.training.optimizers import peft_optimizer
from app.training.reporting import JobReporter, SampleReporter
from app.training.room import saving
from app.training.rows import TrainingRows
from app.training.samples import Sampler
from app.training.trainer import WorkbenchTrainer

_ADAPTER_DTYPES = {"auto": torch.float32, "fp32": torch.float32, "bf16": torch.bfloat16}


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
    _refuse_unknown(config, model)
    # The seed is set just before the adapter's random start, so that nothing done earlier can move it.
    set_seed(config.training.seed)
    return get_peft_model(model, lora_config(config))


def _refuse_unknown(config: RunConfig, model: PreTrainedModel) -> None:
    """Raise ConfigError for modules to save that the model lacks: PEFT passes over them in silence."""
    parts = dict(model.named_modules())
    lacking = [wanted for wanted in config.adapter.modules_to_save if not any(name.endswith(wanted) for name in parts)]
    if lacking:
        weighty = [name for name, part in parts.items() if next(part.parameters(recurse=False), None) is not None]
        there = "it has " + ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in weighty))
        wrong = [Problem("adapter.modules_to_save", f"the model has no module {name}", there) for name in lacking]
        raise ConfigError(wrong, "the run")


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
    trackers.settle(child.directory, config)
    return WorkbenchTrainer(
        model=model,
        args=arguments,
        train_dataset=rows.training,
        eval_dataset=rows.validation,
        processing_class=tokenizer,
        callbacks=list(callbacks),
        optimizers=(None if full else peft_optimizer(config, model, arguments), None),
        adapter_dtype=None if full else _ADAPTER_DTYPES[config.adapter.dtype],
        saving=lambda: saving(child, model),
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
