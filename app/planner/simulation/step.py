"""The moments of one training step at which memory can peak, put together from layers, loss and optimiser."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from app.catalog.modules import distinct_layers, expert_parameters, layer_modules, layer_vectors, total_parameters
from app.catalog.spec import ModelSpec
from app.planner.parts.optimizer import state_bytes, step_scratch_bytes
from app.planner.parts.weights import ITEMSIZE, weights_at_rest
from app.planner.request import PlanRequest
from app.planner.simulation.adapter import (
    expert_adapters,
    layer_parameters,
    saved_module_parameters,
    targeted,
    trains_head,
)
from app.planner.simulation.autograd import NOTHING, BytesByKind
from app.planner.simulation.layer_cost import LayerCost, is_masked, kernel_of, layer_cost, loss_cost, precision_of

# cuBLAS keeps one workspace for each thread that multiplies: the forward and the backward thread.
# 2 x 4096 KiB + 8 x 16 KiB below Hopper (pytorch aten/src/ATen/cuda/CublasHandlePool.cpp, default :4096:2:16:8).
CUBLAS_WORKSPACE_BYTES = 2 * (2 * 4096 + 8 * 16) * 1024


# PEFT makes the frozen copy of an adapter in fp32.
REFERENCE_ITEMSIZE = 4


@dataclass(frozen=True)
class Resident:
    """Hold what stays on the card during training, in bytes."""

    weights: int
    trained: int
    gradients: int
    states: int
    constants: int
    trainable: int
    step_scratch: int


@dataclass(frozen=True)
class Moment:
    """Hold the composition of one candidate for the peak; `own_bytes` is what the moment adds to what is kept."""

    name: str
    activations: int
    logits: int
    scratch: int
    gradients: int
    own_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """Return the bytes of the moment beyond what is always there."""
        return self.activations + self.logits + self.scratch + self.gradients


def trained_sizes(request: PlanRequest) -> tuple[tuple[int, int], ...]:
    """Return the trained tensors as (elements, how many of them)."""
    if request.method == "full":
        spec = request.model  # all weights as tensors, small vectors apart
        vectors = spec.layers * layer_vectors(spec) + spec.hidden
        large = total_parameters(spec) - vectors - spec.unplanned
        return ((large, 1), (spec.hidden, max(1, vectors // spec.hidden)))
    return _sizes_of(request, frozen_a=request.optimizer == "lora_fa")


def _sizes_of(request: PlanRequest, *, frozen_a: bool) -> tuple[tuple[int, int], ...]:
    return _adapter_sizes(request.model, request.rank, request.targets, request.dora, request.modules_to_save, frozen_a)


@lru_cache(maxsize=4096)
def _adapter_sizes(
    spec: ModelSpec, rank: int, targets: tuple[str, ...], dora: bool, whole: tuple[str, ...], frozen_a: bool
) -> tuple[tuple[int, int], ...]:
    """Return the tensors of an adapter and of modules trained as a whole; `frozen_a` leaves the A matrices out."""
    sizes: Counter[int] = Counter()
    for index, count in distinct_layers(spec):
        for module in targeted(spec, index, targets):
            a = [] if frozen_a else [rank * module.d_in]
            for elements in [*a, rank * module.d_out, *([module.d_out] if dora else [])]:
                sizes[elements] += count
        for width, own_rank in expert_adapters(spec, index, rank, targets):
            sizes[width * own_rank] += count
    extra = saved_module_parameters(spec, whole)
    return (*sizes.items(), *(((extra, 1),) if extra else ()))


def trainable_parameters(request: PlanRequest) -> int:
    """Return how many numbers are trained."""
    if not request.is_training:
        return 0
    if request.method == "full":
        return total_parameters(request.model) - request.model.unplanned
    return sum(elements * count for elements, count in trained_sizes(request))


def resident(request: PlanRequest) -> Resident:
    """Return what stays on the card for the whole of training."""
    trainable = trainable_parameters(request)
    itemsize = 4 if request.profile == "peft-classic" and request.has_adapter else ITEMSIZE[request.trained_dtype]
    adapter = () if request.method == "full" else _sizes_of(request, frozen_a=False)
    copies = int(request.reference_adapter)
    return Resident(
        weights=weights_at_rest(request).total_bytes,
        trained=sum(elements * count for elements, count in adapter) * (itemsize + REFERENCE_ITEMSIZE * copies),
        gradients=trainable * itemsize,
        states=state_bytes(request.optimizer, trained_sizes(request), itemsize),
        constants=_constants(request),
        trainable=trainable,
        step_scratch=step_scratch_bytes(request.optimizer, trainable * itemsize),
    )


def _constants(request: PlanRequest) -> int:
    """Return rotary tables, masks, token ids and cuBLAS workspaces."""
    spec, precision = request.model, precision_of(request)
    rows, length = (1, request.tokens) if request.packed else (request.sequences, request.seq_len)
    tables = 2 * rows * length * spec.rotary_dim * precision.stream
    return tables + _masks(request, rows, length) + 8 * 3 * request.tokens + CUBLAS_WORKSPACE_BYTES


def _masks(request: PlanRequest, rows: int, length: int) -> int:
    """Return the masks that are made once for all layers: one for each kind of attention that needs one."""
    spec, itemsize = request.model, precision_of(request).stream
    if spec.alibi and spec.family == "falcon":
        return rows * spec.heads * length * length * itemsize
    eager = kernel_of(request) == "eager"
    total = 0
    for kind in set(spec.layer_kinds) or {"full"}:
        index = spec.layer_kinds.index(kind) if spec.layer_kinds else 0
        if eager:
            total += rows * length * length * itemsize
        elif is_masked(request, index):
            total += rows * length * length
    return total


def is_recomputed(mode: str, index: int) -> bool:
    """Tell whether layer `index` is recomputed in the backward pass."""
    if mode in ("full", "none"):
        return mode == "full"
    return index % int(mode.removeprefix("every-")) == 0


def _layer_gradients(request: PlanRequest, index: int, itemsize: int) -> int:
    """Return the bytes of the gradients of layer `index` when its weights or adapters are trained."""
    if request.has_adapter:
        return itemsize * layer_parameters(request.model, index, request.rank, request.targets, request.dora)
    return itemsize * _layer_weights(request.model, index)


@lru_cache(maxsize=4096)
def _layer_weights(spec: ModelSpec, index: int) -> int:
    own = sum(module.weights + module.biases for module in layer_modules(spec, index))
    return own + layer_vectors(spec) + expert_parameters(spec, index)


def moments(request: PlanRequest, held: Resident) -> Iterator[Moment]:
    """Yield the candidates for the peak: the highest layer forward, the loss, the highest layer back, the update."""
    costs = _layer_costs(request)
    itemsize = held.gradients // max(held.trainable, 1)
    head_bytes = _head_gradient_bytes(request, itemsize)
    present = held.gradients if request.gradient_accumulation > 1 else 0
    forward, kept = _highest_forward(costs, present)
    yield forward
    loss = loss_cost(request, head_bytes, costs[-1].output_itemsize)
    yield _moment("loss", kept, loss.peak, 0, present)
    yield _highest_backward(request, costs, sum(kept), loss.held_bytes, held, head_bytes)
    if request.method == "full":
        yield _embedding_moment(request, held, loss.held_bytes)
    yield Moment("optimiser step", 0, loss.held_bytes, held.step_scratch, held.gradients)


def _highest_forward(costs: list[LayerCost], present: int) -> tuple[Moment, BytesByKind]:
    """Return the highest moment of the forward pass, and what all layers keep."""
    kept_bytes, best, best_total = 0, 0, -1
    for index, cost in enumerate(costs):
        if cost.forward is not None and (total := kept_bytes + cost.forward_bytes) > best_total:
            best, best_total = index, total
        kept_bytes += cost.kept_bytes
    own = costs[best].forward
    # Where every layer is recomputed the backward pass holds more than any forward moment.
    before = NOTHING if own is None else _kept(costs[:best])
    return _moment(f"forward of layer {best + 1}", before, own or NOTHING, 0, present), _kept(costs)


def _kept(costs: Sequence[LayerCost]) -> BytesByKind:
    """Return what these layers keep for the backward pass."""
    a, b, c, d = (sum(sizes) for sizes in zip(*(cost.kept for cost in costs), strict=True)) if costs else NOTHING
    return a, b, c, d


def _highest_backward(
    request: PlanRequest, costs: list[LayerCost], kept_bytes: int, held_logits: int, held: Resident, head_bytes: int
) -> Moment:
    """Return the highest moment of the backward pass, last layer first, while gradients gather."""
    itemsize = held.gradients // max(held.trainable, 1)
    accumulating = request.gradient_accumulation > 1
    gathered = held.gradients if accumulating else head_bytes
    spec = request.model
    dense, routed = (0, 0) if accumulating else (_layer_gradients(request, i, itemsize) for i in (0, spec.layers - 1))
    best, best_total = (0, 0), -1
    for index in range(len(costs) - 1, -1, -1):
        cost = costs[index]
        kept_bytes -= cost.kept_bytes
        total = kept_bytes + cost.backward_bytes + gathered
        if total > best_total:
            best, best_total = (index, gathered), total
        gathered += routed if spec.is_moe_layer(index) else dense
    index, gradients = best
    return _moment(
        f"backward of layer {index + 1}", _kept(costs[:index]), costs[index].backward, held_logits, gradients
    )


def _embedding_moment(request: PlanRequest, held: Resident, held_logits: int) -> Moment:
    """Return the end of the backward pass: the embedding's gradient is a whole table.

    A tied table waits for it with the head's gradient and adds both into a third one; accumulation adds one more.
    """
    spec = request.model
    table = held.gradients // max(held.trainable, 1) * spec.vocab * spec.hidden
    copies = (2 if spec.tied else 0) + (1 if request.gradient_accumulation > 1 else 0)
    stream = precision_of(request).stream
    return Moment(
        "backward of the embedding", request.tokens * spec.hidden * stream, held_logits, copies * table, held.gradients
    )


def overlap_bytes(found: Sequence[Moment]) -> int:
    """Return the smaller of the loss's and a layer's backward hump.

    Their blocks differ in size, so the caching allocator keeps much of the one while the other peaks.
    """
    loss = max((moment.own_bytes for moment in found if moment.name == "loss"), default=0)
    layer = max((moment.own_bytes for moment in found if moment.name.startswith("backward of layer")), default=0)
    return min(loss, layer)


def _layer_costs(request: PlanRequest) -> list[LayerCost]:
    """Return the cost of each layer; from the second on the residual stream has the item size that layers give it."""
    stream = precision_of(request).stream
    examples, kinds = _layout(request.model, request.recompute)
    first = layer_cost(request, 0, recompute=is_recomputed(request.recompute, 0), stream=stream)
    known = [
        first
        if index == 0 and first.output_itemsize == stream
        else layer_cost(request, index, recompute=is_recomputed(request.recompute, index), stream=first.output_itemsize)
        for index in examples
    ]
    return [first, *(known[kind] for kind in kinds[1:])]


@lru_cache(maxsize=1024)
def _layout(spec: ModelSpec, recompute: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return one layer of each kind, and of each layer which kind it is."""
    keys = [(spec.is_moe_layer(i), spec.kind(i), is_recomputed(recompute, i)) for i in range(spec.layers)]
    distinct = list(dict.fromkeys(keys))
    return tuple(map(keys.index, distinct)), tuple(map(distinct.index, keys))


def _head_gradient_bytes(request: PlanRequest, itemsize: int) -> int:
    """Return the bytes of the output head's gradient, when it is trained."""
    spec = request.model
    if request.method == "full" or trains_head(request.modules_to_save):
        return itemsize * spec.vocab * spec.hidden
    return 0


def _moment(name: str, kept: BytesByKind, own: BytesByKind, logits: int, gradients: int) -> Moment:
    return Moment(name, kept[0] + own[0], kept[1] + own[1] + logits, kept[2] + own[2], own[3] + gradients, sum(own))
