"""Train: what runs, how is it going, when is it done?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from app import runs
from app.errors import WorkbenchError
from app.jobs import requests
from app.jobs.directory import JobDirectory
from app.ui import allowed, figures, notices, runs_view, trials
from app.ui.draft import Draft, from_browser
from app.ui.frame import PICK, QUIET, Frame, picked
from app.ui.language import Key, Speech
from app.ui.markup import Html
from app.workspace import Workspace

# Cards shown; older runs stay in `jobs list`.
MOST_CARDS = 30


@dataclass(frozen=True)
class TrainTab:
    """The controls that other tabs and the tour reach for."""

    selected: gr.State
    try_it: gr.Button


def training_runs(workspace: Workspace) -> list[JobDirectory]:
    """Return the training runs that are shown, newest first."""
    return list(reversed(trials.training_jobs(workspace)[-MOST_CARDS:]))


def shown_run(workspace: Workspace, selected: Any) -> JobDirectory | None:
    """Return the run that was picked, while it exists; else the newest."""
    found = training_runs(workspace)
    return next((job for job in found if job.id == selected), found[0] if found else None)


def sentence(draft: Draft, say: Speech) -> Html:
    """Return what would be started, in one sentence."""
    config = draft.config
    if not config.data.file:
        return notices.sentence(say("train.sentence.no_data"))
    method = {"qlora": "QLoRA", "lora": "LoRA", "full": say("method.full")}[config.method]
    training = config.training
    length = (
        say("train.sentence.steps", count=training.max_steps, steps=figures.count(training.max_steps))
        if training.max_steps > 0
        else say("train.sentence.epochs", epochs=f"{training.num_train_epochs:g}")
    )
    rank = "" if config.adapter.method == "full" else f" r={config.adapter.r}"
    rows = say("train.sentence.rows", count=draft.rows, rows=figures.count(draft.rows))
    return notices.sentence(
        say("train.sentence", method=method + rank, model=config.model.name, rows=rows, data=draft.label, length=length)
    )


def start(workspace: Workspace, draft: Draft, *, queue: bool) -> JobDirectory:
    """Hand in the draft as a run. Raises WorkbenchError, also for a file or model outside the workspace."""
    allowed.model_name(workspace, draft.config.model.name)
    if draft.config.data.file:
        allowed.data_file(workspace, draft.config.data.file)
    return runs.start(workspace, draft.config, queue=queue, name=run_name(draft))


def run_name(draft: Draft) -> str:
    """Return a name for people: the data and the model."""
    data = draft.label.rsplit(".", 1)[0][:24]
    model = draft.config.model.name.rsplit("/", 1)[-1][:24]
    return f"{data} on {model}" if data else model


@dataclass(frozen=True)
class Live:
    """Everything of the tab that changes while a run goes."""

    head: Html
    charts: Html
    events: Html
    cards: Html
    can_stop: bool
    can_resume: bool
    can_remove: bool
    can_try: bool


def live(workspace: Workspace, selected: Any, say: Speech) -> Live:
    """Return the shown run as it stands on disk."""
    job = shown_run(workspace, selected)
    if job is None:
        nothing = notices.empty(say("train.empty.title"), say("train.empty.text"))
        return Live(nothing, Html(""), Html(""), Html(""), False, False, False, False)
    status = job.status()
    return Live(
        head=runs_view.head(job, say),
        charts=runs_view.charts(job, say),
        events=runs_view.events(job),
        cards=runs_view.cards(training_runs(workspace), job.id, say),
        can_stop=not status.final,
        can_resume=status.final and status.state != "finished",
        can_remove=status.final,
        can_try=status.state == "finished" or any(job.checkpoints.glob("step-*/complete.json")),
    )


def act(workspace: Workspace, action: str, selected: Any) -> Html:
    """Stop, resume or remove the shown run; return an empty text or what went wrong."""
    job = shown_run(workspace, selected)
    if job is None:
        return Html("")
    try:
        if action == "stop":
            requests.stop(workspace, job)
        elif action == "resume":
            requests.resume(workspace, job)
        elif action == "remove":
            requests.remove(job)
    except WorkbenchError as error:
        return notices.problem(error)
    return Html("")


def build(frame: Frame) -> TrainTab:
    """Build the tab and wire it."""
    make = frame.wording.make
    selected, digest = gr.State(""), gr.State(0)
    line = gr.HTML(elem_id="wb-train-sentence")
    with gr.Row(elem_classes="wb-actions"):
        begin = make(gr.Button, value=Key("train.start"), variant="primary", elem_id="wb-start", scale=0)
        queue = make(gr.Button, value=Key("train.queue"), elem_id="wb-queue", scale=0)
    wrong = gr.HTML(elem_id="wb-train-error")
    with gr.Row(elem_classes="wb-columns"):
        with gr.Column(scale=3, min_width=320):
            head, charts = gr.HTML(elem_id="wb-run"), gr.HTML(elem_id="wb-charts")
            with gr.Row(elem_classes="wb-actions"):
                attempt = make(
                    gr.Button, value=Key("train.try"), variant="primary", elem_id="wb-try", scale=0, visible=False
                )
                stop = make(gr.Button, value=Key("train.stop"), variant="stop", scale=0, visible=False)
                resume = make(gr.Button, value=Key("train.resume"), scale=0, visible=False)
                remove = make(gr.Button, value=Key("train.remove"), scale=0, visible=False)
            with make(gr.Accordion, label=Key("train.log"), open=False) as log_box:
                log = gr.HTML()
        with gr.Column(scale=1, min_width=280):
            make(gr.HTML, value=Key("train.runs"), elem_classes="wb-heading")
            cards = gr.HTML(elem_id="wb-runs", js_on_load=PICK)
            events = gr.HTML()
    live_controls = [head, charts, events, cards, stop, resume, remove, attempt]
    _wire_live(frame, selected, digest, live_controls, log, log_box)
    _wire_actions(frame, selected, digest, wrong, cards, (begin, queue, stop, resume, remove))
    gr.on(
        [frame.blocks.load, frame.draft.change, frame.language.change],
        lambda draft, language: sentence(from_browser(draft), Speech(language)),
        [frame.draft, frame.language],
        line,
        **QUIET,
    )
    return TrainTab(selected, attempt)


def _wire_live(
    frame: Frame, selected: gr.State, digest: gr.State, controls: list[Any], log: gr.HTML, log_box: gr.Accordion
) -> None:
    """Read the job directory every two seconds and send what has changed."""

    def look(chosen: Any, seen: Any, language: Any) -> list[Any]:
        now = live(frame.workspace, chosen, Speech(language))
        mark = hash(now)
        if mark == seen:
            return [gr.skip()] * (len(controls) + 1)
        switches = [gr.update(visible=on) for on in (now.can_stop, now.can_resume, now.can_remove, now.can_try)]
        return [mark, now.head, now.charts, now.events, now.cards, *switches]

    gr.on(
        [frame.blocks.load, frame.timer.tick, selected.change, frame.language.change],
        look,
        [selected, digest, frame.language],
        [digest, *controls],
        **QUIET,
    )

    def tail(chosen: Any) -> Any:
        job = shown_run(frame.workspace, chosen)
        return runs_view.log_tail(job.log_file) if job else Html("")

    log_box.expand(tail, selected, log, **QUIET)
    selected.change(tail, selected, log, **QUIET)


def _wire_actions(
    frame: Frame,
    selected: gr.State,
    digest: gr.State,
    wrong: gr.HTML,
    cards: gr.HTML,
    buttons: tuple[gr.Button, gr.Button, gr.Button, gr.Button, gr.Button],
) -> None:
    begin, queue, stop, resume, remove = buttons

    def launch(draft: Any, *, waits: bool) -> tuple[Any, Any]:
        try:
            job = start(frame.workspace, from_browser(draft), queue=waits)
        except WorkbenchError as error:
            return gr.skip(), notices.problem(error)
        return job.id, Html("")

    begin.click(partial(launch, waits=False), frame.draft, [selected, wrong], **QUIET)
    queue.click(partial(launch, waits=True), frame.draft, [selected, wrong], **QUIET)
    for button, action in ((stop, "stop"), (resume, "resume"), (remove, "remove")):
        button.click(
            lambda chosen, action=action: (act(frame.workspace, action, chosen), 0), selected, [wrong, digest], **QUIET
        )

    def pick(event: gr.EventData) -> Any:
        return picked(event)

    cards.select(pick, None, selected, **QUIET)
