"""Export: how do I use it elsewhere?"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import gradio as gr

from app.errors import WorkbenchError
from app.export.requests import GGUF_DTYPES
from app.jobs import requests
from app.jobs.directory import JobDirectory
from app.runs.on_disk import exports
from app.runs.on_disk.exports import SMALLEST, TARGETS, Source
from app.ui.components import messages
from app.ui.components.handlers import EVENT_DEFAULTS, Control, Updates, handler, held, raw, text
from app.ui.components.markup import Html
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import PageContext
from app.ui.tabs.export import made_panel, making, ollama_panel, push_panel
from app.ui.tabs.export import view as export_view
from app.ui.tabs.export.made_panel import Panel as MadePanel
from app.ui.tabs.export.making import FileChoice, FileFields
from app.ui.tabs.export.ollama_panel import Panel as OllamaPanel
from app.ui.tabs.export.push_panel import Panel as PushPanel
from app.ui.tabs.export.view import Card
from app.workspace import Workspace


@dataclass(frozen=True)
class View:
    """What the tab shows of one adapter or model: a sentence and the cards, by target."""

    sentence: Html
    cards: dict[str, Card] = field(default_factory=dict)


def view(workspace: Workspace, value: object, t: Translator, dtype: object = GGUF_DTYPES[0]) -> View:
    """Return what can be taken away of the chosen adapter or model."""
    try:
        source = exports.find(workspace, value)
    except WorkbenchError:
        way = messages.Action(t("take.empty.action"), "tab:train")
        nothing = messages.empty(t("take.empty.title"), t("take.empty.text"), "export", way)
        return View(messages.sentence(t("take.none")), {TARGETS[0]: Card(nothing)})
    newest = exports.newest_jobs(workspace, source)
    states = [job.status().state for job in newest.values()]
    chosen = str(dtype) if dtype in (*GGUF_DTYPES, SMALLEST) else GGUF_DTYPES[0]
    return View(sentence(source, states, t), export_view.cards(workspace, source, newest, chosen, t))


def sentence(source: Source, states: Sequence[str], t: Translator) -> Html:
    """Return what there is, in one sentence."""
    if any(state in ("queued", "starting", "running", "stopping") for state in states):
        return messages.sentence(t("take.sentence_busy", name=source.name))
    done = states.count("finished")
    if done:
        return messages.sentence(t("take.sentence_done", name=source.name, count=done))
    return messages.sentence(t("take.sentence" if source.artifact else "take.sentence_model", name=source.name))


def merge(workspace: Workspace, value: object) -> JobDirectory:
    """Hand in a merge of the chosen adapter into the workspace's outputs. Raises WorkbenchError."""
    return making.make(workspace, value, "model")


def stop(workspace: Workspace, value: object, target: str) -> None:
    """Ask the newest job behind a card to end."""
    job = exports.newest_jobs(workspace, exports.find(workspace, value)).get(target)
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

    def outputs(self) -> list[Control]:
        """Return what a look renews."""
        return [self.html, self.make, self.stop]

    def showing(self, card: Card | None) -> Updates:
        """Return what shows a card; nothing of it where there is none."""
        card = card or Card(Html(""))
        offered = gr.update(visible=card.can_make)
        return Updates({self.html: card.html, self.make: offered, self.stop: gr.update(visible=card.can_stop)})


def build(context: PageContext, tab: gr.Tab) -> gr.Dropdown:
    """Build the tab, wire it, and return the choice of the adapter."""
    made = context.translated.make
    line = gr.HTML(elem_id="wb-take-sentence")
    with gr.Row(elem_classes="wb-columns"):
        chosen = made(gr.Dropdown, label=Key("take.chosen"), choices=[], elem_id="wb-take-run", scale=3, min_width=240)
        dtype = made(
            gr.Dropdown,
            label=Key("take.dtype"),
            choices=[(Key(f"take.dtype.{name}"), name) for name in (*GGUF_DTYPES, SMALLEST)],
            value=GGUF_DTYPES[0],
            elem_id="wb-take-dtype",
            scale=1,
            min_width=140,
        )
        bound = made(
            gr.Textbox,
            label=Key("take.bound"),
            info=Key("take.bound_help"),
            value=making.USUAL_BOUND,
            max_lines=1,
            visible=False,
            elem_id="wb-take-bound",
            scale=1,
            min_width=200,
        )
    ollama: list[OllamaPanel] = []
    pushed: list[PushPanel] = []
    with gr.Row(elem_classes="wb-take-row"):
        below: dict[str, Callable[[], object]] = {
            "ollama": lambda: ollama.append(ollama_panel.build(context)),
            "hub": lambda: pushed.append(push_panel.build(context)),
        }
        cards = [_build_card(made, target, below.get(target)) for target in TARGETS]
    listed = made_panel.build(context)
    _wire(context, tab, _Tab(chosen, FileFields(dtype, bound), line, cards, ollama[0], pushed[0], listed))
    return chosen


