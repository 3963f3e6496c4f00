"""Layers that are not attention over all tokens: convolutions, and the gated delta rule of Qwen3.5.

Where several value heads share a key head, transformers keeps the value heads of one key head together, and llama.cpp
goes through all key heads first. So rows of what makes values, and columns of what reads them, stand in another order.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedConfig

from app.export.gguf.sources import Changed, Rearranged, Source
from app.models.tensors import StoredTensor


def arranged(name: str, source: StoredTensor, config: PreTrainedConfig) -> Source:
    """Return a stored tensor as llama.cpp expects it."""
    squeezed: Source = source
    if name.endswith((".conv1d.weight", ".conv.conv.weight")):
        squeezed = Changed(source, lambda block: block.squeeze(1))
    rows, columns = order_of(name, config)
    if columns is not None:
        return Changed(source, lambda block: block[..., columns])
    return squeezed if rows is None else Rearranged(squeezed, rows)


def order_of(name: str, config: PreTrainedConfig) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return the order of a parameter's rows and of its columns in the file, None for as they are."""
    keys, values = (getattr(config, f"linear_num_{kind}_heads", None) for kind in ("key", "value"))
    if ".linear_attn." not in name or not keys or not values or keys == values:
        return None, None
    wide, single = _tiled(keys, values, config.linear_value_head_dim), _tiled(keys, values, 1)
    if name.endswith((".in_proj_qkv.weight", ".conv1d.weight")):
        before = 2 * keys * config.linear_key_head_dim
        return torch.cat([torch.arange(before), before + wide]), None
    if name.endswith(".in_proj_z.weight"):
        return wide, None
    if name.endswith((".in_proj_a.weight", ".in_proj_b.weight", ".A_log", ".dt_bias")):
        return single, None
    return (None, wide) if name.endswith(".out_proj.weight") else (None, None)


def _tiled(keys: int, values: int, width: int) -> torch.Tensor:
    return torch.arange(values * width).view(keys, values // keys, width).transpose(0, 1).reshape(-1)
