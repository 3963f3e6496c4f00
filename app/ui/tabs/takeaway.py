"""Take away: how do I use it elsewhere?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.errors import WorkbenchError
from app.export.requests import start_merge
from app.jobs import requests
from app.jobs.directory import JobDirectory
from app.ui import notices, takeaway_view, trials
from app.ui.frame import QUIET, Frame
from app.ui.language import Key, Speech
from app.ui.markup import Html
from app.ui.tabs.playground import choices
from app.ui.trials import Trial
from app.workspace import Workspace


@dataclass(frozen=True)
class View:
    """What the tab shows of one adapter. `can_merge` says that no merge of it is on its way or done."""

    sentence: Html
    adapter: Html
    merged: Html
    can_merge: bool
    can_stop: bool


def view(workspace: Workspace, value: Any, say: Speech) -> View:
    """Return what can be taken away of the chosen adapter."""
    try:
        trial = trials.find(workspace, value)
    except WorkbenchError:
        nothing = notices.empty(say("take.empty.title"), say("take.empty.text"))
        return View(notices.sentence(say("take.none")), nothing, Html(""), False, False)
    newest = next(iter(takeaway_view.merges_of(workspace, trial)), None)
    status = newest.status() if newest else None
    return View(
        sentence(trial, status.state if status else "", say),
        takeaway_view.adapter_card(trial, say),
        takeaway_view.merged_card(workspace, trial, say),
        can_merge=status is None or (status.final and status.state != "finished"),
        can_stop=status is not None and not status.final,
    )


def sentence(trial: Trial, state: str, say: Speech) -> Html:
    """Return what there is, in one sentence."""
    key = {"finished": "take.sentence_done", "": "take.sentence"}.get(state, "take.sentence_merging")
    if state in ("failed", "stopped", "interrupted"):
        key = "take.sentence"
    return notices.sentence(say(key, name=trial.name))


def merge(workspace: Workspace, value: Any) -> JobDirectory:
    """Hand in a merge of the chosen adapter into the workspace's outputs. Raises WorkbenchError."""
    trial = trials.find(workspace, value)
    out, number = workspace.output_dir(f"{trial.column}-merged"), 2
    while out.exists():  # an export is never overwritten
        out, number = workspace.output_dir(f"{trial.column}-merged-{number}"), number + 1
    return start_merge(workspace, trial.folder, out)


def stop_merge(workspace: Workspace, value: Any) -> None:
    """Ask the newest merge of the chosen adapter to end."""
    for job in takeaway_view.merges_of(workspace, trials.find(workspace, value))[:1]:
        requests.stop(workspace, job)


def build(frame: Frame, tab: gr.Tab) -> gr.Dropdown:
    """Build the tab, wire it, and return the choice of the adapter."""
    make = frame.wording.make
    digest = gr.State(0)
    line, wrong = gr.HTML(elem_id="wb-take-sentence"), gr.HTML(elem_id="wb-take-error")
    chosen = make(gr.Dropdown, label=Key("take.chosen"), choices=[], elem_id="wb-take-run")
    with gr.Row(elem_classes="wb-columns"):
        with gr.Column(min_width=320):
            adapter = gr.HTML(elem_id="wb-take-adapter")
        with gr.Column(min_width=320):
            merged = gr.HTML(elem_id="wb-take-merged")
            with gr.Row(elem_classes="wb-actions"):
                begin = make(
                    gr.Button, value=Key("take.merge"), variant="primary", visible=False, elem_id="wb-merge", scale=0
                )
                stop = make(gr.Button, value=Key("take.stop"), variant="stop", visible=False, scale=0)
    outputs = [digest, line, adapter, merged, begin, stop]

    def look(value: Any, seen: Any, language: Any) -> list[Any]:
        found = view(frame.workspace, value, Speech(language))
        if hash(found) == seen:
            return [gr.skip()] * len(outputs)
        buttons = [gr.update(visible=found.can_merge), gr.update(visible=found.can_stop)]
        return [hash(found), found.sentence, found.adapter, found.merged, *buttons]

    def opened(value: Any) -> Any:
        offered = choices(frame.workspace)
        known = [one for _, one in offered]
        return gr.update(choices=offered, value=value if value in known else next(iter(known), None))

    def attempt(action: Any) -> Html:
        try:
            action()
        except WorkbenchError as error:
            return notices.problem(error)
        return Html("")

    inputs = [chosen, digest, frame.language]
    gr.on([frame.blocks.load, tab.select], opened, chosen, chosen, **QUIET).then(look, inputs, outputs, **QUIET)
    gr.on([frame.timer.tick, chosen.change, frame.language.change], look, inputs, outputs, **QUIET)
    begin.click(lambda value: attempt(lambda: merge(frame.workspace, value)), chosen, wrong, **QUIET).then(
        look, inputs, outputs, **QUIET
    )
    stop.click(lambda value: attempt(lambda: stop_merge(frame.workspace, value)), chosen, wrong, **QUIET)
    return chosen
