"""Plan: will it train on my card?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import gradio as gr

from app import catalog
from app.catalog.spec import Listing
from app.config import presets
from app.config.presets import Preset
from app.config.schema import RunConfig
from app.errors import BusyError, WorkbenchError
from app.jobs.requests import busy
from app.models.names import STARTER
from app.planner.alternatives.cards import least_gb
from app.planner.machine import this_machine
from app.reading import parsed_json
from app.runs import request_paths
from app.runs.dataset_selection import DatasetSelection
from app.runs.draft import Draft, first
from app.runs.submission import measurement
from app.ui.components import forms, messages
from app.ui.components.forms import FormValues, PlanForm
from app.ui.components.handlers import EVENT_DEFAULTS, Control, Updates, Wiring, filled_in, handler, held, raw, text
from app.ui.components.markup import Html, element, joined, place
from app.ui.shell.language import Key, Translator, spoken
from app.ui.shell.page_context import CLICK_JS, PageContext
from app.ui.tabs.plan import models_panel, view
from app.ui.tabs.plan.view import PlanView, Simulating
from app.ui.tabs.train import unplanned
from app.workspace import Workspace

_NOTHING = Html("")
_LOOK_S = 1.5
# What a remedy may set: everything on the form, the method, and the model, which is checked as if it were typed.
_REMEDIES = {*forms.ORDER, *forms.METHODS["full"], "model.name"} - {"model.revision"}


@dataclass(frozen=True)
class PlanTab:
    """The form and what shows the answer. `again` is the event that plans anew.

    `refused` says why a click did nothing; what is wrong with the form itself stands in `wrong`.
    """

    form: PlanForm
    chips: gr.Radio
    sentence: gr.HTML
    facts: gr.HTML
    remedies: gr.HTML
    bars: gr.HTML
    curve: gr.HTML
    about: gr.HTML
    wrong: gr.HTML
    refused: gr.HTML
    onward: gr.Button
    again: Wiring = field(default_factory=Wiring)

    @property
    def answer(self) -> list[Control]:
        """Return the controls that a plan renews."""
        view = [self.facts, self.remedies, self.bars, self.curve]
        return [self.chips, self.sentence, *view, self.about, self.wrong]


def model_choices() -> list[tuple[Key | Callable[[Translator], str], str]]:
    """Return the catalogue for the search box: what is shown, and the name it stands for."""
    listed = [(partial(_model_choice, entry.listing), entry.listing.hub_id) for entry in catalog.entries()]
    return [(Key("plan.choice.starter"), STARTER), *listed]


def _model_choice(listing: Listing, t: Translator) -> str:
    words = [f"{listing.parameters / 1e9:.2g} B", "" if listing.is_instruct else t("plan.choice.base"), listing.licence]
    words.append(t("plan.choice.gated") if listing.gated else "")
    card = least_gb(catalog.find(listing.hub_id))
    words.append(t("plan.choice.card", size=card) if card else "")
    return f"{listing.hub_id} ({', '.join(filter(None, words))})"


def answer(workspace: Workspace, filled: FormValues, base: RunConfig, t: Translator) -> PlanView | Simulating | Html:
    """Return the plan of a filled form, how far the simulation is that it waits for, or what is wrong with it."""
    try:
        request_paths.model_name(workspace, str(filled.model or ""))
        return view.view(filled.config(base), workspace, t)
    except WorkbenchError as error:
        return messages.problem(error, t, filled.faults(t))


def changed_form(workspace: Workspace, filled: FormValues, base: RunConfig, changes: str) -> FormValues:
    """Return the form after a remedy was clicked. Raises WorkbenchError for changes that are none."""
    try:
        wanted = parsed_json(changes)
    except ValueError:
        wanted = None
    known = wanted if isinstance(wanted, dict) and set(wanted) <= _REMEDIES else {}
    config = filled.config(base).changed(known, "the remedy")
    request_paths.model_name(workspace, config.model.name)
    return FormValues.showing(config)


def preset_choices(workspace: Workspace) -> list[tuple[Callable[[Translator], str], str]]:
    """Return the presets, the user's own last: what is shown, and the name."""
    return [(partial(preset_title, preset), preset.name) for preset in presets.all_presets(workspace)]


def preset_title(preset: Preset, t: Translator) -> str:
    """Return the title of a shipped preset in the page's language; one of the user's own has the title that it has."""
    key = f"preset.{preset.name}"
    return t(key) if Translator()(key) == preset.title else preset.title


def preset_form(workspace: Workspace, name: str) -> FormValues:
    """Return the form of a preset, for the card it is made for."""
    preset = presets.load(name, workspace).on(this_machine().kind)
    card = preset.vram_gb if preset.vram_gb in forms.CARDS_GB else None
    return FormValues.showing(preset.config.changed({"memory.vram_gb": card}))


