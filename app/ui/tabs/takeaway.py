"""Take away: how do I use it elsewhere?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from app.errors import WorkbenchError
from app.export.requests import GGUF_DTYPES, ExportRequest, start_export, start_merge
from app.jobs import requests
from app.jobs.directory import JobDirectory
from app.ui import notices, takeaway_sources, takeaway_view
from app.ui.frame import QUIET, Frame
from app.ui.language import Key, Speech
from app.ui.markup import Html
from app.ui.takeaway_sources import TARGETS, Source
from app.ui.takeaway_view import Card
from app.workspace import Workspace


@dataclass(frozen=True)
class View:
    """What the tab shows of one adapter or model: a sentence and the cards, by target."""

    sentence: Html
    cards: dict[str, Card] = field(default_factory=dict)


def view(workspace: Workspace, value: Any, say: Speech, dtype: Any = GGUF_DTYPES[0]) -> View:
    """Return what can be taken away of the chosen adapter or model."""
    try:
        source = takeaway_sources.find(workspace, value)
    except WorkbenchError:
        nothing = notices.empty(say("take.empty.title"), say("take.empty.text"))
        return View(notices.sentence(say("take.none")), {TARGETS[0]: Card(nothing)})
    newest = takeaway_sources.newest_jobs(workspace, source)
    states = [job.status().state for job in newest.values()]
    chosen = dtype if dtype in GGUF_DTYPES else GGUF_DTYPES[0]
    return View(sentence(source, states, say), takeaway_view.cards(workspace, source, newest, chosen, say))


def sentence(source: Source, states: Sequence[str], say: Speech) -> Html:
    """Return what there is, in one sentence."""
    if any(state in ("queued", "starting", "running", "stopping") for state in states):
        return notices.sentence(say("take.sentence_busy", name=source.name))
    done = states.count("finished")
    if done:
        return notices.sentence(say("take.sentence_done", name=source.name, count=done))
    return notices.sentence(say("take.sentence" if source.trial else "take.sentence_model", name=source.name))


def merge(workspace: Workspace, value: Any) -> JobDirectory:
    """Hand in a merge of the chosen adapter into the workspace's outputs. Raises WorkbenchError."""
    return make(workspace, value, "model")


def make(workspace: Workspace, value: Any, target: str, dtype: Any = GGUF_DTYPES[0]) -> JobDirectory:
    """Hand in the job behind a card, into the workspace's outputs. Raises WorkbenchError."""
    source = takeaway_sources.find(workspace, value)
    out = takeaway_view.free_place(workspace, source, target)
    if target == "model":
        return start_merge(workspace, source.folder, out)
    folder = str(source.folder.absolute())
    adapter, model = (folder, "") if source.trial else ("", folder)
    request = ExportRequest(target, str(out), adapter=adapter, model=model, dtype=str(dtype), name=source.stem)
    return start_export(workspace, request)


def stop(workspace: Workspace, value: Any, target: str) -> None:
    """Ask the newest job behind a card to end."""
    job = takeaway_sources.newest_jobs(workspace, takeaway_sources.find(workspace, value)).get(target)
    if job is not None:
        requests.stop(workspace, job)


@dataclass(frozen=True)
class _Controls:
    """The parts of one card on the page."""

    target: str
    html: gr.HTML
    make: gr.Button
    stop: gr.Button
    wrong: gr.HTML

    def outputs(self) -> list[Any]:
        """Return what a look renews."""
        return [self.html, self.make, self.stop]


def build(frame: Frame, tab: gr.Tab) -> gr.Dropdown:
    """Build the tab, wire it, and return the choice of the adapter."""
    made = frame.wording.make
    digest = gr.State(0)
    line = gr.HTML(elem_id="wb-take-sentence")
    with gr.Row(elem_classes="wb-columns"):
        chosen = made(gr.Dropdown, label=Key("take.chosen"), choices=[], elem_id="wb-take-run", scale=3, min_width=240)
        dtype = made(
            gr.Dropdown,
            label=Key("take.dtype"),
            choices=list(GGUF_DTYPES),
            value=GGUF_DTYPES[0],
            elem_id="wb-take-dtype",
            scale=1,
            min_width=140,
        )
    cards = []
    for first in range(0, len(TARGETS), 2):
        with gr.Row(elem_classes="wb-columns wb-take-row"):
            cards += [_build_card(made, target) for target in TARGETS[first : first + 2]]
    outputs = [digest, line, *(part for card in cards for part in card.outputs())]

    def look(value: Any, kind: Any, seen: Any, language: Any) -> list[Any]:
        found = view(frame.workspace, value, Speech(language), kind)
        fresh = hash((found.sentence, tuple(found.cards.items())))
        if fresh == seen:
            return [gr.skip()] * len(outputs)
        return [fresh, found.sentence, *(part for card in cards for part in _renewed(found.cards.get(card.target)))]

    def opened(value: Any) -> Any:
        offered = takeaway_sources.choices(frame.workspace)
        known = [one for _, one in offered]
        return gr.update(choices=offered, value=value if value in known else next(iter(known), None))

    inputs = [chosen, dtype, digest, frame.language]
    gr.on([frame.blocks.load, tab.select], opened, chosen, chosen, **QUIET).then(look, inputs, outputs, **QUIET)
    gr.on(
        [frame.watches["takeaway"].tick, chosen.change, dtype.change, frame.language.change],
        look,
        inputs,
        outputs,
        **QUIET,
    )
    chosen.change(lambda: [Html("")] * len(cards), None, [card.wrong for card in cards], **QUIET)
    for card in cards:
        card.make.click(_attempt(frame.workspace, make, card.target), [chosen, dtype], card.wrong, **QUIET).then(
            look, inputs, outputs, **QUIET
        )
        card.stop.click(_attempt(frame.workspace, stop, card.target), [chosen], card.wrong, **QUIET).then(
            look, inputs, outputs, **QUIET
        )
    return chosen


def _build_card(made: Callable[..., Any], target: str) -> _Controls:
    with gr.Column(min_width=320, elem_classes="wb-take"):
        html = gr.HTML(elem_id=f"wb-take-{target}")
        with gr.Row(elem_classes="wb-actions"):
            label = Key("take.merge" if target == "model" else "take.make")
            button = made(
                gr.Button, value=label, variant="primary", visible=False, elem_id=f"wb-make-{target}", scale=0
            )
            end = made(gr.Button, value=Key("take.stop"), variant="stop", visible=False, scale=0)
        wrong = gr.HTML(elem_id=f"wb-take-error-{target}")
    return _Controls(target, html, button, end, wrong)


def _renewed(card: Card | None) -> list[Any]:
    if card is None:
        return [Html(""), gr.update(visible=False), gr.update(visible=False)]
    variant = "secondary" if card.is_done else "primary"  # making it again is not the next step
    return [card.html, gr.update(visible=card.can_make, variant=variant), gr.update(visible=card.can_stop)]


def _attempt(workspace: Workspace, action: Callable[..., Any], target: str) -> Callable[..., Html]:
    """Return a handler that does it and shows what went wrong, if anything."""

    def handler(value: Any, *rest: Any) -> Html:
        try:
            action(workspace, value, target, *rest)
        except WorkbenchError as error:
            return notices.problem(error)
        return Html("")

    return handler
