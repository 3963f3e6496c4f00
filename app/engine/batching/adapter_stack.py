"""All stacked adapters of a model, and which of them each row of a batch uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from app.engine.batching.stacked_layer import BatchRouting, Claim, Span, StackedLayer, route_of
from app.errors import EngineError
from app.models.adapters import LoraUpdate

# A batch that has gone on unchanged for this many tokens gets copies of what its rows use, as long as these fit.
_STEADY_TOKENS = 4
_MOST_COPIED_BYTES = 512 << 20


@dataclass(frozen=True)
class Mix:
    """Several adapters in one row, each with its weight: base(x) + the weighted sum of their updates."""

    parts: tuple[tuple[str, float], ...]


Source = str | Mix | None
# What every layer held: A, B and the spans in them.
Held = Mapping[str, tuple[torch.Tensor, torch.Tensor, Mapping[str, Span]]]


class AdapterStack:
    """All stacked adapters of a model."""

    def __init__(self, modules: Mapping[str, nn.Module], dtype: torch.dtype) -> None:
        self._modules, self._dtype = modules, dtype
        self._layers: dict[str, StackedLayer] = {}
        self._hooks: dict[str, RemovableHandle] = {}
        self._routed: tuple[Source, ...] | None = None
        self._copied: tuple[Source, ...] | None = None  # the batch that copies are for, or will be
        self._tokens = 0

    def put(self, name: str, updates: Iterable[LoraUpdate]) -> None:
        """Add an adapter. Raises EngineError, and adds nothing, when it does not fit the base."""
        checked = [self._checked(name, update) for update in updates]
        self._change()
        for update in checked:
            self._layer(update.module).put(name, update)

    def snapshot(self) -> Held:
        """Return what the stack holds; nothing is copied, since a layer that changes gets new tensors."""
        return {module: (layer.a, layer.b, dict(layer.spans)) for module, layer in self._layers.items()}

    def restore(self, held: Held) -> None:
        """Hold again, bit by bit, what the stack held at a snapshot."""
        self._change()
        for module in set(self._layers) - set(held):
            self._take_off(module)
        for module, (a, b, spans) in held.items():
            layer = self._layer(module)
            layer.a, layer.b, layer.spans = a, b, dict(spans)

    def drop(self, name: str) -> None:
        """Take an adapter out; layers without any adapter run as the plain base again."""
        self._change()
        for module, layer in list(self._layers.items()):
            if name in layer.spans:
                layer.drop(name)
            if not layer.spans:
                self._take_off(module)

    def holds(self, name: str, updates: Iterable[LoraUpdate]) -> bool:
        """Tell whether the stack has exactly these updates under this name."""
        found = {module for module, layer in self._layers.items() if name in layer.spans}
        for update in updates:
            if update.module not in found or not self._layers[update.module].holds(name, update):
                return False
            found.remove(update.module)
        return not found

    def route(self, names: Sequence[Source] | None) -> None:
        """Say which adapter, or mix, each row of the next batch uses; None is the base. `route(None)` ends it."""
        wanted = None if names is None else tuple(names)
        if wanted != self._routed:
            self._switch(wanted)
        if wanted is None:
            return
        if wanted != self._copied:
            self._forget_copies()
            self._copied = wanted
        self._tokens += 1
        if self._tokens == _STEADY_TOKENS:
            self._copy_rows()

    def _switch(self, wanted: tuple[Source, ...] | None) -> None:
        self._routed = wanted
        made: dict[tuple[Claim, ...], BatchRouting | None] = {}
        for layer in self._layers.values():
            claims = tuple(_claim(layer.spans, source) for source in wanted or ())
            if claims not in made:
                made[claims] = route_of(claims, layer.a)
            layer.route = made[claims]

    def _copy_rows(self) -> None:
        sizes = {module: layer.copied_bytes for module, layer in self._layers.items()}
        if sum(sizes.values()) <= _MOST_COPIED_BYTES:
            for module in filter(sizes.get, sizes):
                self._layers[module].copy_rows()

    def _forget_copies(self) -> None:
        self._copied, self._tokens = None, 0
        for layer in self._layers.values():
            layer.own = None

    def _change(self) -> None:
        """Leave every batch: spans are about to move."""
        self.route(None)
        self._forget_copies()

    def _take_off(self, module: str) -> None:
        """Let a layer run as the plain base again."""
        if module in self._hooks:
            self._hooks.pop(module).remove()
        del self._layers[module]

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
