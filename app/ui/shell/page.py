"""The page: the strip, the five tabs, and what happens when it is opened."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from pathlib import Path

import gradio as gr

from app.data.client import DataClient
from app.errors import UsageError, WorkbenchError, keyed
from app.jobs.supervisor import spawn_helper
from app.models.names import STARTER, resolve
from app.runs import current
from app.runs.dataset_selection import DatasetSelection
from app.runs.draft import Draft
from app.runs.on_disk import artifacts, exports
from app.ui.components import messages
from app.ui.components.forms import FormValues
from app.ui.components.handlers import EVENT_DEFAULTS, Parts, Updates, handler, held, listed, raw, text
from app.ui.components.markup import Html
from app.ui.shell import status_bar, steps, stored_state, tour, tour_bar
from app.ui.shell.language import Key, Translator, spoken
from app.ui.shell.page_context import CLICK_JS, STORAGE, PageContext, Tabs
from app.ui.shell.serving.blocks import PageBlocks
from app.ui.shell.serving.open_pages import POLL_S, OpenPages
from app.ui.shell.translated import TranslatedComponents
from app.ui.tabs.data import tab as data
from app.ui.tabs.export import tab as export
from app.ui.tabs.plan import tab as plan
from app.ui.tabs.playground import tab as playground
from app.ui.tabs.playground.learning import Learning, next_run
from app.ui.tabs.train import tab as train
from app.ui.tabs.train.run_box import run_panel
from app.workspace import Workspace

# What stands in the list of the followed for each look after the end, and how many there are.
_LAST_LOOK, _LAST_LOOKS = "last look", 2
_TELL_LANGUAGE = "(language) => { document.documentElement.lang = language || 'en'; }"
# On a first visit nothing is chosen yet, and the document has the browser's language.
_TELL_CHOSEN = "(language) => { if (language) document.documentElement.lang = language; }"
_WARM_UP_AFTER_S = 4.0
TABS = ("plan", "data", "train", "playground", "export")


def build(workspace: Workspace) -> gr.Blocks:
    """Build the whole page."""
    with PageBlocks(
        title="LoRA Workbench", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86_400)
    ) as blocks:
        context = PageContext(
            blocks=blocks,
            workspace=workspace,
            translated=TranslatedComponents(),
            language=gr.BrowserState(None, storage_key="workbench-language", secret=STORAGE),
            draft=gr.BrowserState(None, storage_key="workbench-draft", secret=STORAGE),
            selection=gr.BrowserState(None, storage_key="workbench-look", secret=STORAGE),
            conversation=gr.BrowserState(None, storage_key="workbench-conversation", secret=STORAGE),
            tabs=gr.Tabs(elem_id="wb-tabs", render=False),
            shown=gr.Textbox(TABS[0], visible=False),
            timer=gr.Timer(POLL_S),
            poll_timers={name: gr.Timer(POLL_S, active=False) for name in (*TABS, "tour")},
            data=DataClient(spawn_helper),
        )
        switch, again = _strip(context)
        stored_state.build(context)
        bar = tour_bar.build(context)
        context.tabs.render()
        with context.tabs:
            tabs, learning = _tabs(context)
        _wire_steps(context, tabs)
        for one in learning:
            _wire_learning(context, tabs, one)
        tour_bar.wire(context, bar, again, tabs)
        _wire_language(context, switch)
        _warm_up(context)
        blocks.queue_what_is_watched()
        blocks.lose_no_change()
    return blocks


def _warm_up(context: PageContext) -> None:
    """Have the data child ready a moment after the first page is there: its start would be felt at the first file.

    On two cores with a run and ten pages the first sample set took 4.6 to 6 s from the click; the rows take 0.03 s.
    """
    first = threading.Lock()

    def begin() -> None:
        if first.acquire(blocking=False):
            timer = threading.Timer(_WARM_UP_AFTER_S, warm)
            timer.daemon = True
            timer.start()

    def warm() -> None:
        with suppress(WorkbenchError):  # whoever asks it for something is told what is wrong
            context.data.warm_up(Path(resolve(STARTER)))

    context.blocks.load(**handler(begin))


def _tabs(context: PageContext) -> tuple[Tabs, tuple[Learning, ...]]:
    """Build the five tabs; return the controls that lead from one to the next, and what leads back to Train."""
    with context.tab("plan"):
        planned = plan.build(context)
    with context.tab("data") as tab:
        seen = data.build(context, tab)
    with context.tab("train"):
        trained = train.build(context, planned)
    with context.tab("playground") as tab:
        tried = playground.build(context, tab)
    with context.tab("export") as tab:
        taken = export.build(context, tab)
    controls = Tabs(
        form=planned.form,
        plan_again=planned.again,
        selection=seen,
        run=trained.selected,
        run_head=trained.head,
        try_it=trained.try_it,
        clone=trained.clone,
        kept_preset=trained.kept,
        train_wrong=trained.wrong,
        chips=planned.chips,
        tried=tried.chosen,
        prompt=tried.prompt,
        asked=tried.asked,
        answers=tried.answers,
        to_export=tried.onward,
        taken=taken,
    )
    return controls, tried.learning


def _strip(context: PageContext) -> tuple[gr.Button, gr.Button]:
    """Build the strip; return its language switch and the button that starts the tour."""
    make = context.translated.make
    with gr.Row(elem_id="wb-strip-row"):
        line = gr.HTML(status_bar.waiting(), elem_id="wb-strip")
        stop = gr.HTML(elem_id="wb-stop-place", js_on_load=CLICK_JS)
        marks = gr.HTML(elem_id="wb-steps")
        gr.HTML(status_bar.find_button(), elem_id="wb-find-place")
        again = make(gr.Button, value=Key("strip.tour"), size="sm", elem_id="wb-tour-again")
        switch = make(gr.Button, value=Key("strip.other_language"), size="sm", elem_id="wb-language")
        make(gr.Button, value=Key("strip.theme"), size="sm", elem_id="wb-theme")

    open_pages = OpenPages()
    # What is followed and how often, the browser keeps: it sees by itself when they change, and a look is one answer.
    followed, pace = gr.Textbox("", visible=False), gr.Textbox(str(POLL_S), visible=False)
    stop_drawn = gr.State("")

    def show(language: object, shown: str, before: str, drawn: str, request: gr.Request) -> Updates:
        t = spoken(language, request.headers)
        due, button = (
            _due(context, shown, [one for one in before.split(",") if one]),
            status_bar.stop_button(context.workspace, t),
        )
        # The button is sent only when it is another one: a block that is drawn anew loses the keyboard's focus.
        kept = Updates({} if button == drawn else {stop: button, stop_drawn: button})
        kept |= {line: status_bar.content(context.workspace, t), followed: ",".join(due)}
        return Updates({**kept, pace: str(open_pages.pace_s(request.session_hash))})

    def halt(t: Translator, picked: str) -> Updates:
        status_bar.stop_job(context.workspace, picked)
        button = status_bar.stop_button(context.workspace, t)
        return Updates({line: status_bar.content(context.workspace, t), stop: button, stop_drawn: button})

    reads: Parts = [raw(context.language), text(context.shown), text(followed), held(stop_drawn)]
    looks = [context.blocks.load, context.timer.tick, context.language.change, context.shown.change]
    shows = [line, stop, stop_drawn, followed, pace]
    gr.on(looks, **handler(show, reads, shows))
    stop.select(**handler(halt, [context.language_field], [line, stop, stop_drawn]))
    _wire_timers(context, followed, pace)
    _wire_marks(context, marks, followed)
    return switch, again


def _wire_marks(context: PageContext, marks: gr.HTML, followed: gr.Textbox) -> None:
    """Say anew which steps are done when the draft, the data, the language or what runs has changed."""

    def show(language: object, draft: Draft, seen: DatasetSelection, request: gr.Request) -> Updates:
        t = spoken(language, request.headers)
        return Updates({marks: steps.said(context.workspace, draft, seen, t)})

    reads: Parts = [raw(context.language), context.draft_field, context.selection_field]
    events = [followed.change, context.draft.change, context.selection.change, context.language.change]
    gr.on([context.blocks.load, *events], **handler(show, reads, [marks]))


def _wire_timers(context: PageContext, followed: gr.Textbox, pace: gr.Textbox) -> None:
    """Let the timers tick that have something to follow, as fast as the open pages leave room for."""
    timers = [context.timer, *context.poll_timers.values()]

    names = json.dumps(list(context.poll_timers))
    update = '({ __type__: "update", ...what })'
    follow = f'(due) => {names}.map((name) => ((what) => {update})({{ active: due.split(",").includes(name) }}))'
    tick = f"(pace) => Array({len(timers)}).fill(0).map(() => ((what) => {update})({{ value: Number(pace) }}))"
    followed.change(None, followed, list(context.poll_timers.values()), js=follow, **EVENT_DEFAULTS)
    pace.change(None, pace, timers, js=tick, **EVENT_DEFAULTS)


def _due(context: PageContext, shown: str, before: list[str]) -> list[str]:
    """Return what has something to follow: the tab that is shown, and the tour while it goes.

    When the last job has ended, what was followed `before` is so for two more ticks: a hidden page ticks once a minute,
    and must not go to sleep with a run on it that is long over.
    """
    if not current.is_busy(context.workspace):
        return [*before, _LAST_LOOK] if before and before.count(_LAST_LOOK) < _LAST_LOOKS else []
    return [shown, "tour"] if tour.read(context.workspace) else [shown]


def _wire_learning(context: PageContext, tabs: Tabs, learning: Learning) -> None:
    """Carry what was preferred into the plan, the data and the Train tab."""

    def learn(t: Translator, values: list[object], *asked: object) -> Updates:
        try:
            draft, seen = next_run(context.workspace, values, learning.rows(*asked), learning.name)
        except WorkbenchError as error:
            return Updates({learning.wrong: messages.problem(error, t)})
        kept = {context.draft: draft.to_browser(), tabs.selection: seen.to_browser(), learning.wrong: Html("")}
        form = tabs.form.showing(FormValues.showing(draft.config))
        return Updates({**form, **kept, context.tabs: gr.update(selected="train")})

    reads: Parts = [context.language_field, listed(tabs.tried), *learning.inputs]
    shows = [*tabs.form.inputs(), context.draft, tabs.selection, learning.wrong, context.tabs]
    learning.button.click(**handler(learn, reads, shows)).then(**tabs.plan_again)


def _wire_steps(context: PageContext, tabs: Tabs) -> None:
    """Carry a run from Train to the playground, and an adapter from there to Export."""
    workspace = context.workspace

    def attempt(selected: object, t: Translator) -> Updates:
        try:
            job = current.picked_run(workspace, selected)
        except WorkbenchError as error:
            return Updates({tabs.train_wrong: messages.problem(error, t)})
        offered = artifacts.choices(workspace)
        of_job = [value for _, value in offered if job and value.partition(":")[0] == job.id][:1]
        prompts = artifacts.held_out_prompts(artifacts.find(workspace, of_job[0])) if of_job else []
        there = {tabs.tried: gr.update(choices=offered, value=of_job), context.tabs: gr.update(selected="playground")}
        there[tabs.train_wrong] = Html("")
        return Updates({**there, **({tabs.prompt: prompts[0]} if prompts else {})})

    def attempt_step(picked: str) -> Updates:
        """Take the checkpoint that a verdict names to the playground."""
        verb, _, value = picked.partition(":")
        if verb != "try":
            return Updates()
        offered = artifacts.choices(workspace, [value])
        known = [value] if any(one == value for _, one in offered) else []
        return Updates(
            {tabs.tried: gr.update(choices=offered, value=known), context.tabs: gr.update(selected="playground")}
        )

    def clone(selected: object, mine: Draft, t: Translator) -> Updates:
        try:
            job = current.picked_run(workspace, selected)
            if job is None:
                raise UsageError(
                    keyed("there_is_no_run_to_clone", "There is no run to clone"), "", keyed("start_one", "start one")
                )
            copied, seen = run_panel.cloned(workspace, job, mine)
        except WorkbenchError as error:
            return Updates({tabs.train_wrong: messages.problem(error, t)})
        kept = {context.draft: copied.to_browser(), tabs.selection: seen.to_browser(), tabs.train_wrong: Html("")}
        form = tabs.form.showing(FormValues.showing(copied.config))
        return Updates({**form, **kept, context.tabs: gr.update(selected="plan")})

    def offer(language: object, request: gr.Request) -> Updates:
        t = spoken(language, request.headers)
        choices = [(said(t), name) for said, name in plan.preset_choices(workspace)]
        return Updates({tabs.chips: gr.update(choices=choices)})

    shows = [*tabs.form.inputs(), context.draft, tabs.selection, context.tabs, tabs.train_wrong]
    tabs.clone.click(**handler(clone, [held(tabs.run), context.draft_field, context.language_field], shows)).then(
        **tabs.plan_again
    )
    gr.on([context.blocks.load, tabs.kept_preset.change], **handler(offer, [raw(context.language)], [tabs.chips]))
    tried = [held(tabs.run), context.language_field]
    tabs.try_it.click(**handler(attempt, tried, [tabs.tried, tabs.prompt, context.tabs, tabs.train_wrong]))
    tabs.run_head.select(**handler(attempt_step, shows=[tabs.tried, context.tabs]))
    _wire_taking(context, tabs)


def _wire_taking(context: PageContext, tabs: Tabs) -> None:
    """Lead from the playground to the Export tab: with the first column, or the one whose menu says so."""
    workspace = context.workspace

    def take(values: list[object]) -> Updates:
        chosen = gr.update(choices=exports.choices(workspace), value=values[0] if values else None)
        return Updates({tabs.taken: chosen, context.tabs: gr.update(selected="export")})

    def take_column(values: list[object], picked: str) -> Updates:
        verb, _, name = picked.partition(":")
        value = artifacts.value_of_column(workspace, values, name) if verb == "export" else None
        return take([value]) if value else Updates()

    shows = [tabs.taken, context.tabs]
    tabs.to_export.click(**handler(take, [listed(tabs.tried)], shows))
    tabs.answers.select(**handler(take_column, [listed(tabs.tried)], shows))


def _wire_language(context: PageContext, switch: gr.Button) -> None:
    """Say every text again when the language changes, and once when the page opens in another than English."""
    controls = context.translated.controls

    def greet(language: object, request: gr.Request) -> Updates:
        speech = spoken(language, request.headers)
        if speech.language == "en":  # as the page was built: to set it would only have everything asked for once more
            return Updates()
        texts = dict(zip(controls, context.translated.updates(speech), strict=True))
        return Updates({context.language: speech.language, **texts})

    # A screen reader and the browser's hyphenation take the language from the document itself.
    context.language.change(None, context.language, None, js=_TELL_LANGUAGE, show_progress="hidden")
    context.blocks.load(None, context.language, None, js=_TELL_CHOSEN, show_progress="hidden")
    switch.click(
        None, context.language, [context.language, *controls], js=context.translated.switching(), **EVENT_DEFAULTS
    )
    context.blocks.load(**handler(greet, [raw(context.language)], [context.language, *controls]))
