"""What a reader should know about an estimate: assumptions that matter, and choices that do less than they seem."""

from __future__ import annotations

from collections.abc import Iterator

from app.config.accelerators import BITSANDBYTES
from app.planner.parts.optimizer import is_paged
from app.planner.parts.weights import convertible_parameters, experts_in_4_bits
from app.planner.phrases import Phrase
from app.planner.request import PlanRequest
from app.planner.simulation.layer_cost import kernel_of
from app.planner.tracing.store import modes_of


def warnings_for(request: PlanRequest) -> Iterator[Phrase]:
    """Yield one plain sentence for each."""
    spec = request.model
    if request.correction is not None:
        yield request.correction.line()
    if spec.uncounted:
        yield Phrase("planner.note.uncounted", model=spec.name, field=spec.uncounted)
    if spec.unplanned:
        yield Phrase("planner.note.vision", model=spec.name, parameters=spec.unplanned)
    if spec.simulated and request.is_training and request.traces is not None:
        yield from _simulated(request)
    if request.storage != "none" and not spec.simulated and convertible_parameters(spec) == 0:
        yield Phrase("planner.note.own_linear", model=spec.name)
    if spec.experts is not None and request.storage != "none" and not experts_in_4_bits(request):
        yield Phrase("planner.note.experts", model=spec.name)
    if spec.experts is not None:
        yield Phrase("planner.note.mixture")
    eager = kernel_of(request) == "eager"
    if eager and request.attn != "eager":
        yield Phrase("planner.note.eager_only", model=spec.name)
    if eager and request.tokens >= 4096:
        yield Phrase("planner.note.eager")
    if request.is_training and is_paged(request.optimizer) and request.kind != "mps":
        yield Phrase("planner.note.paged")
    if request.storage == "int8":
        yield Phrase("planner.note.int8")
    if spec.max_positions and request.seq_len > spec.max_positions:
        yield Phrase("planner.note.positions", model=spec.name, tokens=spec.max_positions)
    yield from _of_kind(request)
    if request.packing_note is not None:
        yield request.packing_note
    if request.dtype_note is not None:
        yield request.dtype_note
    if request.packed and request.tokens >= 8192 and request.attn != "flash":
        yield Phrase("planner.note.packed")


def _of_kind(request: PlanRequest) -> Iterator[Phrase]:
    """Say what was not measured on this machine's kind of GPU, and what bitsandbytes has not for it."""
    if request.kind in (None, "cuda"):
        return
    yield Phrase("planner.note.kind", kind=request.kind)
    able = BITSANDBYTES[request.kind]
    if (request.storage in ("nf4", "nf4-dq") and able.four_bit == "torch") or (
        request.storage == "int8" and able.eight_bit == "torch"
    ):
        yield Phrase("planner.note.no_kernel", kind=request.kind)
    if request.is_training and request.optimizer != "sgd_momentum" and not able.has(request.optimizer):
        yield Phrase("planner.note.no_optimizer", name=request.optimizer, kind=request.kind)


def _simulated(request: PlanRequest) -> Iterator[Phrase]:
    """Say that a step of the model's own class was simulated, and how long that took."""
    assert request.traces is not None
    found = [request.traces.step(request, mode) for mode in modes_of(request)]
    seconds = sum(one[0].seconds for one in found if one is not None)
    yield Phrase("planner.note.simulated", model=request.model.name, seconds=max(1, round(seconds)))
    if not all(one is not None and one[2] for one in found):
        yield Phrase("planner.note.nearly_simulated")
