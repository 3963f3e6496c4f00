"""The part of the Train tab that puts ticked runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import gradio as gr

from app.errors import WorkbenchError
from app.jobs import directory as jobs
from app.jobs.directory import JobDirectory
from app.runs.on_disk import artifacts
from app.runs.results import comparison
from app.ui.components import messages
from app.ui.components.handlers import Control, Parts, Updates, handler, held
from app.ui.components.markup import Html
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import PageContext
from app.ui.tabs.train import compare_view
from app.workspace import Workspace

_POLL_S = 4.0
_NOTHING = Html("")
# The text of a file and its name are put together by the handler; the browser saves it without asking the server again.
SAVE_JS = """(file) => {
  if (!file) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([file.text], { type: "text/csv" }));
  link.download = file.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}"""


def ticked_runs(workspace: Workspace, ticked: object) -> list[JobDirectory]:
    """Return the ticked runs that are still there, in the order they were ticked."""
    found = []
    for job_id in ticked if isinstance(ticked, list) else []:
        try:
            found.append(jobs.find(workspace, job_id))
        except (WorkbenchError, TypeError):  # removed since it was ticked, or no id at all
            continue
    return [job for job in found if job.readable][: compare_view.MOST_RUNS]


def toggled(ticked: object, job_id: str) -> list[str]:
    """Return the ticks with one set or taken back; the oldest goes when there are too many."""
    before = [one for one in ticked if isinstance(one, str)] if isinstance(ticked, list) else []
    after = [one for one in before if one != job_id] if job_id in before else [*before, job_id]
    return after[-compare_view.MOST_RUNS :]


def members_of(workspace: Workspace, sweep: str) -> list[str]:
    """Return the newest runs of a sweep, as many as can be compared."""
    found = [job.id for job in artifacts.training_jobs(workspace) if str(job.job.get("sweep") or "") == sweep]
    return found[-compare_view.MOST_RUNS :]


@dataclass(frozen=True)
class Choices:
    """How runs are compared: over time in place of steps, on a log scale, and only the settings that differ."""

    by_time: bool = False
    log_scale: bool = False
    only_differences: bool = True


@dataclass(frozen=True)
class Content:
    """What the panel shows: nothing but a note where there are no two runs to compare."""

    note: Html
    chart: Html = _NOTHING
    table: Html = _NOTHING
    shown: bool = False


def content(workspace: Workspace, ticked: object, choices: Choices, t: Translator) -> Content:
    """Return the chart and the table of the ticked runs."""
    found = ticked_runs(workspace, ticked)
    if len(found) < 2:
        return Content(messages.note(t("compare.one" if found else "compare.none")) if found else Html(""))
    chart = compare_view.overlay(found, choices.by_time, choices.log_scale, t)
    table = compare_view.table(comparison.compare(found), choices.only_differences, t)
    return Content(messages.note(t("compare.note")), chart, table, shown=True)


def csv_file(workspace: Workspace, ticked: object, kind: str, only_differences: bool) -> dict[str, str] | None:
    """Return the name and the text of a CSV file of the ticked runs: the table or the curves."""
    found = ticked_runs(workspace, ticked)
    if not found:
        return None
    if kind == "curves":
        return {"name": "runs-curves.csv", "text": comparison.metrics_csv(found)}
    table = comparison.table_csv(comparison.compare(found), only_differences=only_differences)
    return {"name": "runs-table.csv", "text": table}


@dataclass(frozen=True)
class ChoiceFields:
    """The controls of Choices."""

    by: gr.Radio
    log: gr.Checkbox
    only: gr.Checkbox

    def inputs(self) -> list[Control]:
        """Return the controls."""
        return [self.by, self.log, self.only]

    def read(self, values: Sequence[object]) -> Choices:
        """Return what they ask for."""
        by, log, only = values
        return Choices(by == "time", bool(log), bool(only))


@dataclass(frozen=True)
class _Controls:
    note: gr.HTML
    panel: gr.Column
    choices: ChoiceFields
    chart: gr.HTML
    table: gr.HTML
    save_table: gr.Button
    save_curves: gr.Button
    clear: gr.Button


def build(context: PageContext, ticked: gr.State) -> None:
    """Build the panel below the runs and wire it."""
    make = context.translated.make
    note = gr.HTML(elem_id="wb-compare-note")
    with gr.Column(visible=False, elem_id="wb-compare") as panel:
        make(gr.HTML, value=Key("compare.title"), elem_classes="wb-heading")
        with gr.Row(elem_classes="wb-actions wb-view-row"):
            sides = [(Key("compare.by_step"), "step"), (Key("compare.by_time"), "time")]
            by = make(gr.Radio, choices=sides, value="step", show_label=False, container=False, elem_id="wb-compare-by")
            log = make(gr.Checkbox, label=Key("train.log_scale"), container=False, min_width=120, scale=0)
            kept: dict[str, object] = {"value": True, "container": False, "min_width": 190, "scale": 0}
            only = make(gr.Checkbox, label=Key("compare.only_differences"), **kept)
        chart, table = gr.HTML(elem_id="wb-compare-chart"), gr.HTML(elem_id="wb-compare-table")
        with gr.Row(elem_classes="wb-actions"):
            save_table = make(gr.Button, value=Key("compare.csv_table"), scale=0, elem_id="wb-csv-table")
            save_curves = make(gr.Button, value=Key("compare.csv_curves"), scale=0, elem_id="wb-csv-curves")
            clear = make(gr.Button, value=Key("compare.clear"), scale=0)
    choices = ChoiceFields(by, log, only)
    _wire(context, ticked, _Controls(note, panel, choices, chart, table, save_table, save_curves, clear))


def _wire(context: PageContext, ticked: gr.State, c: _Controls) -> None:
    # While a ticked run goes on, its curve does; else nothing asks the server.
    timer = gr.Timer(_POLL_S, active=False)
    file, seen = gr.JSON(visible="hidden", elem_id="wb-csv"), gr.State(0)

    def show(chosen: object, choices: Choices, t: Translator, mark: object) -> Updates:
        now = content(context.workspace, chosen, choices, t)
        if hash(now) == mark:
            return Updates()
        living = now.shown and any(not job.status().final for job in ticked_runs(context.workspace, chosen))
        drawn = {c.note: now.note, c.chart: now.chart, c.table: now.table, c.panel: gr.update(visible=now.shown)}
        return Updates({**drawn, seen: hash(now), timer: gr.Timer(active=living)})

    def save(chosen: object, choices: Choices, *, kind: str) -> object:
        return csv_file(context.workspace, chosen, kind, choices.only_differences)

    reads: Parts = [held(ticked), c.choices, context.language_field, held(seen)]
    changes = [control.change for control in (ticked, *c.choices.inputs(), context.language)]
    shows = [seen, c.panel, c.note, c.chart, c.table, timer]
    gr.on([context.blocks.load, *changes, timer.tick], **handler(show, reads, shows))
    for button, kind in ((c.save_table, "table"), (c.save_curves, "curves")):
        saved = handler(partial(save, kind=kind), [held(ticked), c.choices], [file])
        button.click(**saved).then(None, file, None, js=SAVE_JS)
    c.clear.click(**handler(list, shows=[ticked]))
