"""When a loss has gone wrong: not finite, or away from its best for good."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

# Weight of the past in the smoothed loss; its memory is about ten logged steps.
_SMOOTHING = 0.9


@dataclass
class Divergence:
    """Follow a loss and tell when it diverges.

    Diverging means: for `steps` logged steps in a row the smoothed loss (exponential average with weight 0.9 on the
    past, corrected for its start as Adam's moments are) is more than `factor` times the lowest it has been.
    """

    factor: float
    steps: int
    best: float = math.inf
    _sum: float = 0.0
    _weight: float = 0.0
    _above: int = 0

    def add(self, loss: float) -> bool:
        """Take the next logged loss. Return True at the step on which the loss counts as diverging, and only then."""
        if not math.isfinite(loss):
            return False
        self._sum = _SMOOTHING * self._sum + (1 - _SMOOTHING) * loss
        self._weight = _SMOOTHING * self._weight + (1 - _SMOOTHING)
        self.best = min(self.best, self.smoothed)
        self._above = self._above + 1 if self.smoothed > self.factor * self.best else 0
        return self._above == self.steps

    def replay(self, losses: Iterable[float | None]) -> None:
        """Take the losses that were logged before a resume."""
        for loss in losses:
            if loss is not None:
                self.add(loss)

    @property
    def smoothed(self) -> float:
        """Return the smoothed loss."""
        return self._sum / self._weight if self._weight else math.nan
