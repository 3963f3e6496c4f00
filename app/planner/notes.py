"""What a reader should know about an estimate: assumptions that matter, and choices that do less than they seem."""

from __future__ import annotations

from collections.abc import Iterator

from app.planner.optimizer import is_paged
from app.planner.phrases import Phrase
from app.planner.request import PlanRequest
from app.planner.walk import kernel_of
from app.planner.weights import convertible_parameters


def warnings_for(request: PlanRequest) -> Iterator[Phrase]:
    """Yield one plain sentence for each."""
    spec = request.model
    if request.correction is not None:
        yield request.correction.line()
    if spec.uncounted:
        yield Phrase("planner.note.uncounted", model=spec.name, field=spec.uncounted)
    if spec.unplanned:
        yield Phrase("planner.note.vision", model=spec.name, parameters=spec.unplanned)
    if request.storage != "none" and convertible_parameters(spec) == 0:
        yield Phrase("planner.note.own_linear", model=spec.name)
    if spec.experts is not None and request.storage != "none":
        yield Phrase("planner.note.experts", model=spec.name)
    if spec.experts is not None:
        yield Phrase("planner.note.mixture")
    eager = kernel_of(request) == "eager"
    if eager and request.attn != "eager":
        yield Phrase("planner.note.eager_only", model=spec.name)
    if eager and request.tokens >= 4096:
        yield Phrase("planner.note.eager")
    if request.is_training and is_paged(request.optimizer):
        yield Phrase("planner.note.paged")
    if request.storage == "int8":
        yield Phrase("planner.note.int8")
    if spec.max_positions and request.seq_len > spec.max_positions:
        yield Phrase("planner.note.positions", model=spec.name, tokens=spec.max_positions)
    if request.packed and request.tokens >= 8192 and request.attn != "flash":
        yield Phrase("planner.note.packed")
