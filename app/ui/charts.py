"""Line charts as HTML strings: drawn here, coloured by CSS variables, escaped by construction.

The curve is an SVG stretched over a plot of fixed height; the labels are HTML beside it, so that text keeps its size at
every width and nothing jumps while data comes in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.ui import figures
from app.ui.markup import Html, element

Point = tuple[float, float]
# A browser draws this many points of several curves without a stutter; more cannot be told apart on a screen.
MOST_POINTS = 1000
_WIDTH, _HEIGHT = 1000.0, 100.0


@dataclass(frozen=True)
class Line:
    """One curve. Points are (x, y) in ascending x; a y that is not finite leaves a gap."""

    points: Sequence[Point]
    label: str = ""
    colour: str = "accent"
    style: Literal["strong", "faint", "dotted"] = "strong"


@dataclass(frozen=True)
class Mark:
    """A place on the x axis where something happened, or a height that means something."""

    at: float
    label: str
    colour: str = "muted"


@dataclass(frozen=True)
class Span:
    """The range of an axis."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Return where a value lies, 0 at the low end and 1 at the high end."""
        return (value - self.low) / (self.high - self.low)


def chart(
    lines: Sequence[Line],
    title: str,
    *,
    unit: str = "",
    marks: Sequence[Mark] = (),
    limits: Sequence[Mark] = (),
    x_span: Span | None = None,
    x_title: str = "",
    height_px: int = 220,
    empty: str = "",
    from_zero: bool = False,
) -> Html:
    """Return a chart with its title, legend, axes, events on the x axis and limits on the y axis."""
    drawn = [Line(thinned(line.points), line.label, line.colour, line.style) for line in lines]
    points = [point for line in drawn for point in line.points if math.isfinite(point[1])]
    header = element("div", element("span", title, class_="wb-chart-title"), _legend(drawn), class_="wb-chart-head")
    if not points:
        note = element("div", empty, class_="wb-chart-empty")
        plot = element("div", note, class_="wb-plot", style=f"height:{height_px}px")
        axis = element("div", element("span", "\u00a0"), class_="wb-x-axis")
        return element("figure", header, plot, axis, class_="wb-chart", role="img", aria_label=title)
    x = x_span or _span([point[0] for point in points])
    y = _nice_span([point[1] for point in points] + [limit.at for limit in limits], from_zero)
    inside = element(
        "div",
        _grid(y, unit),
        _svg(drawn, x, y, marks, limits),
        *(_mark_label(mark, x) for mark in marks if x.low <= mark.at <= x.high),
        *(_limit_label(limit, y) for limit in limits),
        class_="wb-plot",
        style=f"height:{height_px}px",
    )
    return element("figure", header, inside, _x_axis(x, x_title), class_="wb-chart", role="img", aria_label=title)


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Return at most `most` points; of each stretch the lowest and the highest are kept, so that no spike is lost."""
    if len(points) <= most:
        return list(points)
    stretches = max(1, most // 2)
    size = len(points) / stretches
    kept: list[Point] = []
    for index in range(stretches):
        stretch = [p for p in points[int(index * size) : int((index + 1) * size)] if math.isfinite(p[1])]
        if stretch:
            ends = {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
            kept.extend(sorted(ends))
    return kept


def smoothed(points: Sequence[Point]) -> list[Point]:
    """Return the exponential moving average of the points, corrected for its start (Kingma & Ba 2015, section 3).

    The weight grows with the number of points: a short run keeps its shape, a long one loses its noise.
    """
    weight = min(0.97, max(0.5, 1 - 8 / max(1, len(points))))
    result, average, factor = [], 0.0, 1.0
    for x, y in points:
        if math.isfinite(y):
            average = weight * average + (1 - weight) * y
            factor *= weight
            result.append((x, average / (1 - factor)))
    return result


def sparkline(points: Sequence[Point], label: str) -> Html:
    """Return a small curve without axes."""
    drawn = thinned([point for point in points if math.isfinite(point[1])], 60)
    if len(drawn) < 2:
        return element("span", class_="wb-spark")
    x, y = _span([point[0] for point in drawn]), _span([point[1] for point in drawn])
    path = element("path", d=_path(drawn, x, y), class_="wb-line", style="stroke:var(--wb-accent)")
    return element("span", _frame(path), class_="wb-spark", role="img", aria_label=label)


def _legend(lines: Sequence[Line]) -> Html:
    named = [line for line in lines if line.label]
    items = [
        element(
            "span",
            element("i", class_=f"wb-key wb-key-{line.style}", style=f"border-color:var(--wb-{line.colour})"),
            line.label,
        )
        for line in named
    ]
    return element("span", *items, class_="wb-legend")


def _svg(lines: Sequence[Line], x: Span, y: Span, marks: Sequence[Mark], limits: Sequence[Mark]) -> Html:
    paths = [
        element(
            "path",
            d=_path(line.points, x, y),
            class_=f"wb-line wb-line-{line.style}",
            style=f"stroke:var(--wb-{line.colour})",
        )
        for line in lines
    ]
    uprights = [_upright(mark, x) for mark in marks if x.low <= mark.at <= x.high]
    return _frame(*(_level(limit, y) for limit in limits), *uprights, *paths)


def _frame(*children: Html) -> Html:
    return element(
        "svg", *children, viewBox=f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}", preserveAspectRatio="none", aria_hidden="true"
    )


def _path(points: Sequence[Point], x: Span, y: Span) -> str:
    """Return the path of the points; a gap begins a new stroke. A single point becomes a short stroke."""
    words, pen_down = [], False
    for px, py in points:
        if not math.isfinite(py):
            pen_down = False
            continue
        place = f"{_WIDTH * x.share(px):.1f} {_HEIGHT * (1 - y.share(py)):.2f}"
        words.append(("L" if pen_down else "M") + place)
        pen_down = True
    return " ".join(words) + (" h2" if len(words) == 1 else "")


def _upright(mark: Mark, x: Span) -> Html:
    place = f"{_WIDTH * x.share(mark.at):.1f}"
    style = f"stroke:var(--wb-{mark.colour})"
    return element("path", d=f"M{place} 0 V{_HEIGHT:.0f}", class_="wb-line wb-line-mark", style=style)


def _level(limit: Mark, y: Span) -> Html:
    place = f"{_HEIGHT * (1 - y.share(limit.at)):.2f}"
    style = f"stroke:var(--wb-{limit.colour})"
    return element("path", d=f"M0 {place} H{_WIDTH:.0f}", class_="wb-line wb-line-mark", style=style)


def _mark_label(mark: Mark, x: Span) -> Html:
    share = 100 * x.share(mark.at)
    side = "wb-mark-left" if share > 70 else ""
    return element("span", mark.label, class_=f"wb-mark {side}", style=f"left:{share:.2f}%", title=mark.label)


def _limit_label(limit: Mark, y: Span) -> Html:
    return element("span", limit.label, class_="wb-limit", style=f"bottom:{100 * y.share(limit.at):.2f}%")


def _grid(y: Span, unit: str) -> Html:
    ticks = [
        element(
            "span",
            element("span", figures.brief(value) + (f" {unit}" if unit else ""), class_="wb-number"),
            class_="wb-tick",
            style=f"bottom:{100 * y.share(value):.2f}%",
        )
        for value in _ticks(y)
    ]
    return element("div", *ticks, class_="wb-grid")


def _x_axis(x: Span, title: str) -> Html:
    return element(
        "div",
        element("span", figures.brief(x.low), class_="wb-number"),
        element("span", title),
        element("span", figures.brief(x.high), class_="wb-number"),
        class_="wb-x-axis",
    )


def _span(values: Sequence[float]) -> Span:
    low, high = min(values), max(values)
    if low == high:
        room = abs(low) * 0.1 or 1.0
        return Span(low - room, high + room)
    return Span(low, high)


def _nice_span(values: Sequence[float], from_zero: bool) -> Span:
    """Return a span that ends on round numbers and leaves a little air above."""
    span = _span([*values, 0.0] if from_zero else values)
    step = _step(span)
    low = math.floor(span.low / step) * step
    high = math.ceil((span.high + 0.02 * (span.high - span.low)) / step) * step
    return Span(0.0 if from_zero and span.low >= 0 else low, high)


def _step(span: Span) -> float:
    """Return a round distance of ticks: 1, 2 or 5 times a power of ten, about four to the span."""
    rough = (span.high - span.low) / 4
    power = float(10.0 ** math.floor(math.log10(rough)))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def _ticks(span: Span) -> list[float]:
    step = _step(span)
    first = math.ceil(span.low / step - 1e-9)
    last = math.floor(span.high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]
