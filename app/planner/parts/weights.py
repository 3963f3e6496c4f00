"""Bytes of the model's weights at rest, by how they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from app.catalog.modules import distinct_layers, expert_weights, layer_modules, linear_parameters, total_parameters
from app.catalog.spec import ModelSpec
from app.planner.request import PlanRequest, Quant

ITEMSIZE: dict[str, int] = {"bf16": 2, "fp16": 2, "fp32": 4}
NF4_BLOCK = 64
# bitsandbytes 0.50 quantize_4bit: second block of double quantisation.
_STATISTICS_BLOCK = 256


@dataclass(frozen=True)
class Weights:
    """Count what stays on the device of the frozen model."""

    converted: int
    others: int
    converted_bytes: int
    other_itemsize: int
    buffer_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """Return the bytes of all weights."""
        return self.converted_bytes + self.others * self.other_itemsize + self.buffer_bytes


@lru_cache(maxsize=1024)
def convertible_parameters(spec: ModelSpec) -> int:
    """Return the weights that the bitsandbytes integration converts: plain linear and Conv1D modules of the layers."""
    if spec.linear_class == "own":
        return 0
    return linear_parameters(spec)


@lru_cache(maxsize=1024)
def _first_layers(spec: ModelSpec, count: int) -> int:
    """Return the linear weights of the first layers, those that bitsandbytes converts."""
    if convertible_parameters(spec) == 0:
        return 0
    return sum(module.weights for index in range(min(count, spec.layers)) for module in layer_modules(spec, index))


def experts_in_4_bits(request: PlanRequest) -> bool:
    """Tell whether routed experts are stored in 4 bits: by the workbench, which bitsandbytes alone does not do."""
    return request.profile == "workbench" and request.storage in ("nf4", "nf4-dq")


def quantised_bytes(weights: int, storage: Quant) -> int:
    """Return the bytes of `weights` linear weights in a quantised storage, statistics included.

    NF4: half a byte and one fp32 maximum for 64 weights; double quantisation stores the maxima in one byte and one fp32
    for 256 of them. int8: one byte; its one fp32 scale a row is below 0.1 % and counted as a 4096th.
    """
    if storage == "nf4":
        return weights // 2 + 4 * (weights // NF4_BLOCK)
    if storage == "nf4-dq":
        return weights // 2 + weights // NF4_BLOCK + 4 * (weights // (NF4_BLOCK * _STATISTICS_BLOCK))
    if storage == "int8":
        return weights + 4 * (weights // 4096)
    raise ValueError(f"{storage} is no quantised storage")


def other_itemsize(request: PlanRequest) -> int:
    """Return the bytes of one unquantised weight; k-bit preparation makes it fp32."""
    if request.kbit_prepared:
        return 4
    if request.method == "full":
        return ITEMSIZE[request.trained_dtype]
    return ITEMSIZE[request.dtype]


def weights_at_rest(request: PlanRequest) -> Weights:
    """Return the frozen model's weights by storage."""
    spec = request.model
    converted = 0 if request.storage == "none" else convertible_parameters(spec)
    if experts_in_4_bits(request):
        converted += sum(count * expert_weights(spec, index) for index, count in distinct_layers(spec))
    size = quantised_bytes(converted, request.storage) if converted else 0
    if request.storage in ("nf4", "nf4-dq") and request.dequantized_layers:
        size += ITEMSIZE[request.dtype] * _first_layers(spec, request.dequantized_layers)
    # GPT-BigCode registers a causal mask of one byte for every pair of positions.
    buffers = spec.positions**2 if spec.family == "gpt_bigcode" else 0
    # A text run loads the language model alone.
    others = total_parameters(spec) - spec.unplanned - converted
    return Weights(converted, others, size, other_itemsize(request), buffers)
