"""What a traced model costs: its counts, and its step as polynomials by kind of layer; JSON in and out.

The child writes these once for a model and for settings that change the graph. The planner reads them and answers for
any length, batch, rank and depth of recomputation as quickly as from a formula.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.planner.tracing.polynomials import Terms

Candidates = tuple[Terms, ...]


@dataclass(frozen=True)
class LayerTrace:
    """Hold one layer's memory beside what was there before it.

    `forward` are the moments of its forward pass above its start, `kept` what stays until its backward pass, `passing`
    what stays besides until the forward pass ends. `backward` are the moments of its backward pass above its start,
    and `gradients` what its trained numbers get.
    """

    forward: Candidates
    kept: Terms
    passing: Terms
    backward: Candidates
    gradients: Terms


@dataclass(frozen=True)
class StepTrace:
    """Hold one step's memory above what is resident, for one kind of graph.

    `start` are the moments before the first layer and `before` what lies there when it begins. `first` are the layers
    up to the first one that trains, each as it is in its place, and `kinds` one layer of each kind (None for a kind
    that occurs among `first` only). `norm` and `head` are the moments of the final norm and of the output head above
    the forward pass's end; `back` and `tail` those of the head's and the norm's backward pass, and `level` what lies
    there when the gradient reaches the last layer, all three without what layers after `first` keep.
    """

    start: Candidates
    before: Terms
    first: tuple[LayerTrace, ...]
    kinds: tuple[LayerTrace | None, ...]
    norm: Candidates
    head: Candidates
    back: Candidates
    tail: Candidates
    level: Terms


@dataclass(frozen=True)
class TrainedTensors:
    """Count trained tensors of `fixed` + `per_rank` * rank elements; `input_side` for LoRA's A matrices."""

    fixed: int
    per_rank: int
    count: int
    input_side: bool = False

    def elements(self, rank: int) -> int:
        """Return the elements of one tensor."""
        return self.fixed + self.per_rank * rank


@dataclass(frozen=True)
class GraphTrace:
    """Hold what belongs to one graph: what is trained, and its step for rows below and beyond the model's windows.

    `seconds` is how long its trace took, the child's start included.
    """

    trained: tuple[TrainedTensors, ...]
    steps: Mapping[str, StepTrace] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class LayerMemory:
    """What `count` layers each keep of one conversation: `fixed` bytes, and `per_token` bytes for each token.

    A `window` bounds the tokens that are kept; 0 keeps all.
    """

    count: int
    fixed: int
    per_token: int
    window: int = 0

    def size_bytes(self, length: int) -> int:
        """Return the bytes of these layers after `length` tokens."""
        return self.count * (self.fixed + self.per_token * (min(length, self.window) if self.window else length))


@dataclass(frozen=True)
class InferenceTrace:
    """Hold what a model keeps while it answers, and what the reading of a prompt needs besides.

    The reading of T tokens takes `reading` + T * `reading_per_token` bytes. `trained` is what an adapter of it holds.
    """

    layers: tuple[LayerMemory, ...]
    reading: float
    reading_per_token: float
    trained: tuple[TrainedTensors, ...]

    def cache_bytes(self, length: int) -> int:
        """Return the bytes of one conversation's cache after `length` tokens."""
        return sum(layer.size_bytes(length) for layer in self.layers)


@dataclass(frozen=True)
class ModelCounts:
    """Count a model's numbers: `converted` are those that bitsandbytes stores in four bits, `experts` those of
    stacks of experts, which the workbench does. `wide` stay fp32, `buffers` are in bytes.

    `kinds` says of each layer which kind it is, and `chunks` of each kind to what its rows are filled up. `modules` are
    the linear modules that adapters can name. `windows` are the row lengths at which attention changes its course.
    """

    parameters: int
    converted: int
    experts: int
    wide: int
    buffers: int
    hidden: int
    vocab: int
    positions: int
    kinds: tuple[int, ...]
    chunks: tuple[int, ...]
    modules: tuple[str, ...]
    windows: tuple[int, ...] = ()


def region(windows: Sequence[int], length: int) -> str:
    """Return between which of a model's windows a row length lies: their number below it."""
    return str(sum(1 for window in windows if length >= window))


def span(windows: Sequence[int], length: int) -> tuple[int, int]:
    """Return the row lengths of the same region, at most 2^20."""
    return max([0, *(one for one in windows if one <= length)]), min([1 << 20, *(w - 1 for w in windows if w > length)])


def layers_of(step: StepTrace, kinds: Sequence[int]) -> list[LayerTrace]:
    """Return the trace of every layer of a model."""
    rest = [step.kinds[kind] for kind in kinds[len(step.first) :]]
    known = [layer for layer in rest if layer is not None]
    if len(known) != len(rest):
        raise ValueError("a kind of layer was not traced")
    return [*step.first, *known]


def as_json(costs: Any) -> Any:
    """Return dataclasses, tuples and mappings as plain JSON values."""
    if hasattr(costs, "__dataclass_fields__"):
        return {name: as_json(getattr(costs, name)) for name in costs.__dataclass_fields__}
    if isinstance(costs, (list, tuple)):
        return [as_json(one) for one in costs]
    if isinstance(costs, Mapping):
        return {str(key): as_json(one) for key, one in costs.items()}
    return costs


def _terms(found: Any) -> Terms:
    a, b, c, d, e, f = (float(number) for number in found)
    return a, b, c, d, e, f


def _candidates(found: Any) -> Candidates:
    return tuple(_terms(one) for one in found)


def _layer(found: Any) -> LayerTrace | None:
    if found is None:
        return None
    return LayerTrace(
        _candidates(found["forward"]),
        _terms(found["kept"]),
        _terms(found["passing"]),
        _candidates(found["backward"]),
        _terms(found["gradients"]),
    )


def _step(found: Any) -> StepTrace:
    first = tuple(layer for one in found["first"] if (layer := _layer(one)) is not None)
    moments = {name: _candidates(found[name]) for name in ("start", "norm", "head", "back", "tail")}
    kinds = tuple(_layer(one) for one in found["kinds"])
    return StepTrace(before=_terms(found["before"]), level=_terms(found["level"]), first=first, kinds=kinds, **moments)


def _trained(found: Any) -> tuple[TrainedTensors, ...]:
    return tuple(
        TrainedTensors(int(one["fixed"]), int(one["per_rank"]), int(one["count"]), bool(one["input_side"]))
        for one in found
    )


def inference_from_json(found: Any) -> InferenceTrace:
    """Return an inference trace that `as_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
    names = ("count", "fixed", "per_token", "window")
    layers = tuple(LayerMemory(*(int(one[name]) for name in names)) for one in found["layers"])
    reading, each = float(found["reading"]), float(found["reading_per_token"])
    return InferenceTrace(layers, reading, each, _trained(found["trained"]))


def graph_from_json(found: Any) -> GraphTrace:
    """Return a graph's trace that `as_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
    trained = _trained(found["trained"])
    steps = {str(key): _step(one) for key, one in found["steps"].items()}
    return GraphTrace(trained, steps, float(found["seconds"]))


def counts_from_json(found: Any) -> ModelCounts:
    """Return counts that `as_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
    numbers = ("parameters", "converted", "experts", "wide", "buffers", "hidden", "vocab", "positions")
    return ModelCounts(
        **{name: int(found[name]) for name in numbers},
        kinds=tuple(int(one) for one in found["kinds"]),
        chunks=tuple(int(one) for one in found["chunks"]),
        modules=tuple(str(one) for one in found["modules"]),
        windows=tuple(int(one) for one in found["windows"]),
    )
