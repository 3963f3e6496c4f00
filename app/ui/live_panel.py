"""The live part of the Train tab: the shown run's head, buttons, curves and log, read again every two seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app import hardware
from app.jobs import curves
from app.jobs.directory import JobDirectory
from app.ui import live_view, notices, run_cards, runs_view, samples_view, trials
from app.ui.frame import QUIET, Frame, picked
from app.ui.language import Key, Speech
from app.ui.live_view import WHOLE, View
from app.ui.markup import Html
from app.ui.run_cards import EVERY, Filter
from app.workspace import Workspace

# Drag over a curve to see a part of it, double-click to see all again.
_ZOOM = """
let from = null, box = null, band = null;
const share = (event) => Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
const drop = () => { band?.remove(); from = band = null; };
element.addEventListener("pointerdown", (event) => {
  const plot = event.target.closest(".wb-plot");
  if (!plot || event.button) return;
  box = plot.getBoundingClientRect();
  from = share(event);
});
document.addEventListener("pointermove", (event) => {
  if (from === null) return;
  if (!band) document.body.append(band = Object.assign(document.createElement("div"), { className: "wb-zoom-band" }));
  const ends = [from, share(event)].sort((a, b) => a - b).map((end) => box.left + end * box.width);
  Object.assign(band.style, { left: ends[0] + "px", width: ends[1] - ends[0] + "px", top: box.top + "px",
    height: box.height + "px" });
});
document.addEventListener("pointerup", (event) => {
  if (from === null) return;
  const to = share(event), start = from;
  drop();
  if (Math.abs(to - start) > 0.01) trigger("select", { value: start.toFixed(4) + ":" + to.toFixed(4) });
});
document.addEventListener("pointercancel", drop);
element.addEventListener("dblclick", () => trigger("select", { value: "all" }));
"""


def training_runs(workspace: Workspace) -> list[JobDirectory]:
    """Return the training runs, newest first."""
    return list(reversed(trials.training_jobs(workspace)))


def shown_run(workspace: Workspace, selected: Any) -> JobDirectory | None:
    """Return the run that was picked, while it exists; else the newest."""
    found = training_runs(workspace)
    return next((job for job in found if job.id == selected), found[0] if found else None)


@dataclass(frozen=True)
class Live:
    """Everything of the tab that changes while a run goes, in the order of the controls that show it."""

    head: Html
    charts: Html
    instruments: Html
    samples: Html
    events: Html
    cards: Html
    waiting: Html
    can_try: bool = False
    can_stop: bool = False
    can_pause: bool = False
    can_resume: bool = False
    can_remove: bool = False

    @property
    def parts(self) -> list[Any]:
        """Return the parts in order."""
        return list(self.__dict__.values())


def live(
    workspace: Workspace,
    selected: Any,
    say: Speech,
    *,
    view: View = WHOLE,
    only: Filter = EVERY,
    ticked: Any = (),
) -> Live:
    """Return the shown run as it stands on disk, and the runs around it."""
    found = training_runs(workspace)
    job = next((job for job in found if job.id == selected), found[0] if found else None)
    if job is None:
        nothing = notices.empty(say("train.empty.title"), say("train.empty.text"))
        return Live(nothing, Html(""), Html(""), Html(""), Html(""), Html(""), run_cards.waiting(workspace, say))
    status = job.status()
    marked = {one for one in ticked if isinstance(one, str)} if isinstance(ticked, list) else set()
    return Live(
        head=runs_view.head(job, say),
        charts=live_view.charts(job, view, say),
        instruments=live_view.instruments(job, hardware.readings(workspace.root), say) if status.live else Html(""),
        samples=samples_view.samples(job, say),
        events=runs_view.events(job),
        cards=run_cards.cards([one for one in found if only.takes(one)], job.id, marked, say),
        waiting=run_cards.waiting(workspace, say),
        can_try=status.state == "finished" or any(job.checkpoints.glob("step-*/complete.json")),
        can_stop=not status.final,
        can_pause=status.state == "running" and not job.stop_requested(),
        can_resume=status.final and status.state != "finished",
        can_remove=status.final,
    )


def changed(now: Live, seen: Any) -> tuple[list[int], list[Any]]:
    """Return a mark for each part, and the parts whose mark has changed; the others are skipped."""
    marks = [hash(part) for part in now.parts]
    known = seen if isinstance(seen, list) and len(seen) == len(marks) else [None] * len(marks)
    sent = [gr.update(visible=part) if isinstance(part, bool) else part for part in now.parts]
    return marks, [gr.skip() if mark == old else part for mark, old, part in zip(marks, known, sent, strict=True)]


def build(frame: Frame) -> tuple[dict[str, Any], list[Any], dict[str, gr.Button], gr.Column]:
    """Build the shown run: its head, buttons, curves, log; return also the range and scale of the curves."""
    make = frame.wording.make
    head = gr.HTML(elem_id="wb-run")
    with gr.Row(elem_classes="wb-actions"):
        hidden: dict[str, Any] = {"scale": 0, "visible": False}
        actions = {
            "try": make(gr.Button, value=Key("train.try"), variant="primary", elem_id="wb-try", **hidden),
            "stop": make(gr.Button, value=Key("train.stop"), variant="stop", elem_id="wb-run-stop", **hidden),
            "pause": make(gr.Button, value=Key("train.pause"), elem_id="wb-run-pause", **hidden),
            "resume": make(gr.Button, value=Key("train.resume"), elem_id="wb-run-resume", **hidden),
            "remove": make(gr.Button, value=Key("train.remove"), elem_id="wb-run-remove", **hidden),
        }
    instruments = gr.HTML(elem_id="wb-instruments")
    with gr.Row(elem_classes="wb-view-row"):
        log_scale = make(gr.Checkbox, label=Key("train.log_scale"), container=False, min_width=110, scale=0)
        steps = make(
            gr.Textbox,
            placeholder=Key("train.all_steps"),
            show_label=False,
            container=False,
            max_lines=1,
            min_width=170,
            scale=0,
            elem_id="wb-steps",
        )
        make(gr.HTML, value=Key("train.zoom_help"), elem_classes="wb-muted wb-zoom-help", min_width=200)
    charts = gr.HTML(elem_id="wb-charts", js_on_load=_ZOOM)
    samples = gr.HTML(elem_id="wb-samples")
    box_place = gr.Column()
    with make(gr.Accordion, label=Key("train.log"), open=False, elem_id="wb-run-log") as log_box:
        log = gr.HTML()
    shown = {
        "head": head,
        "charts": charts,
        "instruments": instruments,
        "samples": samples,
        "log": log,
        "log_box": log_box,
    }
    return shown, [steps, log_scale], actions, box_place


def wire(frame: Frame, inputs: list[Any], parts: list[Any], log: gr.HTML, log_box: gr.Accordion) -> dict[str, Any]:
    """Read the job directories every two seconds and send what has changed. Return the event that does it now.

    All looks of a page are one event and so come one after another. Two at once start from the same marks; the one that
    read earlier could end later and leave its marks, and a part that went away and came back was then never sent again.
    """
    selected, seen, asked = inputs[0], gr.State([]), gr.State(0)

    def look(marks: Any, language: Any, chosen: Any, ticks: Any, *rest: Any) -> list[Any]:
        steps, log_scale, words, states = rest
        now = live(
            frame.workspace,
            chosen,
            Speech(language),
            view=View.of(steps, log_scale),
            only=Filter.of(words, states),
            ticked=ticks,
        )
        fresh, sent = changed(now, marks)
        return [gr.skip() if fresh == marks else fresh, *sent]

    gr.on(
        [
            frame.blocks.load,
            frame.shown.change,
            frame.watches["train"].tick,
            frame.language.change,
            asked.change,
            *(one.change for one in inputs),
        ],
        look,
        [seen, frame.language, *inputs],
        [seen, *parts],
        trigger_mode="always_last",
        **QUIET,
    )

    def tail(chosen: Any) -> Any:
        job = shown_run(frame.workspace, chosen)
        return runs_view.log_tail(job.log_file) if job else Html("")

    log_box.expand(tail, selected, log, **QUIET)
    selected.change(tail, selected, log, **QUIET)
    return {"fn": lambda count: count + 1, "inputs": asked, "outputs": asked, **QUIET}


def wire_zoom(frame: Frame, selected: gr.State, charts: gr.HTML, view: list[Any]) -> None:
    """Wire the part of the curves that is shown: drawn with the mouse, or typed as two steps."""
    steps = view[0]

    def zoom(event: gr.EventData, chosen: Any, shown_steps: Any) -> Any:
        job, now = shown_run(frame.workspace, chosen), View.of(shown_steps, False)
        span = now.span(curves.read(job.metrics_file), job.status().of) if job else None
        return gr.skip() if span is None else now.zoomed(picked(event), span).steps

    charts.select(zoom, [selected, steps], steps, **QUIET)
    selected.change(lambda: "", None, steps, **QUIET)
