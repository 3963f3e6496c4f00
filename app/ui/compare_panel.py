"""The part of the Train tab that puts ticked runs side by side."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.errors import WorkbenchError
from app.jobs import comparison
from app.jobs import directory as jobs
from app.jobs.directory import JobDirectory
from app.ui import compare_view, notices, trials
from app.ui.frame import QUIET, Frame
from app.ui.language import Key, Speech
from app.ui.markup import Html
from app.workspace import Workspace

_POLL_S = 4.0
# The text of a file and its name are put together by the handler; the browser saves it without asking the server again.
_SAVE = """(file) => {
  if (!file) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([file.text], { type: "text/csv" }));
  link.download = file.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}"""


def ticked_runs(workspace: Workspace, ticked: Any) -> list[JobDirectory]:
    """Return the ticked runs that are still there, in the order they were ticked."""
    found = []
    for job_id in ticked if isinstance(ticked, list) else []:
        try:
            found.append(jobs.find(workspace, job_id))
        except (WorkbenchError, TypeError):  # removed since it was ticked, or no id at all
            continue
    return [job for job in found if job.readable][: compare_view.MOST_RUNS]


def toggled(ticked: Any, job_id: str) -> list[str]:
    """Return the ticks with one set or taken back; the oldest goes when there are too many."""
    before = [one for one in ticked if isinstance(one, str)] if isinstance(ticked, list) else []
    after = [one for one in before if one != job_id] if job_id in before else [*before, job_id]
    return after[-compare_view.MOST_RUNS :]


def members_of(workspace: Workspace, sweep: str) -> list[str]:
    """Return the newest runs of a sweep, as many as can be compared."""
    found = [job.id for job in trials.training_jobs(workspace) if str(job.job.get("sweep") or "") == sweep]
    return found[-compare_view.MOST_RUNS :]


def content(
    workspace: Workspace, ticked: Any, by: Any, log: Any, only: Any, say: Speech
) -> tuple[bool, Html, Html, Html]:
    """Return whether there is something to compare, and the note, the chart and the table of it."""
    found = ticked_runs(workspace, ticked)
    if len(found) < 2:
        note = notices.note(say("compare.one" if found else "compare.none")) if found else Html("")
        return False, note, Html(""), Html("")
    chart = compare_view.overlay(found, by == "time", bool(log), say)
    table = compare_view.table(comparison.compare(found), bool(only), say)
    return True, notices.note(say("compare.note")), chart, table


def csv_file(workspace: Workspace, ticked: Any, kind: str, only: Any) -> dict[str, str] | None:
    """Return the name and the text of a CSV file of the ticked runs: the table or the curves."""
    found = ticked_runs(workspace, ticked)
    if not found:
        return None
    if kind == "curves":
        return {"name": "runs-curves.csv", "text": comparison.metrics_csv(found)}
    table = comparison.table_csv(comparison.compare(found), only_differences=bool(only))
    return {"name": "runs-table.csv", "text": table}


def build(frame: Frame, ticked: gr.State) -> None:
    """Build the panel below the runs and wire it."""
    make = frame.wording.make
    note = gr.HTML(elem_id="wb-compare-note")
    with gr.Column(visible=False, elem_id="wb-compare") as panel:
        make(gr.HTML, value=Key("compare.title"), elem_classes="wb-heading")
        with gr.Row(elem_classes="wb-actions wb-view-row"):
            sides = [(Key("compare.by_step"), "step"), (Key("compare.by_time"), "time")]
            by = make(gr.Radio, choices=sides, value="step", show_label=False, container=False, elem_id="wb-compare-by")
            log = make(gr.Checkbox, label=Key("train.log_scale"), container=False, min_width=120, scale=0)
            kept: dict[str, Any] = {"value": True, "container": False, "min_width": 190, "scale": 0}
            only = make(gr.Checkbox, label=Key("compare.only_differences"), **kept)
        chart, table = gr.HTML(elem_id="wb-compare-chart"), gr.HTML(elem_id="wb-compare-table")
        with gr.Row(elem_classes="wb-actions"):
            save_table = make(gr.Button, value=Key("compare.csv_table"), scale=0, elem_id="wb-csv-table")
            save_curves = make(gr.Button, value=Key("compare.csv_curves"), scale=0, elem_id="wb-csv-curves")
            clear = make(gr.Button, value=Key("compare.clear"), scale=0)
    # While a ticked run goes on, its curve does; else nothing asks the server.
    timer = gr.Timer(_POLL_S, active=False)
    file, seen = gr.JSON(visible="hidden", elem_id="wb-csv"), gr.State(0)

    def show(chosen: Any, axis: Any, scale: Any, differences: Any, language: Any, mark: Any) -> list[Any]:
        now = content(frame.workspace, chosen, axis, scale, differences, Speech(language))
        if hash(now) == mark:
            return [gr.skip()] * 6
        living = now[0] and any(not job.status().final for job in ticked_runs(frame.workspace, chosen))
        return [hash(now), gr.update(visible=now[0]), *now[1:], gr.Timer(active=living)]

    inputs = [ticked, by, log, only, frame.language, seen]
    events = [frame.blocks.load, ticked.change, by.change, log.change, only.change, frame.language.change]
    gr.on([*events, timer.tick], show, inputs, [seen, panel, note, chart, table, timer], **QUIET)
    for button, kind in ((save_table, "table"), (save_curves, "curves")):
        button.click(
            lambda chosen, differences, kind=kind: csv_file(frame.workspace, chosen, kind, differences),
            [ticked, only],
            file,
            **QUIET,
        ).then(None, file, None, js=_SAVE)
    clear.click(list, None, ticked, **QUIET)
