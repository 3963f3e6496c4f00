"""Linear modules in the autograd simulator: frozen, quantised, trained, and with a LoRA or DoRA adapter."""

from __future__ import annotations

from dataclasses import dataclass

from app.catalog.modules import LinearModule
from app.planner.request import Quant
from app.planner.simulation.autograd import Kind, Tensor
from app.planner.simulation.ops import Ops

# bitsandbytes 0.50 multiplies up to this many rows without dequantising the whole weight (fused GEMM).
FUSED_GEMM_ROWS = 1536


@dataclass(frozen=True)
class LinearPolicy:
    """Say how linear modules are stored and trained.

    `convertible` is false where the bitsandbytes integration leaves the modules alone. `trained` means that the
    weight itself is trained, `experts` that the routed experts' parameters carry adapters, `experts_in_4_bits` that
    each expert is dequantised when it is used, `gate_up_doubled` that their first parameter has twice the rank.
    """

    storage: Quant
    convertible: bool
    rank: int
    dora: bool
    dropout: float
    adapted: frozenset[str]
    trained: bool
    experts: bool = False
    experts_in_4_bits: bool = False
    gate_up_doubled: bool = False

    def storage_of(self, module: LinearModule) -> Quant:
        """Return how this module's weight is stored."""
        return self.storage if self.convertible else "none"


def linear(ops: Ops, x: Tensor, module: LinearModule, policy: LinearPolicy) -> Tensor:
    """Run one linear module with whatever adapter it carries."""
    if module.name in policy.adapted:
        return _adapted(ops, x, module, policy)
    return _base(ops, x, module, policy)


def _base(ops: Ops, x: Tensor, module: LinearModule, policy: LinearPolicy) -> Tensor:
    """Run the module itself."""
    storage = policy.storage_of(module)
    elements = x.elements // module.d_in * module.d_out
    if storage in ("nf4", "nf4-dq"):
        return _base_nf4(ops, x, module, elements)
    if storage == "int8":
        return _base_int8(ops, x, module, elements)
    if policy.trained:
        return _trained(ops, x, module, elements)
    x = ops.compute_cast(x)
    return ops.autograd.apply((x,), elements, x.itemsize)


def _base_nf4(ops: Ops, x: Tensor, module: LinearModule, elements: int) -> Tensor:
    """Multiply by a 4-bit weight: nothing is saved but the packed weight; the backward pass always dequantises.

    bitsandbytes 0.50: nn/modules.py Linear4bit computes in the configured dtype whatever the input is, and casts its
    output back; autograd/_functions.py MatMul4Bit.
    """
    compute = ops.precision.compute
    narrow = ops.cast(x, compute)
    dequantised = module.weights * compute
    output = ops.autograd.apply(
        (narrow,),
        elements,
        compute,
        scratch_bytes=dequantised * (ops.unpacks if compute == 2 else 1),
        backward_scratch_bytes=dequantised,
    )
    del narrow
    return ops.cast(output, x.itemsize)


def _base_int8(ops: Ops, x: Tensor, module: LinearModule, elements: int) -> Tensor:
    """Multiply by an 8-bit weight (LLM.int8): inputs are quantised for the product, the backward pass dequantises."""
    narrow = ops.cast(x, 2)
    output = ops.autograd.apply(
        (narrow,),
        elements,
        2,
        scratch_bytes=narrow.elements + 4 * elements,
        backward_scratch_bytes=2 * module.weights,
    )
    del narrow
    return ops.cast(output, x.itemsize)


def _trained(ops: Ops, x: Tensor, module: LinearModule, elements: int) -> Tensor:
    """Multiply by a trained weight: the input is saved; fp32 weights are cast once under autocast."""
    x = ops.compute_cast(x)
    saved = [x]
    copy = 0
    if ops.precision.autocast and ops.precision.base == 4:
        saved.append(ops.buffer(2 * module.weights))
        copy = 2 * module.weights
    output = ops.autograd.apply((x,), elements, x.itemsize, saved=saved, backward_scratch_bytes=copy)
    if output.node is not None:
        output.node.kept_bytes = ops.precision.base * (module.weights + module.biases)
    elif ops.autograd.recording:
        # The first layer's input wants no gradient, but its weight does.
        output.node = ops.autograd.source(
            tuple(tensor.storage for tensor in saved), ops.precision.base * module.weights
        )
    return output


