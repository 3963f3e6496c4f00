"""Attention of packed rows by document, on a processor.

A packed row holds documents that must not see each other. transformers' sdpa path says so by a mask of the row's
length squared, and computes what it masks as well: of a row of eight documents seven eighths. Here each document goes
through the same kernel by itself, causally and without a mask. Measured at 1,024 tokens in eight documents: a fifth of
the time.
"""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "workbench_documents"
_PLAIN_LAYERS = {"full_attention", "sliding_attention"}


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """Attend within each document where the batch says where they begin, else as transformers' sdpa does.

    Query is (1, heads, tokens, width), key and value have as many heads or fewer; the result is (1, tokens, heads,
    width). `cu_seq_lens_q` comes from TRL's padding-free collator.
    """
    bounds = kwargs.get("cu_seq_lens_q")
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    lengths = _lengths(bounds, query, key, _window(module)) if isinstance(bounds, torch.Tensor) and causal else None
    if lengths is None:
        found: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **kwargs
        )
        return found
    documents = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    grouped = query.shape[1] != key.shape[1]
    parts = [
        scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped)
        for q, k, v in documents
    ]
    return torch.cat(parts, 2).transpose(1, 2).contiguous(), None


def _lengths(bounds: torch.Tensor, query: torch.Tensor, key: torch.Tensor, window: int | None) -> list[int] | None:
    """Return the documents' lengths, None where they do not say all: a batch of rows, or a window that is shorter."""
    lengths: list[int] = bounds.diff().tolist()
    tokens = query.shape[2]
    if query.shape[0] != 1 or key.shape[2] != tokens or sum(lengths) != tokens or min(lengths) < 1:
        return None
    return None if window is not None and max(lengths) > window else lengths


def _window(module: torch.nn.Module) -> int | None:
    window = getattr(getattr(module, "config", None), "sliding_window", None)
    return window if isinstance(window, int) else None


def install(model: PreTrainedModel) -> bool:
    """Let a model attend by document where its attention is plain; tell whether it does."""
    if not _is_plain(model.config.get_text_config(decoder=True)):
        return False
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
    return bool(model.config.get_text_config(decoder=True)._attn_implementation == NAME)


def _is_plain(config: PreTrainedConfig) -> bool:
    """Tell whether all that a mask says besides the documents is causality and a window."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    softcap = getattr(config, "attn_logit_softcapping", None)
    chunked = getattr(config, "attention_chunk_size", None)
    return config._attn_implementation == "sdpa" and kinds <= _PLAIN_LAYERS and not softcap and not chunked
