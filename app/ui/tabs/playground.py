"""Playground: did it learn what I wanted?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.ui import notices, trials
from app.ui.frame import QUIET, Frame
from app.ui.language import Key, Speech
from app.ui.markup import Html
from app.ui.playground import blend, chat, chooser, inspect, suite, vote
from app.ui.playground.chooser import Chooser
from app.workspace import Workspace


def opening(workspace: Workspace, say: Speech) -> Html:
    """Return the tab's sentence before anything was asked."""
    return notices.sentence(say("play.ready" if trials.all_trials(workspace) else "play.none"))


@dataclass(frozen=True)
class PlaygroundTab:
    """The controls that other tabs and the tour reach for."""

    chosen: gr.Dropdown
    prompt: gr.Textbox
    asked: gr.State
    onward: gr.Button


def build(frame: Frame, tab: gr.Tab) -> PlaygroundTab:
    """Build the tab: the choice of columns on the left, the modes on the right."""
    make = frame.wording.make
    line, wrong = gr.HTML(elem_id="wb-play-sentence"), gr.HTML(elem_id="wb-play-error")
    with gr.Row(elem_classes="wb-columns"):
        with gr.Column(scale=1, min_width=280):
            shared = chooser.build(frame)
        with gr.Column(scale=3, min_width=320):
            with gr.Tabs(elem_id="wb-play-modes"):
                with make(gr.Tab, label=Key("play.mode.chat"), id="chat"):
                    talking = chat.build(frame, shared, line, wrong)
                with make(gr.Tab, label=Key("play.mode.vote"), id="vote") as voting:
                    vote.build(frame, voting, shared)
                with make(gr.Tab, label=Key("play.mode.suite"), id="suite") as suiting:
                    suite.build(frame, suiting, shared)
                with make(gr.Tab, label=Key("play.mode.blend"), id="blend"):
                    blend.build(frame, shared)
                with make(gr.Tab, label=Key("play.mode.inspect"), id="inspect") as inspecting:
                    inspect.build(frame, inspecting, shared)
            onward = make(gr.Button, value=Key("play.onward"), variant="primary", elem_id="wb-take-away", scale=0)
    _wire_opening(frame, tab, shared, line)
    return PlaygroundTab(shared.chosen, talking.prompt, talking.asked, onward)


def _wire_opening(frame: Frame, tab: gr.Tab, shared: Chooser, line: gr.HTML) -> None:
    """Offer what there is whenever the tab is looked at; what was chosen stays chosen."""
    workspace = frame.workspace

    def opened(language: Any, values: Any) -> list[Any]:
        offered = trials.choices(workspace, values)
        known = {value for _, value in offered}
        kept = [value for value in values or [] if value in known] or [value for _, value in offered[:1]]
        engines = bool(trials.living_engines(workspace))
        chosen = gr.update(choices=offered, value=kept)
        return [opening(workspace, Speech(language)), chosen, gr.update(visible=engines)]

    gr.on(
        [frame.blocks.load, tab.select, frame.language.change],
        opened,
        [frame.language, shared.chosen],
        [line, shared.chosen, shared.free],
        **QUIET,
    )
