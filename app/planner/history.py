"""The history of measurements on this machine: one line each in the workspace, and the corrections they give."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import fmean, median
from typing import Any

from app.jobs.metrics import MetricsWriter, tail_rows
from app.planner.correction import Correction, Corrections
from app.planner.estimate import Plan
from app.workspace import Workspace

CPU = "cpu"
LAST_RUNS = 5
# A measurement beyond these bounds tells of something else than the formulas: it moves a plan this far and no further.
_LOWEST_RATIO, _HIGHEST_RATIO = 0.75, 4 / 3
_TAIL_BYTES = 1 << 20


@dataclass(frozen=True)
class Measurement:
    """Hold one measured run. Sizes in bytes by `COMPARED`; `device` is the card's name, or "cpu".

    On a card torch counts its own tensors; on a processor it is the growth of the process's resident memory.
    """

    device: str
    model: str
    method: str
    storage: str
    seq_len: int
    micro_batch: int
    rank: int
    predicted: Mapping[str, int]
    measured: Mapping[str, int]
    time: float = field(default_factory=time.time)

    @classmethod
    def of(cls, figures: Mapping[str, Any]) -> Measurement:
        """Read a measurement out of what its job left as result."""
        return cls(**{field.name: figures[field.name] for field in fields(cls)})


COMPARED = ("base_weights", "adapter_and_optimizer", "step", "allocated_peak")
"""The parts that can be told apart from outside: after loading, after the first optimiser step, within a step, all."""


def predicted_parts(plan: Plan) -> dict[str, int]:
    """Return a plan's parts as they can be measured."""
    parts, peak = plan.parts, plan.allocated_peak
    adapter = parts["adapter_weights"] + parts["optimizer"]
    step = peak - parts["base_weights"] - adapter
    return dict(zip(COMPARED, (parts["base_weights"], adapter, step, peak), strict=True))


def file_of(workspace: Path) -> Path:
    """Return the history's file in a workspace folder."""
    return workspace / "measurements.jsonl"


def append(workspace: Path, measurement: Measurement) -> None:
    """Add one measurement."""
    writer = MetricsWriter(file_of(workspace))
    try:
        writer.write(asdict(measurement))
    finally:
        writer.close()


def corrections(workspace: Workspace | Path, device: str) -> Corrections:
    """Return what the history says for a device: one correction for each method and storage measured on it."""
    folder = workspace.root if isinstance(workspace, Workspace) else workspace
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in tail_rows(file_of(folder), _TAIL_BYTES):
        ratios = _ratios(row)
        if row.get("device") == device and ratios is not None:
            groups.setdefault((str(row.get("method")), str(row.get("storage"))), []).append(ratios)
    return tuple(
        _correction(method, storage, found[-LAST_RUNS:], device) for (method, storage), found in groups.items()
    )


def _correction(method: str, storage: str, ratios: list[tuple[float, float]], device: str) -> Correction:
    middle = median(step for step, _ in ratios)
    bounded = min(max(middle, _LOWEST_RATIO), _HIGHEST_RATIO)
    return Correction(method, storage, len(ratios), bounded, fmean(peak for _, peak in ratios) - 1, device == CPU)


def _ratios(row: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return measured over predicted of a step and of the peak; None for a line that does not hold both.

    What a step moves is taken as the measured peak less the parts that are counted exactly. On a processor the parts
    cannot be told apart (libraries load within the first step), but the peak can; and so plan and note say the same.
    """
    predicted, measured = row.get("predicted"), row.get("measured")
    if not isinstance(predicted, dict) or not isinstance(measured, dict):
        return None
    of_peak = _ratio(measured.get("allocated_peak"), predicted.get("allocated_peak"))
    peaks_per_step = _ratio(predicted.get("allocated_peak"), predicted.get("step"))
    return None if of_peak is None or peaks_per_step is None else (1 + (of_peak - 1) * peaks_per_step, of_peak)


def _ratio(above: Any, below: Any) -> float | None:
    """Return the quotient of two sizes, None when either is none."""
    for value in (above, below):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value > 0):
            return None
    return float(above / below)
