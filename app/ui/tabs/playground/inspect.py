"""Inspect: what an adapter changed, layer by layer, the rank it needs, and what 4-bit storage costs the base."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import gradio as gr

from app.errors import WorkbenchError
from app.export.requests import (
    BlendRequest,
    Inspection,
    InspectRequest,
    LayerFigures,
    WeightedAdapter,
    read_inspection,
    start_blend,
    start_inspect,
)
from app.jobs import directory as jobs
from app.jobs.directory import JobDirectory
from app.runs.on_disk import artifacts
from app.ui.components import messages
from app.ui.components.charts import Line, Mark, chart
from app.ui.components.handlers import EVENT_DEFAULTS, Parts, Updates, handler, held, listed, raw, text
from app.ui.components.markup import Html, element
from app.ui.components.number_fields import NumberField
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import CLICK_JS, PageContext
from app.ui.tabs import job_progress
from app.ui.tabs.playground import blend, view
from app.ui.tabs.playground.chooser import Chooser
from app.workspace import Workspace

_LAYER = re.compile(r"\.(\d+)\.")
# What a cell of the table can show: the layer's figure, and how it is written.
FIGURES = ("relative", "kept_rank", "effective_rank", "nf4_error", "int4_error")
_SHARES = {"relative", "nf4_error", "int4_error"}
_MOST_ROWS = 200
RANK = NumberField("wb-shrink-rank", Key("play.blend_rank"), 1, 8192)


def start(workspace: Workspace, value: object) -> JobDirectory:
    """Hand in an inspection of the chosen adapter. Raises WorkbenchError."""
    artifact = artifacts.find(workspace, value)
    artifacts.refuse_whole([artifact])
    return start_inspect(workspace, InspectRequest(str(artifact.folder), artifact.config.model.name))


def shrink(workspace: Workspace, value: object, rank: object) -> JobDirectory:
    """Hand in a copy of the chosen adapter that is cut to a rank. Raises WorkbenchError."""
    artifact = artifacts.find(workspace, value)
    artifacts.refuse_whole([artifact])
    wanted = RANK.whole(rank)
    out = blend.free_folder(workspace, f"{artifact.column}-rank-{wanted}")
    parts, run = [WeightedAdapter(str(artifact.folder))], blend.origin(artifact)
    return start_blend(workspace, BlendRequest(parts, str(out), method="svd", rank=wanted, run=run))


def newest(workspace: Workspace, value: object) -> JobDirectory | None:
    """Return the newest inspection of an adapter."""
    try:
        folder = str(artifacts.find(workspace, value).folder.absolute())
    except WorkbenchError:
        return None
    found = reversed(jobs.all_jobs(workspace, "inspect"))
    return next((job for job in found if job.config.get("adapter") == folder), None)


def figures_of(layer: LayerFigures) -> dict[str, float | None]:
    """Return the figures of FIGURES of one layer."""
    return {
        "relative": layer.relative,
        "kept_rank": layer.kept_rank,
        "effective_rank": layer.effective_rank,
        "nf4_error": layer.nf4_error,
        "int4_error": layer.int4_error,
    }


def by_place(found: Inspection, figure: str) -> dict[tuple[str, str], float]:
    """Return one figure by (row, column) of the table: the layer's number and the module's short name."""
    values = ((place(layer.module), figures_of(layer)[figure]) for layer in found.layers)
    return {at: value for at, value in values if value is not None}


def place(module: str) -> tuple[str, str]:
    """Return the row and the column of a module: the number of its block, and its name in it."""
    match = _LAYER.search(f".{module}")
    return (match[1] if match else "", module.rsplit(".", 1)[-1])


def sentence(job: JobDirectory, t: Translator) -> Html:
    """Return what an inspection found, in one sentence."""
    found = job.status().result
    size = found.get("largest_relative")
    largest = f"{100 * size:.1f} %" if isinstance(size, float) else "-"
    return messages.sentence(
        t("play.inspected", layers=found["layers"], largest=largest, rank=found["rank"], kept=found["kept_rank"])
    )


def table(found: Inspection, figure: str, t: Translator) -> Html:
    """Return one figure of all layers as a table; the darker a cell, the larger its value."""
    values = by_place(found, figure)
    if not values:
        return messages.note(t("play.no_figure"))
    columns = list(dict.fromkeys(column for _, column in values))
    rows = sorted({row for row, _ in values}, key=lambda row: (len(row), row))[:_MOST_ROWS]
    span = (min(values.values()), max(values.values()))
    names = {place(layer.module): layer.module for layer in found.layers}
    head = element("tr", element("th", t("play.layer")), *(element("th", column) for column in columns))
    body = []
    for row in rows:
        cells = [_cell(values.get((row, column)), span, figure, names.get((row, column), "")) for column in columns]
        body.append(element("tr", element("th", row), *cells))
    drawn = element("table", element("thead", head), element("tbody", *body))
    return element("div", drawn, class_="wb-table wb-heat", tabindex="0")


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


def spectrum(found: Inspection, module: str, t: Translator) -> Html:
    """Return the singular values of one layer as a chart; of the first layer when none is picked."""
    layer = next((one for one in found.layers if one.module == module), found.layers[0])
    points = [(float(number), float(value)) for number, value in enumerate(layer.values, 1)]
    kept = layer.kept_rank
    marks = [Mark(float(kept), t("play.kept_mark", rank=kept))] if kept else []
    title = t("play.spectrum", module=layer.module)
    return chart(
        [Line(points, "", "series-0")], title, marks=marks, x_title=t("play.number"), height_px=180, from_zero=True
    )


def shown(job: JobDirectory | None, figure: str, module: str, t: Translator) -> tuple[Html, Html]:
    """Return the sentence or the progress of an inspection, and its tables."""
    if job is None:
        return Html(""), messages.empty(t("play.no_inspection"), t("play.no_inspection_text"), "search")
    found = read_inspection(job)
    if found is None or job.status().state != "finished" or not found.layers:
        return job_progress.line(job, t), Html("")
    files = view.saving(
        t, ("inspection.json", "JSON", json.dumps({"layers": [asdict(layer) for layer in found.layers]}, indent=1))
    )
    notes: Sequence[Html] = [messages.note(note) for note in found.notes]
    help_ = messages.note(t(f"play.figure_help.{figure}"))
    return sentence(job, t), element("div", help_, table(found, figure, t), spectrum(found, module, t), *notes, files)


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


def build(context: PageContext, tab: gr.Tab, shared: Chooser) -> gr.Dropdown:
    """Build the mode, wire it, and return the choice of the adapter."""
    make = context.translated.make
    chosen = make(gr.Dropdown, label=Key("play.inspected_adapter"), choices=[], elem_id="wb-inspected")
    with gr.Row(elem_classes="wb-actions"):
        begin = make(gr.Button, value=Key("play.inspect"), variant="primary", elem_id="wb-inspect", scale=0)
    line, wrong = gr.HTML(elem_id="wb-inspect-line"), gr.HTML(elem_id="wb-inspect-error", js_on_load=messages.AT_FIELDS)
    choices: list[Any] = [(Key(f"play.figure.{name}"), name) for name in FIGURES]
    figure = make(gr.Radio, label=Key("play.figure"), choices=choices, value=FIGURES[0], elem_id="wb-figure")
    tables = gr.HTML(elem_id="wb-inspection", js_on_load=CLICK_JS)
    make(gr.HTML, value=Key("play.shrink_help"), elem_classes="wb-heading")
    with gr.Row(elem_classes="wb-actions wb-end-row"):
        rank = make(gr.Number, label=RANK.label, value=8, min_width=120, scale=0, elem_id=RANK.element_id)
        cut = make(gr.Button, value=Key("play.shrink"), elem_id="wb-shrink", scale=0)
    controls = _Controls(
        chosen, begin, figure, rank, cut, line, wrong, tables, gr.State(""), gr.State(""),
        gr.HTML(elem_id="wb-shrunk"),
    )  # fmt: skip
    _wire_inspection(context, tab, shared, controls)
    _wire_shrinking(context, controls)
    return chosen


def _wire_inspection(context: PageContext, tab: gr.Tab, shared: Chooser, c: _Controls) -> None:
    workspace, digest = context.workspace, gr.State(0)

    def offer(value: object, values: list[object]) -> Updates:
        offered = artifacts.choices(workspace, values)
        known = [one for _, one in offered]
        first = values[0] if values else next(iter(known), None)
        return Updates({c.chosen: gr.update(choices=offered, value=value if value in known else first)})

    def begin(t: Translator, value: object) -> Html:
        try:
            start(workspace, value)
        except WorkbenchError as error:
            return messages.problem(error, t)
        return Html("")

    def look(t: Translator, value: object, figure: object, module: str, seen: object) -> Updates:
        job = newest(workspace, value)
        mark = job_progress.mark(t.language, value, figure, module, jobs=[job])
        if mark == seen:
            return Updates()
        known = figure if isinstance(figure, str) and figure in FIGURES else FIGURES[0]
        line, tables = shown(job, known, module, t)
        done = job.status().result.get("kept_rank") if job is not None else None
        rank = {c.rank: gr.update(value=done)} if done else {}
        return Updates({c.line: line, c.tables: tables, digest: mark, **rank})

    t = context.language_field
    reads: Parts = [t, raw(c.chosen), raw(c.figure), text(c.module), held(digest)]
    looked = handler(look, reads, [c.line, c.tables, digest, c.rank])
    gr.on([context.blocks.load, tab.select], **handler(offer, [raw(c.chosen), listed(shared.chosen)], [c.chosen]))
    c.begin.click(**handler(begin, [t, raw(c.chosen)], [c.wrong])).then(**looked)
    changes = [control.change for control in (c.chosen, c.figure, c.module)]
    gr.on([context.poll_timers["playground"].tick, context.language.change, *changes], **looked)
    c.tables.select(**handler(lambda picked: picked, shows=[c.module]))


def _wire_shrinking(context: PageContext, c: _Controls) -> None:
    workspace, t = context.workspace, context.language_field

    def cut(t: Translator, value: object, rank: object) -> Updates:
        try:
            return Updates({c.made: shrink(workspace, value, rank).id, c.wrong: Html("")})
        except WorkbenchError as error:
            return Updates({c.wrong: messages.problem(error, t)})

    c.cut.click(**handler(cut, [t, raw(c.chosen), raw(c.rank)], [c.made, c.wrong]))
    gr.on([c.chosen.input, c.rank.input], None, None, c.wrong, js="() => ''", **EVENT_DEFAULTS)
    gr.on(
        [context.poll_timers["playground"].tick, c.made.change, context.language.change],
        **handler(lambda t, made: blend.outcome(workspace, made, t), [t, held(c.made)], [c.result]),
    )
