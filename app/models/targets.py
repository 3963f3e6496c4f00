"""Modules that look like any linear layer and are not: what adapters on all linear layers, and 4 bits, pass over.

Trainer, plan and loading ask here, so that what is planned is what is trained and stored.
"""

from __future__ import annotations

import inspect
import re

from peft import LoraConfig
from peft.utils.transformers_weight_conversion import build_peft_weight_mapping
from torch import nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

# Linear layers whose weights the class around them reads past the layer (transformers 5.23): an adapter on one would
# train and change nothing, and packed 4-bit weights are no matrix.
_READ_PAST: dict[str, tuple[str, ...]] = {
    "Gemma3nTextAltUp": ("prediction_coefs", "correction_coefs"),
    "LongcatFlashTopkRouter": ("classifier",),
    "MambaMixer": ("x_proj", "dt_proj"),
    "FalconMambaMixer": ("x_proj", "dt_proj"),
    "JambaMambaMixer": ("dt_proj",),
}
_CAST = re.compile(r"\.to\((?:dtype=)?self\.(\w+)\.weight\.dtype\)")
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


def kept_whole(model: nn.Module) -> list[str]:
    """Return the names of linear layers that are not stored in 4 bits: they are read past, or give others their format.

    A class that casts what it hands a layer to `self.wo.weight.dtype` (LongT5, Switch, the indexers of DeepSeek V3.2
    and its like) would cast it to bytes: the packed weights are a tensor of these. Nothing fails, the answer is noise.
    """
    giving = {kind: _giving_format(kind) for kind in {type(module) for module in model.modules()}}
    return read_past(model) + [
        f"{name}.{child}"
        for name, module in model.named_modules()
        for child in giving[type(module)]
        if isinstance(getattr(module, child, None), nn.Linear)
    ]


def _giving_format(kind: type[nn.Module]) -> tuple[str, ...]:
    """Return the children to whose weights' format a class of transformers casts, and does not look out for bytes."""
    if not kind.__module__.startswith("transformers."):
        return ()
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        return ()
    return () if "torch.uint8" in source else tuple(dict.fromkeys(_CAST.findall(source)))


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
    return [*(_NOT_IN_MAMBA if family in _MAMBA else ()), *read_past(inner), *own, *not_read_back(inner)]


def not_read_back(model: nn.Module) -> list[str]:
    """Return the linear layers whose adapters PEFT 0.21 would write and pass over when it reads them, without a word.

    It runs the names in an adapter's file through the renamings of checkpoints, which are made for the names of
    publishers: Laguna's `shared_expert` is found in its own `shared_experts`, and a name comes out that nothing has.
    A resumed run would begin these layers anew, and every reader would answer without them.
    """
    if not isinstance(model, PreTrainedModel):
        return []
    mapping = build_peft_weight_mapping(get_model_conversion_mapping(model), "default", peft_config=LoraConfig()) or []
    renamings = [one for one in mapping if isinstance(one, WeightRenaming)]
    converters = [one for one in mapping if isinstance(one, WeightConverter)]
    found = []
    for name, module in model.named_modules() if renamings else ():
        key = f"base_model.model.{name}.lora_A.weight"
        if isinstance(module, nn.Linear):
            renamed, pattern = rename_source_key(key, renamings, converters)
            plain = ".lora_A".join(half.replace(".default", "") for half in renamed.rsplit(".lora_A", 1))
            if pattern is None and not key.endswith(plain):
                found.append(name)
    return found


def name_backbone(model: nn.Module) -> None:
    """Let a decoder whose class names its backbone wrongly (Llama 4) be asked for it, as TRL's loss does."""
    named = str(getattr(model, "base_model_prefix", ""))
    if not hasattr(model, named) and isinstance(getattr(model, "model", None), nn.Module):
        model.base_model_prefix = "model"  # type: ignore[assignment]
