"""RunConfig in the libraries' words: SFTConfig and LoraConfig."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig
from trl import SFTConfig

from app.config import RunConfig
from app.training.settings import lora_settings, sft_settings

_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


def lora_config(config: RunConfig) -> LoraConfig:
    """Return PEFT's configuration of the adapter."""
    return LoraConfig(**lora_settings(config))


def sft_arguments(config: RunConfig, work: Path, dtype: torch.dtype, device: str, validate: bool) -> SFTConfig:
    """Return TRL's arguments; the trainer saves into `work`."""
    return SFTConfig(
        output_dir=str(work),
        save_strategy="steps",
        save_steps=config.training.save_steps,
        save_total_limit=None,  # sealed checkpoints are pruned by app.training.checkpoints
        # The count of validations without progress is kept in the checkpoint, else a resume would begin it anew.
        restore_callback_states_from_checkpoint=config.training.early_stopping_patience is not None,
        **sft_settings(config, dtype=_NAMES[dtype], on_card=device != "cpu", validate=validate),
    )
