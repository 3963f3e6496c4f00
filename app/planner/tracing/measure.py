"""The costs of a model found by traces: counts from the whole model, polynomials from a shallow one.

Imports torch: for the tracing child only.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from app.planner.request import PlanRequest
from app.planner.simulation.step import Resident
from app.planner.tracing import cuda_stubs
from app.planner.tracing.costs import (
    GraphTrace,
    LayerTrace,
    ModelCounts,
    StepTrace,
    TrainedTensors,
    region,
    span,
)
from app.planner.tracing.models import (
    Decoder,
    build,
    chunks,
    expert_stacks,
    four_bit_names,
    layers_of,
    refused,
    refusing,
    shallow,
)
from app.planner.tracing.polynomials import ZERO, Fit, Point, points_for
from app.planner.tracing.timeline import Segment, record
from app.planner.tracing.worker import recompute_layers, store_weights, with_adapter

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# Settings of a configuration that say from which row length on attention takes another course.
_WINDOWS = ("sliding_window", "attention_chunk_size", "local_attention", "index_topk", "attention_window_size")
_COUNTED_AT_RANK = 8
_Progress = Callable[[float], None]


def decoder_of(request: PlanRequest) -> Decoder:
    """Return the request's decoder on the meta device. Raises PlanError that says why it cannot be had."""
    dtype = request.trained_dtype if request.method == "full" else request.dtype
    kernel = "eager" if request.attn == "eager" else "sdpa"
    return build(request.model.config, request.model.name, DTYPES[dtype], kernel)


def counts(decoder: Decoder, dtype: torch.dtype) -> ModelCounts:
    """Return what a model's parameters count."""
    model, config = decoder.model, decoder.model.config.get_text_config(decoder=True)
    converted = four_bit_names(model)
    layers = layers_of(model, decoder.layers)
    linear = [name for one in layers for name, part in one.named_modules() if isinstance(part, (nn.Linear, Conv1D))]
    parameters = list(model.parameters())
    windows = {value for name in _WINDOWS if isinstance(value := getattr(config, name, None), int) and value > 1}
    return ModelCounts(
        parameters=sum(one.numel() for one in parameters),
        converted=sum(model.get_submodule(name).weight.numel() for name in converted),
        experts=sum(one.numel() for one in expert_stacks(model)),
        wide=sum(one.numel() for one in parameters if one.dtype == torch.float32 != dtype),
        buffers=sum(one.numel() * one.element_size() for one in model.buffers()),
        hidden=int(config.hidden_size),
        vocab=int(config.vocab_size),
        positions=int(getattr(config, "max_position_embeddings", 0) or 0),
        kinds=decoder.kinds,
        chunks=chunks(decoder),
        modules=tuple(dict.fromkeys(name.rpartition(".")[2] for name in linear)),
        windows=tuple(sorted(windows)),
    )


