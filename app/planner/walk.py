"""One layer walked forward and backward on the tape: what it peaks at, what it keeps, what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from app.catalog.modules import layer_modules
from app.catalog.spec import ModelSpec
from app.planner.adapter import adapts_experts, is_target
from app.planner.attention import AttentionShape, Kernel
from app.planner.layer import Layer, LayerPlan
from app.planner.linear import LinearPolicy
from app.planner.loss import fused_tiles, whole_logits
from app.planner.ops import Ops, Precision
from app.planner.request import PlanRequest
from app.planner.tape import Kind, Meter, Split, Storage, Tape, Tensor
from app.planner.weights import ITEMSIZE, other_itemsize


@dataclass(frozen=True)
class LayerCost:
    """Hold one layer's memory, all as bytes by kind, its own input included.

    `forward` is the highest moment of the forward pass, `kept` what stays for the backward pass, `backward` the highest
    moment of the backward pass (recomputation included) and `gradients` what its trained weights' gradients add.
    `output_itemsize` is the item size in which the next layer gets the residual stream.
    """

    forward: Split
    kept: Split
    backward: Split
    gradients: int
    output_itemsize: int


def precision_of(request: PlanRequest) -> Precision:
    """Return the item sizes in which this request computes."""
    other = other_itemsize(request)
    classic = request.profile == "peft-classic"
    return Precision(
        autocast=not classic and request.dtype != "fp32",
        stream=other,
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


def shape_of(request: PlanRequest, index: int = 0) -> AttentionShape:
    """Return the attention call of layer `index`; packed rows are one long row."""
    spec = request.model
    rows, length = (1, request.tokens) if request.packed else (request.micro_batch, request.seq_len)
    expanded = spec.latent is not None or (spec.family == "falcon" and spec.kv_heads > 1)
    return AttentionShape(
        rows=rows,
        length=length,
        heads=spec.heads,
        kv_heads=spec.heads if expanded else spec.kv_heads,
        # ALiBi's mask is one tensor of numbers for all layers; the others are converted in each call.
        masked=is_masked(request, index) and not spec.alibi,
        dropout=spec.attention_dropout,
        sinks=spec.sinks,
        softcap=spec.attention_softcap,
    )


def policy_of(request: PlanRequest, index: int) -> LinearPolicy:
    """Return how the linear modules of layer `index` are stored and trained."""
    spec = request.model
    adapted = frozenset(
        module.name
        for module in layer_modules(spec, index)
        if request.has_adapter and is_target(spec, module, request.targets)
    )
    return LinearPolicy(
        storage=request.storage,
        convertible=spec.linear_class != "own",
        rank=request.rank,
        dora=request.dora,
        dropout=request.lora_dropout,
        adapted=adapted,
        trained=request.method == "full",
        experts=request.has_adapter and adapts_experts(spec, request.targets),
    )


@dataclass(frozen=True)
class _WalkKey:
    """Hold exactly what one layer's walk depends on, so that equal walks are done once."""

    spec: ModelSpec
    moe: bool
    kernel: Kernel
    shape: AttentionShape
    policy: LinearPolicy
    precision: Precision
    tokens: int
    recompute: bool
    accumulating: bool


def layer_cost(request: PlanRequest, index: int, *, recompute: bool, stream: int) -> LayerCost:
    """Return the cost of layer `index`, recomputed in the backward pass or not, for a stream of this item size."""
    spec = request.model
    key = _WalkKey(
        spec=spec,
        moe=spec.is_moe_layer(index),
        kernel=kernel_of(request, index),
        shape=shape_of(request, index),
        policy=policy_of(request, index),
        precision=replace(precision_of(request), stream=stream),
        tokens=request.tokens,
        recompute=recompute,
        accumulating=request.gradient_accumulation > 1,
    )
    return _walk(key)


def _split(meter: Meter) -> Split:
    a, b, c, d = meter.by_kind
    return a, b, c, d


@lru_cache(maxsize=2048)
def _walk(key: _WalkKey) -> LayerCost:
    """Walk one layer forward and backward."""
    meter = Meter()
    index = key.spec.experts.dense_layers if key.moe and key.spec.experts else 0
    plan = LayerPlan(key.spec, index, key.kernel, key.shape, key.policy)
    size = key.tokens * key.spec.hidden
    tape = Tape(meter, recording=not key.recompute, keep_gradients=not key.accumulating)
    x = tape.leaf(size, key.precision.stream, grad=True)
    output = Layer(Ops(tape, key.precision, key.tokens), plan).run(x)
    forward = meter.peak_split
    output_itemsize, output_bytes = output.itemsize, output.size_bytes
    if key.recompute:
        kept = (x.size_bytes, 0, 0, 0)
        del output
        tape = Tape(meter, keep_gradients=not key.accumulating)
        x = _with_gradient(tape, x)
        gradient = Storage(meter, output_bytes, Kind.ACTIVATION)
        meter.restart_peak()
        output = Layer(Ops(tape, key.precision, key.tokens), plan).run(x)
        del x
    else:
        del x
        kept = _minus(_split(meter), output_bytes)
        output.storage = Storage(meter, 0, Kind.ACTIVATION)
        gradient = Storage(meter, output_bytes, Kind.ACTIVATION)
        meter.restart_peak()
    output.storage = gradient
    tape.backward(output, gradient)
    gradients = sum(storage.size_bytes for storage in tape.kept)
    return LayerCost(forward, kept, meter.peak_split, gradients, output_itemsize)


def _with_gradient(tape: Tape, x: Tensor) -> Tensor:
    """Return the same tensor as a leaf that wants a gradient."""
    node = tape.leaf(0, 1, grad=True).node
    return Tensor(x.storage, x.elements, x.itemsize, node)


def _minus(split: Split, activation_bytes: int) -> Split:
    return (split[0] - activation_bytes, split[1], split[2], split[3])


@dataclass(frozen=True)
class LossCost:
    """Hold the peak of final norm, head and loss, the last layer's output included, and the logits that stay held."""

    peak: Split
    held_bytes: int


def loss_cost(request: PlanRequest, head_grad_bytes: int, stream: int) -> LossCost:
    """Return the cost of the loss, forward and backward, for a residual stream of this item size."""
    return _loss(
        request.model,
        request.tokens,
        replace(precision_of(request), stream=stream),
        request.fused,
        request.holds_outputs,
        head_grad_bytes,
        request.gradient_accumulation > 1,
    )


@lru_cache(maxsize=2048)
def _loss(
    spec: ModelSpec,
    tokens: int,
    precision: Precision,
    fused: bool,
    hold_outputs: bool,
    head_grad_bytes: int,
    accumulating: bool,
) -> LossCost:
    meter = Meter()
    tape = Tape(meter, keep_gradients=not accumulating)
    x = tape.leaf(tokens * spec.hidden, precision.stream, grad=True)
    ops = Ops(tape, precision, tokens)
    if fused:
        fused_tiles(ops, spec, x, head_grad_bytes=head_grad_bytes)
        return LossCost(meter.peak_split, 0)
    held = whole_logits(ops, spec, x, hold_outputs=hold_outputs, head_grad_bytes=head_grad_bytes)
    return LossCost(meter.peak_split, held.size_bytes if held is not None else 0)


def clear_walks() -> None:
    """Forget every walk that was done."""
    _walk.cache_clear()
    _loss.cache_clear()
