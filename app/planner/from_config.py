"""Between a RunConfig and the planner: the request that a config stands for, and a remedy in the config's own names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from app.catalog import find
from app.catalog.spec import ModelSpec
from app.config.objectives import WITH_REFERENCE
from app.config.schema import RunConfig
from app.planner.request import GIB, Attention, Dtype, Optimizer, PlanRequest, Quant

_ATTENTION: dict[str, Attention] = {"sdpa": "sdpa", "eager": "eager", "flash_attention_2": "flash"}


def request_from_config(config: RunConfig, model: ModelSpec | None = None, dtype: Dtype = "bf16") -> PlanRequest:
    """Return the request whose plan is this run's.

    `dtype` is what the model's "auto" means on the card in question. The adapter's "auto" is fp32, as the trainer does.
    """
    config = config.settled()
    adapter, training, memory = config.adapter, config.training, config.memory
    compute = dtype if config.model.dtype == "auto" else config.model.dtype
    targets, spends = adapter.target_modules, memory.spend == "auto"
    adapter_dtype: Dtype | None = "fp32" if adapter.dtype == "auto" else cast(Dtype, adapter.dtype)
    return PlanRequest(
        model=model if model is not None else find(config.model.name, config.model.revision),
        method=config.method,
        quant=_storage(config),
        rank=adapter.r,
        targets=(targets,) if isinstance(targets, str) else tuple(targets),
        dora=adapter.use_dora,
        lora_dropout=adapter.lora_dropout,
        micro_batch=training.per_device_train_batch_size,
        seq_len=config.data.max_length,
        gradient_accumulation=training.gradient_accumulation_steps,
        optimizer=cast(Optimizer, training.optim),
        checkpointing=None
        if spends and memory.checkpointing == "auto"
        else memory.checkpointing.replace("auto", "full"),
        dequantized_layers=memory.dequantized_layers if spends else memory.dequantized_layers or 0,
        attn=_ATTENTION[config.model.attn_implementation],
        dtype=compute,
        adapter_dtype=None if config.method == "full" else adapter_dtype,
        packed=config.data.packing,
        objective=training.objective,
        reference_adapter=bool(adapter.start_from) and training.objective in WITH_REFERENCE,
        modules_to_save=tuple(adapter.modules_to_save),
        vram_gb=memory.vram_gb,
        reserve_bytes=int(memory.reserve_gb * GIB),
    )


def _storage(config: RunConfig) -> Quant:
    quantization = config.quantization
    if config.method == "full":
        return "none"
    if quantization.load_in_4bit:
        return "nf4-dq" if quantization.bnb_4bit_use_double_quant else "nf4"
    return "int8" if quantization.load_in_8bit else "none"


_DOTTED = {
    "rank": "adapter.r",
    "micro_batch": "training.per_device_train_batch_size",
    "gradient_accumulation": "training.gradient_accumulation_steps",
    "seq_len": "data.max_length",
    "optimizer": "training.optim",
    "checkpointing": "memory.checkpointing",
    "dequantized_layers": "memory.dequantized_layers",
    "adapter_dtype": "adapter.dtype",
    "dtype": "model.dtype",
    "dora": "adapter.use_dora",
    "lora_dropout": "adapter.lora_dropout",
    "packed": "data.packing",
    "objective": "training.objective",
}


# Fields of a request that come of several settings, by the one that stands for them.
_STANDS_FOR = {
    "targets": "adapter.target_modules",
    "quant": "adapter.method",
    "method": "adapter.method",
    "attn": "model.attn_implementation",
    "vram_gb": "memory.vram_gb",
    "reserve_bytes": "memory.reserve_gb",
}


def setting_of(field: str) -> str:
    """Return the setting that a field of a request comes from, empty for one that comes from none."""
    return _DOTTED.get(field) or _STANDS_FOR.get(field, "")


def config_changes(changes: Mapping[str, Any]) -> dict[str, object]:
    """Return a suggestion's changes as dotted RunConfig names, ready for `RunConfig.changed`."""
    dotted: dict[str, object] = {}
    for field, value in changes.items():
        if field == "method":
            dotted["adapter.method"] = "full" if value == "full" else "lora"
        elif field == "quant":
            dotted["quantization.load_in_4bit"] = value in ("nf4", "nf4-dq")
            dotted["quantization.load_in_8bit"] = value == "int8"
            if value in ("nf4", "nf4-dq"):
                dotted["quantization.bnb_4bit_use_double_quant"] = value == "nf4-dq"
        elif field == "attn":
            dotted["model.attn_implementation"] = "flash_attention_2" if value == "flash" else value
        elif field == "adapter_dtype":
            dotted["adapter.dtype"] = value or "auto"
        elif field == "model":
            dotted["model.name"] = value.listing.hub_id if value.listing else value.name
        elif field == "targets":
            dotted["adapter.target_modules"] = "all-linear" if value == ("all-linear",) else list(value)
        elif field in _DOTTED:
            dotted[_DOTTED[field]] = value
    return dotted
