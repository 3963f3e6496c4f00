"""Train: what runs, how is it going, when is it done?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import gradio as gr

from app.errors import BusyError, WorkbenchError
from app.jobs import requests
from app.jobs import trash as removed
from app.jobs.directory import JobDirectory
from app.runs.current import is_gone, picked_run
from app.runs.dataset_selection import DatasetSelection
from app.runs.draft import Draft
from app.runs.results import curves, verdict
from app.runs.submission import forecast, start, submit
from app.ui.components import forms, messages, number_format, questions
from app.ui.components.forms import FormValues, PlanForm
from app.ui.components.handlers import EVENT_DEFAULTS, Parts, Updates, Wiring, handler, held, raw, text
from app.ui.components.markup import Html, element, joined
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import CLICK_JS, PageContext
from app.ui.shell.serving.open_pages import POLL_S
from app.ui.tabs.data import tab as data
from app.ui.tabs.plan import tab
from app.ui.tabs.plan.tab import PlanTab
from app.ui.tabs.train import compare_panel, history_panel, live_panel, sweep_panel, unplanned
from app.ui.tabs.train.live_panel import LivePanel
from app.ui.tabs.train.run_box import profile_panel, run_panel, script_panel
from app.ui.tabs.train.unplanned import Unplanned
from app.workspace import Workspace

# What an error of these buttons goes away with: that the same click would now be taken.
_MOST_STEPS = 1_000_000
_STARTED, _QUEUED = "started", "queued"
# Keep what is no error, such as that an engine gave way to this very run.
_FORGET = "(shown) => (shown && shown.includes('wb-error') ? '' : shown)"


@dataclass(frozen=True)
class TrainTab:
    """The controls that other tabs and the tour reach for."""

    selected: gr.State
    head: gr.HTML
    try_it: gr.Button
    clone: gr.Button
    kept: gr.State
    wrong: gr.HTML


def sentence(workspace: Workspace, draft: Draft, t: Translator) -> Html:
    """Return what would be started, in one sentence, with time and peak as far as they are known, and advice."""
    config = draft.config
    if not config.data.file:
        return messages.sentence(t("train.sentence.no_data"))
    requests.expect_run(workspace)
    method = {"qlora": "QLoRA", "lora": "LoRA", "full": t("method.full")}[config.method]
    training = config.training
    length = (
        t("train.sentence.steps", count=training.max_steps, steps=number_format.count(training.max_steps))
        if training.max_steps > 0
        else t("train.sentence.epochs", epochs=f"{training.num_train_epochs:g}")
    )
    rank = "" if config.adapter.method == "full" else f" r={config.adapter.r}"
    rows = t("train.sentence.rows", count=draft.rows, rows=number_format.count(draft.rows))
    if not draft.rows:  # a cloned run names its data; its rows are counted when the data tab looks at them
        rows = t("train.sentence.the_rows")
    said = t(
        "train.sentence", method=method + rank, model=config.model.name, rows=rows, data=draft.label, length=length
    )
    return joined([messages.sentence(joined([said, " ", _foreseen(workspace, draft, t)])), _advice(draft, t)])


def _foreseen(workspace: Workspace, draft: Draft, t: Translator) -> str:
    """Return time and peak of a draft in words."""
    found = forecast.of(workspace, draft)
    parts = []
    if found.seconds:
        parts.append(t("train.about", time=number_format.duration(found.seconds)))
    if found.peak_bytes:
        parts.append(t("train.peak", size=number_format.gigabytes(found.peak_bytes)))
    text = t("planner.comma").join(parts)
    return text[:1].upper() + text[1:] + t("planner.stop") if parts else ""


def _advice(draft: Draft, t: Translator) -> Html:
    """Return how many steps so many rows would need, as a button; nothing where the plan's own are near enough."""
    steps = verdict.suggested_steps(draft.config, draft.rows)
    if steps is None:
        return Html("")
    now = number_format.count(draft.config.training.max_steps)
    said = t("train.steps_advice", rows=number_format.count(draft.rows), now=now, steps=number_format.count(steps))
    label = t("train.steps_take", steps=number_format.count(steps))
    button = element("button", label, type="button", class_="wb-small", data_pick=f"steps:{steps}")
    return element("p", said, " ", button, class_="wb-advice")


