"""A linear layer and its LoRA as one step of autograd: y = x W' + s (x A') B', for 4-bit and unquantised bases.

PEFT computes the base, copies it, computes the adapter, scales it and adds it: three passes over the output that only
move memory. Here both products are added up in place. The backward pass needs x, x A' and the weights, and a 4-bit
weight is dequantised again rather than kept, unless it is kept anyhow (kept_weights.py):

    dB = s g' (x A'),  dA = s (g B)' x,  dx = g W + s (g B) A

What this does not say goes PEFT's way: dropout, DoRA and other variants, a bias of the adapter, several adapters at
once, a merged or switched off adapter, and number formats that differ.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from peft.tuners.lora.bnb import Linear4bit as Lora4bit
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import nn

from app.training.fast_paths.kept_weights import KeptLinear4bit

Weight = Callable[[], torch.Tensor]


class LoraProduct(torch.autograd.Function):  # type: ignore[misc]
    """x (n, in), A (rank, in), B (out, rank); the weight (out, in) comes from a function, in the format of x."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        x: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        weight: Weight,
        bias: torch.Tensor | None,
        scaling: float,
    ) -> torch.Tensor:
        """Return (n, out)."""
        low_a, low_b = a.to(x.dtype), b.to(x.dtype)
        inner = x @ low_a.t()
        y = nn.functional.linear(x, weight(), bias)
        ctx.save_for_backward(x, inner, low_a, low_b)
        ctx.weight, ctx.scaling, ctx.formats = weight, scaling, (a.dtype, b.dtype)
        return y.addmm_(inner, low_b.t(), alpha=scaling)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, g: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor, None, None, None]:
        """Return the gradients by x, A and B."""
        x, inner, low_a, low_b = ctx.saved_tensors
        through = g @ low_b
        of_a = (through.t() @ x).mul_(ctx.scaling).to(ctx.formats[0])
        of_b = (g.t() @ inner).mul_(ctx.scaling).to(ctx.formats[1])
        of_x = (g @ ctx.weight()).addmm_(through, low_a, alpha=ctx.scaling) if ctx.needs_input_grad[0] else None
        return of_x, of_a, of_b, None, None, None


class FusedLora4bit(Lora4bit):  # type: ignore[misc]
    """PEFT's layer on a 4-bit base, fused where that is exact."""

    def forward(self, x: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        """Return base and adapter of x (..., in)."""
        fused = None if args or kwargs else _fused(self, x)
        return super().forward(x, *args, **kwargs) if fused is None else fused


class FusedLora(LoraLinear):  # type: ignore[misc]
    """PEFT's layer on an unquantised base, fused where that is exact."""

    def forward(self, x: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        """Return base and adapter of x (..., in)."""
        fused = None if args or kwargs else _fused(self, x)
        return super().forward(x, *args, **kwargs) if fused is None else fused


_FUSED: dict[type, type] = {Lora4bit: FusedLora4bit, LoraLinear: FusedLora}


def install(model: nn.Module) -> int:
    """Fuse the adapted linear layers of a model and return how many there are."""
    found = [module for module in model.modules() if type(module) in _FUSED]
    chosen = [module for module in found if type(module.get_base_layer()) in (nn.Linear, Linear4bit, KeptLinear4bit)]
    for module in chosen:
        module.__class__ = _FUSED[type(module)]
    return len(chosen)


def _fused(layer: Lora4bit | LoraLinear, x: torch.Tensor) -> torch.Tensor | None:
    """Return the layer's answer, or None where it is PEFT's to give."""
    active = layer.active_adapters
    if not torch.is_grad_enabled() or layer.disable_adapters or layer.merged or len(active) != 1:
        return None
    name = active[0]
    if name not in layer.lora_A or name in layer.lora_variant or layer.lora_bias[name]:
        return None
    a, b, base = layer.lora_A[name].weight, layer.lora_B[name].weight, layer.get_base_layer()
    autocast = torch.is_autocast_enabled(x.device.type)
    dtype = torch.get_autocast_dtype(x.device.type) if autocast else a.dtype
    weight, bias = _weight_of(base, dtype), base.bias
    unfit = weight is None or (not autocast and x.dtype != dtype) or (bias is not None and bias.requires_grad)
    if unfit or not isinstance(layer.lora_dropout[name], nn.Identity):
        return None
    flat = x.reshape(-1, x.shape[-1]).to(dtype)
    y = LoraProduct.apply(flat, a, b, weight, None if bias is None else bias.to(dtype), layer.scaling[name])
    return y.view(*x.shape[:-1], y.shape[-1])


def _weight_of(base: nn.Module, dtype: torch.dtype) -> Weight | None:
    """Return what gives the frozen weight in a format, None where that would round it or it is trained."""
    if isinstance(base, Linear4bit):
        kept = getattr(base, "kept", None)
        if kept is not None:
            return (lambda: kept) if kept.dtype == dtype else None
        state = base.weight.quant_state
        if state is None or state.dtype != dtype or base.compute_dtype != dtype:
            return None
        return lambda: dequantize_4bit(base.weight.data, state)
    weight = base.weight
    return (lambda: weight) if weight.dtype == dtype and not weight.requires_grad else None
