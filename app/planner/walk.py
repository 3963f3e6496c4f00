"""One layer walked forward and backward on the tape: what it peaks at, what it keeps, what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from app.catalog.modules import layer_modules
from app.catalog.spec import ModelSpec
from app.planner.adapter import is_target
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
    """

    forward: Split
    kept: Split
    backward: Split
    gradients: int


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
    )


def kernel_of(request: PlanRequest) -> Kernel:
    """Return the attention kernel that will run.

    The classic measurements pin the memory-efficient kernel. Elsewhere SDPA takes the flash kernel when no mask is
    passed, and the memory-efficient one for masks (padding, packing) and for fp32.
    """
    if request.model.family == "bloom" or request.attn == "eager":
        return "eager"
    if request.attn == "flash":
        return "flash"
    if request.profile == "peft-classic" or request.dtype == "fp32" or is_masked(request):
        return "efficient"
    return "efficient" if _kernel_head_dim(request.model) > 256 or request.model.latent else "flash"


def _kernel_head_dim(spec: ModelSpec) -> int:
    return spec.latent.query_dim if spec.latent else spec.head_dim


def is_masked(request: PlanRequest) -> bool:
    """Tell whether a full attention mask is passed: for packed rows, and for several rows padded to one length."""
    if request.profile == "peft-classic":
        return False
    return request.packed or request.micro_batch > 1


def shape_of(request: PlanRequest) -> AttentionShape:
    """Return the attention call of one layer; packed rows are one long row."""
    spec = request.model
    rows, length = (1, request.tokens) if request.packed else (request.micro_batch, request.seq_len)
    expanded = spec.latent is not None or (spec.family == "falcon" and spec.kv_heads > 1)
    return AttentionShape(
        rows=rows,
        length=length,
        heads=spec.heads,
        kv_heads=spec.heads if expanded else spec.kv_heads,
        masked=is_masked(request),
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
        if request.has_adapter and is_target(module, request.targets)
    )
    return LinearPolicy(
        storage=request.storage,
        convertible=spec.linear_class != "own",
        rank=request.rank,
        dora=request.dora,
        dropout=request.lora_dropout,
        adapted=adapted,
        trained=request.method == "full",
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


def layer_cost(request: PlanRequest, index: int, *, recompute: bool) -> LayerCost:
    """Return the cost of layer `index`, recomputed in the backward pass or not."""
    spec = request.model
    key = _WalkKey(
        spec=spec,
        moe=spec.is_moe_layer(index),
        kernel=kernel_of(request),
        shape=shape_of(request),
        policy=policy_of(request, index),
        precision=precision_of(request),
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
    if key.recompute:
        kept = (x.size_bytes, 0, 0, 0)
        del output
        tape = Tape(meter, keep_gradients=not key.accumulating)
        x = _with_gradient(tape, x)
        gradient = Storage(meter, size * key.precision.stream, Kind.ACTIVATION)
        meter.restart_peak()
        output = Layer(Ops(tape, key.precision, key.tokens), plan).run(x)
        del x
    else:
        del x
        kept = _minus(_split(meter), output.size_bytes)
        output.storage = Storage(meter, 0, Kind.ACTIVATION)
        gradient = Storage(meter, size * key.precision.stream, Kind.ACTIVATION)
        meter.restart_peak()
    output.storage = gradient
    tape.backward(output, gradient)
    gradients = sum(storage.size_bytes for storage in tape.kept)
    return LayerCost(forward, kept, meter.peak_split, gradients)


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


def loss_cost(request: PlanRequest, head_grad_bytes: int) -> LossCost:
    """Return the cost of the loss, forward and backward."""
    return _loss(
        request.model,
        request.tokens,
        precision_of(request),
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
