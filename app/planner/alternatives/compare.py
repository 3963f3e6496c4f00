"""Plans beside each other: peak against length, and the three methods of training."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from app.planner.estimate import Plan, estimate
from app.planner.request import PlanRequest
from app.planner.tracing.composition import NotTracedError


@dataclass(frozen=True)
class CurvePoint:
    """Hold one point of the curve of peak against length."""

    seq_len: int
    device_peak: int
    allocated_peak: int
    fits: bool | None


def curve(request: PlanRequest, lengths: Sequence[int]) -> list[CurvePoint]:
    """Return the peak at each of `lengths`, everything else as given."""
    plans = [estimate(request.changed(seq_len=length)) for length in lengths]
    return [CurvePoint(plan.request.seq_len, plan.device_peak, plan.allocated_peak, plan.fits) for plan in plans]


def by_method(request: PlanRequest) -> dict[str, PlanRequest]:
    """Return the request as full fine-tuning, LoRA and QLoRA with the other settings as given."""
    storage = request.storage if request.storage != "none" else None
    return {
        "full": request.changed(method="full", quant="none", adapter_dtype=None),
        "lora": request.changed(method="lora", quant="none"),
        "qlora": request.changed(method="qlora", quant=storage),
    }


def compare_methods(request: PlanRequest) -> dict[str, Plan]:
    """Return the plans of the three methods; one whose step was not traced yet is left out."""
    plans: dict[str, Plan] = {}
    for name, one in by_method(request).items():
        with suppress(NotTracedError):
            plans[name] = estimate(one)
    return plans
