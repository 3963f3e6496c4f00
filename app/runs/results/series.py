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
from dataclasses import dataclass, field
from heapq import merge

Point = tuple[float, float]
# A browser draws this many points of several curves without a stutter; more cannot be told apart on a screen.
MOST_POINTS = 1000
# More gaps than this make no picture; the first and the last of them are kept.
_MOST_GAPS = 100
# A curve is shown large, small and in a card; each asks for its own number of points.
_MOST_THINNINGS = 4


class Series:
    """Values by step, in ascending steps. Values that are not finite are gaps and are kept apart."""

    def __init__(self) -> None:
        self.steps = array("d")
        self.values = array("d")
        self.gaps = array("d")
        self._mutex = threading.Lock()
        self._totals: Totals
        self._forget_derived()

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
        with self._mutex:
            del self.values[kept:], self.steps[kept:], self.gaps[bisect_left(self.gaps, step) :]
            self._forget_derived()

    def points(self) -> list[Point]:
        """Return every point; a gap is a point whose value is NaN."""
        return _with_gaps(list(zip(self.steps, self.values, strict=False)), self.gaps)

    def thinned(self, most: int = MOST_POINTS, low: float = -math.inf, high: float = math.inf) -> list[Point]:
        """Return at most `most` points between two steps, and the gaps between them.

        Of each stretch the lowest and the highest point are kept, so that no spike is lost.
        """
        gaps = self.gaps[bisect_left(self.gaps, low) : bisect_right(self.gaps, high)]
        with self._mutex:
            first, last = self._window(low, high)
            return _with_gaps(self._thinnings.extremes(self.steps, self.values, first, last, most), gaps)

    def smoothed(
        self,
        most: int = MOST_POINTS,
        low: float = -math.inf,
        high: float = math.inf,
        weight: float | None = None,
    ) -> list[Point]:
        """Return the exponential moving average, corrected for its start (Kingma & Ba 2015, section 3), thinned.

        `weight` is that of the past, from 0 to below 1. Without one it grows with the number of points: a short run
        keeps its shape, a long one loses its noise.
        """
        with self._mutex:
            if weight is not None:
                first, last = self._window(low, high)
                averages = _averages(self.values[:last], weight)
                return _extremes(self.steps, averages, first, last, most)
            self._average_on()
            first, last = self._window(low, high)
            return self._average_thinnings.extremes(
                self.steps, self._averages, first, min(last, len(self._averages)), most
            )

    def totals(self) -> Totals | None:
        """Return the lowest, the highest and the mean value, or None without values; only new ones are looked at."""
        with self._mutex:
            known, count = self._totals, len(self)
            if count > known.count:
                fresh = self.values[known.count : count]
                low, high = min(known.lowest, min(fresh)), max(known.highest, max(fresh))
                known = Totals(count, low, high, known.sum + sum(fresh))
                self._totals = known
            return known if count else None

    def at(self, step: float) -> float | None:
        """Return the value at a step, or the newest before it; before the first one, the first."""
        if not len(self):
            return None
        return self.values[max(0, min(bisect_right(self.steps, step), len(self)) - 1)]

    def _window(self, low: float, high: float) -> tuple[int, int]:
        return bisect_left(self.steps, low), min(bisect_right(self.steps, high), len(self))

    def _forget_derived(self) -> None:
        self._thinnings = _Thinnings()
        self._totals = Totals()
        self._forget_average()

    def _forget_average(self) -> None:
        self._average_thinnings = _Thinnings()
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


@dataclass(frozen=True)
class Totals:
    """What a curve has come to so far."""

    count: int = 0
    lowest: float = math.inf
    highest: float = -math.inf
    sum: float = 0.0

    @property
    def mean(self) -> float:
        """Return the mean of the values."""
        return self.sum / self.count


class _Thinnings:
    """The extremes of a growing curve seen from its start, for each number of points that is asked for.

    The curve is cut into stretches of 1, 2, 4, ... points, as long as the number of points demands. A stretch that is
    full never changes: its extremes are found once, and each look adds those of the new stretches and of the open one.
    When the curve has become twice as long, all is cut anew. What does not reach from the first point to the newest is
    a part that somebody zoomed into; it is thinned from the values.
    """

    def __init__(self) -> None:
        self._by_most: dict[int, _Thinning] = {}

    def extremes(self, steps: Sequence[float], values: array[float], first: int, last: int, most: int) -> list[Point]:
        """Return the points from index `first` to `last`, of each stretch the lowest and the highest."""
        if first or last <= most or last < len(values):
            return _extremes(steps, values, first, last, most)
        if most not in self._by_most and len(self._by_most) >= _MOST_THINNINGS:
            self._by_most.clear()
        return self._by_most.setdefault(most, _Thinning()).extremes(steps, values, last, most)


@dataclass
class _Thinning:
    """The extremes of the full stretches of `size` points; `done` points are in them."""

    size: int = 1
    done: int = 0
    points: list[Point] = field(default_factory=list)

    def extremes(self, steps: Sequence[float], values: array[float], last: int, most: int) -> list[Point]:
        """Return the extremes of the first `last` points, at most `most` of them."""
        while -(-last // self.size) > max(1, most // 2):
            self.size, self.done, self.points = 2 * self.size, 0, []
        while self.done + self.size <= last:
            self.points += _ends(steps, values, self.done, self.done + self.size)
            self.done += self.size
        return [*self.points, *_ends(steps, values, self.done, last)]


def _averages(values: Sequence[float], weight: float) -> array[float]:
    """Return the corrected exponential moving average of values."""
    averages, average, left = array("d"), 0.0, 1.0
    for value in values:
        average = weight * average + (1 - weight) * value
        left *= weight
        averages.append(average / (1 - left))
    return averages


def _ends(steps: Sequence[float], values: array[float], start: int, stop: int) -> list[Point]:
    """Return the lowest and the highest point of a stretch, in the order of their steps."""
    stretch = values[start:stop]
    if not stretch:
        return []
    places = sorted({stretch.index(min(stretch)), stretch.index(max(stretch))})
    return [(steps[start + place], stretch[place]) for place in places]


def _extremes(steps: Sequence[float], values: array[float], first: int, last: int, most: int) -> list[Point]:
    """Return the points from index `first` to `last`, of each stretch the lowest and the highest."""
    if last - first <= most:
        return list(zip(steps[first:last], values[first:last], strict=False))
    stretches = max(1, most // 2)
    size = (last - first) / stretches
    kept: list[Point] = []
    for index in range(stretches):
        kept += _ends(steps, values, first + int(index * size), first + int((index + 1) * size))
    return kept


def _with_gaps(points: list[Point], gaps: Sequence[float]) -> list[Point]:
    """Put the gaps between the points."""
    if not gaps:
        return points
    shown = list(gaps) if len(gaps) <= _MOST_GAPS else [*gaps[: _MOST_GAPS - 1], gaps[-1]]
    return list(merge(points, ((gap, math.nan) for gap in shown), key=lambda point: point[0]))
