"""What a model holds while it answers: the cache that its own class fills, layer by layer, and the prompt's reading.

The whole model runs forward on fake tensors over two short prompts. What each layer of its cache holds then is a part
that every conversation has once (the state of linear attention, of Mamba, of a short convolution) and one for each
token (keys and values), which a window bounds. Imports torch: for the tracing child only.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from app.planner.request import PlanRequest
from app.planner.tracing.costs import InferenceTrace, LayerMemory
from app.planner.tracing.cuda_stubs import MemoryMeter, cuda_behaviour
from app.planner.tracing.measure import trained
from app.planner.tracing.models import Decoder, refused
from app.planner.tracing.worker import masks, materialise, store_weights

# Lengths below any window, and multiples of the chunks that state-space layers work in.
_SHORT, _LONG = 256, 512


def inference_trace(request: PlanRequest, decoder: Decoder) -> InferenceTrace:
    """Return what a model holds while it answers. Raises PlanError for one whose past is of no known kind."""
    tensors, _ = trained(request.changed(method="lora", quant="none"), decoder)
    (short, low), (long, high) = (_read(request, decoder, length) for length in (_SHORT, _LONG))
    if len(short) != len(long) or not short:
        raise refused(request.model.name, "what it keeps of a prompt is of no known kind", "Plan a training method")
    found: Counter[tuple[int, int, int]] = Counter()
    for (size, window), (larger, _) in zip(short, long, strict=True):
        # A window shorter than both prompts: all that it may hold is there.
        full = bool(window) and window <= _SHORT and size == larger
        each = size // window if full else (larger - size) // (_LONG - _SHORT)
        found[(0 if full else size - each * _SHORT, each, window)] += 1
    layers = tuple(LayerMemory(count, fixed, each, window) for (fixed, each, window), count in found.items())
    per_token = (high - low) / (_LONG - _SHORT)
    return InferenceTrace(layers, max(0.0, low - per_token * _SHORT), per_token, tensors)


def _read(request: PlanRequest, decoder: Decoder, length: int) -> tuple[list[tuple[int, int]], int]:
    """Read a prompt. Return of each layer of the cache its bytes and its window (0 for none), and the peak besides."""
    model = copy.deepcopy(decoder.model)
    with torch.device("meta"):
        store_weights(request, model)
    model.eval()
    meter = MemoryMeter()
    with (
        masks(packed=False, classic=False),
        FakeTensorMode(allow_non_fake_inputs=True),
        torch.no_grad(),
    ):
        materialise(model)
        for tensor in (*model.parameters(), *model.buffers()):
            meter.register(tensor)
        inputs: dict[str, Any] = {"input_ids": torch.zeros(1, length, dtype=torch.int64)}
        if request.model.encodes:
            inputs["decoder_input_ids"] = inputs["input_ids"]
        else:
            inputs["logits_to_keep"] = 1
        resident = meter.live
        with meter, cuda_behaviour():
            outputs = model(**inputs, use_cache=True)
        layers = _layers_of_cache(outputs)
        held = [(sum(map(_bytes, _tensors(layer))), _window(layer)) for layer in layers]
        return held, meter.peak - resident - sum(size for size, _ in held)


def _layers_of_cache(outputs: Any) -> list[Any]:
    cache = getattr(outputs, "past_key_values", None)
    parts = [getattr(cache, name, None) for name in ("self_attention_cache", "cross_attention_cache")]
    caches = [part for part in parts if part is not None] or [cache]
    return [layer for one in caches for layer in getattr(one, "layers", [])]


def _window(layer: Any) -> int:
    window = getattr(layer, "sliding_window", None)
    return window if isinstance(window, int) and getattr(layer, "is_sliding", False) else 0


def _tensors(layer: Any) -> list[Tensor]:
    """Return the tensors that a layer of a cache holds, those in its lists and tables as well."""
    found: dict[int, Tensor] = {}
    waiting = list(vars(layer).values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            found[id(value)] = value
        elif isinstance(value, (list, tuple)):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
    return list(found.values())


def _bytes(tensor: Tensor) -> int:
    return int(tensor.numel() * tensor.element_size())
