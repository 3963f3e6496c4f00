"""The products of matrices in a step, and how fast this machine does the very same ones alone."""

from __future__ import annotations

import math
import time
from collections import Counter

import torch
from torch import nn

from app import devices
from app.planner.step_profile import Product

# A shape is tried at least this often, and for at least this long; the best try counts.
_LEAST_TRIES, _LEAST_S = 3, 0.2
_MOST_ELEMENTS = 1 << 26


class Products:
    """Counts products by their weight's shape (inputs, outputs), and the rows that were multiplied."""

    def __init__(self) -> None:
        self._calls: Counter[tuple[int, int]] = Counter()
        self._rows: Counter[tuple[int, int]] = Counter()
        self._of_module: Counter[int] = Counter()

    def count(self, module: nn.Module | None, rows: int) -> None:
        """Count a product of `rows` rows with a linear layer; anything else is passed over."""
        shape = linear_shape(module)
        if shape is None:
            return
        self._of_module[id(module)] += 1
        self._calls[shape] += 1
        self._rows[shape] += rows

    def calls_of(self, module: nn.Module | None) -> int:
        """Return how often a layer has multiplied."""
        return self._of_module[id(module)]

    def measured(self, steps: int, dtype: torch.dtype, device: torch.device) -> tuple[list[Product], float]:
        """Return the products of one of `steps` steps, and the seconds that they take alone.

        Of each shape the forward product and that of the input's gradient are timed at the mean number of rows.
        """
        found, seconds = [], 0.0
        for (inputs, outputs), calls in sorted(self._calls.items()):
            total = self._rows[inputs, outputs]
            if total == 0:
                continue
            rows = max(1, round(total / calls))
            rate = rate_of(rows, inputs, outputs, dtype, device)
            seconds += 4 * total * inputs * outputs / steps / rate
            found.append(Product(rows, inputs, outputs, calls / steps, rate / 1e9))
        return found, seconds


def linear_shape(module: nn.Module | None) -> tuple[int, int] | None:
    """Return inputs and outputs of a linear layer, adapted or not, or of a GPT-2 Conv1D; None for anything else."""
    base = module.get_base_layer() if module is not None and hasattr(module, "get_base_layer") else module
    if isinstance(base, nn.Linear):
        return int(base.in_features), int(base.out_features)
    if base is not None and hasattr(base, "nf") and hasattr(base, "nx"):
        return int(base.nx), int(base.nf)
    return None


def rate_of(rows: int, inputs: int, outputs: int, dtype: torch.dtype, device: torch.device) -> float:
    """Return operations a second of (rows, inputs) by (inputs, outputs) and of the product of its input's gradient."""
    rows = max(1, min(rows, _MOST_ELEMENTS // max(inputs, outputs)))
    weight = torch.randn(outputs, inputs, device=device).to(dtype)
    x = torch.randn(rows, inputs, device=device).to(dtype)
    g = torch.randn(rows, outputs, device=device).to(dtype)
    computing = devices.of(device)
    best, tries, ends = math.inf, 0, time.perf_counter() + _LEAST_S
    with torch.no_grad():
        while tries < _LEAST_TRIES or time.perf_counter() < ends:
            begun = time.perf_counter()
            x @ weight.t()
            g @ weight
            computing.synchronize()
            best, tries = min(best, time.perf_counter() - begun), tries + 1
    return 4 * rows * inputs * outputs / best
