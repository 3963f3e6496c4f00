"""Adapters side by side: all A and all B of a layer in two matrices, so that a batch costs two products a layer.

The rows of a batch each use their own adapter. A layer computes the products of the adapters in use for every row
and blanks what is not the row's own: with x (batch, length, in), A (ranks, in), B (ranks, out),

    y = base(x) + blank(x @ A.T) @ B

PEFT walks over the adapters in a Python loop in each layer; here their number changes only the width of A and B.
Ranks may differ, nothing is padded, and a row of the base adds exact zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from app.errors import EngineError
from app.models.adapters import LoraUpdate

Span = tuple[int, int]
# What one row uses of a layer: spans of A and B, each with its weight. A row of the base uses none.
Claim = tuple[tuple[Span, float], ...]


@dataclass(frozen=True)
class Mix:
    """Several adapters in one row, each with its weight: base(x) + the weighted sum of their updates."""

    parts: tuple[tuple[str, float], ...]


Source = str | Mix | None


@dataclass(frozen=True)
class Route:
    """Which columns of A and B a batch uses in one layer.

    `foreign` (batch, 1, columns) marks those of other rows; `weights`, of the same shape, scales those of mixes.
    """

    start: int
    end: int
    foreign: torch.Tensor | None
    weights: torch.Tensor | None = None


@dataclass
class StackedLayer:
    """One linear layer of the base and the adapters on it, B scaled already."""

    a: torch.Tensor
    b: torch.Tensor
    spans: dict[str, Span] = field(default_factory=dict)
    route: Route | None = None

    def put(self, name: str, update: LoraUpdate) -> None:
        """Append one adapter."""
        dtype, device = self.a.dtype, self.a.device
        start = self.a.shape[0]
        self.a = torch.cat([self.a, update.a.to(device, dtype)])
        self.b = torch.cat([self.b, _scaled(update).to(device, dtype)])
        self.spans[name] = (start, start + update.rank)

    def holds(self, name: str, update: LoraUpdate) -> bool:
        """Tell whether the adapter's part is this update, bit by bit."""
        start, end = self.spans.get(name, (0, 0))
        a, b = update.a.to(self.a), _scaled(update).to(self.b)
        return bool(torch.equal(self.a[start:end], a) and torch.equal(self.b[start:end], b))

    def drop(self, name: str) -> None:
        """Cut one adapter out; those behind it move up."""
        start, end = self.spans.pop(name, (0, 0))
        self.a = torch.cat([self.a[:start], self.a[end:]])
        self.b = torch.cat([self.b[:start], self.b[end:]])
        for other, (low, high) in self.spans.items():
            if low >= end:
                self.spans[other] = (low - (end - start), high - (end - start))

    def add(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        """Add the updates to the output of the base layer (a forward hook)."""
        route = self.route
        if route is None:
            return output
        hidden = F.linear(inputs[0].to(self.a.dtype), self.a[route.start : route.end])
        if route.foreign is not None:
            hidden.masked_fill_(route.foreign, 0.0)
        if route.weights is not None:
            hidden.mul_(route.weights)
        columns, rows = self.b[route.start : route.end], hidden.reshape(-1, hidden.shape[-1])
        if output.dtype == self.b.dtype and output.is_contiguous():
            output.view(-1, output.shape[-1]).addmm_(rows, columns)
            return output
        return output + (rows @ columns).view(output.shape).to(output.dtype)


class Stack:
    """All stacked adapters of a model."""

    def __init__(self, modules: Mapping[str, nn.Module], dtype: torch.dtype) -> None:
        self._modules, self._dtype = modules, dtype
        self._layers: dict[str, StackedLayer] = {}
        self._hooks: dict[str, Any] = {}
        self._routed: tuple[Source, ...] | None = None

    def put(self, name: str, updates: Iterable[LoraUpdate]) -> None:
        """Add an adapter. Raises EngineError, and adds nothing, when it does not fit the base."""
        checked = [self._checked(name, update) for update in updates]
        self.route(None)
        for update in checked:
            self._layer(update.module).put(name, update)

    def drop(self, name: str) -> None:
        """Take an adapter out; layers without any adapter run as the plain base again."""
        self.route(None)
        for module, layer in list(self._layers.items()):
            if name in layer.spans:
                layer.drop(name)
            if not layer.spans:
                self._hooks.pop(module).remove()
                del self._layers[module]

    def holds(self, name: str, updates: Iterable[LoraUpdate]) -> bool:
        """Tell whether the stack has exactly these updates under this name."""
        found = {module for module, layer in self._layers.items() if name in layer.spans}
        for update in updates:
            if update.module not in found or not self._layers[update.module].holds(name, update):
                return False
            found.remove(update.module)
        return not found

    def route(self, names: Sequence[Source] | None) -> None:
        """Say which adapter, or mix, each row of the next batches uses; None is the base. `route(None)` ends it."""
        wanted = None if names is None else tuple(names)
        if wanted == self._routed:
            return
        self._routed = wanted
        made: dict[tuple[Claim, ...], Route | None] = {}
        for layer in self._layers.values():
            claims = tuple(_claim(layer.spans, source) for source in wanted or ())
            if claims not in made:
                made[claims] = _route_of(claims, layer.a)
            layer.route = made[claims]

    def _layer(self, module: str) -> StackedLayer:
        if module not in self._layers:
            base = self._modules[module]
            features_in, features_out = linear_shape(base) or (0, 0)
            device = next(base.parameters()).device
            made = StackedLayer(
                torch.empty(0, features_in, dtype=self._dtype, device=device),
                torch.empty(0, features_out, dtype=self._dtype, device=device),
            )
            self._layers[module] = made
            self._hooks[module] = base.register_forward_hook(made.add)
        return self._layers[module]

    def _checked(self, name: str, update: LoraUpdate) -> LoraUpdate:
        base = self._modules.get(update.module)
        shape = linear_shape(base) if base is not None else None
        found = (int(update.a.shape[1]), int(update.b.shape[0]))
        if shape != found:
            why = "the base has no such layer" if shape is None else f"it is {found}, the layer is {shape} (in, out)"
            raise EngineError(
                f"The adapter {name!r} does not fit the base at {update.module}", why, "load it on the base it was made"
            )
        return update


def _scaled(update: LoraUpdate) -> torch.Tensor:
    """Return B as it is multiplied with, (rank, out), in float32."""
    return update.b.float().T * update.scaling


def linear_shape(module: nn.Module | None) -> tuple[int, int] | None:
    """Return inputs and outputs of a linear layer or a GPT-2 Conv1D, None for anything else."""
    if module is None:
        return None
    if hasattr(module, "nf") and hasattr(module, "nx"):
        return int(module.nx), int(module.nf)
    if hasattr(module, "in_features") and hasattr(module, "out_features"):
        return int(module.in_features), int(module.out_features)
    return None


def _claim(spans: Mapping[str, Span], source: Source) -> Claim:
    """Return what a row of this source uses of a layer."""
    parts = source.parts if isinstance(source, Mix) else ((source, 1.0),) if source else ()
    return tuple((spans[name], weight) for name, weight in parts if name in spans)


def _route_of(claims: tuple[Claim, ...], like: torch.Tensor) -> Route | None:
    """Return the route of a batch, None when no row adds anything. Masks get the device and dtype of `like`."""
    used = [span for claim in claims for span, _ in claim]
    if not used:
        return None
    start, end = min(low for low, _ in used), max(high for _, high in used)
    if all(claim == (((start, end), 1.0),) for claim in claims):
        return Route(start, end, None)
    foreign = torch.ones(len(claims), 1, end - start, dtype=torch.bool)
    weights = torch.ones(len(claims), 1, end - start)
    for row, claim in enumerate(claims):
        for (low, high), weight in claim:
            foreign[row, 0, low - start : high - start] = False
            weights[row, 0, low - start : high - start] = weight
    mixed = bool((weights != 1).any())
    return Route(start, end, foreign.to(like.device), weights.to(like) if mixed else None)
