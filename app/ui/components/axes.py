"""Axes of a chart: the range that is shown, where a value lies in it, and where its ticks are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """The range of an axis."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Return where a value lies, 0 at the low end and 1 at the high end."""
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Return the round values in the range, about four of them."""
        step = _step(self)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


class LogSpan(Span):
    """The range of a logarithmic axis; both ends are above zero."""

    def share(self, value: float) -> float:
        """Return where a value lies, 0 at the low end and 1 at the high end."""
        return math.log(value / self.low) / math.log(self.high / self.low)

    def ticks(self) -> list[float]:
        """Return powers of ten; over three of them or less also 2 and 5 times; in a narrow range, round values."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        factors = (1.0,) if self.high / self.low > 1000 else (1.0, 2.0, 5.0)
        found = [factor * 10.0**power for power in powers for factor in factors]
        inside = [value for value in found if self.low <= value <= self.high]
        return inside if len(inside) > 2 else super().ticks()


def span_of(values: Sequence[float]) -> Span:
    """Return the range of the values; a single value gets some room."""
    low, high = min(values), max(values)
    if low == high:
        room = abs(low) * 0.1 or 1.0
        return Span(low - room, high + room)
    return Span(low, high)


def nice_span(values: Sequence[float], from_zero: bool = False) -> Span:
    """Return a range that ends on round numbers and leaves a little air above."""
    span = span_of([*values, 0.0] if from_zero else values)
    step = _step(span)
    low = math.floor(span.low / step) * step
    high = math.ceil((span.high + 0.02 * (span.high - span.low)) / step) * step
    return Span(0.0 if from_zero and span.low >= 0 else low, high)


def log_span(values: Sequence[float]) -> LogSpan:
    """Return a logarithmic range around values above zero, with a little air at both ends."""
    low, high = min(values), max(values)
    air = max((high / low) ** 0.03, 1.02)
    return LogSpan(low / air, high * air)


def _step(span: Span) -> float:
    """Return a round distance of ticks: 1, 2 or 5 times a power of ten, about four to the span."""
    rough = (span.high - span.low) / 4
    power = float(10.0 ** math.floor(math.log10(rough)))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
