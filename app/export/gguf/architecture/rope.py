"""Rotary positions in GGUF: base, dimensions and the ways of stretching them that llama.cpp knows."""

from __future__ import annotations

import math
from typing import Any, TypedDict, cast

import torch
from gguf import MODEL_TENSOR, TENSOR_NAMES, GGUFWriter, RopeScalingType
from transformers import PreTrainedConfig

from app.errors import ExportError

# Some keys are written by name: this release of the gguf package has no methods for them.
# transformers' names of layer kinds whose positions may differ (Gemma 3).
_FULL, _SLIDING = "full_attention", "sliding_attention"


class RopeParameters(TypedDict, total=False):
    """A model's rotary positions, by the names of transformers' config.json; lengths in tokens."""

    rope_type: str
    rope_theta: float
    partial_rotary_factor: float
    factor: float
    original_max_position_embeddings: int
    attention_factor: float
    beta_fast: float
    beta_slow: float
    low_freq_factor: float
    high_freq_factor: float
    long_factor: list[float]
    short_factor: list[float]


def describe_rope(config: PreTrainedConfig, writer: GGUFWriter) -> dict[str, torch.Tensor]:
    """Write the position settings and return the tensors of factors that go with them, by name, in float32."""
    parameters: dict[str, Any] = dict(config.rope_parameters or {})
    full = cast("RopeParameters", parameters.get(_FULL) or parameters)
    writer.add_rope_freq_base(float(full.get("rope_theta") or 10000.0))
    if _SLIDING in parameters:
        writer.add_float32(f"{writer.arch}.rope.freq_base_swa", float(parameters[_SLIDING]["rope_theta"]))
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    dimensions = int(head_dim * float(full.get("partial_rotary_factor") or 1.0))
    writer.add_rope_dimension_count(dimensions)
    kind = str(full.get("rope_type") or "default")
    if kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(full["factor"]))
    elif kind == "yarn":
        _describe_yarn(full, writer)
    elif kind == "llama3":
        return {f"{TENSOR_NAMES[MODEL_TENSOR.ROPE_FREQS]}.weight": llama3_factors(full, dimensions)}
    elif kind == "longrope":
        return _describe_longrope(config, full, writer)
    elif kind != "default":
        raise ExportError(
            "This model cannot be written as GGUF",
            f"llama.cpp has no rotary positions of the kind {kind}",
            "use the merged model with transformers or vLLM",
        )
    return {}


def _describe_yarn(full: RopeParameters, writer: GGUFWriter) -> None:
    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_factor(float(full["factor"]))
    writer.add_rope_scaling_orig_ctx_len(int(full["original_max_position_embeddings"]))
    for name, value in (("beta_fast", full.get("beta_fast")), ("beta_slow", full.get("beta_slow"))):
        if value:
            writer.add_float32(f"{writer.arch}.rope.scaling.yarn_{name}", value)
    if full.get("attention_factor"):
        # llama.cpp multiplies by YaRN's own 0.1 ln(factor) + 1, transformers takes the value as it is.
        writer.add_rope_scaling_attn_factors(float(full["attention_factor"]) / (0.1 * math.log(full["factor"]) + 1))


def _describe_longrope(config: PreTrainedConfig, full: RopeParameters, writer: GGUFWriter) -> dict[str, torch.Tensor]:
    """Write LongRoPE (arXiv:2402.13753) as Phi-3 has it; the factors are tensors."""
    original = int(full.get("original_max_position_embeddings") or config.original_max_position_embeddings)
    scale = config.max_position_embeddings / original
    attention = full.get("attention_factor")
    if attention is None:
        attention = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
    writer.add_rope_scaling_type(RopeScalingType.LONGROPE)
    writer.add_rope_scaling_orig_ctx_len(original)
    writer.add_rope_scaling_attn_factors(float(attention))
    factors = {
        MODEL_TENSOR.ROPE_FACTORS_LONG: full["long_factor"],
        MODEL_TENSOR.ROPE_FACTORS_SHORT: full["short_factor"],
    }
    return {
        f"{TENSOR_NAMES[kind]}.weight": torch.tensor(values, dtype=torch.float32) for kind, values in factors.items()
    }


def llama3_factors(full: RopeParameters, dimensions: int) -> torch.Tensor:
    """Return by what each frequency is divided in Llama 3.1's scheme, (dimensions / 2).

    Waves longer than original / low_freq_factor are stretched by `factor`, those shorter than
    original / high_freq_factor not at all, those between by degrees (transformers: modeling_rope_utils).
    """
    exponents = torch.arange(0, dimensions, 2, dtype=torch.float64) / dimensions
    wavelengths = 2 * math.pi * float(full["rope_theta"]) ** exponents
    original, factor = float(full["original_max_position_embeddings"]), float(full["factor"])
    low, high = float(full["low_freq_factor"]), float(full["high_freq_factor"])
    smooth = ((original / wavelengths - low) / (high - low)).clamp(0.0, 1.0)
    return (1 / ((1 - smooth) / factor + smooth)).float()
