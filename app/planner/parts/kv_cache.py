"""Memory of inference: the key-value cache, and the prefill that fills it."""

from __future__ import annotations

from app.catalog.spec import ModelSpec
from app.planner.parts.weights import ITEMSIZE
from app.planner.request import PlanRequest
from app.planner.simulation.autograd import Autograd, BytesByKind, Meter
from app.planner.simulation.decoder_layer import Layer, LayerPlan
from app.planner.simulation.layer_cost import dims_of, kernel_of, policy_of, shape_of
from app.planner.simulation.ops import Ops, Precision


def layer_cache_bytes(spec: ModelSpec, index: int, rows: int, length: int, itemsize: int) -> int:
    """Return the cached keys and values of layer `index`.

    A windowed layer keeps its window. Layers that share another layer's cache keep nothing. Latent attention is stored
    expanded, as transformers does.
    """
    if index >= spec.layers - spec.kv_shared_layers:
        return 0
    kept = min(length, spec.sliding_window or length) if spec.kind(index) == "sliding" else length
    if spec.latent:
        width = spec.heads * (spec.latent.query_dim + spec.latent.value_dim)
    else:
        width = 2 * (spec.heads if spec.family == "falcon" and spec.kv_heads > 1 else spec.kv_heads) * spec.head_dim
    return rows * kept * width * itemsize


def cache_bytes(request: PlanRequest) -> int:
    """Return the whole key-value cache with every column at full length."""
    itemsize = ITEMSIZE[request.dtype]
    rows = request.columns * request.micro_batch
    layers = range(request.model.layers)
    return sum(layer_cache_bytes(request.model, index, rows, request.seq_len, itemsize) for index in layers)


def growth_bytes(request: PlanRequest) -> int:
    """Return what one more token needs: the cache grows by copying one layer's keys or values at a time."""
    itemsize = ITEMSIZE[request.dtype]
    rows = request.columns * request.micro_batch
    layers = range(request.model.layers)
    return max(layer_cache_bytes(request.model, index, rows, request.seq_len, itemsize) for index in layers)


def prefill(request: PlanRequest) -> BytesByKind:
    """Return the peak of one layer while the whole prompt is read, without gradients."""
    spec = request.model
    rows = request.columns * request.micro_batch
    wide = request.changed(micro_batch=rows, columns=1)
    meter = Meter()
    autograd = Autograd(meter, recording=False)
    itemsize = ITEMSIZE[request.dtype]
    precision = Precision(False, itemsize, itemsize, itemsize, itemsize, itemsize)
    index = spec.layers - 1
    dims = dims_of(wide)
    plan = LayerPlan(
        spec, index, kernel_of(wide, index), shape_of(wide, index, dims), policy_of(wide, index, dims.rank)
    )
    x = autograd.leaf(wide.tokens * spec.hidden, itemsize)
    Layer(Ops(autograd, precision, wide.tokens, dims.unpacks), plan).run(x)
    return meter.peak_by_kind


def last_logits_bytes(request: PlanRequest) -> int:
    """Return the logits of the last position of each column, in the model's dtype and in fp32 for sampling."""
    rows = request.columns * request.micro_batch
    return rows * request.model.vocab * (ITEMSIZE[request.dtype] + 4)