def preset_of(workspace: Workspace, filled: FormValues) -> str | None:
    """Return the preset whose settings a form holds, on whatever card; None where they are nobody's but its own."""
    try:
        mine = _settings_of(filled.config(RunConfig()))
    except WorkbenchError:
        return None
    kind = this_machine().kind
    offered = [preset.on(kind) for preset in presets.all_presets(workspace)]
    return next((one.name for one in offered if _settings_of(one.config) == mine), None)


def _settings_of(config: RunConfig) -> FormValues:
    return FormValues.showing(config.changed({"memory.vram_gb": None}))


def model_note(workspace: Workspace, name: object, t: Translator) -> Html:
    """Return what is known of a chosen model; nothing of one that cannot be read, which the answer says."""
    try:
        spec = catalog.find(request_paths.model_name(workspace, str(name or "")))
    except WorkbenchError:
        return Html("")
    listing = spec.listing
    here = models_panel.note(listing.hub_id, t) if listing else ""
    return joined([view.model_facts(spec, t, here)])


@dataclass(frozen=True)
class Shown:
    """What the tab shows of a filled form. `view` is None for one that cannot be planned; `wrong` says why then."""

    preset: str | None
    about: Html
    view: PlanView | Simulating | None = None
    wrong: Html = _NOTHING


def shown(workspace: Workspace, filled: FormValues, base: RunConfig, t: Translator) -> Shown:
    """Return what the tab shows of a filled form."""
    found, holds = answer(workspace, filled, base, t), preset_of(workspace, filled)
    about = model_note(workspace, filled.model, t)
    if isinstance(found, Html):
        return Shown(holds, about, wrong=found)
    cards = found.cards if isinstance(found, PlanView) else ""
    return Shown(holds, joined([about, cards]), found)


def outdated(t: Translator) -> Html:
    """Return the sentence while the form cannot be planned; the answer of before stays, greyed by the style sheet."""
    return messages.sentence(element("span", t("plan.outdated"), class_="wb-warn"))


def standing(workspace: Workspace, filled: FormValues, base: RunConfig) -> str:
    """Return a word that changes when a simulation for a form gets further; empty when none runs."""
    try:
        return view.standing(filled.config(base), workspace)
    except WorkbenchError:
        return ""


def targets(workspace: Workspace, name: object, t: Translator) -> list[tuple[str, str]]:
    """Return the target modules that a model offers; of a model that cannot be read, all-linear only."""
    try:
        return forms.target_choices(catalog.find(request_paths.model_name(workspace, str(name or ""))), t)
    except WorkbenchError:
        return forms.target_choices(None, t)


def use(workspace: Workspace, filled: FormValues, draft: Draft) -> Draft:
    """Return the draft with this plan. Raises WorkbenchError."""
    request_paths.model_name(workspace, str(filled.model or ""))
    config = filled.config(draft.config)
    catalog.find(config.model.name, config.model.revision)
    return draft.with_config(config)


def build(context: PageContext) -> PlanTab:
    """Build the tab and wire it."""
    make = context.translated.make
    start = FormValues.showing(first().config)
    line = gr.HTML(place("wb-sentence"), elem_id="wb-plan-sentence")
    wrong = gr.HTML(elem_id="wb-plan-error", js_on_load=messages.AT_FIELDS)
    with gr.Row(elem_classes="wb-columns"):
        with gr.Column(scale=5, min_width=320):
            chips = make(
                gr.Radio,
                label=Key("plan.preset"),
                info=Key("plan.preset_help"),
                choices=preset_choices(context.workspace),
                value=None,
                elem_id="wb-presets",
            )
            model = make(
                gr.Dropdown,
                label=Key("setting.model.name.label"),
                info=Key("plan.model_help"),
                choices=model_choices(),
                value=start.model,
                allow_custom_value=True,
                elem_id="wb-model",
            )
            about = gr.HTML(elem_id="wb-model-note")
            models_panel.build(context, model)
            cards = [(Key("plan.this_machine"), 0), *((f"{size} GB", size) for size in forms.CARDS_GB)]
            card = make(gr.Radio, label=Key("plan.card"), choices=cards, value=0, elem_id="wb-card")
            kinds = [(Key(f"method.{name}"), name) for name in forms.METHODS]
            method = make(gr.Radio, label=Key("plan.method"), choices=kinds, value=start.method, elem_id="wb-method")
            settings = _settings(context, start)
        with gr.Column(scale=6, min_width=320, elem_id="wb-plan-answer"):
            remedies = gr.HTML(place("wb-remedies-place"), elem_id="wb-remedies", js_on_load=CLICK_JS)
            bars = gr.HTML(place("wb-bars-place"), elem_id="wb-bars")
            curve = gr.HTML(place("wb-curve-place"), elem_id="wb-curve")
            facts = gr.HTML(elem_id="wb-facts")
            with gr.Row(elem_classes="wb-actions"):
                onward = make(gr.Button, value=Key("plan.use"), variant="primary", elem_id="wb-use-plan")
                measure = make(gr.Button, value=Key("plan.measure"), elem_id="wb-measure", scale=0)
            refused = gr.HTML(elem_id="wb-plan-refused")
            measured = gr.HTML(elem_id="wb-measured")
    tab = PlanTab(
        PlanForm(model, method, card, settings),
        chips, line, facts, remedies, bars, curve, about, wrong, refused, onward,
    )  # fmt: skip
    filling = _wire_answer(context, tab)
    _wire_changes(context, tab, filling)
    _wire_measuring(context, tab, measure, measured)
    return tab


