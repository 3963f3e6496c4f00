"""Train: what runs, how is it going, when is it done?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from app import runs
from app.errors import WorkbenchError
from app.jobs import bin as removed
from app.jobs import curves, requests
from app.jobs.directory import JobDirectory
from app.ui import allowed, compare_panel, figures, history_panel, live_panel, notices, recipe_box, run_box, sweep_box
from app.ui.draft import Draft, from_browser
from app.ui.frame import QUIET, Frame
from app.ui.language import Key, Speech
from app.ui.live_panel import shown_run
from app.ui.markup import Html, joined
from app.workspace import Workspace


@dataclass(frozen=True)
class TrainTab:
    """The controls that other tabs and the tour reach for."""

    selected: gr.State
    try_it: gr.Button
    clone: gr.Button
    kept: gr.State
    wrong: gr.HTML


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
    if not draft.rows:  # a cloned run names its data; its rows are counted when the data tab looks at them
        rows = say("train.sentence.the_rows")
    return notices.sentence(
        say("train.sentence", method=method + rank, model=config.model.name, rows=rows, data=draft.label, length=length)
    )


def start(workspace: Workspace, draft: Draft, *, queue: bool) -> JobDirectory:
    """Hand in the draft as a run. Raises WorkbenchError, also for a file or model outside the workspace."""
    allowed.model_name(workspace, draft.config.model.name)
    if draft.config.data.file:
        allowed.data_file(workspace, draft.config.data.file)
    taken = {job.name for job in live_panel.training_runs(workspace)}
    return runs.start(workspace, draft.config, queue=queue, name=run_name(draft, taken))


def run_name(draft: Draft, taken: Collection[str] = ()) -> str:
    """Return a name for people: the data, the model, and a number where the name is taken."""
    data = draft.label.rsplit(".", 1)[0][:24]
    model = draft.config.model.name.rsplit("/", 1)[-1][:24]
    name = f"{data} on {model}" if data else model
    numbered = (f"{name} {number}" for number in range(2, len(taken) + 3))
    return name if name not in taken else next(one for one in numbered if one not in taken)


def act(workspace: Workspace, action: str, selected: Any) -> Html:
    """Stop, pause, resume or remove the shown run; return nothing or what went wrong.

    A run is resumed behind what runs, and removed into the bin.
    """
    job = shown_run(workspace, selected)
    if job is None:
        return Html("")
    try:
        if action == "stop":
            requests.stop(workspace, job)
        elif action == "pause":
            requests.pause(workspace, job)
        elif action == "resume":
            requests.resume(workspace, job, queue=True)
        elif action == "remove":
            removed.discard(workspace, job)
    except WorkbenchError as error:
        return notices.problem(error)
    return Html("")


def unloaded(job: JobDirectory) -> Html:
    """Return what gave way to a run that was just handed in, or nothing."""
    said = [str(event["message"]) for event in curves.read(job.metrics_file).events if event["event"] == "unloaded"]
    return joined(notices.note(text + ".") for text in said)


def build(frame: Frame) -> TrainTab:
    """Build the tab and wire it."""
    make = frame.wording.make
    selected, ticked = gr.State(""), gr.State([])
    line = gr.HTML(elem_id="wb-train-sentence")
    with gr.Row(elem_classes="wb-actions"):
        begin = make(gr.Button, value=Key("train.start"), variant="primary", elem_id="wb-start", scale=0)
        queue = make(gr.Button, value=Key("train.queue"), elem_id="wb-queue", scale=0)
        grid = make(gr.Button, value=Key("train.sweep"), elem_id="wb-sweep-open", scale=0)
    wrong = gr.HTML(elem_id="wb-train-error")
    sweep_place = gr.Column()
    with gr.Row(elem_classes="wb-columns"):
        with gr.Column(scale=3, min_width=320):
            shown, view, actions, box_place = live_panel.build(frame)
        with gr.Column(scale=1, min_width=300):
            cards, waiting, events, only, restored = history_panel.build(frame)
    parts = [
        shown["head"],
        shown["charts"],
        shown["instruments"],
        shown["samples"],
        events,
        cards,
        waiting,
        *actions.values(),
    ]
    after = live_panel.wire(frame, [selected, ticked, *view, *only], parts, shown["log"], shown["log_box"])
    with sweep_place:
        sweep_box.build(frame, grid, selected, after)
    with box_place:
        box = run_box.build(frame, selected, partial(shown_run, frame.workspace), after)
        recipe_box.build(frame, selected, partial(shown_run, frame.workspace))
    compare_panel.build(frame, ticked)
    _wire_start(frame, selected, wrong, (begin, queue), after)
    _wire_actions(frame, selected, wrong, actions, after)
    history_panel.wire(frame, selected, ticked, wrong, (cards, waiting), restored, after)
    live_panel.wire_zoom(frame, selected, shown["charts"], view)
    gr.on(
        [frame.blocks.load, frame.draft.change, frame.language.change],
        lambda draft, language: sentence(from_browser(draft), Speech(language)),
        [frame.draft, frame.language],
        line,
        **QUIET,
    )
    return TrainTab(selected, actions["try"], box.clone, box.kept, wrong)


def _wire_start(
    frame: Frame, selected: gr.State, wrong: gr.HTML, buttons: Sequence[gr.Button], after: dict[str, Any]
) -> None:
    """Wire Start and Queue; what gave way to the run is said where the hand is."""

    def launch(draft: Any, *, waits: bool) -> tuple[Any, Any]:
        try:
            job = start(frame.workspace, from_browser(draft), queue=waits)
        except WorkbenchError as error:
            return gr.skip(), notices.problem(error)
        return job.id, unloaded(job)

    for button, waits in zip(buttons, (False, True), strict=True):
        button.click(partial(launch, waits=waits), frame.draft, [selected, wrong], **QUIET).then(**after)


def _wire_actions(
    frame: Frame, selected: gr.State, wrong: gr.HTML, actions: dict[str, gr.Button], after: dict[str, Any]
) -> None:
    """Wire the buttons of the shown run. Try it leads to another tab and is wired by the page."""
    for action in ("stop", "pause", "resume", "remove"):
        actions[action].click(
            lambda chosen, action=action: act(frame.workspace, action, chosen), selected, wrong, **QUIET
        ).then(**after)
