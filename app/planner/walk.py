"""One layer walked forward and backward on the tape: what it peaks at, what it keeps, what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from app.catalog.spec import ModelSpec
from app.planner.adapter import adapts_experts, targeted
from app.planner.attention import AttentionShape, Kernel
from app.planner.layer import Layer, LayerPlan
from app.planner.linear import FUSED_GEMM_ROWS, LinearPolicy
from app.planner.loss import TILE_TOKENS, fused_tiles, whole_logits
from app.planner.open_size import OPEN, At, Coefficients, CrestMeter, Crests, NotOpenError, coefficients
from app.planner.ops import Ops, Precision
from app.planner.request import PlanRequest
from app.planner.tape import NOTHING, Kind, Split, Storage, Tape
from app.planner.weights import ITEMSIZE, other_itemsize


@dataclass(frozen=True)
class LayerCost:
    """Hold one layer's memory, all as bytes by kind, its own input included.

    `forward` is the highest moment of the forward pass (None for a recomputed layer, whose backward pass repeats it and
    holds more), `kept` what stays for the backward pass and `backward` the highest moment of the backward pass
    (recomputation and its trained weights' gradients included). `output_itemsize` is the item size in which the next
    layer gets the residual stream.
    """

    forward: Split | None
    kept: Split
    backward: Split
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
    return request.packed or request.micro_batch > 1


def at_of(request: PlanRequest) -> At:
    """Return tokens, row length, rank and whether weights are unpacked; packed rows are one long row."""
    length = request.tokens if request.packed else request.seq_len
    return At(request.tokens, length, request.rank, int(request.tokens > FUSED_GEMM_ROWS))


def shape_of(request: PlanRequest, index: int, at: At) -> AttentionShape:
    """Return the attention call of layer `index` for these tokens and row length."""
    spec = request.model
    expanded = spec.latent is not None or (spec.family == "falcon" and spec.kv_heads > 1)
    return AttentionShape(
        tokens=at.tokens,
        length=at.length,
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
    )


@dataclass(frozen=True)
class _WalkKey:
    """Hold what the course of a layer's walk depends on; its sizes depend on tokens, length and rank besides."""

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
    at = at_of(request)
    open_cost = _open_cost(_key(request, index, recompute, stream, OPEN))
    if open_cost is None:
        open_cost = _walk(_key(request, index, recompute, stream, at), at)
    return open_cost.at(at)


def _key(request: PlanRequest, index: int, recompute: bool, stream: int, at: At) -> _WalkKey:
    return _WalkKey(
        spec=request.model,
        moe=request.model.is_moe_layer(index),
        kernel=kernel_of(request, index),
        shape=shape_of(request, index, at),
        policy=policy_of(request, index, at.rank),
        precision=precision_of(request, stream),
        recompute=recompute,
        accumulating=request.gradient_accumulation > 1,
    )


@dataclass(frozen=True)
class _OpenCost:
    """Hold a LayerCost for any tokens, length and rank."""

    forward: Crests | None
    kept: tuple[Coefficients, Coefficients, Coefficients, Coefficients]
    backward: Crests
    output_itemsize: int

    def at(self, at: At) -> LayerCost:
        """Return the cost at these numbers."""
        a, b, c, d = self.kept
        kept = (at.value(a), at.value(b), at.value(c), at.value(d))
        forward = self.forward.highest(at) if self.forward is not None else None
        return LayerCost(forward, kept, self.backward.highest(at), self.output_itemsize)


@lru_cache(maxsize=2048)
def _open_cost(key: _WalkKey) -> _OpenCost | None:
    """Walk a layer once for all tokens, lengths and ranks; None when the model's sizes are no polynomials of them."""
    try:
        return _walk(key, OPEN)
    except NotOpenError:
        return None


def _walk(key: _WalkKey, at: At) -> _OpenCost:
    """Walk one layer forward and backward. A recomputed layer is walked once: its backward pass begins with the forward
    pass, while the gradient of its output lies beside."""
    meter = CrestMeter()
    index = key.spec.experts.dense_layers if key.moe and key.spec.experts else 0
    plan = LayerPlan(key.spec, index, key.kernel, key.shape, key.policy)
    tape = Tape(meter, keep_gradients=not key.accumulating)
    x = tape.leaf(at.tokens * key.spec.hidden, key.precision.stream, grad=True)
    kept = [x.size_bytes, 0, 0, 0]
    output = Layer(Ops(tape, key.precision, at.tokens, at.unpacks), plan).run(x)
    del x
    output_itemsize, output_bytes = output.itemsize, output.size_bytes
    forward = None
    if key.recompute:
        meter.beside(output_bytes)
    else:
        forward = meter.crests()
        kept = [meter.by_kind[0] - output_bytes, *meter.by_kind[1:]]
    output.storage = Storage(meter, 0, Kind.ACTIVATION)
    gradient = Storage(meter, output_bytes, Kind.ACTIVATION)
    if not key.recompute:
        meter.restart_peak()
    output.storage = gradient
    tape.backward(output, gradient)
    a, b, c, d = (coefficients(size) for size in kept)
    return _OpenCost(forward, (a, b, c, d), meter.crests(), output_itemsize)


@dataclass(frozen=True)
class LossCost:
    """Hold the peak of final norm, head and loss, the last layer's output included, and the logits that stay held."""

    peak: Split
    held_bytes: int


def loss_cost(request: PlanRequest, head_grad_bytes: int, stream: int) -> LossCost:
    """Return the cost of the loss, forward and backward, for a residual stream of this item size."""
    # The loss knows no rank: in its place stand the rows of one tile.
    at = At(request.tokens, 0, min(request.tokens, TILE_TOKENS))
    peak, held = _open_loss(
        request.model,
        precision_of(request, stream),
        request.fused,
        request.holds_outputs,
        head_grad_bytes,
        request.gradient_accumulation > 1,
    )
    return LossCost(peak.highest(at), at.value(held))


@lru_cache(maxsize=1024)
def _open_loss(
    spec: ModelSpec,
    precision: Precision,
    fused: bool,
    hold_outputs: bool,
    head_grad_bytes: int,
    accumulating: bool,
) -> tuple[Crests, Coefficients]:
    """Walk the loss once for all tokens and tiles: its peak, and the logits that stay held."""
    meter = CrestMeter()
    tape = Tape(meter, keep_gradients=not accumulating)
    x = tape.leaf(OPEN.tokens * spec.hidden, precision.stream, grad=True)
    ops = Ops(tape, precision, OPEN.tokens)
    held = None
    if fused:
        fused_tiles(ops, spec, x, tile_rows=OPEN.rank, head_grad_bytes=head_grad_bytes)
    else:
        held = whole_logits(ops, spec, x, hold_outputs=hold_outputs, head_grad_bytes=head_grad_bytes)
    return meter.crests(), coefficients(held.size_bytes if held is not None else 0)


def clear_walks() -> None:
    """Forget every walk that was done."""
    _open_cost.cache_clear()
    _open_loss.cache_clear()
