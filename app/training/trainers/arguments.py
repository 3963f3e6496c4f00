"""RunConfig in the libraries' words: TRL's configuration of the objective, and LoraConfig."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import torch
from peft import LoraConfig
from transformers import TrainingArguments

from app.config.schema import RunConfig
from app.devices import Device
from app.training.trainers.settings import TRL_NAMES, lora_settings, trl_settings

_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


def lora_config(config: RunConfig, *, encodes: bool = False) -> LoraConfig:
    """Return PEFT's configuration of the adapter; `encodes` for an encoder with a decoder."""
    return LoraConfig(**lora_settings(config, encodes=encodes))


def trl_arguments(
    config: RunConfig, work: Path, dtype: torch.dtype, device: Device, validate: bool
) -> TrainingArguments:
    """Return TRL's arguments for the run's objective; the trainer saves into `work`."""
    module, name, _ = TRL_NAMES[config.training.objective]
    arguments: TrainingArguments = getattr(import_module(module), name)(
        output_dir=str(work),
        save_strategy="steps",
        save_steps=config.training.save_steps,
        save_total_limit=None,  # sealed checkpoints are pruned by app.training.checkpoints
        # The count of validations without progress is kept in the checkpoint, else a resume would begin it anew.
        restore_callback_states_from_checkpoint=config.training.early_stopping_patience is not None,
        **trl_settings(
            config,
            dtype=_NAMES[dtype],
            on_card=device.torch_device.type != "cpu",
            pinned=device.pins_memory,
            validate=validate,
        ),
    )
    return arguments
