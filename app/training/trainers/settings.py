"""RunConfig in the libraries' words, as plain data: what the trainer is given and what a recipe shows.

Nothing here imports a library, so the command line and the page may show it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.catalog.modules import peft_targets
from app.config.schema import RunConfig
from app.config.sections import Objective

Value = None | bool | float | str | Sequence[str] | Sequence[float] | dict[str, bool] | dict[str, int]
Arguments = dict[str, Value]
"""Keyword arguments of a library's class."""

# Optimisers that PEFT makes and transformers has no name for.
PEFT_OPTIMIZERS = ("lora_fa",)


def lora_settings(config: RunConfig, *, encodes: bool = False) -> Arguments:
    """Return the arguments of PEFT's LoraConfig; `encodes` for an encoder with a decoder."""
    adapter = config.adapter
    modules, parameters = peft_targets(adapter.target_modules)
    return {
        "task_type": "SEQ_2_SEQ_LM" if encodes else "CAUSAL_LM",
        "r": adapter.r,
        "lora_alpha": adapter.lora_alpha,
        "lora_dropout": adapter.lora_dropout,
        "target_modules": modules,
        **({"target_parameters": parameters} if parameters else {}),
        "bias": adapter.bias,
        "use_rslora": adapter.use_rslora,
        "use_dora": adapter.use_dora,
        "init_lora_weights": adapter.init_lora_weights,
        "modules_to_save": list(adapter.modules_to_save) or None,
    }


# TRL's configuration and trainer of each objective, and the module that they are imported from.
TRL_NAMES: dict[Objective, tuple[str, str, str]] = {
    "sft": ("trl", "SFTConfig", "SFTTrainer"),
    "dpo": ("trl", "DPOConfig", "DPOTrainer"),
    "kto": ("trl", "KTOConfig", "KTOTrainer"),
    "orpo": ("trl.experimental.orpo", "ORPOConfig", "ORPOTrainer"),
}


def trl_settings(config: RunConfig, *, dtype: str, on_card: bool, pinned: bool, validate: bool) -> Arguments:
    """Return the arguments of the configuration that TRL has for the run's objective.

    Rows are tokens already. `dtype` is bf16, fp16 or fp32; `pinned` rows lie in page-locked memory; `validate` says
    that there are validation rows.
    """
    common = _common(config, dtype=dtype, on_card=on_card, pinned=pinned, validate=validate)
    return {**common, **_OF_OBJECTIVE[config.training.objective](config)}


def _sft(config: RunConfig) -> Arguments:
    return {
        # Rows come tokenised, masked and cut; the trainer must not prepare them again.
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "packing": False,
        "padding_free": config.data.packing,
        "max_length": None,
    }


def _dpo(config: RunConfig) -> Arguments:
    training = config.training
    share = {"loss_weights": [1.0, training.sft_weight]} if training.sft_weight else {}
    return {
        "beta": training.beta,
        "loss_type": [training.loss_type, *(["sft"] if training.sft_weight else [])],
        **share,
        "precompute_ref_log_probs": training.precompute_ref_log_probs,
        "max_length": None,
    }


def _kto(config: RunConfig) -> Arguments:
    training = config.training
    return {
        "beta": training.beta,
        "desirable_weight": training.desirable_weight,
        "undesirable_weight": training.undesirable_weight,
        "precompute_ref_log_probs": training.precompute_ref_log_probs,
        "max_length": None,
        # The answers to other rows, by which KTO sees how far the model has moved, are those of the same micro-batch;
        # the rows are shuffled once, before they are paired so.
        "train_sampling_strategy": "sequential",
    }


def _orpo(config: RunConfig) -> Arguments:
    # Every row is cut already; TRL takes no None here.
    return {"beta": config.training.beta, "max_length": config.data.max_length, "remove_unused_columns": False}


_OF_OBJECTIVE: dict[Objective, Callable[[RunConfig], Arguments]] = {
    "sft": _sft,
    "dpo": _dpo,
    "kto": _kto,
    "orpo": _orpo,
}


def _common(config: RunConfig, *, dtype: str, on_card: bool, pinned: bool, validate: bool) -> Arguments:
    """Return what transformers' TrainingArguments take for every objective."""
    training = config.training
    return {
        "num_train_epochs": training.num_train_epochs,
        "max_steps": training.max_steps,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.lr_scheduler_type,
        "warmup_steps": training.warmup_steps,
        "per_device_train_batch_size": training.per_device_train_batch_size,
        "per_device_eval_batch_size": training.per_device_train_batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation_steps // training.num_processes,
        "ddp_find_unused_parameters": False,
        "optim": "adamw_torch" if training.optim in PEFT_OPTIMIZERS else training.optim,
        "train_sampling_strategy": training.train_sampling_strategy,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "neftune_noise_alpha": training.neftune_noise_alpha,
        "seed": training.seed,
        "full_determinism": training.full_determinism,
        "logging_steps": training.logging_steps,
        "logging_first_step": True,
        # A loss that is not finite is shown and not replaced by an average of others.
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if validate else "no",
        "eval_steps": training.eval_steps if validate else None,
        "use_cpu": not on_card,
        "bf16": dtype == "bf16",
        "fp16": dtype == "fp16",
        "dataloader_pin_memory": pinned,
        "report_to": list(training.report_to) or "none",
        "disable_tqdm": True,
        **_checkpointing(config.memory.checkpointing),
        **_best(config, validate),
    }


def _checkpointing(choice: str) -> Arguments:
    if choice == "none":
        return {"activation_checkpointing": False}
    if choice in ("full", "auto"):  # what was left open is full where nothing was spent
        return {"activation_checkpointing": True}
    layers = int(choice.removeprefix("every-"))
    return {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"every_n_layers": layers}}


def _best(config: RunConfig, validate: bool) -> Arguments:
    """Return what makes the trainer remember which validation was the best."""
    return {"metric_for_best_model": "eval_loss", "greater_is_better": False} if validate else {}
