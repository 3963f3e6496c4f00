"""Adapters as they lie on disk: one adapter_config.json and one safetensors file, read layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from safetensors import safe_open

from app.errors import ModelError
from app.models.adapter_files import (
    EMBEDDING,
    AdapterHeader,
    factors,
    misfit,
    of_pattern,
)


@dataclass(frozen=True)
class LoraUpdate:
    """The update of one layer. Shapes: a (rank, in), b (out, rank), magnitude (out), bias (out); all as stored."""

    module: str
    a: torch.Tensor
    b: torch.Tensor
    scaling: float
    magnitude: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    embedding: bool = False

    @property
    def rank(self) -> int:
        """Return the rank of the update."""
        return int(self.a.shape[0])

    def expert(self, number: int, experts: int) -> LoraUpdate:
        """Return the update of one of several stacked experts: A lies expert by expert, B with the experts innermost.

        As in PEFT's ParamWrapper.get_delta_weight (0.21).
        """
        a = self.a.view(experts, -1, self.a.shape[1])[number]
        b = self.b.view(self.b.shape[0], -1, experts)[:, :, number]
        return replace(self, a=a, b=b)

    def share(self, part: int, parts: int) -> LoraUpdate:
        """Return the update of one of several equal shares of the outputs."""
        rows = self.b.shape[0] // parts
        return replace(self, b=self.b[part * rows : (part + 1) * rows])


class AdapterFolder(AdapterHeader):
    """One LoRA adapter on disk. Tensors are read when they are asked for."""

    def tensor(self, key: str) -> torch.Tensor:
        """Return one tensor of the file."""
        with safe_open(self.weights_file, "pt") as file:
            loaded: torch.Tensor = file.get_tensor(key)
        return loaded

    def updates(self) -> Iterator[LoraUpdate]:
        """Yield the update of every adapted layer."""
        for module in self.layers:
            yield self.update(module)

    def finite(self, key: str) -> torch.Tensor:
        """Return one tensor of the file. Raises ModelError when it is not made of finite numbers."""
        tensor = self.tensor(key)
        problem = _not_numbers(key, {"a tensor": tensor})
        if problem:
            raise ModelError(f"{self.weights_file} is damaged", problem, "use another copy of the adapter")
        return tensor

    def update(self, module: str, *, name: str | None = None, experts: int = 1) -> LoraUpdate:
        """Return the update of one adapted layer.

        `name` is what rank and alpha patterns are matched against where that is not the module itself; `experts` is
        the number of matrices whose updates lie in one A and B. Raises ModelError when A and B do not fit each other or
        the configuration, or are not finite.
        """
        parts = {part: self.tensor(key) for part, key in self.layers[module].items()}
        embedding = set(parts) >= EMBEDDING
        a, b = factors(parts)
        name = name or module
        shapes = tuple(a.shape), tuple(b.shape)
        problem = misfit(self.config, name, *shapes, experts) or _not_numbers(module, parts)
        if problem:
            raise ModelError(f"{self.weights_file} is damaged", problem, "use another copy of the adapter")
        return LoraUpdate(
            module,
            a,
            b,
            self.scaling(name, int(a.shape[0]) // experts),
            magnitude=parts.get("lora_magnitude_vector"),
            bias=parts.get("lora_B.bias"),
            embedding=embedding,
        )

    def scaling(self, module: str, rank: int) -> float:
        """Return the factor of a layer's update: alpha / rank, or alpha / sqrt(rank) for rsLoRA (arXiv:2312.03732)."""
        alpha = of_pattern(self.config.get("alpha_pattern"), module, self.config.get("lora_alpha", 8))
        return float(alpha) / (math.sqrt(rank) if self.config.get("use_rslora") else rank)


def _not_numbers(module: str, parts: Mapping[str, torch.Tensor]) -> str:
    """Return which tensor of a layer is not made of finite floating-point numbers, or nothing."""
    for part, tensor in parts.items():
        if not tensor.is_floating_point():
            return f"{part} of {module} is made of {str(tensor.dtype).removeprefix('torch.')}"
        if not bool(torch.isfinite(tensor.float()).all()):
            return f"{part} of {module} holds values that are not numbers"
    return ""
