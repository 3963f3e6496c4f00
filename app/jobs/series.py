"""One curve of a run: numbers that grow at the end, cut to a range, thinned and smoothed without reading all again.

A run of 100,000 steps is polled every two seconds by any number of pages; what is done at each poll works on slices of
arrays, not on lists of points.
"""

from __future__ import annotations

import math
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from heapq import merge

Point = tuple[float, float]
# A browser draws this many points of several curves without a stutter; more cannot be told apart on a screen.
MOST_POINTS = 1000
# More gaps than this make no picture; the first and the last of them are kept.
_MOST_GAPS = 100


class Series:
    """Values by step, in ascending steps. Values that are not finite are gaps and are kept apart."""

    def __init__(self) -> None:
        self.steps = array("d")
        self.values = array("d")
        self.gaps = array("d")
        self._mutex = threading.Lock()
        self._forget_average()

    @classmethod
    def of(cls, points: Iterable[Point]) -> Series:
        """Return the series of points that are in order already."""
        series = cls()
        for step, value in points:
            series._append(step, value)
        return series

    def __len__(self) -> int:
        return min(len(self.steps), len(self.values))

    def add(self, step: float, value: float) -> None:
        """Add a value. Values at this step and after it belong to an earlier attempt and are taken back."""
        if (self.steps and self.steps[-1] >= step) or (self.gaps and self.gaps[-1] >= step):
            self._take_back(step)
        self._append(step, value)

    def _append(self, step: float, value: float) -> None:
        if math.isfinite(value):
            self.steps.append(step)
            self.values.append(value)
        else:
            self.gaps.append(step)

    def _take_back(self, step: float) -> None:
        kept = bisect_left(self.steps, step)
        del self.values[kept:], self.steps[kept:], self.gaps[bisect_left(self.gaps, step) :]
        with self._mutex:
            self._forget_average()

    def points(self) -> list[Point]:
        """Return every point; a gap is a point whose value is NaN."""
        return _with_gaps(list(zip(self.steps, self.values, strict=False)), self.gaps)

    def thinned(self, most: int = MOST_POINTS, low: float = -math.inf, high: float = math.inf) -> list[Point]:
        """Return at most `most` points between two steps, and the gaps between them.

        Of each stretch the lowest and the highest point are kept, so that no spike is lost.
        """
        first, last = self._window(low, high)
        gaps = self.gaps[bisect_left(self.gaps, low) : bisect_right(self.gaps, high)]
        return _with_gaps(_extremes(self.steps, self.values, first, last, most), gaps)

    def smoothed(self, most: int = MOST_POINTS, low: float = -math.inf, high: float = math.inf) -> list[Point]:
        """Return the exponential moving average, corrected for its start (Kingma & Ba 2015, section 3), thinned.

        The weight grows with the number of points: a short run keeps its shape, a long one loses its noise.
        """
        with self._mutex:
            self._average_on()
            first, last = self._window(low, high)
            return _extremes(self.steps, self._averages, first, min(last, len(self._averages)), most)

    def at(self, step: float) -> float | None:
        """Return the value at a step, or the newest before it; before the first one, the first."""
        if not len(self):
            return None
        return self.values[max(0, min(bisect_right(self.steps, step), len(self)) - 1)]

    def _window(self, low: float, high: float) -> tuple[int, int]:
        return bisect_left(self.steps, low), min(bisect_right(self.steps, high), len(self))

    def _forget_average(self) -> None:
        self._averages = array("d")
        self._weight, self._average, self._left = 0.0, 0.0, 1.0

    def _average_on(self) -> None:
        """Take the averages on to the newest value; while the weight still changes, from the start."""
        weight = min(0.97, max(0.5, 1 - 16 / max(1, len(self))))
        if weight != self._weight:
            self._forget_average()
            self._weight = weight
        average, left = self._average, self._left
        for value in self.values[len(self._averages) : len(self)]:
            average = weight * average + (1 - weight) * value
            left *= weight
            self._averages.append(average / (1 - left))
        self._average, self._left = average, left


def _extremes(steps: Sequence[float], values: array[float], first: int, last: int, most: int) -> list[Point]:
    """Return the points from index `first` to `last`, of each stretch the lowest and the highest."""
    if last - first <= most:
        return list(zip(steps[first:last], values[first:last], strict=False))
    stretches = max(1, most // 2)
    size = (last - first) / stretches
    kept: list[Point] = []
    for index in range(stretches):
        start = first + int(index * size)
        stretch = values[start : first + int((index + 1) * size)]
        lowest, highest = min(stretch), max(stretch)
        places = sorted({stretch.index(lowest), stretch.index(highest)})
        kept.extend((steps[start + place], stretch[place]) for place in places)
    return kept


def _with_gaps(points: list[Point], gaps: Sequence[float]) -> list[Point]:
    """Put the gaps between the points."""
    if not gaps:
        return points
    shown = list(gaps) if len(gaps) <= _MOST_GAPS else [*gaps[: _MOST_GAPS - 1], gaps[-1]]
    return list(merge(points, ((gap, math.nan) for gap in shown), key=lambda point: point[0]))
