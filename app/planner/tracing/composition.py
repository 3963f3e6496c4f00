"""The moments of a step put together from a model's traced costs, for any length, batch, rank and recomputation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from app.errors import PlanError
from app.planner.parts.optimizer import state_bytes, step_scratch_bytes
from app.planner.parts.weights import ITEMSIZE, experts_in_4_bits, other_itemsize, quantised_bytes
from app.planner.request import PlanRequest
from app.planner.simulation.loss import TILE_COLUMNS, TILE_TOKENS
from app.planner.simulation.step import CUBLAS_WORKSPACE_BYTES, REFERENCE_ITEMSIZE, Moment, Resident, is_recomputed
from app.planner.tracing.costs import (
    Candidates,
    GraphTrace,
    InferenceTrace,
    LayerTrace,
    ModelCounts,
    StepTrace,
    layers_of,
)
from app.planner.tracing.polynomials import Terms, highest, value
from app.planner.tracing.store import modes_of, row_length


class NotTracedError(PlanError):
    """The step of these settings was not traced yet."""


@dataclass(frozen=True)
class TracedModel:
    """Hold what was traced of a model for the request at hand: its counts, and its graphs by recomputation.

    `graphs` and `steps` have one entry for the layers that are kept and one for those that are recomputed, where the
    request has such layers.
    """

    counts: ModelCounts
    graph: GraphTrace
    steps: dict[bool, StepTrace]


def traced_model(request: PlanRequest) -> TracedModel:
    """Return what is known of a request's model and step. Raises NotTracedError where nothing is."""
    counts = request.traces.counts(request.model) if request.traces else None
    found = {mode: request.traces.step(request, mode) for mode in modes_of(request)} if request.traces else {}
    steps = {mode: one[1] for mode, one in found.items() if one is not None}
    graph = next((one[0] for one in found.values() if one is not None), None)
    if counts is None or graph is None or len(steps) < len(found):
        raise NotTracedError(
            f"The model {request.model.name} was not measured with these settings yet",
            "its architecture has no formula and is measured by a simulation",
            "Plan these settings by themselves first",
        )
    return TracedModel(counts, graph, steps)


def traced_inference(request: PlanRequest) -> tuple[ModelCounts, InferenceTrace]:
    """Return what is known of a request's model and its answers. Raises NotTracedError where nothing is."""
    counts = request.traces.counts(request.model) if request.traces else None
    found = request.traces.inference(request) if request.traces else None
    if counts is None or found is None:
        raise NotTracedError(
            f"Inference with {request.model.name} was not measured yet",
            "its architecture has no formula and is measured by a simulation",
            "Plan it by itself first",
        )
    return counts, found


