"""Plan: will it train on my card?"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from app import catalog, presets
from app.config import RunConfig
from app.errors import WorkbenchError
from app.ui import allowed, forms, measuring, notices, plan_view
from app.ui.draft import Draft, first, from_browser
from app.ui.frame import PICK, QUIET, Frame, picked
from app.ui.language import Key, Speech
from app.ui.markup import Html, place
from app.ui.plan_view import PlanView
from app.workspace import Workspace

# What a remedy may set: everything on the form, the method, and the model, which is checked as if it were typed.
_REMEDIES = {*forms.ORDER, *forms.METHODS["full"], "model.name"} - {"model.revision"}


@dataclass(frozen=True)
class PlanTab:
    """The form and what shows the answer. `again` is the event that plans anew."""

    form: list[Any]
    outputs: list[Any]
    chips: gr.Radio
    again: dict[str, Any] = field(default_factory=dict)


def model_choices() -> list[tuple[str, str]]:
    """Return the catalogue for the search box: what is shown, and the name it stands for."""
    found = [("starter (bundled, 3 M)", "starter")]
    for spec in catalog.all_models():
        listing = spec.listing
        assert listing is not None  # every model of the catalogue has one
        gated = ", gated" if listing.gated else ""
        found.append((f"{listing.hub_id} ({listing.parameters / 1e9:.2g} B, {listing.licence}{gated})", listing.hub_id))
    return found


def answer(workspace: Workspace, filled: forms.Filled, base: RunConfig, say: Speech) -> PlanView | Html:
    """Return the plan of a filled form, or what is wrong with it."""
    try:
        allowed.model_name(workspace, str(filled.model or ""))
        return plan_view.view(filled.config(base), workspace, say)
    except WorkbenchError as error:
        return notices.problem(error)


def changed_form(workspace: Workspace, filled: forms.Filled, base: RunConfig, changes: str) -> list[Any]:
    """Return the form after a remedy was clicked. Raises WorkbenchError for changes that are none."""
    try:
        wanted = json.loads(changes)
    except ValueError:
        wanted = None
    known = wanted if isinstance(wanted, dict) and set(wanted) <= _REMEDIES else {}
    config = filled.config(base).changed(known, "the remedy")
    allowed.model_name(workspace, config.model.name)
    return forms.filling(config)


def preset_choices(workspace: Workspace) -> list[tuple[str, str]]:
    """Return the presets, the user's own last: what is shown, and the name."""
    return [(preset.title, preset.name) for preset in presets.all_presets(workspace)]


def preset_form(workspace: Workspace, name: Any) -> list[Any]:
    """Return the form of a preset, for the card it is made for."""
    preset = presets.load(str(name), workspace)
    card = preset.vram_gb if preset.vram_gb in forms.CARDS_GB else None
    return forms.filling(preset.config.changed({"memory.vram_gb": card}))


def preset_of(workspace: Workspace, filled: forms.Filled) -> str | None:
    """Return the preset whose settings a form holds, on whatever card; None where they are nobody's but its own."""
    try:
        mine = _settings_of(filled.config(RunConfig()))
    except WorkbenchError:
        return None
    return next((one.name for one in presets.all_presets(workspace) if _settings_of(one.config) == mine), None)


def _settings_of(config: RunConfig) -> list[Any]:
    model, method, _card, *settings = forms.filling(config)
    return [model, method, *settings]


def model_note(workspace: Workspace, name: Any, say: Speech) -> Html:
    """Return what is known of a chosen model."""
    try:
        return plan_view.model_facts(catalog.find(allowed.model_name(workspace, str(name or ""))), say)
    except WorkbenchError as error:
        return notices.problem(error)


def targets(workspace: Workspace, name: Any, say: Speech) -> list[tuple[str, str]]:
    """Return the target modules that a model offers; of a model that cannot be read, all-linear only."""
    try:
        return forms.target_choices(catalog.find(allowed.model_name(workspace, str(name or ""))), say)
    except WorkbenchError:
        return forms.target_choices(None, say)


def use(workspace: Workspace, filled: forms.Filled, draft: Draft) -> Draft:
    """Return the draft with this plan. Raises WorkbenchError."""
    allowed.model_name(workspace, str(filled.model or ""))
    config = filled.config(draft.config)
    catalog.find(config.model.name, config.model.revision)
    return draft.with_config(config)


def build(frame: Frame) -> PlanTab:
    """Build the tab and wire it."""
    make = frame.wording.make
    start = forms.filling(first().config)
    line = gr.HTML(place("wb-sentence"), elem_id="wb-plan-sentence")
    wrong = gr.HTML(elem_id="wb-plan-error")
    with gr.Row(elem_classes="wb-columns"):
        with gr.Column(scale=5, min_width=320):
            chips = make(
                gr.Radio,
                label=Key("plan.preset"),
                info=Key("plan.preset_help"),
                choices=preset_choices(frame.workspace),
                value=None,
                elem_id="wb-presets",
            )
            model = make(
                gr.Dropdown,
                label=Key("setting.model.name.label"),
                info=Key("plan.model_help"),
                choices=model_choices(),
                value=start[0],
                allow_custom_value=True,
                elem_id="wb-model",
            )
            about = gr.HTML()
            cards = [(Key("plan.this_machine"), 0), *((f"{size} GB", size) for size in forms.CARDS_GB)]
            card = make(gr.Radio, label=Key("plan.card"), choices=cards, value=0, elem_id="wb-card")
            kinds = [(Key(f"method.{name}"), name) for name in forms.METHODS]
            method = make(gr.Radio, label=Key("plan.method"), choices=kinds, value=start[1], elem_id="wb-method")
            settings = _settings(frame)
        with gr.Column(scale=6, min_width=320):
            remedies = gr.HTML(place("wb-remedies-place"), elem_id="wb-remedies", js_on_load=PICK)
            bars = gr.HTML(place("wb-bars-place"), elem_id="wb-bars")
            curve = gr.HTML(place("wb-curve-place"), elem_id="wb-curve")
            facts = gr.HTML()
            with gr.Row(elem_classes="wb-actions"):
                onward = make(gr.Button, value=Key("plan.use"), variant="primary", elem_id="wb-use-plan")
                measure = make(gr.Button, value=Key("plan.measure"), elem_id="wb-measure", scale=0)
            measured = gr.HTML(elem_id="wb-measured")
    form = [model, method, card, *settings]
    tab = PlanTab(form, [chips, line, facts, remedies, bars, curve, wrong], chips)
    _wire(frame, tab, chips, about, remedies, onward)
    _wire_measuring(frame, tab, measure, measured)
    return tab