def refusal(workspace: Workspace, draft: Draft, differing: Unplanned, *, queue: bool) -> WorkbenchError | None:
    """Return what refuses to start a draft as things stand, None when nothing does."""
    try:
        unplanned.refuse(differing)
        start.refuse_outside(workspace, draft)
        submit.check(workspace, draft.config)
    except WorkbenchError as error:
        return error
    return None if queue else requests.busy(workspace)


def standing(workspace: Workspace, shown: object, draft: Draft, differing: Unplanned, t: Translator) -> Html | None:
    """Return the error of a start as it is now: said again, or empty when its cause is gone; None for another box."""
    cause = messages.cause_of(shown)
    if cause not in (_STARTED, _QUEUED):
        return None
    found = refusal(workspace, draft, differing, queue=cause == _QUEUED)
    return Html("") if found is None else messages.problem(found, t, cause=cause)


def act(workspace: Workspace, action: str, selected: object, t: Translator) -> Html:
    """Stop, pause, resume or remove the shown run; return nothing or what went wrong.

    A run is resumed behind what runs, and removed into the trash.
    """
    try:
        job = picked_run(workspace, selected)
        if job is None:
            return Html("")
        if action == "stop":
            requests.stop(workspace, job)
        elif action == "pause":
            requests.pause(workspace, job)
        elif action == "resume":
            requests.resume(workspace, job, queue=True)
        elif action == "remove":
            removed.move_to_trash(workspace, job)
    except WorkbenchError as error:
        return messages.problem(error, t)
    return Html("")


def unloaded(job: JobDirectory) -> Html:
    """Return what gave way to a run that was just handed in, or nothing."""
    said = [str(event["message"]) for event in curves.read(job.metrics_file).events if event["event"] == "unloaded"]
    return joined(messages.note(text + ".") for text in said)


@dataclass(frozen=True)
class StartControls:
    """What starts a run: its two buttons, what the tabs show otherwise, and what went wrong."""

    line: gr.HTML
    differs: gr.HTML
    take: gr.Button
    put_back: gr.Button
    begin: gr.Button
    queue: gr.Button
    sweep: gr.Button
    wrong: gr.HTML


def build(context: PageContext, planned: PlanTab) -> TrainTab:
    """Build the tab and wire it. The form of the Plan tab may show other settings than the draft has."""
    selected, ticked = gr.State(""), gr.State([])
    start_box = _build_start(context)
    sweep_place = gr.Column()
    with gr.Row(elem_classes="wb-columns"):
        with gr.Column(scale=3, min_width=320):
            live = live_panel.build(context)
        with gr.Column(scale=1, min_width=300):
            history = history_panel.build(context)
    history.table.render()
    after = live_panel.wire(context, live, history, selected, ticked)
    with sweep_place:
        sweep_panel.build(context, planned.form, start_box.sweep, selected, after)
    with live.box_place:
        box = run_panel.build(context, selected, after)
        script_panel.build(context, selected)
        profile_panel.build(context, selected)
    compare_panel.build(context, ticked)
    _wire_saving(context, live)
    _wire_start(context, planned.form, start_box, selected, after)
    _wire_unplanned(context, planned, start_box)
    _wire_actions(context, live, selected, start_box.wrong, after)
    history_panel.wire(context, history, selected, ticked, start_box.wrong, after)
    live_panel.wire_zoom(context, live, selected)
    said = partial(sentence, context.workspace)
    events = [context.blocks.load, context.draft.change, context.language.change]
    gr.on(events, **handler(said, [context.draft_field, context.language_field], [start_box.line]))
    _wire_advice(context, planned, start_box)
    return TrainTab(selected, live.head, live.buttons.try_it, box.clone, box.kept, start_box.wrong)


