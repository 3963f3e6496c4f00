"""Experts in 4 bits for a trace: the forward pass of app/models/moe/experts.py over weights without numbers.

In the tracing child only. Fake tensors cannot say which experts tokens go to. All rows are sent to one: each expert is
dequantised and let go by itself, so how the rows are spread changes no size.
"""

from __future__ import annotations

import torch
from peft.tuners.lora import layer as lora_layer
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from app.models.moe import experts as real_experts
from app.models.moe.experts import ExpertStack, attach, stacked_names


class TracedStack(ExpertStack):
    """A stack whose matrices have a shape and no numbers."""

    def matrix(self, expert: int, dtype: torch.dtype | None = None) -> Tensor:
        """Return an empty matrix of the shape of one expert's."""
        return torch.empty(self.rows, self.columns, dtype=dtype or self.compute_dtype, device=self.packed.device)


def quantise_experts(model: nn.Module, compute_dtype: torch.dtype, double: bool) -> None:
    """Store all stacks of experts in 4 bits, as loading does."""
    real_experts.rows_per_expert = _all_to_one
    lora_layer._LoraFactorsProxy.forward = _registered
    for module in list(model.modules()):
        for name in stacked_names(module):
            shape, dtype = module.get_parameter(name).shape, module.get_parameter(name).dtype
            device = module.get_parameter(name).device
            stack = TracedStack(
                shape,
                quant_type="nf4",
                double_quant=double,
                compute_dtype=compute_dtype,
                device=device,
                transposed=bool(module.is_transposed),
            )
            one_number = torch.empty((), dtype=dtype, device=device).expand(shape)
            setattr(module, name, nn.Parameter(one_number, requires_grad=False))
            attach(module, name, stack)


_folded = lora_layer._LoraFactorsProxy.forward


def _registered(proxy: nn.Module, weight: Tensor) -> Tensor:
    """Leave PEFT's sum of weight and update undone where the weight stands for 4 bits, as experts.StandIn does."""
    folded: Tensor = _folded(proxy, weight) if any(weight.stride()) else weight
    return folded


_counted = real_experts.rows_per_expert


def _all_to_one(experts: Tensor, number: int) -> list[int]:
    """Return the rows of each expert: where they have no numbers, all of them the first one's."""
    if not isinstance(experts, FakeTensor):
        return _counted(experts, number)
    return [experts.shape[0], *[0] * (number - 1)]
