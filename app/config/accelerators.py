"""Kinds of accelerators, by the names that torch and its builds give them, and what bitsandbytes has for each.

The table is bitsandbytes 0.50.2's own: what its package registers for a device (`register_kernel` in
bitsandbytes/backends/*/ops.py), which of its libraries can page (`cget_managed_ptr`), and the table "Accelerator
support" of its README (dist-info/METADATA). tests/config/test_accelerators.py holds it against the installed package.
On an AMD card torch says `cuda`, so bitsandbytes takes the same code with a library for ROCm. None of this was run on a
GPU of AMD, Intel or Apple.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.config.sections import Optimizer

Kind = Literal["cuda", "rocm", "xpu", "mps"]
"""NVIDIA's cards, AMD's (in torch they are `cuda` too), Intel's, and the GPU of Apple silicon."""

Way = Literal["kernels", "torch"]
"""By kernels of its own, or by PyTorch's operations one after another: as right, slower."""


@dataclass(frozen=True)
class BitsAndBytes:
    """What bitsandbytes does on a kind of device.

    `four_bit` and `eight_bit` say how a base in NF4, FP4 or int8 is computed with; `eight_bit_optimizers` and
    `paged_optimizers` whether there are such optimisers at all.
    """

    four_bit: Way = "kernels"
    eight_bit: Way = "kernels"
    eight_bit_optimizers: bool = True
    paged_optimizers: bool = True

    def has(self, optimizer: Optimizer) -> bool:
        """Tell whether an optimiser runs there; those that are not bitsandbytes' own do."""
        if optimizer.startswith("paged_") and not self.paged_optimizers:
            return False
        return self.eight_bit_optimizers or not optimizer.endswith("8bit")


BITSANDBYTES: dict[Kind, BitsAndBytes] = {
    "cuda": BitsAndBytes(),
    "rocm": BitsAndBytes(),
    # Products of int8 are torch._int_mm, all around them PyTorch's operations. The 8-bit optimisers are Triton's.
    "xpu": BitsAndBytes(eight_bit="torch"),
    # Kernels for Metal are fetched from the hub by the package `kernels`, which is none of the requirements.
    "mps": BitsAndBytes(four_bit="torch", eight_bit="torch", eight_bit_optimizers=False, paged_optimizers=False),
}

INSTEAD: Optimizer = "adamw_torch_fused"
"""PyTorch's own optimiser, which every kind of device has."""


def has_optimizer(kind: Kind | None, optimizer: Optimizer) -> bool:
    """Tell whether an optimiser runs on a kind of GPU; on a processor (None) each does, paged ones without paging."""
    return kind is None or BITSANDBYTES[kind].has(optimizer)
