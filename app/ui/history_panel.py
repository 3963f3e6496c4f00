"""The runs of the Train tab: those that wait, the filter, the cards, the events, the bin."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.events import Dependency

from app.errors import WorkbenchError
from app.jobs import bin as removed
from app.jobs import directory as jobs
from app.jobs import requests
from app.ui import compare_panel, notices, run_cards
from app.ui.frame import PICK, QUIET, Frame, picked
from app.ui.language import Key, Speech
from app.ui.markup import Html
from app.workspace import Workspace


def build(frame: Frame) -> tuple[gr.HTML, gr.HTML, gr.HTML, list[Any], Dependency]:
    """Build the runs: those that wait, the filter, the cards, the events, the bin; return also the bin's restoring."""
    make = frame.wording.make
    waiting = gr.HTML(elem_id="wb-waiting", js_on_load=PICK)
    make(gr.HTML, value=Key("train.runs"), elem_classes="wb-heading")
    with gr.Row(elem_classes="wb-filter"):
        words = make(
            gr.Textbox, placeholder=Key("train.filter"), show_label=False, container=False, max_lines=1, min_width=120
        )
        kinds = [(Key(f"train.filter.{kind}"), kind) for kind in run_cards.STATES]
        kind = make(gr.Dropdown, choices=kinds, value="all", show_label=False, container=False, min_width=110)
    cards = gr.HTML(elem_id="wb-runs", js_on_load=PICK)
    events = gr.HTML()
    return cards, waiting, events, [words, kind], _bin(frame)


def _bin(frame: Frame) -> Dependency:
    """Build the bin: what is in it is read when it is opened. Return the event that restores."""
    make = frame.wording.make
    with make(gr.Accordion, label=Key("train.bin"), open=False, elem_id="wb-bin") as box:
        listed = gr.HTML(elem_id="wb-bin-list", js_on_load=PICK)
        empty = make(gr.Button, value=Key("train.empty_bin"), size="sm", variant="stop", elem_id="wb-bin-empty")

    def show(language: Any) -> Html:
        return run_cards.bin_list(frame.workspace, Speech(language))

    def restore(event: gr.EventData, language: Any) -> Html:
        try:
            removed.restore(frame.workspace, picked(event).removeprefix("restore:"))
        except WorkbenchError as error:
            return notices.problem(error)
        return show(language)

    def clear(language: Any) -> Html:
        removed.empty(frame.workspace)
        return show(language)

    gr.on([box.expand, frame.language.change], show, frame.language, listed, **QUIET)
    empty.click(clear, frame.language, listed, **QUIET)
    return listed.select(restore, frame.language, listed, **QUIET)


def wire(
    frame: Frame,
    selected: gr.State,
    ticked: gr.State,
    wrong: gr.HTML,
    lists: tuple[gr.HTML, gr.HTML],
    restored: Dependency,
    after: dict[str, Any],
) -> None:
    """Wire what is clicked in the lists: a card, its tick, a sweep, a place in the queue, a removed run."""
    cards, waiting = lists

    def pick(event: gr.EventData, ticks: Any) -> list[Any]:
        verb, _, rest = picked(event).partition(":")
        if verb == "show":
            return [rest, gr.skip()]
        if verb == "tick":
            return [gr.skip(), compare_panel.toggled(ticks, rest)]
        if verb == "sweep":
            return [gr.skip(), compare_panel.members_of(frame.workspace, rest)]
        return [gr.skip(), gr.skip()]

    def shift(event: gr.EventData) -> Html:
        verb, _, job_id = picked(event).partition(":")
        return queue_action(frame.workspace, verb, job_id)

    cards.select(pick, ticked, [selected, ticked], **QUIET)
    waiting.select(shift, None, wrong, **QUIET).then(**after)
    restored.then(**after)  # where nothing runs, no tick would show it


def queue_action(workspace: Workspace, verb: str, job_id: str) -> Html:
    """Move a waiting job, of whatever kind, or take it out; return nothing or what went wrong."""
    try:
        job = jobs.find(workspace, job_id)
        if verb in ("up", "down"):
            requests.move(workspace, job, -1 if verb == "up" else 1)
        elif verb == "out" and job.status().state == "queued":
            requests.stop(workspace, job)
    except WorkbenchError as error:
        return notices.problem(error)
    return Html("")
