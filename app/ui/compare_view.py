"""Runs side by side as the page shows them: curves over one another, figures and settings as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.jobs import curves
from app.jobs.comparison import Comparison, Row
from app.jobs.curves import Curves
from app.jobs.directory import JobDirectory
from app.jobs.series import Point, Series
from app.ui import figures
from app.ui.charts import Line, chart
from app.ui.language import Speech
from app.ui.markup import Html, element
from app.ui.strip import job_name

# As many runs as there are colours for their curves.
MOST_RUNS = 6
_POINTS = 300


def overlay(jobs: Sequence[JobDirectory], by_time: bool, log: bool, say: Speech) -> Html:
    """Return the losses of several runs in one chart, by step or by time spent training."""
    lines: list[Line] = []
    for index, job in enumerate(jobs):
        lines += _lines(curves.read(job.metrics_file), job_name(job, say), f"series-{index}", by_time)
    return chart(
        lines,
        say("train.loss"),
        x_title=say("compare.time" if by_time else "train.steps"),
        x_text=figures.duration if by_time else figures.brief,
        height_px=280,
        empty=say("train.no_points"),
        log=log,
    )


def _lines(found: Curves, name: str, colour: str, by_time: bool) -> list[Line]:
    loss = found["loss"]

    def placed(points: list[Point]) -> list[Point]:
        return [(_seconds(found.clock, step), value) for step, value in points] if by_time else points

    return [
        Line(placed(loss.thinned(_POINTS)), "", colour, "faint"),
        Line(placed(loss.smoothed(_POINTS)), name, colour),
        Line(placed(found["eval_loss"].thinned(_POINTS)), "", colour, "dotted"),
    ]


def _seconds(clock: Series, step: float) -> float:
    return clock.at(step) or 0.0


def table(found: Comparison, only_differences: bool, say: Speech) -> Html:
    """Return figures and settings, a column a run; the best of each figure is marked."""
    names = [
        element("th", element("i", class_="wb-key", style=f"border-color:var(--wb-series-{index})"), name)
        for index, name in enumerate(found.names)
    ]
    settings = found.differing if only_differences else found.settings
    rows = [
        *(_line(row, say(f"compare.{row.name}"), say, row.name) for row in found.figures),
        *(_line(row, say(f"setting.{row.name}.label"), say) for row in settings),
    ]
    if only_differences and not settings:
        none = element("td", say("compare.no_differences"), colspan=len(names) + 1, class_="wb-muted")
        rows.append(element("tr", none))
    head = element("thead", element("tr", element("th", ""), *names))
    return element("div", element("table", head, element("tbody", *rows)), class_="wb-table wb-compare-table")


def _line(row: Row, label: str, say: Speech, figure: str = "") -> Html:
    cells = []
    for index, value in enumerate(row.values):
        best = index in row.best
        mark = element("span", say("compare.best"), class_="wb-best") if best else Html("")
        text = _shown(row.name, value, say)
        strong = " wb-differs" if row.differs and not figure else ""
        full = str(value) if row.name == "data.file" else None
        cells.append(element("td", text, mark, class_="wb-number" + strong, title=full))
    return element("tr", element("td", label, class_="wb-muted", title=row.name), *cells)


def _shown(name: str, value: Any, say: Speech) -> str:
    """Return a value as a person reads it."""
    if value is None:
        return "-"
    if name == "state":
        return say.known(f"state.{value}", str(value))
    if name == "seconds":
        return figures.duration(value)
    if name == "memory_bytes":
        return figures.gigabytes(value)
    if name == "tokens_per_s":
        return figures.count(value)
    if name.endswith(("_loss", "_validation")):
        return f"{value:.4f}"
    if name == "data.file":
        return Path(value).name
    return ", ".join(str(item) for item in value) if isinstance(value, (list, tuple)) else str(value)
