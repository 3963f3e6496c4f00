"""Weights that are kept dequantised multiply as the 4-bit layer does, to the bit, forward and back."""

from __future__ import annotations

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from torch import nn

from app.training.fast_paths.kept_weights import KeptLinear4bit, keep_dequantized


class Stack(nn.Module):  # type: ignore[misc]
    """Two layers of one 4-bit module each, and a 4-bit module outside of them."""

    def __init__(self, weight_dtype: torch.dtype, compute_dtype: torch.dtype, bias: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(
            nn.ModuleDict({"up": self._linear(weight_dtype, compute_dtype, bias)}) for _ in "ab"
        )
        self.head = self._linear(weight_dtype, compute_dtype, bias)

    def _linear(self, weight_dtype: torch.dtype, compute_dtype: torch.dtype, bias: bool) -> Linear4bit:
        layer = Linear4bit(128, 64, bias=bias, compute_dtype=compute_dtype, quant_type="nf4")
        layer.to(weight_dtype).requires_grad_(False)
        layer.support_avx512bf16_for_cpu = False
        return layer.to("cpu")


def passed(layer: nn.Module, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = inputs.clone().requires_grad_()
    output = layer(inputs)
    (output.float() * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    return output.detach(), inputs.grad


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forward_and_backward_are_the_same_to_the_bit(dtype: torch.dtype, bias: bool) -> None:
    stack, inputs = Stack(dtype, dtype, bias), torch.randn(3, 7, 128, dtype=dtype)
    layer = stack.layers[0]["up"]
    plain = passed(layer, inputs)
    assert keep_dequantized(stack, 1) == 128 * 64 * dtype.itemsize
    assert isinstance(layer, KeptLinear4bit)
    for a, b in zip(plain, passed(layer, inputs), strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)


def test_only_the_first_layers_are_kept_and_nothing_of_it_is_saved() -> None:
    stack = Stack(torch.float32, torch.float32)
    before = {name: value.clone() for name, value in stack.state_dict().items()}
    keep_dequantized(stack, 1)
    assert [type(layer["up"]) for layer in stack.layers] == [KeptLinear4bit, Linear4bit]
    assert type(stack.head) is Linear4bit
    after = stack.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert keep_dequantized(stack, 0) == 0


def test_layers_that_round_on_the_way_stay_plain() -> None:
    stack = Stack(torch.bfloat16, torch.float32)
    assert keep_dequantized(stack, 2) == 0 and type(stack.layers[0]["up"]) is Linear4bit
