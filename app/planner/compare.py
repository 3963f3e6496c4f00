"""Plans beside each other: peak against length, and the three methods of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.planner.estimate import Plan, estimate
from app.planner.request import PlanRequest


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


def compare_methods(request: PlanRequest) -> dict[str, Plan]:
    """Return the plans of full fine-tuning, LoRA and QLoRA with the other settings as given."""
    storage = request.storage if request.storage != "none" else None
    return {
        "full": estimate(request.changed(method="full", quant="none", adapter_dtype=None)),
        "lora": estimate(request.changed(method="lora", quant="none")),
        "qlora": estimate(request.changed(method="qlora", quant=storage)),
    }
