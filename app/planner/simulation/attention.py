"""The attention kernels, simulated: what each keeps for the backward pass and what its backward pass needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.planner.simulation.autograd import PASS, Tensor
from app.planner.simulation.ops import Ops

Kernel = Literal["flash", "efficient", "eager", "bloom"]


@dataclass(frozen=True)
class AttentionShape:
    """Describe one attention call: `tokens` in rows of `length`; `masked` when a full mask is passed."""

    tokens: int
    length: int
    heads: int
    kv_heads: int
    masked: bool
    dropout: float = 0.0
    sinks: bool = False
    softcap: bool = False

    @property
    def scores(self) -> int:
        """Return the elements of the full score matrix."""
        return self.heads * self.tokens * self.length

    @property
    def groups(self) -> int:
        """Return how many query heads share one key-value head."""
        return self.heads // self.kv_heads


def attend(ops: Ops, kernel: Kernel, shape: AttentionShape, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return the attention output of query, key and value (each rows x length x its heads)."""
    if kernel in ("eager", "bloom"):
        return (_with_sinks if shape.sinks else _eager)(ops, shape, query, key, value)
    query, key, value = ops.compute_cast(query), ops.compute_cast(key), ops.compute_cast(value)
    if kernel == "efficient":
        key, value = expand(ops, key, shape), expand(ops, value, shape)
        return _efficient(ops, shape, query, key, value)
    return _flash(ops, shape, query, key, value)


def expand(ops: Ops, x: Tensor, shape: AttentionShape) -> Tensor:
    """Repeat key or value heads up to the number of query heads: a copy; the gradient is summed back."""
    if shape.groups == 1:
        return x
    return ops.autograd.apply((x,), x.elements * shape.groups, x.itemsize, grads=(x.size_bytes,))


def _log_sums(ops: Ops, shape: AttentionShape) -> Tensor:
    """Allocate the fp32 log-sum-exp of every query."""
    return ops.buffer(4 * shape.heads * shape.tokens)


def _output_elements(query: Tensor, value: Tensor, shape: AttentionShape) -> int:
    """Return the elements of the output: every query head with the width of a value head."""
    return value.elements * shape.heads // shape.kv_heads if value.elements < query.elements else query.elements


def _flash(ops: Ops, shape: AttentionShape, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend with the flash kernel: it keeps its inputs, its output and one number a query.

    Its backward pass accumulates the query's gradient in fp32 and, with grouped heads, expands those of key and value
    (pytorch/aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp, mha_bwd).
    """
    log_sums = _log_sums(ops, shape)
    scratch = 4 * query.elements + log_sums.size_bytes
    if shape.groups > 1:
        scratch += (key.size_bytes + value.size_bytes) * shape.groups
    output = ops.autograd.apply(
        (query, key, value),
        value.elements * shape.groups,
        query.itemsize,
        saved=(query, key, value, log_sums),
        backward_scratch_bytes=scratch,
    )
    return _save_own_output(output)


def _efficient(ops: Ops, shape: AttentionShape, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend with the memory-efficient kernel; a boolean mask is turned into one of the query's item size.

    Its backward pass needs one number a query and, for 2-byte inputs, an fp32 accumulator of the query's size
    (pytorch/aten/src/ATen/native/transformers/cuda/attention_backward.cu).
    """
    log_sums = _log_sums(ops, shape)
    saved = [query, key, value, log_sums]
    if shape.masked:
        saved.append(ops.buffer(query.itemsize * shape.tokens * shape.length))
    scratch = log_sums.size_bytes + (4 * query.elements if query.itemsize == 2 else 0)
    output = ops.autograd.apply(
        (query, key, value), value.elements, query.itemsize, saved=saved, backward_scratch_bytes=scratch
    )
    return _save_own_output(output)


def _save_own_output(output: Tensor) -> Tensor:
    """Let the operation keep its own output for the backward pass."""
    if output.node is not None and output.node.saved is not None:
        output.node.saved = (*output.node.saved, output.storage)
    return output


def _eager(ops: Ops, shape: AttentionShape, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend with whole score matrices: scores, scaling, mask, an fp32 softmax, and its product with the values.

    The CUDA backward pass of softmax multiplies gradient and output into a temporary of its own
    (pytorch/aten/src/ATen/native/cuda/SoftMax.cu, softmax_backward_cuda_out).
    """
    autograd = ops.autograd
    key, value = expand(ops, key, shape), expand(ops, value, shape)
    query, key = ops.compute_cast(query), ops.compute_cast(key)
    itemsize = query.itemsize
    scores = autograd.apply((query, key), shape.scores, itemsize, saved=(query, key))
    scores = ops.scale(scores)
    if shape.softcap:
        scores = ops.scale(scores)
        scores = _save_own_output(autograd.apply((scores,), scores.elements, itemsize))
        scores = ops.scale(scores)
    masked = autograd.apply((scores,), shape.scores, itemsize, grads=(PASS,))
    del scores
    if not ops.precision.fused_softmax:
        # Only fp16 is widened inside the CUDA kernel; bf16 scores are copied to fp32 first (SoftMax.cpp, softmax).
        masked = ops.cast(masked, 4)
    soft = autograd.apply((masked,), shape.scores, 4, backward_scratch_bytes=4 * shape.scores)
    soft = _save_own_output(soft)
    del masked
    weights = ops.cast(soft, itemsize)
    del soft
    weights = ops.dropout(weights, shape.dropout)
    value = ops.compute_cast(value)
    output = autograd.apply((weights, value), query.elements, itemsize, saved=(weights, value))
    # The heads are moved beside each other: a copy.
    return autograd.apply((output,), output.elements, itemsize, grads=(PASS,))


def _with_sinks(ops: Ops, shape: AttentionShape, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend with whole score matrices and a sink a head: one more column, whose share of the softmax is dropped again.

    The softmax stays in the scores' format, which is given with the call, so autocast does not widen it; the product
    with the values reads it without the column where it lies (transformers 5.23, models/gpt_oss/modeling_gpt_oss.py,
    eager_attention_forward).
    """
    autograd = ops.autograd
    key, value = expand(ops, key, shape), expand(ops, value, shape)
    query, key, value = ops.compute_cast(query), ops.compute_cast(key), ops.compute_cast(value)
    itemsize, wider = query.itemsize, shape.scores + shape.heads * shape.tokens
    scores = ops.scale(autograd.apply((query, key), shape.scores, itemsize, saved=(query, key)))
    masked = autograd.apply((scores,), shape.scores, itemsize, grads=(PASS,))
    del scores
    joined = autograd.apply((masked,), wider, itemsize, grads=(PASS,))
    largest = autograd.apply((joined,), shape.heads * shape.tokens, itemsize, grads=(joined.size_bytes,))
    shifted = autograd.apply((joined, largest), wider, itemsize, grads=(PASS, joined.size_bytes))
    del joined, largest
    soft = _save_own_output(autograd.apply((shifted,), wider, itemsize, backward_scratch_bytes=itemsize * wider))
    weights = ops.slice(soft, shape.scores)
    del masked, soft
    output = autograd.apply((weights, value), query.elements, itemsize, saved=(weights, value))
    del shifted
    return autograd.apply((output,), output.elements, itemsize, grads=(PASS,))