def _settings(frame: Frame) -> list[Any]:
    """Build the controls of forms.ORDER: the main ones open, the rest folded."""
    controls: dict[str, Any] = {}

    def pair(names: tuple[str, ...]) -> None:
        with gr.Row(elem_classes="wb-pair"):
            for name in names:
                controls[name] = forms.control(frame.wording, name, min_width=150)

    pair(forms.MAIN[:2])
    pair(forms.MAIN[2:])
    for heading, names in forms.FOLDED.items():
        with frame.wording.make(gr.Accordion, label=Key(f"plan.fold.{heading}"), open=False):
            for first_of_pair in range(0, len(names), 2):
                pair(names[first_of_pair : first_of_pair + 2])
    return [controls[name] for name in forms.ORDER]


def _wire(frame: Frame, tab: PlanTab, chips: gr.Radio, about: gr.HTML, remedies: gr.HTML, onward: gr.Button) -> None:
    model, target = tab.form[0], tab.form[3 + forms.ORDER.index("adapter.target_modules")]
    inputs = [frame.language, frame.draft, *tab.form]

    def show(language: Any, draft: Any, *values: Any) -> list[Any]:
        filled, base = forms.Filled.of(values), from_browser(draft).config
        found = answer(frame.workspace, filled, base, Speech(language))
        holds = preset_of(frame.workspace, filled)
        if isinstance(found, Html):
            return [holds, *[gr.skip()] * 5, found]
        return [holds, found.sentence, found.facts, found.remedies, found.bars, found.curve, Html("")]

    def note(language: Any, name: Any) -> tuple[Html, Any]:
        say = Speech(language)
        return model_note(frame.workspace, name, say), gr.update(choices=targets(frame.workspace, name, say))

    def restore(draft: Any) -> list[Any]:
        return forms.filling(from_browser(draft).config)

    def choose(name: Any) -> list[Any]:
        try:
            return [*preset_form(frame.workspace, name), Html("")]
        except WorkbenchError as error:
            return [gr.skip()] * len(tab.form) + [notices.problem(error)]

    def remedy(event: gr.EventData, draft: Any, *values: Any) -> list[Any]:
        filled = forms.Filled.of(values)
        try:
            return [*changed_form(frame.workspace, filled, from_browser(draft).config, picked(event)), Html("")]
        except WorkbenchError as error:
            return [gr.skip()] * len(tab.form) + [notices.problem(error)]

    def proceed(draft: Any, *values: Any) -> list[Any]:
        try:
            chosen = use(frame.workspace, forms.Filled.of(values), from_browser(draft))
        except WorkbenchError as error:
            return [gr.skip(), gr.skip(), notices.problem(error)]
        return [chosen.to_browser(), gr.update(selected="data"), Html("")]

    wrong = tab.outputs[-1]
    again: dict[str, Any] = tab.again
    again.update(fn=show, inputs=inputs, outputs=tab.outputs, **QUIET)
    noted: dict[str, Any] = {"fn": note, "inputs": [frame.language, model], "outputs": [about, target], **QUIET}
    typed = [getattr(control, "input", control.change) for control in tab.form]
    gr.on(typed, trigger_mode="always_last", **again)
    gr.on([model.input, frame.language.change], **noted)
    frame.language.change(**again)
    frame.blocks.load(restore, frame.draft, tab.form, **QUIET).then(**again).then(**noted)
    chips.input(choose, chips, [*tab.form, wrong], **QUIET).then(**again).then(**noted)
    remedies.select(remedy, [frame.draft, *tab.form], [*tab.form, wrong], **QUIET).then(**again).then(**noted)
    onward.click(proceed, [frame.draft, *tab.form], [frame.draft, frame.tabs, wrong], **QUIET)


def _wire_measuring(frame: Frame, tab: PlanTab, button: gr.Button, shown: gr.HTML) -> None:
    """Wire the measurement: its job is followed by the page's timer, and its end plans anew."""
    wrong = tab.outputs[-1]
    job, ended = gr.State(""), gr.State("")

    def begin(draft: Any, *values: Any) -> list[Any]:
        base = from_browser(draft).config
        try:
            return [measuring.begin(frame.workspace, forms.Filled.of(values).config(base)), Html("")]
        except WorkbenchError as error:
            return [gr.skip(), notices.problem(error)]

    def look(job_id: Any, seen: Any, language: Any) -> list[Any]:
        if not job_id or job_id == seen:
            return [gr.skip(), gr.skip()]
        line, over = measuring.standing(frame.workspace, job_id, Speech(language))
        return [line, job_id if over else gr.skip()]

    button.click(begin, [frame.draft, *tab.form], [job, wrong], **QUIET)
    gr.on([frame.watches["plan"].tick, job.change], look, [job, ended, frame.language], [shown, ended], **QUIET)
    ended.change(**tab.again)
