"""Bars as HTML strings: memory as stacked parts, short bars to compare, a histogram with a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.ui.components import number_format
from app.ui.components.markup import Html, element


@dataclass(frozen=True)
class Part:
    """One part of a stacked bar: a role's name, what it is called, and its bytes."""

    name: str
    label: str
    size_bytes: int


def stacked(
    parts: Sequence[Part], limit_bytes: int | None, limit_label: str, label: str, reserve: Part | None = None
) -> Html:
    """Return a bar of parts with its legend, and a line where the free memory ends.

    `reserve` is what is kept free behind that line, up to the card's end: it is hatched.
    """
    shown = [part for part in parts if part.size_bytes > 0]
    total = sum(part.size_bytes for part in shown)
    kept = reserve if reserve is not None and limit_bytes and reserve.size_bytes > 0 else None
    full = max(total, (limit_bytes or 0) + (kept.size_bytes if kept else 0), 1) * 1.03
    pieces = [
        element(
            "span",
            class_=f"wb-part wb-part-{part.name.replace('_', '-')}",
            style=f"width:{100 * part.size_bytes / full:.3f}%",
            title=_title(part),
        )
        for part in shown
    ]
    line = _limit(limit_bytes, full, limit_label) if limit_bytes else ()
    hatched = _hatched(kept, limit_bytes or 0, full) if kept else ""
    bar = element("div", *pieces, hatched, *line, class_="wb-stack", role="img", aria_label=label)
    return element("div", bar, _legend([*shown, *([kept] if kept else [])]), class_="wb-stacked")


def _title(part: Part) -> str:
    size = part.size_bytes
    return f"{part.label}: {number_format.gigabytes(size)} ({number_format.exactly(size)})"


def _hatched(reserve: Part, limit_bytes: int, full: float) -> Html:
    return element(
        "span",
        class_="wb-stack-reserve",
        style=f"left:{100 * limit_bytes / full:.3f}%;width:{100 * reserve.size_bytes / full:.3f}%",
        title=f"{reserve.label}: {number_format.gigabytes(reserve.size_bytes)}",
    )


def _limit(limit_bytes: int, full: float, label: str) -> tuple[Html, Html]:
    share = 100 * limit_bytes / full
    side = "wb-limit-end" if share > 60 else ""
    return (
        element("span", class_="wb-stack-limit", style=f"left:{share:.3f}%"),
        element("span", label, class_=f"wb-stack-limit-label {side}", style=f"left:{share:.3f}%"),
    )


def _legend(parts: Sequence[Part]) -> Html:
    items = [
        element(
            "li",
            element("i", class_=f"wb-swatch wb-part-{part.name.replace('_', '-')}"),
            element("span", part.label),
            number_format.size(part.size_bytes),
        )
        for part in parts
    ]
    return element("ul", *items, class_="wb-parts")


Bin = tuple[int, int]


def histogram(bins: Sequence[Bin], limit: int, *, title: str, unit: str, limit_label: str) -> Html:
    """Return how often lengths occur, with a line at the limit; what lies beyond it is coloured as a warning.

    A bin is (highest length in it, number of rows); a limit far above the longest row is named and not drawn.
    """
    merged: dict[int, int] = {}
    for up_to, rows in bins:
        merged[up_to] = merged.get(up_to, 0) + rows
    longest = max(merged, default=1)
    in_sight = limit <= 3 * longest
    high = max(longest, limit if in_sight else 0) + 1
    top = max([1, *merged.values()])
    ends = sorted(merged)
    starts = [max(0, 2 * ends[0] - (ends[1] if len(ends) > 1 else ends[0])), *ends[:-1]] if ends else []
    columns = [
        _column(start, end, merged[end], merged[end] / top, high, end > limit, unit)
        for start, end in zip(starts, ends, strict=True)
    ]
    line = _limit(limit, high, limit_label) if in_sight else ()
    plot = element("div", *columns, *line, class_="wb-histogram", role="img", aria_label=title)
    axis = element(
        "div",
        element("span", "0", class_="wb-number"),
        element("span", unit),
        element("span", f"{high - 1:,}", class_="wb-number"),
        class_="wb-x-axis",
    )
    beyond = "" if in_sight else element("span", limit_label, class_="wb-legend")
    head = element("div", element("span", title, class_="wb-chart-title"), beyond, class_="wb-chart-head")
    return element("figure", head, plot, axis, class_="wb-chart")


def _column(start: int, end: int, rows: int, share: float, high: int, over: bool, unit: str) -> Html:
    place = f"left:{100 * start / high:.2f}%;width:{100 * max(end - start, 0.5) / high:.2f}%"
    return element(
        "span",
        class_="wb-column" + (" wb-over" if over else ""),
        style=f"{place};height:{100 * share:.2f}%",
        title=f"{start + 1:,}-{end:,} {unit}: {rows:,}",
    )