def _settings(context: PageContext, start: FormValues) -> dict[str, Control]:
    """Build the controls of forms.ORDER: the main ones open, the rest folded. They show the form `start`."""
    controls: dict[str, Control] = {}

    def pair(names: tuple[str, ...]) -> None:
        with gr.Row(elem_classes="wb-pair"):
            for name in names:
                controls[name] = forms.control(context.translated, name, value=start.values[name], min_width=150)

    for first_of_pair in range(0, len(forms.MAIN), 2):
        pair(forms.MAIN[first_of_pair : first_of_pair + 2])
    for heading, names in forms.FOLDED.items():
        with context.translated.make(
            gr.Accordion, label=Key(f"plan.fold.{heading}"), open=False, elem_id=f"wb-fold-{heading}"
        ):
            for first_of_pair in range(0, len(names), 2):
                pair(names[first_of_pair : first_of_pair + 2])
    return {name: controls[name] for name in forms.ORDER}


def _wire_answer(context: PageContext, tab: PlanTab) -> Filling:
    """Plan anew at every change of the form."""
    form, t = tab.form, context.language_field
    # What a simulation looked like when the tab was last shown; the timer ticks while one runs.
    waited, timer = gr.State(""), gr.Timer(_LOOK_S, active=False)

    def show(t: Translator, mine: Draft, filled: FormValues) -> Updates:
        return answered(mine, filled, t)

    def answered(mine: Draft, filled: FormValues, t: Translator) -> Updates:
        found = shown(context.workspace, filled, mine.config, t)
        stands = standing(context.workspace, filled, mine.config)
        simulation = {waited: stands, timer: gr.Timer(active=bool(stands))}
        updates = Updates({tab.chips: found.preset, tab.about: found.about, tab.wrong: found.wrong, **simulation})
        view = found.view
        if view is None:
            return Updates({**updates, tab.sentence: outdated(t)})
        if isinstance(view, Simulating):
            return Updates({**updates, tab.sentence: view.sentence})
        # The steps above the tabs mark a plan that is shown and is not the one that would be trained.
        differs = mine.planned and bool(unplanned.found(mine, DatasetSelection(), filled).settings)
        mark = element("span", data_differs=True, hidden=True) if differs else ""
        answer = {tab.sentence: joined([view.sentence, mark]), tab.facts: view.facts, tab.remedies: view.remedies}
        return Updates({**updates, **answer, tab.bars: view.bars, tab.curve: view.curve})

    def look(seen: str, t: Translator, mine: Draft, filled: FormValues) -> Updates:
        if not seen or seen == standing(context.workspace, filled, mine.config):
            return Updates()
        return show(t, mine, filled)

    shown_here = [*tab.answer, waited, timer]
    filling = Filling(answered, shown_here)
    timer.tick(**handler(look, [held(waited), t, context.draft_field, form], shown_here))
    typed = [filled_in(control) for control in form.inputs()]
    tab.again.update(handler(show, [t, context.draft_field, form], shown_here))
    gr.on(typed, trigger_mode="always_last", **tab.again)
    # A click was refused for the form as it was: with the form changed, the reason is gone.
    gr.on(typed, None, None, tab.refused, js="() => ''", **EVENT_DEFAULTS)
    context.language.change(**tab.again)
    return filling


@dataclass(frozen=True)
class Filling:
    """Fills the form and answers it at once: what fills it needs no second question, whose answer might come late."""

    answered: Callable[[Draft, FormValues, Translator], Updates]
    shows: Sequence[Control]


