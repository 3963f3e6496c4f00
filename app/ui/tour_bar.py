"""The bar of the tour: what this step shows, and the one button that goes on."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.errors import WorkbenchError
from app.ui import forms, notices, tour, trials
from app.ui.frame import QUIET, Frame, Tabs
from app.ui.language import Key, Speech, spoken
from app.ui.markup import Html, element
from app.ui.tour import STEPS, Tour
from app.workspace import Workspace


def text(workspace: Workspace, standing: Tour | None, say: Speech) -> Html:
    """Return what the bar says: an invitation, or the step."""
    if standing is None:
        return invitation(say)
    state = tour.state(workspace, standing)
    key = f"tour.{standing.tab}" if state == "ready" else f"tour.{standing.tab}_{state}"
    step = say("tour.step", step=standing.step + 1, of=len(STEPS))
    return element("div", element("b", step), " ", say(key), class_="wb-tour")


def invitation(say: Speech, *, waiting: bool = False) -> Html:
    """Return the invitation to take the tour; `waiting` marks it as not yet asked for."""
    words = [element("b", say("tour.invite")), " ", say("tour.invite_text")]
    return element("div", *words, class_="wb-tour", data_waiting=waiting)


def buttons(workspace: Workspace, standing: Tour | None) -> tuple[bool, bool, bool]:
    """Return which buttons are offered: start, next, end."""
    if standing is None:
        return True, False, False
    state, last = tour.state(workspace, standing), standing.step == len(STEPS) - 1
    return state == "failed", state == "ready" and not last, True


def is_shown(workspace: Workspace, standing: Tour | None) -> bool:
    """Tell whether the bar is shown: while a tour is under way, and as long as nothing was ever trained."""
    return standing is not None or not trials.training_jobs(workspace)


def build(frame: Frame) -> tuple[gr.Group, gr.HTML, list[gr.Button]]:
    """Build the bar above the tabs, in its place from the first paint on where it will be shown.

    The script of the page hides it until it is asked for where the last visit ended without it.
    """
    make = frame.wording.make
    first = tour.read(frame.workspace) is None and is_shown(frame.workspace, None)
    with gr.Row(elem_id="wb-tour-bar", visible=first) as bar:
        line = gr.HTML(invitation(Speech(), waiting=True), elem_id="wb-tour-text")
        start = make(gr.Button, value=Key("tour.start"), variant="primary", size="sm", elem_id="wb-tour-start", scale=0)
        later: dict[str, Any] = {"size": "sm", "scale": 0, "visible": False}
        onward = make(gr.Button, value=Key("tour.next"), variant="primary", elem_id="wb-tour-next", **later)
        end = make(gr.Button, value=Key("tour.end"), elem_id="wb-tour-end", **later)
    return bar, line, [start, onward, end]


def wire(frame: Frame, bar: tuple[Any, gr.HTML, list[gr.Button]], again: gr.Button, tabs: Tabs) -> None:
    """Wire the bar to the tabs it leads through."""
    row, line, (start, onward, end) = bar
    workspace = frame.workspace
    own = [row, line, start, onward, end]
    led = [frame.draft, tabs.look, frame.tabs, tabs.run, tabs.tried, tabs.prompt, tabs.asked, tabs.taken, *tabs.form]

    def stand(standing: Tour | None, say: Speech, wrong: Html | None = None) -> list[Any]:
        offered = buttons(workspace, standing)
        said = wrong or text(workspace, standing, say)
        shown = is_shown(workspace, standing)
        return [gr.update(visible=shown), said, *(gr.update(visible=one) for one in offered)]

    def look(language: Any, request: gr.Request) -> list[Any]:
        return stand(tour.read(workspace), spoken(language, request.headers))

    def begin(language: Any) -> list[Any]:
        standing = tour.begin(workspace)
        return [*stand(standing, Speech(language)), *lead(workspace, standing)]

    def go_on(language: Any) -> list[Any]:
        standing, say = tour.read(workspace) or tour.begin(workspace), Speech(language)
        try:
            standing = tour.advance(workspace, standing)
        except WorkbenchError as error:
            return [*stand(standing, say, notices.problem(error)), *[gr.skip()] * len(led)]
        return [*stand(standing, say), *lead(workspace, standing)]

    def finish(language: Any) -> list[Any]:
        tour.end(workspace)
        return stand(None, Speech(language))

    gr.on([frame.blocks.load, frame.watches["tour"].tick, frame.language.change], look, frame.language, own, **QUIET)
    gr.on([start.click, again.click], begin, frame.language, [*own, *led], **QUIET).then(**tabs.plan_again)
    onward.click(go_on, frame.language, [*own, *led], **QUIET)
    end.click(finish, frame.language, own, **QUIET)


def lead(workspace: Workspace, standing: Tour) -> list[Any]:
    """Return what the tabs show at a step, in the order of the controls that the bar leads."""
    skip, draft = gr.skip(), tour.draft()
    at = STEPS.index(standing.tab)
    found = [
        draft.to_browser() if at else skip,
        tour.sample().to_browser() if at else skip,
        gr.update(selected=standing.tab),
        standing.run if standing.tab == "train" else skip,
    ]
    if standing.tab == "playground":
        trial = tour.trial(workspace, standing)
        offered = [(one.name, one.value) for one in trials.all_trials(workspace)]
        prompts = trials.held_out_prompts(trial) or [""]
        found += [gr.update(choices=offered, value=[trial.value]), prompts[0], (trial.value, prompts[0]), skip]
    elif standing.tab == "takeaway":
        offered = [(one.name, one.value) for one in trials.all_trials(workspace)]
        found += [skip, skip, skip, gr.update(choices=offered, value=standing.run)]
    else:
        found += [skip, skip, skip, skip]
    form = forms.filling(draft.config) if standing.tab == "plan" else [skip] * (3 + len(forms.ORDER))
    return [*found, *form]