def _build_start(context: PageContext) -> StartControls:
    make = context.translated.make
    line = gr.HTML(elem_id="wb-train-sentence", js_on_load=CLICK_JS)
    differs = gr.HTML(elem_id="wb-unplanned")
    with gr.Row(elem_classes="wb-actions"):
        hidden: dict[str, object] = {"scale": 0, "visible": False}
        take = make(gr.Button, value=Key("unplanned.take"), elem_id="wb-take-over", **hidden)
        put_back = make(gr.Button, value=Key("unplanned.back"), elem_id="wb-put-back", **hidden)
    with gr.Row(elem_classes="wb-actions"):
        begin = make(gr.Button, value=Key("train.start"), variant="primary", elem_id="wb-start", scale=0)
        queue = make(gr.Button, value=Key("train.queue"), elem_id="wb-queue", scale=0)
        sweep = make(gr.Button, value=Key("train.sweep"), elem_id="wb-sweep-open", scale=0)
    return StartControls(line, differs, take, put_back, begin, queue, sweep, gr.HTML(elem_id="wb-train-error"))


def _wire_start(context: PageContext, form: PlanForm, box: StartControls, selected: gr.State, after: Wiring) -> None:
    """Wire Start and Queue; what gave way to the run is said where the hand is, an error as long as it is true."""
    workspace, wrong = context.workspace, box.wrong
    stored: Parts = [context.draft_field, context.selection_field, context.language_field, form]

    # Ticks while an error stands that ends by itself: the run that is in the way may end before the page follows it.
    waiting = gr.Timer(POLL_S, active=False)

    def launch(mine: Draft, seen: DatasetSelection, t: Translator, filled: FormValues, *, waits: bool) -> Updates:
        try:
            unplanned.refuse(unplanned.found(mine, seen, filled))
            job = start.start(workspace, mine, queue=waits)
        except WorkbenchError as error:
            said = messages.problem(error, t, cause=_QUEUED if waits else _STARTED)
            return Updates({wrong: said, waiting: gr.Timer(active=isinstance(error, BusyError))})
        return Updates({selected: job.id, wrong: unloaded(job), waiting: gr.Timer(active=False)})

    def settle(shown: object, mine: Draft, seen: DatasetSelection, t: Translator, filled: FormValues) -> Updates:
        found = standing(workspace, shown, mine, unplanned.found(mine, seen, filled), t)
        return Updates({} if found is None or found == shown else {wrong: found})

    def followed(shown: object, mine: Draft, seen: DatasetSelection, t: Translator, filled: FormValues) -> Updates:
        # A tick is for what ends by itself; the rest asks the disk and the hub, and changes by hand.
        if messages.cause_of(shown) == _STARTED and requests.busy(workspace) is not None:
            return Updates()
        return Updates({**settle(shown, mine, seen, t, filled), waiting: gr.Timer(active=False)})

    for button, waits in ((box.begin, False), (box.queue, True)):
        launched = handler(partial(launch, waits=waits), stored, [selected, wrong, waiting])
        button.click(**launched).then(**after)
    changes = [context.draft.change, context.selection.change, context.language.change, context.shown.change]
    gr.on(changes, **handler(settle, [raw(wrong), *stored], [wrong]))
    waiting.tick(**handler(followed, [raw(wrong), *stored], [wrong, waiting]))
    # What was said of one run is not said of another.
    selected.change(None, wrong, wrong, js=_FORGET, **EVENT_DEFAULTS)


def _wire_saving(context: PageContext, live: LivePanel) -> None:
    """Wire the button that saves the curves of the shown run as CSV; the browser makes the file."""
    file = gr.JSON(visible="hidden", elem_id="wb-run-csv")

    def save(picked: str) -> object:
        verb, _, job_id = picked.partition(":")
        return compare_panel.csv_file(context.workspace, [job_id], "curves", False) if verb == "csv" else None

    live.head.select(**handler(save, shows=[file])).then(None, file, None, js=compare_panel.SAVE_JS)


def _wire_advice(context: PageContext, planned: PlanTab, box: StartControls) -> None:
    """Wire the button that takes the number of steps that is advised, for the draft and the form alike."""
    field = planned.form.settings["training.max_steps"]

    def take(mine: Draft, picked: str) -> Updates:
        verb, _, steps = picked.partition(":")
        if verb != "steps" or not steps.isdecimal() or not 0 < int(steps) < _MOST_STEPS:
            return Updates()
        changed = mine.with_config(mine.config.changed({"training.max_steps": int(steps)}), planned=mine.planned)
        return Updates({context.draft: changed.to_browser(), field: forms.shown("training.max_steps", int(steps))})

    box.line.select(**handler(take, [context.draft_field], [context.draft, field]))


