"""Matrix products in fp32 with weights that stay in bf16, for processors without instructions for bf16.

Such a processor multiplies bf16 in software, many times slower than fp32 (measured on one with AVX2: a product of
1024 x 1024 at 0.9 GFLOP/s against 114). Where memory forbids fp32 weights, each layer widens a piece of its weights at
a time. Inputs and outputs keep their format, so the numbers are those of bf16 products summed up in fp32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from torch import nn

from app import hardware

# Numbers of a weight that are widened at once, 16 MB in fp32: small beside what a model of any size takes.
_PIECE = 1 << 22


def widen_products(model: nn.Module) -> int:
    """Let the bf16 linear layers of a model on such a processor multiply in fp32; return how many.

    It is for answers, not for training. Weights, and what is saved of them, stay as they are. Layers in 8 bits and
    stacked experts are passed over.
    """
    if hardware.has_bf16_instructions():
        return 0
    widened = 0
    for module in model.modules():
        weight = _weight_of(module)
        if weight is not None:
            module.forward = _forward(module, weight)
            widened += 1
    return widened


def _weight_of(module: nn.Module) -> Callable[[], torch.Tensor] | None:
    """Return what gives a layer's weight (out_features, in_features) in bf16, None for any other layer."""
    if type(module) not in (nn.Linear, Linear4bit) or module.weight.device.type != "cpu":
        return None
    if type(module) is nn.Linear:
        return (lambda: module.weight) if module.weight.dtype == torch.bfloat16 else None
    state = module.weight.quant_state
    if state is None or state.dtype != torch.bfloat16:
        return None
    return lambda: dequantize_4bit(module.weight.data, module.weight.quant_state)


def _forward(module: nn.Module, weight_of: Callable[[], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(x: torch.Tensor) -> torch.Tensor:
        bias = getattr(module, "bias", None)
        wide, weight = x.float(), weight_of()
        pieces = [
            nn.functional.linear(wide, piece.float()).to(x.dtype if bias is None else torch.float32)
            for piece in weight.split(max(1, _PIECE // weight.shape[1]))
        ]
        out = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)
        return out if bias is None else (out + bias.float()).to(x.dtype)

    return forward
