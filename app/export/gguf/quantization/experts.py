"""What goes into the matrices of routed experts, which transformers keeps in one parameter a layer.

No linear layer stands there that could be listened to, so each expert's first product is computed once more.
"""

from __future__ import annotations

import re

import torch
from torch import nn

from app.export.gguf.quantization.llama_cpp import Floats

_LAYER = re.compile(r".*layers\.(\d+)\.")
# What transformers' decorator puts on classes of experts that can be run in several ways.
_MARKS = ("has_gate", "has_bias", "is_transposed", "num_experts", "_apply_gate", "down_proj")


def can_be_weighed(module: nn.Module) -> bool:
    """Tell whether a module holds routed experts whose inputs can be told."""
    return all(hasattr(module, mark) for mark in _MARKS)


class Inputs:
    """Sums of squares of what goes into the first and the last matrices of one layer's experts.

    They are (experts, columns); an expert counts the tokens that are sent to it.
    """

    def __init__(self, name: str, module: nn.Module) -> None:
        found = _LAYER.match(f"{name}.")
        self._block = f"blk.{found[1] if found else 0}"
        count, last = int(module.num_experts), module.down_proj
        first = module.gate_up_proj if module.has_gate else module.up_proj
        inputs = 1 if module.is_transposed else 2
        self._first = torch.zeros(count, first.shape[inputs], dtype=torch.float64)
        self._last = torch.zeros(count, last.shape[inputs], dtype=torch.float64)
        self._tokens = torch.zeros(count, dtype=torch.float64)

    def add(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        """Take what the experts are called with: tokens (tokens, width) and the experts of each (tokens, chosen)."""
        tokens, chosen = inputs[0].reshape(-1, inputs[0].shape[-1]), inputs[1]
        for expert in chosen.unique().tolist():
            rows = tokens[(chosen == expert).any(-1)]
            self._first[expert] += rows.double().square().sum(0)
            self._last[expert] += _between(module, expert, rows).double().square().sum(0)
            self._tokens[expert] += len(rows)

    def means(self) -> dict[str, Floats]:
        """Return the mean squares by the tensors' names; an expert that no token was sent to gets those of all."""
        seen = self._tokens > 0
        found = {"gate": self._first, "up": self._first, "down": self._last}
        means = {}
        for kind, sums in found.items():
            mean = sums / self._tokens.clamp(min=1)[:, None]
            mean[~seen] = sums.sum(0) / self._tokens.sum().clamp(min=1)
            means[f"{self._block}.ffn_{kind}_exps.weight"] = mean.to(torch.float32).numpy()
        return means


def _between(module: nn.Module, expert: int, rows: torch.Tensor) -> torch.Tensor:
    """Return what one expert's last matrix is multiplied by, (rows, columns)."""
    name = "gate_up_proj" if module.has_gate else "up_proj"
    matrix = getattr(module, name)[expert]
    found = rows @ (matrix if module.is_transposed else matrix.T)
    if module.has_bias:
        found = found + getattr(module, f"{name}_bias")[expert]
    inner: torch.Tensor = module._apply_gate(found) if module.has_gate else module.act_fn(found)
    return inner
