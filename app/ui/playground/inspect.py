"""Inspect: what an adapter changed, layer by layer, the rank it needs, and what 4-bit storage costs the base."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.errors import WorkbenchError
from app.export.requests import INSPECTION_FILE, start_blend, start_inspect
from app.jobs import directory as jobs
from app.jobs.directory import JobDirectory
from app.ui import notices, trials
from app.ui.charts import Line, Mark, chart
from app.ui.frame import PICK, QUIET, Frame, picked
from app.ui.language import Key, Speech
from app.ui.markup import Html, element
from app.ui.playground import blend, progress, view
from app.ui.playground.chooser import Chooser
from app.workspace import Workspace

_LAYER = re.compile(r"\.(\d+)\.")
# What a cell of the table can show: the layer's figure, and how it is written.
FIGURES = ("relative", "kept_rank", "effective_rank", "nf4_error", "int4_error")
_SHARES = {"relative", "nf4_error", "int4_error"}
_MOST_ROWS = 200


def start(workspace: Workspace, value: Any) -> JobDirectory:
    """Hand in an inspection of the chosen adapter. Raises WorkbenchError."""
    trial = trials.find(workspace, value)
    trials.refuse_whole([trial])
    return start_inspect(workspace, trial.folder, base=trial.config.model.name)


def shrink(workspace: Workspace, value: Any, rank: Any) -> JobDirectory:
    """Hand in a copy of the chosen adapter that is cut to a rank. Raises WorkbenchError."""
    trial = trials.find(workspace, value)
    trials.refuse_whole([trial])
    wanted = int(rank) if isinstance(rank, (int, float)) else 0
    out = blend.free_folder(workspace, f"{trial.column}-rank-{wanted}")
    return start_blend(workspace, [(trial.folder, 1.0)], out, method="svd", rank=wanted, run=blend.origin(trial))


def newest(workspace: Workspace, value: Any) -> JobDirectory | None:
    """Return the newest inspection of an adapter."""
    try:
        folder = str(trials.find(workspace, value).folder.absolute())
    except WorkbenchError:
        return None
    found = reversed(jobs.all_jobs(workspace, "inspect"))
    return next((job for job in found if job.config.get("adapter") == folder), None)


@dataclass(frozen=True)
class Inspection:
    """The figures of an adapter's layers, as the job left them."""

    layers: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]

    def figure(self, name: str) -> dict[tuple[str, str], float]:
        """Return one figure by (row, column) of the table: the layer's number and the module's short name."""
        return {place(str(layer["module"])): float(layer[name]) for layer in self.layers if layer.get(name) is not None}


def place(module: str) -> tuple[str, str]:
    """Return the row and the column of a module: the number of its block, and its name in it."""
    match = _LAYER.search(f".{module}")
    return (match[1] if match else "", module.rsplit(".", 1)[-1])


