"""What lies on the card besides live tensors: the caching allocator's gaps, the CUDA context, the desktop."""

from __future__ import annotations

from app.planner.request import GIB, PlanRequest
from app.planner.simulation.layer_cost import kernel_of

MIB = 1 << 20

# Context of a process that has run a kernel. T4, torch 2.10 and 2.14: 140.9 MiB (vram_truth.csv). Newer cards take
# more, 300 to 600 MiB by reports; the middle is taken where the card is not known.
_CONTEXT_T4_BYTES = 141 * MIB
_CONTEXT_BYTES = 450 * MIB

# Left to the desktop when a card's size is given: the default of the setting memory.reserve_gb.
DESKTOP_RESERVE_BYTES = int(0.8 * GIB)

# Share of the smaller hump (loss or layer) that the allocator keeps while the larger one peaks, fitted on the published
# rows (docs/decisions/planner-reserve.md), and a share of all moving memory below which no gap was seen.
_OVERLAP_SHARE = {"sdpa": 0.5, "eager": 0.7}
_LEAST_SHARE = 0.04
_GAP_FLOOR_BYTES = 60 * MIB
# Resident memory of a training process besides its model, adapter and activations: 492 MiB after the imports, about
# 110 more after the first step of the starter model (Linux, torch 2.13 for CPU, measured).
_LIBRARIES_BYTES = 600 * MIB


def context_bytes(request: PlanRequest) -> int:
    """Return the CUDA context's size; a processor has none."""
    if request.device == "cpu":
        return 0
    return _CONTEXT_T4_BYTES if request.profile == "peft-classic" else _CONTEXT_BYTES


def allocator_gap_bytes(request: PlanRequest, moving_bytes: int, overlap_bytes: int) -> int:
    """Return what the caching allocator reserves beyond live tensors.

    `moving_bytes` is everything but the weights, `overlap_bytes` the smaller of the loss's and a layer's hump. On a
    processor it is what the process holds before the model: Python and its libraries.
    """
    if request.device == "cpu":
        return _LIBRARIES_BYTES
    share = _OVERLAP_SHARE["eager" if kernel_of(request) == "eager" else "sdpa"]
    return max(_GAP_FLOOR_BYTES, int(moving_bytes * _LEAST_SHARE), int(overlap_bytes * share))


def free_bytes(request: PlanRequest) -> int | None:
    """Return what the run may use: given outright, or the card's size less what the desktop keeps."""
    if request.free_bytes is not None:
        return request.free_bytes
    if request.vram_gb is None:
        return None
    kept = DESKTOP_RESERVE_BYTES if request.reserve_bytes is None else request.reserve_bytes
    return max(0, int(request.vram_gb * GIB) - kept)
