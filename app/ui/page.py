"""The page: the strip, the five tabs, and what happens when it is opened."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.data.client import DataClient
from app.errors import UsageError, WorkbenchError
from app.jobs.supervisor import spawn_helper
from app.ui import forms, live_panel, notices, run_box, strip, takeaway_sources, tour, tour_bar, trials
from app.ui.draft import from_browser
from app.ui.frame import QUIET, STORAGE, Frame, Tabs
from app.ui.language import Key, Speech, spoken
from app.ui.markup import Html
from app.ui.tabs import data, plan, playground, takeaway, train
from app.ui.wording import Wording
from app.workspace import Workspace

POLL_S = 2.0
# What stands in the list of the followed for each look after the end, and how many there are.
_LAST_LOOK, _LAST_LOOKS = "last look", 2
_TELL_LANGUAGE = "(language) => { document.documentElement.lang = language || 'en'; }"
TABS = ("plan", "data", "train", "playground", "takeaway")


def build(workspace: Workspace) -> gr.Blocks:
    """Build the whole page."""
    with gr.Blocks(
        title="LoRA Workbench", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86_400)
    ) as blocks:
        frame = Frame(
            blocks=blocks,
            workspace=workspace,
            wording=Wording(),
            language=gr.BrowserState(None, storage_key="workbench-language", secret=STORAGE),
            draft=gr.BrowserState(None, storage_key="workbench-draft", secret=STORAGE),
            look=gr.BrowserState(None, storage_key="workbench-look", secret=STORAGE),
            conversation=gr.BrowserState(None, storage_key="workbench-conversation", secret=STORAGE),
            tabs=gr.Tabs(elem_id="wb-tabs", render=False),
            shown=gr.State(TABS[0]),
            timer=gr.Timer(POLL_S),
            watches={name: gr.Timer(POLL_S, active=False) for name in (*TABS, "tour")},
            data=DataClient(spawn_helper),
        )
        switch, again = _strip(frame)
        bar = tour_bar.build(frame)
        frame.tabs.render()
        with frame.tabs:
            tabs = _tabs(frame)
        _wire_steps(frame, tabs)
        tour_bar.wire(frame, bar, again, tabs)
        _wire_language(frame, switch)
    return blocks


def _tabs(frame: Frame) -> Tabs:
    """Build the five tabs and return the controls that lead from one to the next."""
    with frame.tab("plan"):
        planned = plan.build(frame)
    with frame.tab("data") as tab:
        seen = data.build(frame, tab)
    with frame.tab("train"):
        trained = train.build(frame)
    with frame.tab("playground") as tab:
        tried = playground.build(frame, tab)
    with frame.tab("takeaway") as tab:
        taken = takeaway.build(frame, tab)
    return Tabs(
        form=planned.form,
        plan_again=planned.again,
        look=seen,
        run=trained.selected,
        try_it=trained.try_it,
        clone=trained.clone,
        kept_preset=trained.kept,
        train_wrong=trained.wrong,
        chips=planned.chips,
        tried=tried.chosen,
        prompt=tried.prompt,
        asked=tried.asked,
        take_away=tried.onward,
        taken=taken,
    )


def _strip(frame: Frame) -> tuple[gr.Button, gr.Button]:
    """Build the strip; return its language switch and the button that starts the tour."""
    make = frame.wording.make
    with gr.Row(elem_id="wb-strip-row"):
        line = gr.HTML(strip.waiting(), elem_id="wb-strip")
        stop = make(gr.Button, value=Key("strip.stop"), size="sm", variant="stop", elem_id="wb-stop")
        again = make(gr.Button, value=Key("strip.tour"), size="sm", elem_id="wb-tour-again")
        switch = make(gr.Button, value=Key("strip.other_language"), size="sm", elem_id="wb-language")
        make(gr.Button, value=Key("strip.theme"), size="sm", elem_id="wb-theme")

    def show(language: Any, shown: Any, before: Any, request: gr.Request) -> list[Any]:
        return [strip.content(frame.workspace, spoken(language, request.headers)), _due(frame, shown, before)]

    def halt(language: Any, shown: Any, before: Any, request: gr.Request) -> list[Any]:
        strip.stop_current(frame.workspace)
        return show(language, shown, before, request)

    followed = gr.State([])
    inputs, outputs = [frame.language, frame.shown, followed], [line, followed]
    looks = [frame.blocks.load, frame.timer.tick, frame.language.change, frame.shown.change]
    gr.on(looks, show, inputs, outputs, **QUIET)
    stop.click(halt, inputs, outputs, **QUIET)
    followed.change(
        lambda due: [gr.Timer(active=name in due) for name in frame.watches],
        followed,
        list(frame.watches.values()),
        **QUIET,
    )
    return switch, again


def _due(frame: Frame, shown: Any, before: Any) -> list[str]:
    """Return what has something to follow: the tab that is shown, and the tour while it goes.

    When the last job has ended, what was followed `before` is so for two more ticks: a hidden page ticks once a minute,
    and must not go to sleep with a run on it that is long over.
    """
    if not strip.is_busy(frame.workspace):
        return [*before, _LAST_LOOK] if before and before.count(_LAST_LOOK) < _LAST_LOOKS else []
    return [shown, "tour"] if tour.read(frame.workspace) else [shown]


def _wire_steps(frame: Frame, tabs: Tabs) -> None:
    """Carry a run from Train to the playground, and an adapter from there to Take away."""

    def attempt(selected: Any) -> list[Any]:
        job = live_panel.shown_run(frame.workspace, selected)
        offered = trials.choices(frame.workspace)
        of_job = [value for _, value in offered if job and value.partition(":")[0] == job.id][:1]
        prompts = trials.held_out_prompts(trials.find(frame.workspace, of_job[0])) if of_job else []
        prompt = prompts[0] if prompts else gr.skip()
        return [gr.update(choices=offered, value=of_job), prompt, gr.update(selected="playground")]

    def take(values: Any) -> list[Any]:
        value = values[0] if isinstance(values, list) and values else None
        return [
            gr.update(choices=takeaway_sources.choices(frame.workspace), value=value),
            gr.update(selected="takeaway"),
        ]

    def clone(selected: Any, draft: Any) -> list[Any]:
        job = live_panel.shown_run(frame.workspace, selected)
        try:
            if job is None:
                raise UsageError("There is no run to clone", "", "start one")
            copied, seen = run_box.cloned(frame.workspace, job, from_browser(draft))
        except WorkbenchError as error:
            return [gr.skip()] * (len(tabs.form) + 3) + [notices.problem(error)]
        form = forms.filling(copied.config)
        return [*form, copied.to_browser(), seen.to_browser(), gr.update(selected="plan"), Html("")]

    cloned = [*tabs.form, frame.draft, tabs.look, frame.tabs, tabs.train_wrong]
    tabs.clone.click(clone, [tabs.run, frame.draft], cloned, **QUIET).then(**tabs.plan_again)
    gr.on(
        [frame.blocks.load, tabs.kept_preset.change],
        lambda: gr.update(choices=plan.preset_choices(frame.workspace)),
        None,
        tabs.chips,
        **QUIET,
    )
    tabs.try_it.click(attempt, tabs.run, [tabs.tried, tabs.prompt, frame.tabs], **QUIET)
    tabs.take_away.click(take, tabs.tried, [tabs.taken, frame.tabs], **QUIET)


def _wire_language(frame: Frame, switch: gr.Button) -> None:
    """Say every text again when the language changes, and once when the page opens in another than English."""
    controls = frame.wording.controls

    def turn(language: Any) -> list[Any]:
        speech = Speech("en" if Speech(language).language == "zh" else "zh")
        return [speech.language, *frame.wording.updates(speech)]

    def greet(language: Any, request: gr.Request) -> list[Any]:
        speech = spoken(language, request.headers)
        texts = frame.wording.updates(speech) if speech.language != "en" else [gr.skip()] * len(controls)
        return [speech.language, *texts]

    # A screen reader and the browser's hyphenation take the language from the document itself.
    frame.language.change(None, frame.language, None, js=_TELL_LANGUAGE, show_progress="hidden")
    switch.click(turn, frame.language, [frame.language, *controls], **QUIET)
    frame.blocks.load(greet, frame.language, [frame.language, *controls], **QUIET)
