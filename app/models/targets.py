"""Modules that look like any linear layer and are not: what adapters on all linear layers, and 4 bits, pass over.

Trainer, plan and loading ask here, so that what is planned is what is trained and stored.
"""

from __future__ import annotations

from torch import nn

# Linear layers whose weights the class around them reads past the layer (transformers 5.23): an adapter on one would
# train and change nothing, and packed 4-bit weights are no matrix.
_READ_PAST: dict[str, tuple[str, ...]] = {
    "Gemma3nTextAltUp": ("prediction_coefs", "correction_coefs"),
    "LongcatFlashTopkRouter": ("classifier",),
    "MambaMixer": ("x_proj", "dt_proj"),
    "FalconMambaMixer": ("x_proj", "dt_proj"),
    "JambaMambaMixer": ("dt_proj",),
}
# PEFT 0.21 refuses an adapter on these modules of these models, whose kernels read the weights past the module.
_MAMBA = ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")
_NOT_IN_MAMBA = ("out_proj", "conv1d")
# A subclass that computes what a linear layer computes.
_PLAIN = ("FalconLinear",)


def read_past(model: nn.Module) -> list[str]:
    """Return the names of linear layers whose weights are read past them: they keep their number format."""
    return [
        f"{name}.{child}"
        for name, module in model.named_modules()
        for child in _READ_PAST.get(type(module).__name__, ())
    ]


def not_adapted(model: nn.Module) -> list[str]:
    """Return what an adapter on all linear layers leaves out, by names as PEFT's exclude_modules takes them."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    family = getattr(getattr(inner, "config", None), "model_type", "")
    own = [
        name
        for name, module in inner.named_modules()
        # Such as routers, which return which experts they chose, and layers of groups.
        if isinstance(module, nn.Linear)
        and type(module).__module__.startswith("transformers.")
        and "forward" in vars(type(module))
        and type(module).__name__ not in _PLAIN
    ]
    return [*(_NOT_IN_MAMBA if family in _MAMBA else ()), *read_past(inner), *own]


def name_backbone(model: nn.Module) -> None:
    """Let a decoder whose class names its backbone wrongly (Llama 4) be asked for it, as TRL's loss does."""
    named = str(getattr(model, "base_model_prefix", ""))
    if not hasattr(model, named) and isinstance(getattr(model, "model", None), nn.Module):
        model.base_model_prefix = "model"  # type: ignore[assignment]
