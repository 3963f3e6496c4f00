"""RunConfig in the libraries' words: SFTConfig and LoraConfig."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from trl import SFTConfig

from app.config import RunConfig


def lora_config(config: RunConfig) -> LoraConfig:
    """Return PEFT's configuration of the adapter. The base is named as the person named it, never by a local cache."""
    adapter = config.adapter
    return LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=config.model.name,
        r=adapter.r,
        lora_alpha=adapter.lora_alpha,
        lora_dropout=adapter.lora_dropout,
        target_modules=adapter.target_modules,
        bias=adapter.bias,
        use_rslora=adapter.use_rslora,
        use_dora=adapter.use_dora,
        init_lora_weights=adapter.init_lora_weights,
        modules_to_save=list(adapter.modules_to_save) or None,
    )


def sft_arguments(config: RunConfig, work: Path, dtype: torch.dtype, device: str, validate: bool) -> SFTConfig:
    """Return TRL's arguments for rows that are already tokens, labels and packed lengths."""
    training = config.training
    return SFTConfig(
        output_dir=str(work),
        num_train_epochs=training.num_train_epochs,
        max_steps=training.max_steps,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.lr_scheduler_type,
        warmup_steps=training.warmup_steps,
        per_device_train_batch_size=training.per_device_train_batch_size,
        per_device_eval_batch_size=training.per_device_train_batch_size,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        optim=training.optim,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        neftune_noise_alpha=training.neftune_noise_alpha,
        seed=training.seed,
        full_determinism=training.full_determinism,
        logging_steps=training.logging_steps,
        logging_first_step=True,
        save_strategy="steps",
        save_steps=training.save_steps,
        save_total_limit=None,  # sealed checkpoints are pruned by app.training.checkpoints
        eval_strategy="steps" if validate else "no",
        eval_steps=training.eval_steps if validate else None,
        use_cpu=device == "cpu",
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        dataloader_pin_memory=device != "cpu",
        report_to="none",
        disable_tqdm=True,
        # Rows come tokenised, masked and cut from app.data; the trainer must not prepare them again.
        dataset_kwargs={"skip_prepare_dataset": True},
        packing=False,
        padding_free=config.data.packing,
        max_length=None,
        **_checkpointing(config.memory.checkpointing),
    )


def _checkpointing(choice: str) -> dict[str, Any]:
    if choice == "none":
        return {"activation_checkpointing": False}
    if choice == "full":
        return {"activation_checkpointing": True}
    return {
        "activation_checkpointing": True,
        "activation_checkpointing_kwargs": {"every_n_layers": int(choice.removeprefix("every-"))},
    }
