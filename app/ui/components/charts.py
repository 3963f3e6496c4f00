"""Line charts as HTML strings: drawn here, coloured by CSS variables, escaped by construction.

The curve is an SVG stretched over a plot of fixed height; the labels are HTML beside it, so that text keeps its size at
every width and nothing jumps while data comes in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from app.runs.results.series import MOST_POINTS, Point, Series
from app.ui.components import number_format
from app.ui.components.axes import Span, log_span, nice_span, span_of
from app.ui.components.markup import Html, element

_WIDTH, _HEIGHT = 1000.0, 100.0
# A label of a mark takes about this much of a narrow chart's width, in percent.
_LABEL_SHARE = 22.0


@dataclass(frozen=True)
class Line:
    """One curve. Points are (x, y) in ascending x; a y that is not finite leaves a gap."""

    points: Sequence[Point]
    label: str = ""
    colour: str = "accent"
    style: Literal["strong", "faint", "dotted"] = "strong"


@dataclass(frozen=True)
class Mark:
    """A place on the x axis where something happened, or a height that means something.

    `note` is its text on hover, else the label. A quiet mark is a short tick at the foot of the chart.
    """

    at: float
    label: str
    colour: str = "muted"
    note: str = ""
    quiet: bool = False


@dataclass(frozen=True)
class Dot:
    """A point of a curve that has a name. A `strong` one is the point to look at."""

    x: float
    y: float
    label: str
    note: str = ""
    colour: str = "accent"
    strong: bool = False


def chart(
    lines: Sequence[Line],
    title: str,
    *,
    unit: str = "",
    marks: Sequence[Mark] = (),
    limits: Sequence[Mark] = (),
    dots: Sequence[Dot] = (),
    x_span: Span | None = None,
    x_title: str = "",
    x_text: Callable[[float], str] = number_format.brief,
    height_px: int = 220,
    empty: str = "",
    from_zero: bool = False,
    log: bool = False,
) -> Html:
    """Return a chart with its title, legend, axes, events on the x axis and limits on the y axis.

    With `log` the y axis is logarithmic, and values that are not above zero are gaps. `dots` are named points, drawn
    round at every width.
    """
    drawn = [replace(line, points=thinned(line.points)) for line in lines]
    if log:
        drawn = [replace(line, points=[(x, y if y > 0 else math.nan) for x, y in line.points]) for line in drawn]
    points = [point for line in drawn for point in line.points if math.isfinite(point[1])]
    header = element("div", element("span", title, class_="wb-chart-title"), _legend(drawn), class_="wb-chart-head")
    if not points:
        note = element("div", empty, class_="wb-chart-empty")
        plot = element("div", note, class_="wb-plot", style=f"height:{height_px}px")
        axis = element("div", element("span", "\u00a0"), class_="wb-x-axis")
        return element("figure", header, plot, axis, class_="wb-chart", role="img", aria_label=title)
    x = x_span or span_of([point[0] for point in points])
    heights = [point[1] for point in points] + [limit.at for limit in limits]
    y = log_span(heights) if log else nice_span(heights, from_zero)
    marks = [mark for mark in marks if x.low <= mark.at <= x.high]
    inside = element(
        "div",
        _grid(y, unit),
        _svg(drawn, title, x, y, marks, limits),
        *_mark_labels(marks, x),
        *(_limit_label(limit, y) for limit in limits),
        *(_dot(dot, x, y) for dot in dots if math.isfinite(dot.y)),
        class_="wb-plot",
        style=f"height:{height_px}px",
        # With these the page's script says the values under the pointer; the points stand in the paths themselves.
        data_x=f"{x.low:g}:{x.high:g}",
        data_y=f"{y.low:.9g}:{y.high:.9g}",
        data_log="1" if log else None,
        data_unit=unit or None,
        data_x_name=x_title or None,
    )
    axis = _x_axis(x, x_title, x_text)
    return element("figure", header, inside, axis, class_="wb-chart", role="img", aria_label=title)


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Return at most `most` points of a curve and its gaps, so that no spike is lost."""
    return list(points) if len(points) <= most else Series.of(points).thinned(most)


