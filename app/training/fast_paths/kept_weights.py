"""4-bit weights kept dequantised beside them, so that no step dequantises them again.

The tensor that is kept is what bitsandbytes' own dequantisation gives in the layer's compute dtype, and it is
multiplied in the same way: forward, loss and gradients are those of the plain layer. The 4-bit weights stay where they
are, since they are what is saved, merged and moved.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from torch import nn

_NUMBER = re.compile(r"\.(\d+)\.")


class KeptLinear4bit(Linear4bit):  # type: ignore[misc]
    """A Linear4bit that multiplies by `kept` (out_features, in_features), in its compute dtype."""

    kept: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply by the dequantised weights; x is (..., in_features)."""
        bias = None if self.bias is None else self.bias.to(self.kept.dtype)
        return nn.functional.linear(x.to(self.kept.dtype), self.kept, bias).to(x.dtype)


def keep_dequantized(model: nn.Module, layers: int) -> int:
    """Keep dequantised weights in the first `layers` decoder layers and return their bytes.

    Passed over are layers that compute in another format than they were quantised from, where the plain backward pass
    rounds twice, and those whose bias is trained.
    """
    kept_bytes = 0
    for module in list(_in_first(model, layers)):
        state = module.weight.quant_state
        trained = module.bias is not None and module.bias.requires_grad
        if state is None or state.dtype != module.compute_dtype or trained:
            continue
        with torch.no_grad():
            module.kept = dequantize_4bit(module.weight.data, state)
        module.__class__ = KeptLinear4bit
        kept_bytes += module.kept.numel() * module.kept.itemsize
    return kept_bytes


def _in_first(model: nn.Module, layers: int) -> Iterator[Linear4bit]:
    """Yield the plain 4-bit linear modules of the first layers; a layer is told by the first number in its name."""
    for name, module in model.named_modules():
        number = _NUMBER.search(name)
        if type(module) is Linear4bit and number is not None and int(number[1]) < layers:
            yield module