@dataclass(frozen=True)
class _Tab:
    chosen: gr.Dropdown
    file: FileFields
    line: gr.HTML
    cards: list[_Controls]
    ollama: OllamaPanel
    push: PushPanel
    listed: MadePanel


def _wire(context: PageContext, tab: gr.Tab, c: _Tab) -> None:
    digest, workspace = gr.State(0), context.workspace

    def look(value: object, kind: object, seen: object, t: Translator) -> Updates:
        found = view(workspace, value, t, kind)
        table = made_panel.table(workspace, t)
        pushed = push_panel.standing(workspace, value, t)
        fresh = hash((found.sentence, table, pushed, tuple(found.cards.items())))
        if fresh == seen:
            return Updates()
        updates = Updates({digest: fresh, c.line: found.sentence, c.listed.table: table, c.push.said: pushed})
        for card in c.cards:
            updates |= card.showing(found.cards.get(card.target))
        return updates

    def opened(value: object) -> Updates:
        offered = exports.choices(workspace)
        known = [one for _, one in offered]
        kept = value if value in known else next(iter(known), None)
        # What was sent before the tab was open may not have been drawn: all is sent again.
        return Updates({c.chosen: gr.update(choices=offered, value=kept), digest: 0})

    value, kind, t = raw(c.chosen), raw(c.file.dtype), context.language_field
    parts = [part for card in c.cards for part in card.outputs()]
    looked = handler(look, [value, kind, held(digest), t], [digest, c.line, *parts, c.listed.table, c.push.said])
    gr.on([context.blocks.load, tab.select], **handler(opened, [value], [c.chosen, digest])).then(**looked)
    changes = [c.chosen.change, c.file.dtype.change]
    gr.on([context.poll_timers["export"].tick, *changes, context.language.change], **looked)
    errors = [card.wrong for card in c.cards]
    gr.on(changes, None, None, errors, js=f"() => {json.dumps([''] * len(errors))}", **EVENT_DEFAULTS)

    def choose(kind: object) -> Updates:
        return Updates({c.file.bound: gr.update(visible=kind == SMALLEST)})

    def begin(value: object, file: FileChoice, repo: str, t: Translator, *, card: _Controls) -> Html:
        named = repo.strip() if card.target == "hub" else ""
        return _attempt(lambda: making.make(workspace, value, card.target, file, repo=named), t)

    def end(value: object, t: Translator, *, card: _Controls) -> Html:
        return _attempt(lambda: stop(workspace, value, card.target), t)

    c.file.dtype.change(**handler(choose, [kind], [c.file.bound]))
    wrong = {card.target: card.wrong for card in c.cards}
    ollama_panel.wire(context, c.ollama, c.chosen, c.file, wrong["ollama"], looked)
    push_panel.wire(context, c.push, c.chosen, wrong["hub"], looked)
    for card in c.cards:
        begun = handler(partial(begin, card=card), [value, c.file, text(c.push.repo), t], [card.wrong])
        card.make.click(**begun).then(**looked)
        card.stop.click(**handler(partial(end, card=card), [value, t], [card.wrong])).then(**looked)


def _build_card(made: Callable[..., object], target: str, below: Callable[[], object] | None = None) -> _Controls:
    with gr.Column(min_width=320, elem_classes="wb-take"):
        html = gr.HTML(elem_id=f"wb-take-{target}")
        with gr.Row(elem_classes="wb-actions"):
            # One primary button a view: the merge, which the other files are made of.
            label = Key("take.merge" if target == "model" else "take.make")
            variant = "primary" if target == "model" else "secondary"
            button = made(gr.Button, value=label, variant=variant, visible=False, elem_id=f"wb-make-{target}", scale=0)
            end = made(gr.Button, value=Key("take.stop"), variant="stop", visible=False, scale=0)
        if below is not None:
            below()
        wrong = gr.HTML(elem_id=f"wb-take-error-{target}")
    return _Controls(target, html, button, end, wrong)


def _attempt(do: Callable[[], object], t: Translator) -> Html:
    """Do it and return what went wrong, if anything."""
    try:
        do()
    except WorkbenchError as error:
        return messages.problem(error, t)
    return Html("")