def _wire_changes(context: PageContext, tab: PlanTab, filling: Filling) -> None:
    """Fill the form from the draft, a preset or a remedy, and put what it shows into the draft."""
    form, t, workspace = tab.form, context.language_field, context.workspace
    target = form.settings["adapter.target_modules"]
    filled_form = [*form.inputs(), *filling.shows, tab.refused]

    def offer(t: Translator, name: object) -> Updates:
        return Updates({target: gr.update(choices=targets(workspace, name, t))})

    def fill(mine: Draft, filled: FormValues, t: Translator) -> Updates:
        value = form.showing(filled)[target]
        offered = gr.update(choices=targets(workspace, filled.model, t), value=value)
        answer = filling.answered(mine, filled, t)
        return Updates({**form.showing(filled), **answer, target: offered, tab.refused: Html("")})

    built = form.showing(FormValues.showing(first().config))  # as `build` has made it

    def restore(language: object, mine: Draft, request: gr.Request) -> Updates:
        """Show the draft in a page that has just opened: its form stands as it was built, so the rest is enough."""
        shown = fill(mine, FormValues.showing(mine.config), spoken(language, request.headers))
        return Updates({one: value for one, value in shown.items() if one not in built or value != built[one]})

    def choose(name: str, t: Translator, mine: Draft) -> Updates:
        try:
            return fill(mine, preset_form(workspace, name), t)
        except WorkbenchError as error:
            return Updates({tab.refused: messages.problem(error, t)})

    def remedy(t: Translator, mine: Draft, filled: FormValues, picked: str) -> Updates:
        try:
            return fill(mine, changed_form(workspace, filled, mine.config, picked), t)
        except WorkbenchError as error:
            return Updates({tab.refused: messages.problem(error, t, filled.faults(t))})

    def proceed(t: Translator, mine: Draft, filled: FormValues) -> Updates:
        try:
            chosen = use(workspace, filled, mine).to_browser()
            return Updates({context.draft: chosen, context.tabs: gr.update(selected="data"), tab.refused: Html("")})
        except WorkbenchError as error:
            return Updates({tab.refused: messages.problem(error, t, filled.faults(t))})

    def matter(objective: str) -> Updates:
        shown = {name: gr.update(visible=objective in objectives) for name, objectives in forms.MATTERS_TO.items()}
        return Updates({form.settings[name]: update for name, update in shown.items()})

    objective = form.settings["training.objective"]
    dependent = [form.settings[name] for name in forms.MATTERS_TO]
    objective.change(**handler(matter, [text(objective)], dependent))  # type: ignore[attr-defined]
    offered = handler(offer, [t, raw(form.model)], [target])
    gr.on([form.model.input, context.language.change], **offered)
    context.blocks.load(**handler(restore, [raw(context.language), context.draft_field], filled_form))
    tab.chips.input(**handler(choose, [text(tab.chips), t, context.draft_field], filled_form))
    tab.remedies.select(**handler(remedy, [t, context.draft_field, form], filled_form))
    onward = [context.draft, context.tabs, tab.refused]
    tab.onward.click(**handler(proceed, [t, context.draft_field, form], onward))


def _wire_measuring(context: PageContext, tab: PlanTab, button: gr.Button, line: gr.HTML) -> None:
    """Wire the measurement: its job is followed by the page's timer, and its end plans anew."""
    job, ended = gr.State(""), gr.State("")

    def begin(t: Translator, mine: Draft, filled: FormValues) -> Updates:
        try:
            return Updates(
                {job: measurement.start(context.workspace, filled.config(mine.config)).id, tab.refused: Html("")}
            )
        except BusyError as error:
            return Updates({tab.refused: messages.problem(error, t, cause="busy")})
        except WorkbenchError as error:
            return Updates({tab.refused: messages.problem(error, t, filled.faults(t))})

    def settle(refused: object) -> Updates:
        gone = messages.cause_of(refused) == "busy" and busy(context.workspace) is None
        return Updates({tab.refused: Html("")} if gone else {})

    def look(job_id: str, seen: str, t: Translator) -> Updates:
        if not job_id or job_id == seen:
            return Updates()
        found = measurement.standing(context.workspace, job_id)
        if found is None:
            return Updates({line: Html("")})
        return Updates({line: view.measured(found, t), **({ended: job_id} if found.ended else {})})

    language, tick = context.language_field, context.poll_timers["plan"].tick
    button.click(**handler(begin, [language, context.draft_field, tab.form], [job, tab.refused]))
    gr.on([tick, context.shown.change], **handler(settle, [raw(tab.refused)], [tab.refused]))
    gr.on([tick, job.change], **handler(look, [held(job), held(ended), language], [line, ended]))
    ended.change(**tab.again)
