"""From the last layer's output to its gradient: final norm, output head, cross-entropy; whole logits or tiles."""

from __future__ import annotations

from app.catalog.spec import ModelSpec
from app.planner.simulation.autograd import Kind, Storage, Tensor
from app.planner.simulation.ops import Ops

# TRL 1.16, trl/kernels/chunked_logprob.py: tokens and vocabulary columns of one tile of the fused output head.
TILE_TOKENS = 4096
TILE_COLUMNS = 32_768
# fp32 numbers a token that the fused head keeps while it runs (running maximum, sums, targets, log-probability).
_VECTORS = 10
# 4.5 numbers of 4 bytes for each logit of both sides.
_ORPO_BYTES = 18


def final_norm(ops: Ops, spec: ModelSpec, x: Tensor) -> Tensor:
    """Apply the model's last norm."""
    if spec.norm == "rms":
        return ops.rms_norm(
            x, rows=ops.tokens, upcast_weight=spec.family in ("gemma", "gemma2", "gemma3_text", "olmo2")
        )
    if spec.norm == "plain":
        return ops.plain_norm(x, rows=ops.tokens)
    return ops.layer_norm(x, rows=ops.tokens)


def whole_logits(ops: Ops, spec: ModelSpec, x: Tensor, *, hold_outputs: bool, head_grad_bytes: int) -> Tensor | None:
    """Run head and loss with all logits, then the backward pass down to the gradient of `x`.

    The logits are upcast to fp32; log-softmax keeps its result; its backward pass holds result, incoming and outgoing
    gradient at once (transformers 5.23 ForCausalLMLoss). Returns the logits when the caller holds the outputs.
    """
    autograd = ops.autograd
    hidden = ops.compute_cast(final_norm(ops, spec, x))
    elements = ops.tokens * spec.vocab
    logits = autograd.apply(
        (hidden,), elements, hidden.itemsize, saved=(hidden,) if head_grad_bytes else (), kind=Kind.LOGITS
    )
    if logits.node is not None:
        logits.node.kept_bytes = head_grad_bytes
    del hidden
    if spec.logit_softcap:
        logits = autograd.apply((logits,), elements, logits.itemsize, kind=Kind.LOGITS)
        logits = autograd.apply((logits,), elements, logits.itemsize, kind=Kind.LOGITS)
        if logits.node is not None:
            logits.node.saved = (logits.storage,)
        logits = autograd.apply((logits,), elements, logits.itemsize, kind=Kind.LOGITS)
    wide = ops.cast(logits, 4)
    log_probabilities = autograd.apply((wide,), elements, 4, kind=Kind.LOGITS)
    if log_probabilities.node is not None:
        log_probabilities.node.saved = (log_probabilities.storage,)
    held = logits if hold_outputs else None
    del wide, logits
    output = log_probabilities
    del log_probabilities
    gradient = Storage(autograd.meter, 4 * elements, Kind.LOGITS)
    output.storage = gradient
    autograd.backward(output, gradient)
    return held


def odds_ratio(ops: Ops, spec: ModelSpec, x: Tensor, *, head_grad_bytes: int) -> None:
    """Run head and ORPO's loss with all logits of both sides, then the backward pass down to the gradient of `x`.

    Its highest moment, in the backward pass, holds 4.5 times the fp32 logits: they, the chosen half's log-softmax, and
    the gradients of cross-entropy and of the log-probabilities (TRL 1.16 ORPOTrainer under a trace, at any size).
    """
    autograd = ops.autograd
    hidden = ops.compute_cast(final_norm(ops, spec, x))
    elements = ops.tokens * spec.vocab
    logits = autograd.apply(
        (hidden,), elements, hidden.itemsize, saved=(hidden,) if head_grad_bytes else (), kind=Kind.LOGITS
    )
    if logits.node is not None:
        logits.node.kept_bytes = head_grad_bytes
    del hidden
    logits.storage = Storage(autograd.meter, 0, Kind.LOGITS)
    autograd.scratch(_ORPO_BYTES * elements, Kind.LOGITS)
    gradient = Storage(autograd.meter, logits.itemsize * elements, Kind.LOGITS)
    logits.storage = gradient
    autograd.backward(logits, gradient)


def fused_tiles(ops: Ops, spec: ModelSpec, x: Tensor, *, tile_rows: int, head_grad_bytes: int) -> None:
    """Run the fused head: one tile at a time, an fp32 gradient of the hidden states, the tile again in the backward.

    `tile_rows` is the tokens of a tile, TILE_TOKENS where there are as many.
    """
    autograd = ops.autograd
    hidden = final_norm(ops, spec, x)
    compact = autograd.apply((hidden,), hidden.elements, hidden.itemsize)
    del hidden
    tile_bytes = 2 * tile_rows * TILE_COLUMNS
    # fp32 heads are cast tile by tile; so are fp32 hidden states, one tile of tokens at a time.
    casts = (2 * TILE_COLUMNS * spec.hidden if ops.precision.base == 4 else 0) + (
        2 * tile_rows * spec.hidden if compact.itemsize == 4 else 0
    )
    vectors = ops.buffer(4 * _VECTORS * ops.tokens, Kind.LOGITS)
    autograd.scratch(tile_bytes + casts, Kind.LOGITS)
    fp32_gradient = 4 * compact.elements + (4 * spec.vocab * spec.hidden if head_grad_bytes else 0)
    loss = autograd.apply((compact,), 1, 4, saved=(compact,))
    del compact
    if loss.node is None:
        return
    loss.node.kept_bytes = head_grad_bytes
    meter = autograd.meter
    working = Storage(meter, fp32_gradient + tile_bytes + casts, Kind.LOGITS)
    del working
    # The fp32 gradient is cast to the hidden states' item size while the tile is still alive.
    meter.add(fp32_gradient, Kind.LOGITS)
    meter.add(tile_bytes, Kind.LOGITS)
    if loss.node.edges[0] is not None:
        autograd.scratch(loss.node.grads[0], Kind.LOGITS)
    meter.drop(fp32_gradient, Kind.LOGITS)
    meter.drop(tile_bytes, Kind.LOGITS)
    autograd.backward(loss, Storage(meter, 4, Kind.LOGITS))
    del vectors