def _adapted(ops: Ops, x: Tensor, module: LinearModule, policy: LinearPolicy) -> Tensor:
    """Run a module with a LoRA adapter, as peft/tuners/lora/bnb.py and layer.py do."""
    quantised = policy.storage_of(module) != "none"
    result = _base(ops, x, module, policy)
    expected = result.itemsize
    if quantised:
        result = ops.autograd.apply((result,), result.elements, result.itemsize)  # a defensive clone
    if not (quantised and ops.precision.autocast):
        x = ops.cast(x, ops.precision.adapter)
    if policy.dora:
        result = _dora(ops, x, result, module, policy)
        return result if quantised and ops.precision.autocast else ops.cast(result, expected)
    output = ops.scale(_low_rank(ops, x, module, policy))
    if quantised and not ops.precision.autocast:
        output = ops.cast(output, expected)
    result = ops.add(result, output)
    return result if quantised else ops.cast(result, expected)


def _low_rank(ops: Ops, x: Tensor, module: LinearModule, policy: LinearPolicy) -> Tensor:
    """Multiply by both low-rank factors; their inputs are saved for the factors' gradients."""
    rows = x.elements // module.d_in
    x = ops.dropout(x, policy.dropout)
    inner = _factor(ops, x, module.d_in, policy.rank, rows, policy)
    del x
    return _factor(ops, inner, policy.rank, module.d_out, rows, policy)


def _factor(ops: Ops, x: Tensor, d_in: int, d_out: int, rows: int, policy: LinearPolicy) -> Tensor:
    """Multiply by one trained factor; under autocast an fp32 factor is cast to 2 bytes once."""
    precision = ops.precision
    x = ops.compute_cast(x)
    saved = [x]
    if precision.autocast and precision.adapter == 4:
        saved.append(ops.buffer(2 * d_in * d_out))
    output = ops.autograd.apply((x,), rows * d_out, x.itemsize, saved=saved)
    if output.node is None and ops.autograd.recording:
        output.node = ops.autograd.source(tuple(tensor.storage for tensor in saved), 0)
    if output.node is not None:
        output.node.kept_bytes = precision.adapter * d_in * d_out
    return output


def _dora(ops: Ops, x: Tensor, result: Tensor, module: LinearModule, policy: LinearPolicy) -> Tensor:
    """Run DoRA (peft/tuners/lora/dora.py): the weight norm needs the whole weight, dequantised, plus its update.

    Weight and update stay in scope until the module is done; their sum and its scaled part only for a moment. The base
    result and the low-rank output are both saved for the magnitude's gradient, and the sum is as wide as the magnitude.
    """
    magnitude = ops.precision.adapter
    itemsize, product = x.itemsize, 2 if ops.precision.autocast else magnitude
    # The update is made by sending an identity matrix through both factors; its graph keeps the matrix as it was cast.
    identity = ops.autograd.leaf(module.d_in * module.d_in, magnitude, Kind.SCRATCH)
    kept = identity if product == magnitude else ops.autograd.leaf(identity.elements, product, Kind.SCRATCH)
    graph = kept if ops.autograd.recording else None
    del identity, kept
    update = ops.autograd.leaf(module.weights, itemsize, Kind.SCRATCH)
    weight = ops.autograd.leaf(module.weights, itemsize, Kind.SCRATCH)
    # First sum and scaled update; then the sum and, under autocast, its fp32 copy for the norm.
    ops.autograd.scratch(module.weights * (itemsize + max(itemsize, 4 if ops.precision.autocast else 0)))
    low_rank = _low_rank(ops, x, module, policy)
    wide = max(result.itemsize, magnitude)
    # The magnitude's gradient is summed from a product of the output's size.
    summed = wide * result.elements
    base_part = ops.autograd.apply((result,), result.elements, wide, saved=(result,), backward_scratch_bytes=summed)
    scaled = ops.autograd.apply((low_rank,), low_rank.elements, wide, saved=(low_rank,), backward_scratch_bytes=summed)
    del low_rank
    scaled = ops.scale(scaled)
    both = ops.add(base_part, scaled)
    del base_part, scaled, update, weight, graph
    return ops.add(result, both)
