"""The planner's answer: what a run needs at its highest moment, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from app.catalog.modules import total_parameters
from app.planner.correction import corrected
from app.planner.parts.kv_cache import cache_bytes, growth_bytes, last_logits_bytes, prefill
from app.planner.parts.overhead import allocator_gap_bytes, context_bytes, free_bytes
from app.planner.parts.weights import ITEMSIZE, weights_at_rest
from app.planner.request import PlanRequest
from app.planner.simulation.adapter import adapter_parameters
from app.planner.simulation.step import CUBLAS_WORKSPACE_BYTES, Moment, Resident, moments, overlap_bytes, resident
from app.planner.tracing import composition
from app.planner.warnings import warnings_for

PART_KEYS = (
    "base_weights",
    "adapter_weights",
    "gradients",
    "optimizer",
    "activations",
    "logits",
    "scratch",
    "kv_cache",
    "cuda_context",
    "allocator_reserve",
)
"""The parts in the order in which they are stacked and shown; their colours follow this order everywhere."""

Basis = Literal["measured", "traced", "simulated", "formula"]
_RESERVED_LATE = ("cuda_context", "allocator_reserve")


@dataclass(frozen=True)
class Part:
    """Hold one segment of the stacked bar."""

    key: str
    size_bytes: int


@dataclass(frozen=True)
class Plan:
    """Hold the answer to one request; all sizes in bytes. `peak_moment` says when the peak occurs."""

    request: PlanRequest
    parts: Mapping[str, int]
    trainable_params: int
    total_params: int
    peak_moment: str
    free_bytes: int | None = None
    largest: Mapping[str, int | None] | None = None
    basis: Basis = "formula"
    warnings: tuple[str, ...] = field(default=())

    @property
    def allocated_peak(self) -> int:
        """Return the peak of live tensors, as torch.cuda.max_memory_allocated counts."""
        return sum(size for key, size in self.parts.items() if key not in _RESERVED_LATE)

    @property
    def reserved_peak(self) -> int:
        """Return the peak that the caching allocator holds."""
        return self.allocated_peak + self.parts["allocator_reserve"]

    @property
    def device_peak(self) -> int:
        """Return what the process takes of the card."""
        return self.reserved_peak + self.parts["cuda_context"]

    @property
    def fits(self) -> bool | None:
        """Tell whether the peak stays within the free memory; None when no card is given."""
        return None if self.free_bytes is None else self.device_peak <= self.free_bytes

    @property
    def display(self) -> tuple[Part, ...]:
        """Return the parts in drawing order, empty ones left out."""
        return tuple(Part(key, self.parts[key]) for key in PART_KEYS if self.parts[key])

    def to_json(self) -> dict[str, object]:
        """Return the answer as `plan --json` prints it."""
        return {
            "parts": {key: self.parts[key] for key in PART_KEYS},
            "allocated_peak": self.allocated_peak,
            "reserved_peak": self.reserved_peak,
            "device_peak": self.device_peak,
            "trainable_params": self.trainable_params,
            "total_params": self.total_params,
            "fits": self.fits,
            "free_bytes": self.free_bytes,
            "largest": dict(self.largest) if self.largest is not None else None,
            "basis": self.basis,
            "warnings": list(self.warnings),
        }


@lru_cache(maxsize=8192)
def estimate(request: PlanRequest) -> Plan:
    """Return the plan without the largest settings that fit."""
    found, moment, trainable, overlap, total = _parts(request)
    parts = corrected(found, request.correction)
    live = sum(parts.values())
    parts["allocator_reserve"] = allocator_gap_bytes(request, live - parts["base_weights"], overlap)
    parts["cuda_context"] = context_bytes(request)
    return Plan(
        request=request,
        parts=MappingProxyType({key: parts.get(key, 0) for key in PART_KEYS}),
        trainable_params=trainable,
        total_params=total + (trainable if request.has_adapter else 0),
        peak_moment=moment,
        free_bytes=free_bytes(request),
        basis="measured" if request.correction else "simulated" if request.model.simulated else "formula",
        warnings=tuple(warnings_for(request)),
    )


_Parts = tuple[dict[str, int], str, int, int, int]
"""Parts, name of the highest moment, trained parameters, overlap of humps, all parameters of the model."""


def _parts(request: PlanRequest) -> _Parts:
    if request.model.simulated and request.is_training:
        return _simulated(request)
    if request.model.simulated:
        return _simulated_inference(request)
    return _training(request) if request.is_training else _inference(request)


def _simulated(request: PlanRequest) -> _Parts:
    """Return the parts of training a model whose step was traced."""
    model = composition.traced_model(request)
    held = composition.resident(request, model)
    found = list(composition.moments(request, model, held))
    peak = max(found, key=lambda moment: moment.total_bytes)
    parameters = model.counts.parameters
    return _training_parts(held, peak), peak.name, held.trainable, overlap_bytes(found), parameters


def _simulated_inference(request: PlanRequest) -> _Parts:
    """Return the parts of inference with a model whose cache was traced: as `_inference`, without its formulas."""
    counts, found = composition.traced_inference(request)
    rows = request.columns * request.micro_batch
    tensors = ((one.elements(request.rank), one.count) for one in found.trained)
    adapter = sum(elements * count for elements, count in tensors)
    kept = found.cache_bytes(request.seq_len)
    # One more token: the cache grows by copying one layer's keys or values at a time.
    growth = max(layer.size_bytes(request.seq_len) // layer.count for layer in found.layers)
    parts = {
        "base_weights": composition.weights_bytes(request, counts),
        "adapter_weights": (request.columns - 1) * adapter * 2,
        "activations": int(found.reading + found.reading_per_token * rows * request.seq_len),
        "logits": rows * counts.vocab * (ITEMSIZE[request.dtype] + 4),
        "scratch": rows * growth + CUBLAS_WORKSPACE_BYTES // 2,
        "kv_cache": rows * kept,
    }
    return parts, "reading the prompt", 0, 0, counts.parameters


def _training(request: PlanRequest) -> _Parts:
    """Return the parts of training at the highest moment of a step."""
    held = resident(request)
    found = list(moments(request, held))
    peak = max(found, key=lambda moment: moment.total_bytes)
    total = total_parameters(request.model)
    return _training_parts(held, peak), peak.name, held.trainable, overlap_bytes(found), total


def _training_parts(held: Resident, peak: Moment) -> dict[str, int]:
    return {
        "base_weights": held.weights,
        "adapter_weights": held.trained,
        "gradients": peak.gradients,
        "optimizer": held.states,
        "activations": peak.activations + held.constants - CUBLAS_WORKSPACE_BYTES,
        "logits": peak.logits,
        "scratch": peak.scratch + CUBLAS_WORKSPACE_BYTES,
    }


def _inference(request: PlanRequest) -> _Parts:
    """Return the parts of inference: every column at full length, one adapter for each column but the base's."""
    adapters = request.columns - 1
    adapter = adapter_parameters(request.model, request.rank, request.targets, request.dora) if adapters else 0
    reading = prefill(request)
    return (
        {
            "base_weights": weights_at_rest(request).total_bytes,
            "adapter_weights": adapters * adapter * 2,
            "activations": reading[0],
            "logits": last_logits_bytes(request),
            "scratch": max(reading[2], growth_bytes(request)) + CUBLAS_WORKSPACE_BYTES // 2,
            "kv_cache": cache_bytes(request),
        },
        "reading the prompt",
        0,
        0,
        total_parameters(request.model),
    )
