"""Runs side by side as the page shows them: curves over one another, figures and settings as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.jobs.directory import JobDirectory
from app.runs.results import curves
from app.runs.results.comparison import Comparison, Row
from app.runs.results.curves import Curves
from app.runs.results.series import Point
from app.ui.components import number_format
from app.ui.components.charts import Line, chart
from app.ui.components.markup import Html, element
from app.ui.shell.language import Translator
from app.ui.shell.status_bar import job_name

# As many runs as there are colours for their curves.
MOST_RUNS = 6
_POINTS = 300


def overlay(jobs: Sequence[JobDirectory], by_time: bool, log: bool, t: Translator) -> Html:
    """Return the losses of several runs in one chart, by step or by time spent training."""
    lines: list[Line] = []
    for index, job in enumerate(jobs):
        lines += _lines(curves.read(job.metrics_file), job_name(job, t), f"series-{index}", by_time)
    return chart(
        lines,
        t("train.loss"),
        x_title=t("compare.time" if by_time else "train.steps"),
        x_text=number_format.duration if by_time else number_format.brief,
        height_px=280,
        empty=t("train.no_points"),
        log=log,
    )


def _lines(found: Curves, name: str, colour: str, by_time: bool) -> list[Line]:
    loss = found["loss"]

    def placed(points: list[Point]) -> list[Point]:
        return [(found.clock.at(step) or 0.0, value) for step, value in points] if by_time else points

    return [
        Line(placed(loss.thinned(_POINTS)), "", colour, "faint"),
        Line(placed(loss.smoothed(_POINTS)), name, colour),
        Line(placed(found["eval_loss"].thinned(_POINTS)), "", colour, "dotted"),
    ]


def table(found: Comparison, only_differences: bool, t: Translator) -> Html:
    """Return figures and settings, a column a run; the best of each figure is marked."""
    names = [
        element("th", element("i", class_="wb-key", style=f"border-color:var(--wb-series-{index})"), name)
        for index, name in enumerate(found.names)
    ]
    settings = found.differing if only_differences else found.settings
    rows = [
        *(_line(row, t(f"compare.{row.name}"), t, row.name) for row in found.figures),
        *(_line(row, t(f"setting.{row.name}.label"), t) for row in settings),
    ]
    if only_differences and not settings:
        none = element("td", t("compare.no_differences"), colspan=len(names) + 1, class_="wb-muted")
        rows.append(element("tr", none))
    head = element("thead", element("tr", element("th", ""), *names))
    return element(
        "div", element("table", head, element("tbody", *rows)), class_="wb-table wb-compare-table", tabindex="0"
    )


def _line(row: Row, label: str, t: Translator, figure: str = "") -> Html:
    cells = []
    for index, value in enumerate(row.values):
        best = index in row.best
        mark = element("span", t("compare.best"), class_="wb-best") if best else Html("")
        text = _shown(row.name, value, t)
        strong = " wb-differs" if row.differs and not figure else ""
        full = str(value) if row.name == "data.file" else None
        cells.append(element("td", text, mark, class_="wb-number" + strong, title=full))
    return element("tr", element("td", label, class_="wb-muted", title=row.name), *cells)


def _shown(name: str, value: Any, t: Translator) -> str:
    """Return a value as a person reads it."""
    if value is None:
        return "-"
    if name == "state":
        return t.known(f"state.{value}", str(value))
    if name == "seconds":
        return number_format.duration(value)
    if name == "memory_bytes":
        return number_format.gigabytes(value)
    if name == "tokens_per_s":
        return number_format.count(value)
    if name.endswith(("_loss", "_validation")):
        return f"{value:.4f}"
    if name == "data.file":
        return Path(value).name
    return ", ".join(str(item) for item in value) if isinstance(value, (list, tuple)) else str(value)
