"""RunConfig in the libraries' words, as plain data: what the trainer is given and what a recipe shows.

Nothing here imports a library, so the command line and the page may show it.
"""

from __future__ import annotations

from typing import Any

from app.config import RunConfig

# Optimisers that PEFT makes and transformers has no name for.
PEFT_OPTIMIZERS = ("lora_fa",)


def lora_settings(config: RunConfig) -> dict[str, Any]:
    """Return the arguments of PEFT's LoraConfig."""
    adapter = config.adapter
    return {
        "task_type": "CAUSAL_LM",
        "r": adapter.r,
        "lora_alpha": adapter.lora_alpha,
        "lora_dropout": adapter.lora_dropout,
        "target_modules": adapter.target_modules,
        "bias": adapter.bias,
        "use_rslora": adapter.use_rslora,
        "use_dora": adapter.use_dora,
        "init_lora_weights": adapter.init_lora_weights,
        "modules_to_save": list(adapter.modules_to_save) or None,
    }


def sft_settings(config: RunConfig, *, dtype: str, on_card: bool, validate: bool) -> dict[str, Any]:
    """Return the arguments of TRL's SFTConfig for rows that are already tokens, labels and packed lengths.

    `dtype` is bf16, fp16 or fp32; `validate` says that there are validation rows.
    """
    training = config.training
    return {
        "num_train_epochs": training.num_train_epochs,
        "max_steps": training.max_steps,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.lr_scheduler_type,
        "warmup_steps": training.warmup_steps,
        "per_device_train_batch_size": training.per_device_train_batch_size,
        "per_device_eval_batch_size": training.per_device_train_batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation_steps,
        "optim": "adamw_torch" if training.optim in PEFT_OPTIMIZERS else training.optim,
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
        "dataloader_pin_memory": on_card,
        "report_to": list(training.report_to) or "none",
        "disable_tqdm": True,
        # Rows come tokenised, masked and cut; the trainer must not prepare them again.
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "packing": False,
        "padding_free": config.data.packing,
        "max_length": None,
        **_checkpointing(config.memory.checkpointing),
        **_best(config, validate),
    }


def _checkpointing(choice: str) -> dict[str, Any]:
    if choice == "none":
        return {"activation_checkpointing": False}
    if choice == "full":
        return {"activation_checkpointing": True}
    layers = int(choice.removeprefix("every-"))
    return {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"every_n_layers": layers}}


def _best(config: RunConfig, validate: bool) -> dict[str, Any]:
    """Return what makes the trainer remember which validation was the best."""
    return {"metric_for_best_model": "eval_loss", "greater_is_better": False} if validate else {}