def sparkline(points: Sequence[Point], label: str) -> Html:
    """Return a small curve without axes."""
    drawn = thinned([point for point in points if math.isfinite(point[1])], 60)
    if len(drawn) < 2:
        return element("span", class_="wb-spark")
    x, y = span_of([point[0] for point in drawn]), span_of([point[1] for point in drawn])
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


def _svg(lines: Sequence[Line], title: str, x: Span, y: Span, marks: Sequence[Mark], limits: Sequence[Mark]) -> Html:
    paths = [
        element(
            "path",
            d=_path(line.points, x, y),
            class_=f"wb-line wb-line-{line.style}",
            style=f"stroke:var(--wb-{line.colour})",
            data_name=line.label or title,
        )
        for line in lines
    ]
    uprights = [_upright(mark, x) for mark in marks]
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
        words.append(f"{'L' if pen_down else 'M'}{_WIDTH * x.share(px):.1f} {_HEIGHT * (1 - y.share(py)):.2f}")
        pen_down = True
    return " ".join(words) + (" h2" if len(words) == 1 else "")


def _upright(mark: Mark, x: Span) -> Html:
    place = f"{_WIDTH * x.share(mark.at):.1f}"
    style = f"stroke:var(--wb-{mark.colour})"
    top = 0.94 * _HEIGHT if mark.quiet else 0.0
    kind = "wb-line" if mark.quiet else "wb-line wb-line-mark"
    return element("path", d=f"M{place} {top:.0f} V{_HEIGHT:.0f}", class_=kind, style=style)


def _level(limit: Mark, y: Span) -> Html:
    place = f"{_HEIGHT * (1 - y.share(limit.at)):.2f}"
    style = f"stroke:var(--wb-{limit.colour})"
    return element("path", d=f"M0 {place} H{_WIDTH:.0f}", class_="wb-line wb-line-mark", style=style)


def _mark_labels(marks: Sequence[Mark], x: Span) -> list[Html]:
    """Return the labels of marks; one that would lie on the label before it stands a line lower."""
    labels, row, before = [], 0, -math.inf
    for mark in sorted(marks, key=lambda mark: mark.at):
        share = 100 * x.share(mark.at)
        if mark.quiet:
            labels.append(element("span", class_="wb-mark-foot", style=f"left:{share:.2f}%", title=mark.note))
            continue
        row = (row + 1) % 4 if share - before < _LABEL_SHARE else 0
        before = share
        labels.append(
            element(
                "span",
                mark.label,
                class_=f"wb-mark wb-{mark.colour} {'wb-mark-left' if share > 70 else ''}",
                style=f"left:{share:.2f}%;top:{14 * row}px",
                title=mark.note or mark.label,
            )
        )
    return labels


def _limit_label(limit: Mark, y: Span) -> Html:
    return element("span", limit.label, class_="wb-limit", style=f"bottom:{100 * y.share(limit.at):.2f}%")


def _dot(dot: Dot, x: Span, y: Span) -> Html:
    at = f"left:{100 * x.share(dot.x):.2f}%;bottom:{100 * y.share(dot.y):.2f}%"
    point = element("i", style=f"color:var(--wb-{dot.colour})")
    kind = "wb-dot wb-dot-strong" if dot.strong else "wb-dot"
    return element("span", point, element("span", dot.label), class_=kind, style=at, title=dot.note or dot.label)


def _grid(y: Span, unit: str) -> Html:
    ticks = [
        element(
            "span",
            element("span", number_format.brief(value) + (f" {unit}" if unit else ""), class_="wb-number"),
            class_="wb-tick",
            style=f"bottom:{100 * y.share(value):.2f}%",
        )
        for value in y.ticks()
    ]
    return element("div", *ticks, class_="wb-grid")


def _x_axis(x: Span, title: str, text: Callable[[float], str]) -> Html:
    return element(
        "div",
        element("span", text(x.low), class_="wb-number"),
        element("span", title),
        element("span", text(x.high), class_="wb-number"),
        class_="wb-x-axis",
    )