class _At:
    """Polynomials at the request's numbers, with rows filled up to whole chunks."""

    def __init__(self, request: PlanRequest, chunk: int = 1) -> None:
        length = row_length(request)
        full = -(-length // chunk) * chunk
        self._numbers = request.tokens // length * full, full, request.rank

    def value(self, terms: Terms) -> int:
        return int(value(terms, *self._numbers))

    def highest(self, candidates: Candidates) -> int:
        return int(highest(candidates, *self._numbers))


@dataclass(frozen=True)
class _Layer:
    """One layer's numbers, in bytes."""

    forward: int
    kept: int
    passing: int
    backward: int
    gradients: int


def _numbers(at: _At, layer: LayerTrace) -> _Layer:
    return _Layer(
        at.highest(layer.forward),
        at.value(layer.kept),
        at.value(layer.passing),
        at.highest(layer.backward),
        at.value(layer.gradients),
    )


def itemsize(request: PlanRequest) -> int:
    """Return the bytes of one trained number."""
    return 4 if request.profile == "peft-classic" and request.has_adapter else ITEMSIZE[request.trained_dtype]


def resident(request: PlanRequest, model: TracedModel) -> Resident:
    """Return what stays on the card for the whole of training."""
    counts, width, rank = model.counts, itemsize(request), request.rank
    tensors = [(one.elements(rank), one.count, one.input_side) for one in model.graph.trained]
    copies = int(request.reference_adapter)
    everything = sum(elements * count for elements, count, _ in tensors)
    # LoRA-FA leaves the A matrices as they began.
    stepping = [(elements, count) for elements, count, side in tensors if not (side and request.optimizer == "lora_fa")]
    trainable = sum(elements * count for elements, count in stepping)
    return Resident(
        weights=weights_bytes(request, counts),
        trained=0 if request.method == "full" else everything * (width + REFERENCE_ITEMSIZE * copies),
        gradients=trainable * width,
        states=state_bytes(request.optimizer, stepping, width),
        constants=CUBLAS_WORKSPACE_BYTES,
        trainable=trainable,
        step_scratch=step_scratch_bytes(request.optimizer, trainable * width),
    )


def weights_bytes(request: PlanRequest, counts: ModelCounts) -> int:
    """Return the bytes of the frozen model as it is stored."""
    converted = counts.converted if request.storage != "none" else 0
    converted += counts.experts if experts_in_4_bits(request) else 0
    stored = quantised_bytes(converted, request.storage) if converted else 0
    narrow = counts.parameters - converted - counts.wide
    return stored + narrow * other_itemsize(request) + counts.wide * 4 + counts.buffers


def moments(request: PlanRequest, model: TracedModel, held: Resident) -> Iterator[Moment]:
    """Yield the candidates for the peak: forward, loss, backward, update."""
    at = _At(request)
    # What lies around the layers is taken from the step that treats the first layer as this request does.
    step = model.steps[is_recomputed(request.recompute, 0)]
    layers = _layers(request, model)
    first = len(step.first) - 1
    present = held.gradients if request.gradient_accumulation > 1 else 0
    before = at.value(step.before)
    yield Moment("before the first layer", at.highest(step.start), 0, 0, present)
    levels = list(accumulate((one.kept + one.passing for one in layers), initial=before))
    heights = [level + layer.forward for level, layer in zip(levels, layers, strict=False)]
    top = heights.index(max(heights))
    yield Moment(f"forward of layer {top + 1}", heights[top], 0, 0, present, layers[top].forward)
    yield from _loss(request, at, step, layers, levels[-1], present)
    yield _backward(request, at, step, layers, first, held)
    yield Moment("optimiser step", 0, 0, held.step_scratch, held.gradients)


def _layers(request: PlanRequest, model: TracedModel) -> list[_Layer]:
    """Return the numbers of every layer, each by whether it is recomputed."""
    known: dict[int, _Layer] = {}
    found = []
    by_mode = {mode: layers_of(step, model.counts.kinds) for mode, step in model.steps.items()}
    for index, kind in enumerate(model.counts.kinds):
        trace = by_mode[is_recomputed(request.recompute, index)][index]
        if id(trace) not in known:
            known[id(trace)] = _numbers(_At(request, model.counts.chunks[kind]), trace)
        found.append(known[id(trace)])
    return found


def _loss(
    request: PlanRequest, at: _At, step: StepTrace, layers: list[_Layer], forward_end: int, present: int
) -> Iterator[Moment]:
    """Yield the final norm, the head and its backward pass."""
    tile = 2 * min(request.tokens, TILE_TOKENS) * TILE_COLUMNS if request.fused else 0
    kept = sum(layer.kept for layer in layers[len(step.first) :])
    norm = at.highest(step.norm)
    yield Moment("final norm", forward_end, norm, 0, present, norm)
    parts = [(forward_end, at.highest(step.head) + tile)] if step.head else []
    parts += [(kept, at.highest(step.back) + tile), (kept, at.highest(step.tail))]
    level, own = max(parts, key=sum)
    # What the head's backward pass stands on is part of its polynomial; the forward pass's end tells it apart.
    above = max(0, level + own - forward_end)
    yield Moment("loss", level + own - above, above, 0, present, above)


def _backward(
    request: PlanRequest, at: _At, step: StepTrace, layers: list[_Layer], first: int, held: Resident
) -> Moment:
    """Return the highest moment of the backward pass, last layer first, while gradients gather."""
    accumulating = request.gradient_accumulation > 1
    level = at.value(step.level) + sum(layer.kept for layer in layers[first + 1 :])
    gathered = held.gradients if accumulating else 0
    best = Moment("backward", 0, 0, 0, 0)
    for index in range(len(layers) - 1, first - 1, -1):
        layer = layers[index]
        if level + layer.backward + gathered > best.total_bytes:
            name = f"backward of layer {index + 1}"
            best = Moment(name, level + layer.backward, 0, 0, gathered, layer.backward)
        level -= layer.kept if index > first else 0
        gathered += 0 if accumulating else layer.gradients
    return best
