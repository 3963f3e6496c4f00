"""The model families that can be written as GGUF, and how llama.cpp names and reads their settings.

The keys and what they mean: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Where llama.cpp computes
something from the architecture alone (Gemma's attention scale and sliding layers), a model with another value is
refused: its file would load and answer wrongly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gguf import MODEL_ARCH, GGUFWriter

from app.errors import ExportError


@dataclass(frozen=True)
class Family:
    """How one model_type of transformers becomes a llama.cpp architecture.

    permuted: whether the rows of q and k stand in the order of interleaved rotary pairs there.
    norm_shift: what is added to each RMS norm's weight, where the model itself computes 1 + weight.
    """

    arch: MODEL_ARCH
    permuted: bool = False
    norm_shift: float = 0.0
    always_tied: bool = False
    describe: Callable[[Any, GGUFWriter], list[str]] = lambda config, writer: []


def _windowed(config: Any, writer: GGUFWriter) -> list[str]:
    """Tell of a sliding window that llama.cpp does not have for this architecture."""
    window = getattr(config, "sliding_window", None)
    sliding = "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"])
    if window and sliding and window < config.max_position_embeddings:
        return [f"The model attends to the last {window} tokens; llama.cpp attends to all, so longer texts differ."]
    return []


def _gemma2(config: Any, writer: GGUFWriter) -> list[str]:
    _check_scale(config, widest_layers=46)
    _check_sliding(config, every=2)
    writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    writer.add_final_logit_softcapping(config.final_logit_softcapping)
    writer.add_sliding_window(config.sliding_window)
    return []


def _gemma3(config: Any, writer: GGUFWriter) -> list[str]:
    _check_scale(config, widest_layers=62)
    _check_sliding(config, every=6)
    if config.final_logit_softcapping:
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    writer.add_sliding_window(config.sliding_window)
    return []


def _phi3(config: Any, writer: GGUFWriter) -> list[str]:
    # llama.cpp looks for this key in Phi-3 files and takes zero as "no window".
    writer.add_sliding_window(config.sliding_window or 0)
    return _windowed(config, writer)


def _check_scale(config: Any, *, widest_layers: int) -> None:
    """Refuse a Gemma whose attention scale is not the one that llama.cpp computes from the number of layers."""
    widest = config.num_hidden_layers == widest_layers
    expected = config.hidden_size / config.num_attention_heads if widest else config.head_dim
    if abs(config.query_pre_attn_scalar - expected) > 1e-6 * expected:
        raise ExportError(
            "This Gemma cannot be written as GGUF",
            f"its attention scale comes from {config.query_pre_attn_scalar}, llama.cpp always takes {expected:g}",
            "use the merged model with transformers or vLLM",
        )


def _check_sliding(config: Any, *, every: int) -> None:
    """Refuse a Gemma whose layers attend in another order than the one that llama.cpp takes for the architecture."""
    expected = [
        "full_attention" if number % every == every - 1 else "sliding_attention"
        for number in range(config.num_hidden_layers)
    ]
    if list(config.layer_types) != expected:
        raise ExportError(
            "This Gemma cannot be written as GGUF",
            f"llama.cpp takes each layer but every {every}th as sliding, and its layers are ordered otherwise",
            "use the merged model with transformers or vLLM",
        )


FAMILIES = {
    "llama": Family(MODEL_ARCH.LLAMA, permuted=True),
    "mistral": Family(MODEL_ARCH.LLAMA, permuted=True, describe=_windowed),
    "qwen2": Family(MODEL_ARCH.QWEN2, describe=_windowed),
    "qwen3": Family(MODEL_ARCH.QWEN3, describe=_windowed),
    "gemma": Family(MODEL_ARCH.GEMMA, norm_shift=1.0, always_tied=True),
    "gemma2": Family(MODEL_ARCH.GEMMA2, norm_shift=1.0, always_tied=True, describe=_gemma2),
    "gemma3_text": Family(MODEL_ARCH.GEMMA3, norm_shift=1.0, describe=_gemma3),
    "phi3": Family(MODEL_ARCH.PHI3, describe=_phi3),
}
_NAMES = "Llama, Mistral, Qwen2, Qwen3, Gemma, Gemma 2, Gemma 3 and Phi-3"


def family_of(config: Any) -> Family:
    """Return the family of a model's configuration. Raises ExportError that names the supported ones."""
    kind = str(config.get_text_config(decoder=True).model_type)
    if kind not in FAMILIES:
        raise ExportError(
            f"A {kind} model cannot be written as GGUF here",
            f"supported are {_NAMES}",
            "use the merged model with transformers or vLLM",
        )
    return FAMILIES[kind]


def describe(config: Any, family: Family, writer: GGUFWriter) -> list[str]:
    """Write the settings of a model's text part and return notes for people."""
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(getattr(config, "num_key_value_heads", None) or heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    return family.describe(config, writer)