def trained(request: PlanRequest, decoder: Decoder) -> tuple[tuple[TrainedTensors, ...], int]:
    """Return what the request trains of the whole model, and the first layer with something to train."""
    model = copy.deepcopy(decoder.model)
    if request.method != "full":
        model.requires_grad_(False)
        plain = request.changed(method="lora", quant="none", rank=_COUNTED_AT_RANK)
        with torch.device("meta"):
            model = _adapted(plain, model)
    found: Counter[tuple[int, int, bool]] = Counter()
    for name, one in model.named_parameters():
        if one.requires_grad:
            low_rank = "lora_" in name and "magnitude" not in name
            sizes = (0, one.numel() // _COUNTED_AT_RANK) if low_rank else (one.numel(), 0)
            found[(*sizes, "lora_A" in name)] += 1
    layers = layers_of(model, decoder.layers)
    active = [any(one.requires_grad for one in layer.parameters()) for layer in layers]
    if not any(active):
        raise refused(request.model.name, "its layers have no module that an adapter can be put on", "Name targets")
    tensors = tuple(TrainedTensors(fixed, each, count, side) for (fixed, each, side), count in found.items())
    return tensors, active.index(True)


def _adapted(request: PlanRequest, model: Any) -> Any:
    """Put the adapter on a model. Raises PlanError with PEFT's reason where it cannot."""
    with refusing(request.model.name, "PEFT cannot adapt it", "Name other target modules"):
        return with_adapter(request, model)


def step_trace(
    request: PlanRequest, decoder: Decoder, windows: Sequence[int], first: int, progress: _Progress = lambda _: None
) -> StepTrace:
    """Return one step of the request's graph, for row lengths of the same region."""
    chosen = _chosen(decoder, first)
    length = request.tokens if request.packed else request.seq_len
    rows = 1 if request.packed else min(request.sequences, 2)
    points = points_for(rows, span(windows, length))
    base = shallow(decoder, chosen)
    traces = []
    # Every moment has the weight unpacked, and none the loss's tile: both follow the tokens in steps.
    cuda_stubs.StandInLinear4bit.fused_rows, before = 0, cuda_stubs.StandInLinear4bit.fused_rows
    cuda_stubs.FusedHead.tiled = False
    try:
        for number, point in enumerate(points):
            traces.append(_at(request, decoder, base, point))
            progress((number + 1) / len(points))
    finally:
        cuda_stubs.StandInLinear4bit.fused_rows = before
        cuda_stubs.FusedHead.tiled = True
    return _fitted(Fit(points), traces, [decoder.kinds[index] for index in chosen], first, max(decoder.kinds) + 1)


def _chosen(decoder: Decoder, first: int) -> tuple[int, ...]:
    """Return the layers up to the first that trains, and the last one after it of each kind; the very last twice.

    What the last layer of a model lets go cannot be seen, so that no kind is measured in its place.
    """
    last = {kind: index for index, kind in enumerate(decoder.kinds) if index > first}
    rest = sorted(last.values())
    chosen = (*range(first + 1), *rest, *rest[-1:])
    depth = len(decoder.kinds)
    return chosen if len(chosen) <= depth else tuple(range(depth))


class _Trace:
    """The segments of one step by name, with what each layer trains, in bytes."""

    def __init__(self, segments: Sequence[Segment], gradients: Sequence[int]) -> None:
        self.by_name: Mapping[str, Segment] = {one.name: one for one in segments}
        self.gradients = gradients

    def start(self, name: str) -> int:
        return self.by_name[name].start

    @property
    def resident(self) -> int:
        return self.start("in")


def _at(request: PlanRequest, decoder: Decoder, base: Any, point: Point) -> _Trace:
    """Trace the shallow model at one point."""
    packed = request.packed
    here = request.changed(
        micro_batch=point.rows, seq_len=point.length, rank=point.rank, packed=packed, objective="sft"
    )
    model = prepared(here, copy.deepcopy(base))
    gradients = [
        sum(one.numel() * one.element_size() for one in layer.parameters() if one.requires_grad)
        for layer in layers_of(model, decoder.layers)
    ]
    return _Trace(record(here, model, decoder.layers), gradients)


def prepared(request: PlanRequest, model: Any) -> Any:
    """Return a model on the meta device as the profile's trainer makes it: stored, prepared, with its adapter."""
    with torch.device("meta"):
        store_weights(request, model)
        if request.has_adapter:
            model = _adapted(request, model)
    try:
        recompute_layers(request, model)
    except ValueError as error:
        why = "transformers cannot recompute its layers (gradient checkpointing)"
        raise refused(request.model.name, why, "Set checkpointing to none") from error
    return model.train()


def _fitted(fit: Fit, traces: Sequence[_Trace], chosen: Sequence[int], first: int, kinds: int) -> StepTrace:
    """Return polynomials for what the traces saw."""
    places = range(len(chosen))
    layers = [_layer(fit, traces, place, len(chosen), first) for place in places]
    by_kind = {kind: layers[place] for place, kind in reversed(list(enumerate(chosen))) if place > first}
    kept = [sum(_kept(trace, place) for place in places if place > first) for trace in traces]
    passing = [sum(_forward_kept(trace, place, len(chosen)) for place in places) for trace in traces]
    forward_end = [trace.start("f0") + size for trace, size in zip(traces, passing, strict=True)]
    backward = [trace.resident + size for trace, size in zip(traces, kept, strict=True)]
    after = [sum(trace.gradients[first + 1 :]) for trace in traces]
    level = [trace.start(f"b{first}") - trace.resident - size for trace, size in zip(traces, after, strict=True)]
    return StepTrace(
        start=_moments(fit, traces, "in", [trace.resident for trace in traces]),
        before=fit.terms([trace.start("f0") - trace.resident for trace in traces]),
        first=tuple(layers[: first + 1]),
        kinds=tuple(by_kind.get(kind) for kind in range(kinds)),
        norm=_moments(fit, traces, "loss", forward_end),
        head=_moments(fit, traces, "head", forward_end),
        back=_moments(fit, traces, "back", backward),
        tail=_moments(fit, traces, "tail", backward),
        level=fit.terms(level),
    )


def _moments(fit: Fit, traces: Sequence[_Trace], name: str, levels: Sequence[int]) -> tuple[Any, ...]:
    """Return the moments of a segment above the level of each trace; none where the step has no such segment."""
    if name not in traces[0].by_name:
        return ()
    found = [trace.by_name[name] for trace in traces]
    heights = [[height - level for height in one.heights] for one, level in zip(found, levels, strict=True)]
    return fit.highest(heights, [one.operations for one in found])


def _layer(fit: Fit, traces: Sequence[_Trace], place: int, count: int, first: int) -> LayerTrace:
    """Return the polynomials of one layer of the shallow model."""
    forward = [_forward_kept(trace, place, count) for trace in traces]
    kept = [_kept(trace, place) for trace in traces] if place > first else forward
    passing = [a - b for a, b in zip(forward, kept, strict=True)]
    backward = (
        _moments(fit, traces, f"b{place}", [trace.start(f"b{place}") for trace in traces]) if (place >= first) else ()
    )
    return LayerTrace(
        forward=_moments(fit, traces, f"f{place}", [trace.start(f"f{place}") for trace in traces]),
        kept=fit.terms(kept),
        passing=fit.terms(passing) if any(passing) else ZERO,
        backward=backward,
        gradients=fit.terms([trace.gradients[place] for trace in traces]),
    )


def _forward_kept(trace: _Trace, place: int, count: int) -> int:
    """Return what stays of a layer until the forward pass ends.

    What a layer was given is let go after its end, unless it is needed again; after the last layer nobody sees when,
    so it is taken from the layer before.
    """
    if place + 1 < count:
        return trace.start(f"f{place + 1}") - trace.start(f"f{place}")
    own = trace.by_name[f"f{place}"]
    released = 0
    if place:
        before = trace.by_name[f"f{place - 1}"]
        released = before.end - before.start - _forward_kept(trace, place - 1, count)
    return own.end - own.start - released


def _kept(trace: _Trace, place: int) -> int:
    """Return what a layer keeps until its backward pass, which lets it go and leaves gradients."""
    return trace.start(f"b{place}") - trace.start(f"b{place - 1}") + trace.gradients[place]


def graph_trace(
    request: PlanRequest, decoder: Decoder, windows: Sequence[int], progress: _Progress = lambda _: None
) -> GraphTrace:
    """Return what the request trains and its step, for row lengths of its region."""
    tensors, first = trained(request, decoder)
    length = request.tokens if request.packed else request.seq_len
    step = step_trace(request, decoder, windows, first, progress)
    return replace(GraphTrace(tensors), steps={region(windows, length): step})


def whole_peak(request: PlanRequest, decoder: Decoder, held: Resident) -> int:
    """Return the peak of live tensors of the step of the whole model, traced at its full depth: the polynomials' check.

    `held` is what is resident; the trace brings its own weights and adapters.
    """
    model = prepared(request, copy.deepcopy(decoder.model))
    segments = record(request, model, decoder.layers, 2 if request.gradient_accumulation > 1 else 1)
    peak = max(max(one.heights) for one in segments)
    resting = segments[-1].end + held.step_scratch
    return max(peak, resting) + held.states + held.constants