def read(job: JobDirectory) -> Inspection | None:
    """Return the result of an inspection, or None."""
    try:
        raw = json.loads((job.result / INSPECTION_FILE).read_text(encoding="utf-8"))
        return Inspection(tuple(raw["layers"]), tuple(str(note) for note in raw["notes"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def sentence(job: JobDirectory, say: Speech) -> Html:
    """Return what an inspection found, in one sentence."""
    found = job.status().result
    size = found.get("largest_relative")
    largest = f"{100 * size:.1f} %" if isinstance(size, float) else "-"
    return notices.sentence(
        say("play.inspected", layers=found["layers"], largest=largest, rank=found["rank"], kept=found["kept_rank"])
    )


def table(found: Inspection, figure: str, say: Speech) -> Html:
    """Return one figure of all layers as a table; the darker a cell, the larger its value."""
    values = found.figure(figure)
    if not values:
        return notices.note(say("play.no_figure"))
    columns = list(dict.fromkeys(column for _, column in values))
    rows = sorted({row for row, _ in values}, key=lambda row: (len(row), row))[:_MOST_ROWS]
    span = (min(values.values()), max(values.values()))
    names = {place(str(layer["module"])): str(layer["module"]) for layer in found.layers}
    head = element("tr", element("th", say("play.layer")), *(element("th", column) for column in columns))
    body = []
    for row in rows:
        cells = [_cell(values.get((row, column)), span, figure, names.get((row, column), "")) for column in columns]
        body.append(element("tr", element("th", row), *cells))
    drawn = element("table", element("thead", head), element("tbody", *body))
    return element("div", drawn, class_="wb-table wb-heat")


def _cell(value: float | None, span: tuple[float, float], figure: str, module: str) -> Html:
    if value is None:
        return element("td")
    low, high = span
    shade = f"--wb-heat:{100 * (value - low) / (high - low) if high > low else 0:.0f}%"
    button = element("button", _said(value, figure), type="button", data_pick=module, title=module)
    return element("td", button, style=shade)


def _said(value: float, figure: str) -> str:
    if figure in _SHARES:
        return f"{100 * value:.2f} %"
    return f"{value:.0f}" if figure == "kept_rank" else f"{value:.1f}"


def spectrum(found: Inspection, module: str, say: Speech) -> Html:
    """Return the singular values of one layer as a chart; of the first layer when none is picked."""
    layer = next((one for one in found.layers if one["module"] == module), found.layers[0])
    points = [(float(number), float(value)) for number, value in enumerate(layer["values"], 1)]
    marks = (
        [Mark(float(layer["kept_rank"]), say("play.kept_mark", rank=layer["kept_rank"]))] if layer["kept_rank"] else []
    )
    title = say("play.spectrum", module=str(layer["module"]))
    return chart(
        [Line(points, "", "series-0")], title, marks=marks, x_title=say("play.number"), height_px=180, from_zero=True
    )


def shown(job: JobDirectory | None, figure: str, module: str, say: Speech) -> tuple[Html, Html]:
    """Return the sentence or the progress of an inspection, and its tables."""
    if job is None:
        return Html(""), notices.empty(say("play.no_inspection"), say("play.no_inspection_text"))
    found = read(job)
    if found is None or job.status().state != "finished" or not found.layers:
        return progress.line(job, say), Html("")
    files = view.saving(say, ("inspection.json", "JSON", json.dumps({"layers": found.layers}, indent=1)))
    notes: Sequence[Html] = [notices.note(note) for note in found.notes]
    help_ = notices.note(say(f"play.figure_help.{figure}"))
    return sentence(job, say), element(
        "div", help_, table(found, figure, say), spectrum(found, module, say), *notes, files
    )


@dataclass(frozen=True)
class _Controls:
    chosen: gr.Dropdown
    begin: gr.Button
    figure: gr.Radio
    rank: gr.Number
    cut: gr.Button
    line: gr.HTML
    wrong: gr.HTML
    tables: gr.HTML
    module: gr.State
    made: gr.State
    result: gr.HTML


def build(frame: Frame, tab: gr.Tab, shared: Chooser) -> None:
    """Build the mode and wire it."""
    make = frame.wording.make
    chosen = make(gr.Dropdown, label=Key("play.inspected_adapter"), choices=[], elem_id="wb-inspected")
    with gr.Row(elem_classes="wb-actions"):
        begin = make(gr.Button, value=Key("play.inspect"), variant="primary", elem_id="wb-inspect", scale=0)
    line, wrong = gr.HTML(elem_id="wb-inspect-line"), gr.HTML()
    choices: list[Any] = [(Key(f"play.figure.{name}"), name) for name in FIGURES]
    figure = make(gr.Radio, label=Key("play.figure"), choices=choices, value=FIGURES[0], elem_id="wb-figure")
    tables = gr.HTML(elem_id="wb-inspection", js_on_load=PICK)
    make(gr.HTML, value=Key("play.shrink_help"), elem_classes="wb-heading")
    with gr.Row(elem_classes="wb-actions wb-end-row"):
        rank = make(gr.Number, label=Key("play.blend_rank"), precision=0, value=8, min_width=120, scale=0)
        cut = make(gr.Button, value=Key("play.shrink"), elem_id="wb-shrink", scale=0)
    controls = _Controls(
        chosen, begin, figure, rank, cut, line, wrong, tables, gr.State(""), gr.State(""),
        gr.HTML(elem_id="wb-shrunk"),
    )  # fmt: skip
    _wire_inspection(frame, tab, shared, controls)
    _wire_shrinking(frame, controls)


def _wire_inspection(frame: Frame, tab: gr.Tab, shared: Chooser, controls: _Controls) -> None:
    workspace, digest = frame.workspace, gr.State(0)

    def offer(value: Any, values: Any) -> Any:
        offered = trials.choices(workspace, values)
        known = [one for _, one in offered]
        first = values[0] if values else next(iter(known), None)
        return gr.update(choices=offered, value=value if value in known else first)

    def begin(value: Any) -> Html:
        try:
            start(workspace, value)
        except WorkbenchError as error:
            return notices.problem(error)
        return Html("")

    def look(language: Any, value: Any, figure: Any, module: Any, seen: Any) -> list[Any]:
        job = newest(workspace, value)
        mark = progress.mark(language, value, figure, str(module), jobs=[job])
        if mark == seen:
            return [gr.skip()] * 4
        found = shown(job, figure if figure in FIGURES else FIGURES[0], str(module), Speech(language))
        done = job.status().result.get("kept_rank") if job is not None else None
        return [*found, mark, gr.update(value=done) if done else gr.skip()]

    inputs = [frame.language, controls.chosen, controls.figure, controls.module, digest]
    outputs = [controls.line, controls.tables, digest, controls.rank]
    gr.on([frame.blocks.load, tab.select], offer, [controls.chosen, shared.chosen], controls.chosen, **QUIET)
    controls.begin.click(begin, controls.chosen, controls.wrong, **QUIET).then(look, inputs, outputs, **QUIET)
    changes = [control.change for control in (controls.chosen, controls.figure, controls.module)]
    gr.on([frame.watches["playground"].tick, frame.language.change, *changes], look, inputs, outputs, **QUIET)

    def pick(event: gr.EventData) -> str:
        return picked(event)

    controls.tables.select(pick, None, controls.module, **QUIET)


def _wire_shrinking(frame: Frame, controls: _Controls) -> None:
    workspace = frame.workspace

    def cut(value: Any, rank: Any) -> list[Any]:
        try:
            return [shrink(workspace, value, rank).id, Html("")]
        except WorkbenchError as error:
            return [gr.skip(), notices.problem(error)]

    controls.cut.click(cut, [controls.chosen, controls.rank], [controls.made, controls.wrong], **QUIET)
    gr.on(
        [frame.watches["playground"].tick, controls.made.change, frame.language.change],
        lambda language, made: blend.outcome(workspace, made, Speech(language)),
        [frame.language, controls.made],
        controls.result,
        **QUIET,
    )
