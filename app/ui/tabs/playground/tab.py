"""Playground: did it learn what I wanted?"""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from app.engine.requests import BASE
from app.runs.on_disk import artifacts
from app.ui.components import messages
from app.ui.components.handlers import Updates, handler, listed
from app.ui.components.markup import Html
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import PageContext
from app.ui.tabs.playground import blend, chat, chooser, evaluate, inspect, suite, vote
from app.ui.tabs.playground.chooser import Chooser
from app.ui.tabs.playground.learning import Learning
from app.workspace import Workspace


def opening(workspace: Workspace, t: Translator) -> Html:
    """Return the tab's sentence before anything was asked."""
    return messages.sentence(t("play.ready" if artifacts.all_artifacts(workspace) else "play.none"))


@dataclass(frozen=True)
class PlaygroundTab:
    """The controls that other tabs and the tour reach for."""

    chosen: gr.Dropdown
    prompt: gr.Textbox
    asked: gr.State
    answers: gr.HTML
    onward: gr.Button
    learning: tuple[Learning, ...]


def build(context: PageContext, tab: gr.Tab) -> PlaygroundTab:
    """Build the tab: the choice of columns on the left, the modes on the right."""
    make = context.translated.make
    line = gr.HTML(elem_id="wb-play-sentence")
    with gr.Row(elem_classes="wb-columns"):
        with gr.Column(scale=1, min_width=280):
            shared = chooser.build(context)
        with gr.Column(scale=3, min_width=320):
            with gr.Tabs(elem_id="wb-play-modes") as modes:
                with make(gr.Tab, label=Key("play.mode.chat"), id="chat"):
                    talking = chat.build(context, shared, line)
                with make(gr.Tab, label=Key("play.mode.vote"), id="vote") as voting:
                    votes = vote.build(context, voting, shared)
                with make(gr.Tab, label=Key("play.mode.suite"), id="suite") as suiting:
                    verdicts = suite.build(context, suiting, shared)
                with make(gr.Tab, label=Key("play.mode.blend"), id="blend"):
                    blend.build(context, shared)
                with make(gr.Tab, label=Key("play.mode.inspect"), id="inspect") as inspecting:
                    inspected = inspect.build(context, inspecting, shared)
                with make(gr.Tab, label=Key("play.mode.evaluate"), id="evaluate") as evaluating:
                    evaluate.build(context, evaluating, shared)
            onward = make(gr.Button, value=Key("play.onward"), elem_id="wb-take-away", scale=0)
    _wire_opening(context, tab, shared, line)
    _wire_menus(context, talking.answers, shared, modes, inspected)
    return PlaygroundTab(shared.chosen, talking.prompt, talking.asked, talking.answers, onward, (votes, verdicts))


def _wire_opening(context: PageContext, tab: gr.Tab, shared: Chooser, line: gr.HTML) -> None:
    """Offer what there is whenever the tab is looked at; what was chosen stays chosen."""
    workspace = context.workspace

    def opened(t: Translator, values: list[object]) -> Updates:
        offered = artifacts.choices(workspace, values)
        known = {value for _, value in offered}
        first = artifacts.first_choice(workspace)
        kept = [value for value in values if value in known] or ([first] if first else [])
        engines = gr.update(visible=bool(artifacts.living_engines(workspace)))
        chosen = gr.update(choices=offered, value=kept)
        return Updates({line: opening(workspace, t), shared.chosen: chosen, shared.free: engines})

    gr.on(
        [context.blocks.load, tab.select, context.language.change],
        **handler(opened, [context.language_field, listed(shared.chosen)], [line, shared.chosen, shared.free]),
    )


def _wire_menus(
    context: PageContext, answers: gr.HTML, shared: Chooser, modes: gr.Tabs, inspected: gr.Dropdown
) -> None:
    """Leave a column out, or take it to Inspect, from the menu at its head; to Export it goes with the page's steps."""
    workspace = context.workspace

    def act(values: list[object], picked: str) -> Updates:
        verb, _, name = picked.partition(":")
        if verb == "remove" and name == BASE:
            return Updates({shared.base: False})
        value = artifacts.value_of_column(workspace, values, name) if verb in ("remove", "inspect") else None
        if value is None:
            return Updates()
        if verb == "remove":
            return Updates({shared.chosen: [one for one in values if one != value]})
        chosen = gr.update(choices=artifacts.choices(workspace, values), value=value)
        return Updates({inspected: chosen, modes: gr.update(selected="inspect")})

    shows = [shared.base, shared.chosen, inspected, modes]
    answers.select(**handler(act, [listed(shared.chosen)], shows))
