"""The optimisers that PEFT makes and transformers has no name for: LoRA+ and LoRA-FA."""

from __future__ import annotations

from peft.optimizers import create_lorafa_optimizer, create_loraplus_optimizer
from torch.optim import Optimizer
from transformers import PreTrainedModel, Trainer, TrainingArguments

from app.config.schema import RunConfig


def peft_optimizer(config: RunConfig, model: PreTrainedModel, arguments: TrainingArguments) -> Optimizer | None:
    """Return the optimiser for an adapted model, or None where the trainer makes it by its name."""
    if config.training.optim == "lora_fa":
        return create_lorafa_optimizer(
            model=model,
            r=config.adapter.r,
            lora_alpha=config.adapter.lora_alpha,
            lr=config.training.learning_rate,
            weight_decay=config.training.weight_decay,
        )
    if config.adapter.loraplus_lr_ratio is not None:
        kind, settings = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
        return create_loraplus_optimizer(
            model=model,
            optimizer_cls=kind,
            loraplus_lr_ratio=config.adapter.loraplus_lr_ratio,
            loraplus_weight_decay=config.training.weight_decay,
            **settings,
        )
    return None
