"""What measurements on this machine say about the planner's error, and how a plan takes it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.planner.phrases import Phrase

# What a step moves. Weights, adapters, gradients and optimiser states are counted exactly and stay as they are.
MOVING = ("activations", "logits", "scratch")


@dataclass(frozen=True)
class Correction:
    """Hold what the last `runs` measurements of one method and storage say.

    `ratio` is the bounded median of measured over predicted moving memory; `mean_error` the mean of measured over
    predicted peak, less one, for people to read. `by_process` says that a processor's memory was measured.
    """

    method: str
    storage: str
    runs: int
    ratio: float
    mean_error: float
    by_process: bool = False

    def line(self) -> Phrase:
        """Return the sentence that a plan carries."""
        key = "planner.corrected_process" if self.by_process else "planner.corrected"
        return Phrase(key, count=self.runs, error=100 * self.mean_error)


Corrections = tuple[Correction, ...]


def chosen(corrections: Corrections, method: str, storage: str) -> Correction | None:
    """Return the correction for a method and storage, or None: nothing is carried over from another one."""
    return next((one for one in corrections if (one.method, one.storage) == (method, storage)), None)


def corrected(parts: Mapping[str, int], correction: Correction | None) -> dict[str, int]:
    """Return the parts with their moving memory scaled; the sum of the parts remains the peak."""
    if correction is None:
        return dict(parts)
    return {key: int(size * correction.ratio) if key in MOVING else size for key, size in parts.items()}