def _wire_unplanned(context: PageContext, planned: PlanTab, box: StartControls) -> None:
    """Wire what says that the other tabs show something else, and its two ways out."""
    form = planned.form

    def compare(shown: object, mine: Draft, seen: DatasetSelection, t: Translator, filled: FormValues) -> Updates:
        if shown != "train":
            return Updates()
        found = unplanned.found(mine, seen, filled)
        takes = {box.take: gr.update(visible=bool(found) and not found.unusable)}
        back = {box.put_back: gr.update(visible=bool(found))}
        return Updates({box.differs: unplanned.notice(found, mine, t), **takes, **back})

    def take_over(mine: Draft, seen: DatasetSelection, t: Translator, filled: FormValues) -> Updates:
        try:
            return Updates({context.draft: taken_over(context, mine, seen, filled).to_browser(), box.wrong: Html("")})
        except WorkbenchError as error:
            return Updates({box.wrong: messages.problem(error, t)})

    def back(mine: Draft) -> Updates:
        shown = {context.selection: unplanned.look_of(mine).to_browser(), box.wrong: Html("")}
        return Updates({**form.showing(FormValues.showing(mine.config)), **shown})

    stored: Parts = [context.draft_field, context.selection_field, context.language_field, form]
    compared = handler(compare, [text(context.shown), *stored], [box.differs, box.take, box.put_back])
    gr.on([context.shown.change, context.draft.change, context.selection.change, context.language.change], **compared)
    box.take.click(**handler(take_over, stored, [context.draft, box.wrong])).then(**compared)
    put_back = handler(back, [context.draft_field], [*form.inputs(), context.selection, box.wrong])
    box.put_back.click(**put_back).then(**compared).then(**planned.again)


def taken_over(context: PageContext, draft: Draft, seen: DatasetSelection, filled: FormValues) -> Draft:
    """Return the draft with what the Plan and Data tabs show. Raises WorkbenchError."""
    differing = unplanned.found(draft, seen, filled)
    if differing.settings or differing.unusable:
        draft = tab.use(context.workspace, filled, draft)
    return data.use(context, seen, draft) if differing.data else draft


def _wire_actions(context: PageContext, panel: LivePanel, selected: gr.State, wrong: gr.HTML, after: Wiring) -> None:
    """Wire the buttons of the shown run. Try it leads to another tab and is wired by the page."""
    workspace, buttons, question = context.workspace, panel.buttons, panel.question
    reads = [held(selected), context.language_field]

    def settled(chosen: object) -> Updates:
        """Go back to the newest run, which is shown by then, once it was said that the picked one is gone."""
        return Updates({selected: ""} if is_gone(workspace, chosen) else {})

    def do(chosen: object, t: Translator, *, action: str) -> Updates:
        return Updates({wrong: act(workspace, action, chosen, t), **settled(chosen)})

    for action, button in (("stop", buttons.stop), ("pause", buttons.pause), ("resume", buttons.resume)):
        button.click(**handler(partial(do, action=action), reads, [wrong, selected])).then(**after)

    def ask(chosen: object, t: Translator) -> Updates:
        try:
            job = picked_run(workspace, chosen)
        except WorkbenchError as error:
            return Updates({wrong: messages.problem(error, t), **settled(chosen)})
        return question.asking(None if job is None else history_panel.remove_question(workspace, job, t))

    def remove(about: object, t: Translator) -> Updates:
        # What was asked about, by its name: while the question stood, another run may have become the newest.
        known = bool(about) and not is_gone(workspace, about)
        return Updates({wrong: act(workspace, "remove", about, t) if known else Html("")})

    buttons.remove.click(**handler(ask, reads, [*question.outputs, wrong, selected]))
    gr.on([selected.change, context.language.change], **handler(question.closed, shows=question.outputs))
    questions.answer(question, remove, [context.language_field], [wrong]).then(**after)
