"""The live part of the Train tab: the shown run's head, buttons, curves and log, read again every two seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from app import hardware
from app.runs.current import EVERY, Filter, shown_run, state_word, training_runs
from app.runs.results import curves
from app.ui.components import messages, questions
from app.ui.components.handlers import LAST, Control, Parts, Updates, Wiring, handler, held
from app.ui.components.markup import Html
from app.ui.components.questions import Question
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import CLICK_JS, PageContext
from app.ui.tabs.train import live_view, run_cards, run_table, run_view, samples_view
from app.ui.tabs.train.history_panel import HistoryPanel
from app.ui.tabs.train.live_view import WHOLE, View
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


@dataclass(frozen=True)
class Live:
    """Everything of the tab that changes while a run goes: what stands in its places, and which buttons there are."""

    head: Html
    charts: Html
    instruments: Html
    samples: Html
    events: Html
    cards: Html
    table: Html
    waiting: Html
    can_try: bool = False
    can_stop: bool = False
    can_pause: bool = False
    can_resume: bool = False
    can_remove: bool = False


def live(
    workspace: Workspace,
    selected: object,
    t: Translator,
    *,
    view: View = WHOLE,
    only: Filter = EVERY,
    ticked: object = (),
) -> Live:
    """Return the shown run as it stands on disk, and the runs around it."""
    found = training_runs(workspace)
    job = next((job for job in found if job.id == selected), found[0] if found else None)
    if job is None:
        tour = messages.Action(t("tour.start"), "#wb-tour-again")
        nothing = messages.empty(t("train.empty.title"), t("train.empty.text"), "train", tour)
        blank = Html("")
        return Live(nothing, blank, blank, blank, blank, blank, blank, run_cards.waiting(workspace, t))
    status = job.status()
    marked = {one for one in ticked if isinstance(one, str)} if isinstance(ticked, list) else set()
    return Live(
        head=run_view.head(job, t),
        charts=live_view.charts(job, view, t),
        instruments=live_view.instruments(job, hardware.readings(workspace.root), t) if status.live else Html(""),
        samples=samples_view.samples(job, t),
        events=run_view.events(job, t),
        cards=run_cards.cards([one for one in found if only.takes(one)], job.id, marked, t),
        table=run_table.table([one for one in found if only.takes(one)], t),
        waiting=run_cards.waiting(workspace, t),
        can_try=status.state == "finished" or any(job.checkpoints.glob("step-*/complete.json")),
        can_stop=not status.final and state_word(job, status) != "stopping",
        can_pause=status.state == "running" and not job.stop_requested(),
        can_resume=status.final and status.state != "finished",
        can_remove=status.final,
    )


def changed(now: Live, seen: object) -> tuple[dict[str, int], dict[str, object]]:
    """Return a mark for each part, and the parts whose mark has changed, by name; the others need not be sent."""
    marks = {name: hash(part) for name, part in vars(now).items()}
    known = seen if isinstance(seen, dict) else {}
    return marks, {name: part for name, part in vars(now).items() if known.get(name) != marks[name]}


@dataclass(frozen=True)
class RunButtons:
    """What can be done with the shown run."""

    try_it: gr.Button
    stop: gr.Button
    pause: gr.Button
    resume: gr.Button
    remove: gr.Button


@dataclass(frozen=True)
class ViewFields:
    """Which part of the curves is shown, and on which scale."""

    steps: gr.Textbox
    log_scale: gr.Checkbox
    smoothing: gr.Slider

    def inputs(self) -> list[Control]:
        """Return the controls."""
        return [self.steps, self.log_scale, self.smoothing]

    def read(self, values: Sequence[object]) -> View:
        """Return the view that they ask for."""
        steps, log_scale, smoothing = values
        return View.of(steps, log_scale, smoothing)


@dataclass(frozen=True)
class LivePanel:
    """The controls of the shown run. `box_place` is where its folded box is built."""

    head: gr.HTML
    buttons: RunButtons
    question: Question
    instruments: gr.HTML
    view: ViewFields
    charts: gr.HTML
    samples: gr.HTML
    log: gr.HTML
    log_box: gr.Accordion
    box_place: gr.Column


def build(context: PageContext) -> LivePanel:
    """Build the shown run: its head, buttons, curves, log."""
    make = context.translated.make
    head = gr.HTML(elem_id="wb-run", js_on_load=CLICK_JS)
    buttons = _buttons(context)
    question = questions.build(context, "wb-remove", Key("train.remove_yes"))
    instruments = gr.HTML(elem_id="wb-instruments")
    with gr.Row(elem_classes="wb-view-row"):
        log_scale = make(gr.Checkbox, label=Key("train.log_scale"), container=False, min_width=110, scale=0)
        plain: dict[str, object] = {"show_label": False, "container": False, "max_lines": 1, "scale": 0}
        steps = make(
            gr.Textbox,
            label=Key("train.all_steps"),
            placeholder=Key("train.all_steps"),
            min_width=170,
            elem_id="wb-view-steps",
            **plain,
        )
        smoothing = make(
            gr.Slider,
            label=Key("train.smoothing"),
            minimum=0,
            maximum=99,
            step=1,
            value=0,
            min_width=220,
            scale=0,
            elem_id="wb-smoothing",
        )
        make(gr.HTML, value=Key("train.zoom_help"), elem_classes="wb-muted wb-zoom-help", min_width=200)
    charts = gr.HTML(elem_id="wb-charts", js_on_load=_ZOOM)
    samples = gr.HTML(elem_id="wb-samples")
    box_place = gr.Column()
    with make(gr.Accordion, label=Key("train.log"), open=False, elem_id="wb-run-log") as log_box:
        log = gr.HTML()
    view = ViewFields(steps, log_scale, smoothing)
    return LivePanel(head, buttons, question, instruments, view, charts, samples, log, log_box, box_place)


def _buttons(context: PageContext) -> RunButtons:
    make = context.translated.make
    hidden: dict[str, object] = {"scale": 0, "visible": False}
    with gr.Row(elem_classes="wb-actions"):
        return RunButtons(
            try_it=make(gr.Button, value=Key("train.try"), variant="primary", elem_id="wb-try", **hidden),
            stop=make(gr.Button, value=Key("train.stop"), variant="stop", elem_id="wb-run-stop", **hidden),
            pause=make(gr.Button, value=Key("train.pause"), elem_id="wb-run-pause", **hidden),
            resume=make(gr.Button, value=Key("train.resume"), elem_id="wb-run-resume", **hidden),
            remove=make(gr.Button, value=Key("train.remove"), elem_id="wb-run-remove", **hidden),
        )


def wire(context: PageContext, panel: LivePanel, history: HistoryPanel, selected: gr.State, ticked: gr.State) -> Wiring:
    """Read the job directories every two seconds and send what has changed. Return the event that does it now.

    All looks of a page are one event and so come one after another. Two at once start from the same marks; the one that
    read earlier could end later and leave its marks, and a part that went away and came back was then never sent again.
    """
    seen, asked, buttons = gr.State({}), gr.State(0), panel.buttons
    places = {
        "head": panel.head,
        "charts": panel.charts,
        "instruments": panel.instruments,
        "samples": panel.samples,
        "events": history.events,
        "cards": history.cards,
        "table": history.table,
        "waiting": history.waiting,
    }
    offered = {
        "can_try": buttons.try_it,
        "can_stop": buttons.stop,
        "can_pause": buttons.pause,
        "can_resume": buttons.resume,
        "can_remove": buttons.remove,
    }

    def look(marks: object, t: Translator, chosen: object, ticks: object, view: View, only: Filter) -> Updates:
        now = live(context.workspace, chosen, t, view=view, only=only, ticked=ticks)
        fresh, parts = changed(now, marks)
        updates = Updates({places[name]: part for name, part in parts.items() if name in places})
        updates |= {control: gr.update(visible=parts[name]) for name, control in offered.items() if name in parts}
        return updates if fresh == marks else Updates({**updates, seen: fresh})

    reads: Parts = [held(seen), context.language_field, held(selected), held(ticked), panel.view, history.filter]
    followed = [selected, ticked, *panel.view.inputs(), *history.filter.inputs()]
    events = [
        context.blocks.load,
        context.shown.change,
        context.poll_timers["train"].tick,
        context.language.change,
        asked.change,
    ]
    gr.on(
        [*events, *(control.change for control in followed)],
        **handler(look, reads, [seen, *places.values(), *offered.values()], how=LAST),
    )

    def tail(chosen: object) -> Updates:
        job = shown_run(context.workspace, chosen)
        return Updates({panel.log: run_view.log_tail(job.log_file) if job else Html("")})

    panel.log_box.expand(**handler(tail, [held(selected)], [panel.log]))
    selected.change(**handler(tail, [held(selected)], [panel.log]))
    return handler(lambda count: count + 1, [held(asked)], [asked])


def wire_zoom(context: PageContext, panel: LivePanel, selected: gr.State) -> None:
    """Wire the part of the curves that is shown: drawn with the mouse, or typed as two steps."""
    steps = panel.view.steps

    def zoom(chosen: object, view: View, picked: str) -> Updates:
        job = shown_run(context.workspace, chosen)
        now = View(view.low, view.high)
        span = now.span(curves.read(job.metrics_file), job.status().of) if job else None
        return Updates() if span is None else Updates({steps: now.zoomed(picked, span).steps})

    panel.charts.select(**handler(zoom, [held(selected), panel.view], [steps]))
    selected.change(**handler(lambda: "", shows=[steps]))
