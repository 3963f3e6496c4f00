"""One simulated decoder layer, forward and backward: what it peaks at, what it keeps, what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from app.catalog.spec import ModelSpec
from app.planner.parts.weights import ITEMSIZE, experts_in_4_bits, other_itemsize
from app.planner.request import PlanRequest
from app.planner.simulation.adapter import adapts_experts, doubles_gate_up, targeted
from app.planner.simulation.attention import AttentionShape, Kernel
from app.planner.simulation.autograd import NOTHING, Autograd, BytesByKind, Kind, Storage
from app.planner.simulation.decoder_layer import Layer, LayerPlan
from app.planner.simulation.linear import FUSED_GEMM_ROWS, LinearPolicy
from app.planner.simulation.loss import TILE_TOKENS, fused_tiles, odds_ratio, whole_logits
from app.planner.simulation.ops import Ops, Precision
from app.planner.simulation.symbolic_size import (
    SYMBOLIC,
    Coefficients,
    Dims,
    NotPolynomialError,
    PeakCandidates,
    SymbolicMeter,
    coefficients,
)


@dataclass(frozen=True)
class LayerCost:
    """Hold one layer's memory, all as bytes by kind, its own input included.

    `forward` is the highest moment of the forward pass (None for a recomputed layer, whose backward pass repeats it and
    holds more), `kept` what stays for the backward pass and `backward` the highest moment of the backward pass
    (recomputation and its trained weights' gradients included). `output_itemsize` is the item size in which the next
    layer gets the residual stream.
    """

    forward: BytesByKind | None
    kept: BytesByKind
    backward: BytesByKind
    output_itemsize: int

    @cached_property
    def forward_bytes(self) -> int:
        """Return all bytes of the highest moment of the forward pass."""
        return sum(self.forward or NOTHING)

    @cached_property
    def kept_bytes(self) -> int:
        """Return all bytes that stay for the backward pass."""
        return sum(self.kept)

    @cached_property
    def backward_bytes(self) -> int:
        """Return all bytes of the highest moment of the backward pass."""
        return sum(self.backward)


def precision_of(request: PlanRequest, stream: int | None = None) -> Precision:
    """Return the item sizes in which this request computes; `stream` is the residual stream's where it is known."""
    other = other_itemsize(request)
    classic = request.profile == "peft-classic"
    return Precision(
        autocast=not classic and request.dtype != "fp32",
        stream=other if stream is None else stream,
        compute=ITEMSIZE[request.dtype],
        base=other,
        vector=other,
        adapter=4 if classic else ITEMSIZE[request.trained_dtype],
        trained=request.method == "full",
        fused_softmax=request.dtype == "fp16",
    )


def kernel_of(request: PlanRequest, index: int = 0) -> Kernel:
    """Return the attention kernel that layer `index` will run.

    The classic measurements pin the memory-efficient kernel. Elsewhere SDPA takes the flash kernel when no mask is
    passed, and the memory-efficient one for masks (padding, packing, a window shorter than the row) and for fp32.
    """
    spec = request.model
    if spec.family in _EAGER_ONLY or request.attn == "eager":
        return "eager"
    if request.attn == "flash":
        return "flash"
    if request.profile == "peft-classic" or request.dtype == "fp32" or is_masked(request, index):
        return "efficient"
    return "efficient" if spec.head_dim > _FLASH_HEAD_DIM or spec.latent else "flash"


# Families without an SDPA path in transformers 5.23: BLOOM's scores take ALiBi, Gemma 2 caps them, gpt-oss has sinks.
_EAGER_ONLY = frozenset({"bloom", "gemma2", "gpt_oss"})
_FLASH_HEAD_DIM = 256


def is_masked(request: PlanRequest, index: int = 0) -> bool:
    """Tell whether layer `index` gets a full attention mask.

    Packed rows need one, and rows padded to one length; a windowed layer needs one as soon as rows reach the window;
    ALiBi is handed over as a mask.
    """
    spec = request.model
    if spec.kind(index) == "sliding" and request.seq_len >= (spec.sliding_window or request.seq_len + 1):
        return True
    if spec.alibi:
        return True
    if request.profile == "peft-classic":
        return False
    return request.packed or request.sequences > 1


def dims_of(request: PlanRequest) -> Dims:
    """Return tokens, row length, rank and whether weights are unpacked; packed rows are one long row."""
    length = request.tokens if request.packed else request.seq_len
    return Dims(request.tokens, length, request.rank, int(request.tokens > FUSED_GEMM_ROWS))


def shape_of(request: PlanRequest, index: int, dims: Dims) -> AttentionShape:
    """Return the attention call of layer `index` for these tokens and row length."""
    spec = request.model
    expanded = spec.latent is not None or (spec.family == "falcon" and spec.kv_heads > 1)
    return AttentionShape(
        tokens=dims.tokens,
        length=dims.length,
        heads=spec.heads,
        kv_heads=spec.heads if expanded else spec.kv_heads,
        # ALiBi's mask is one tensor of numbers for all layers; the others are converted in each call of the kernel.
        masked=kernel_of(request, index) == "efficient" and is_masked(request, index) and not spec.alibi,
        dropout=spec.attention_dropout,
        sinks=spec.sinks,
        softcap=spec.attention_softcap,
    )


def policy_of(request: PlanRequest, index: int, rank: int) -> LinearPolicy:
    """Return how the linear modules of layer `index` are stored and trained."""
    spec = request.model
    adapted = targeted(spec, index, request.targets) if request.has_adapter else ()
    return LinearPolicy(
        storage=request.storage,
        convertible=spec.linear_class != "own",
        rank=rank,
        dora=request.dora,
        dropout=request.lora_dropout,
        adapted=frozenset(module.name for module in adapted),
        trained=request.method == "full",
        experts=request.has_adapter and adapts_experts(spec, request.targets),
        experts_in_4_bits=experts_in_4_bits(request),
        gate_up_doubled=request.has_adapter and doubles_gate_up(spec, request.targets),
    )


@dataclass(frozen=True)
class _LayerKey:
    """What the course of a simulated layer depends on; its sizes depend on tokens, length and rank besides."""

    spec: ModelSpec
    moe: bool
    kernel: Kernel
    shape: AttentionShape
    policy: LinearPolicy
    precision: Precision
    recompute: bool
    accumulating: bool


def layer_cost(request: PlanRequest, index: int, *, recompute: bool, stream: int) -> LayerCost:
    """Return the cost of layer `index`, recomputed in the backward pass or not, for a stream of this item size."""
    dims = dims_of(request)
    symbolic_cost = _symbolic_cost(_key(request, index, recompute, stream, SYMBOLIC))
    if symbolic_cost is None:
        symbolic_cost = _simulate_layer(_key(request, index, recompute, stream, dims), dims)
    return symbolic_cost.at(dims)


def _key(request: PlanRequest, index: int, recompute: bool, stream: int, dims: Dims) -> _LayerKey:
    return _LayerKey(
        spec=request.model,
        moe=request.model.is_moe_layer(index),
        kernel=kernel_of(request, index),
        shape=shape_of(request, index, dims),
        policy=policy_of(request, index, dims.rank),
        precision=precision_of(request, stream),
        recompute=recompute,
        accumulating=request.gradient_accumulation > 1,
    )


@dataclass(frozen=True)
class _SymbolicCost:
    """Hold a LayerCost for any tokens, length and rank."""

    forward: PeakCandidates | None
    kept: tuple[Coefficients, Coefficients, Coefficients, Coefficients]
    backward: PeakCandidates
    output_itemsize: int

    def at(self, dims: Dims) -> LayerCost:
        """Return the cost at these numbers."""
        a, b, c, d = self.kept
        kept = (dims.value(a), dims.value(b), dims.value(c), dims.value(d))
        forward = self.forward.highest(dims) if self.forward is not None else None
        return LayerCost(forward, kept, self.backward.highest(dims), self.output_itemsize)


@lru_cache(maxsize=2048)
def _symbolic_cost(key: _LayerKey) -> _SymbolicCost | None:
    """Simulate a layer once for all tokens, lengths and ranks; None when its sizes are no polynomials of them."""
    try:
        return _simulate_layer(key, SYMBOLIC)
    except NotPolynomialError:
        return None


def _simulate_layer(key: _LayerKey, dims: Dims) -> _SymbolicCost:
    """Simulate one layer forward and backward.

    A recomputed layer is simulated once: its backward pass begins with the forward pass, while the gradient of its
    output lies beside.
    """
    meter = SymbolicMeter()
    index = key.spec.experts.dense_layers if key.moe and key.spec.experts else 0
    plan = LayerPlan(key.spec, index, key.kernel, key.shape, key.policy)
    autograd = Autograd(meter, keep_gradients=not key.accumulating)
    x = autograd.leaf(dims.tokens * key.spec.hidden, key.precision.stream, grad=True)
    kept = [x.size_bytes, 0, 0, 0]
    output = Layer(Ops(autograd, key.precision, dims.tokens, dims.unpacks), plan).run(x)
    del x
    output_itemsize, output_bytes = output.itemsize, output.size_bytes
    forward = None
    if key.recompute:
        meter.beside(output_bytes)
    else:
        forward = meter.peak_candidates()
        kept = [meter.by_kind[0] - output_bytes, *meter.by_kind[1:]]
    output.storage = Storage(meter, 0, Kind.ACTIVATION)
    gradient = Storage(meter, output_bytes, Kind.ACTIVATION)
    if not key.recompute:
        meter.restart_peak()
    output.storage = gradient
    autograd.backward(output, gradient)
    a, b, c, d = (coefficients(size) for size in kept)
    return _SymbolicCost(forward, (a, b, c, d), meter.peak_candidates(), output_itemsize)


@dataclass(frozen=True)
class LossCost:
    """Hold the peak of final norm, head and loss, the last layer's output included, and the logits that stay held."""

    peak: BytesByKind
    held_bytes: int


def loss_cost(request: PlanRequest, head_grad_bytes: int, stream: int) -> LossCost:
    """Return the cost of the loss, forward and backward, for a residual stream of this item size."""
    # The loss knows no rank: in its place stand the rows of one tile.
    dims = Dims(request.tokens, 0, min(request.tokens, TILE_TOKENS))
    peak, held = _symbolic_loss(
        request.model,
        precision_of(request, stream),
        request.fused,
        request.holds_outputs,
        head_grad_bytes,
        request.gradient_accumulation > 1,
        request.objective == "orpo",
    )
    return LossCost(peak.highest(dims), dims.value(held))


@lru_cache(maxsize=1024)
def _symbolic_loss(
    spec: ModelSpec,
    precision: Precision,
    fused: bool,
    hold_outputs: bool,
    head_grad_bytes: int,
    accumulating: bool,
    odds: bool,
) -> tuple[PeakCandidates, Coefficients]:
    """Simulate the loss once for all tokens and tiles: its peak, and the logits that stay held."""
    meter = SymbolicMeter()
    autograd = Autograd(meter, keep_gradients=not accumulating)
    x = autograd.leaf(SYMBOLIC.tokens * spec.hidden, precision.stream, grad=True)
    ops = Ops(autograd, precision, SYMBOLIC.tokens)
    held = None
    if odds:
        odds_ratio(ops, spec, x, head_grad_bytes=head_grad_bytes)
    elif fused:
        fused_tiles(ops, spec, x, tile_rows=SYMBOLIC.rank, head_grad_bytes=head_grad_bytes)
    else:
        held = whole_logits(ops, spec, x, hold_outputs=hold_outputs, head_grad_bytes=head_grad_bytes)
    return meter.peak_candidates(), coefficients(held.size_bytes if held is not None else 0)


def clear_layer_costs() -> None:
    """Forget every simulated layer."""
    _symbolic_cost.cache_clear()
    _symbolic_loss.cache_clear()
