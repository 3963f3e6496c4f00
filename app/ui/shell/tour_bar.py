"""The bar of the tour: what this step shows, and the one button that goes on."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from app.errors import WorkbenchError
from app.runs.on_disk import artifacts
from app.ui.components import messages
from app.ui.components.forms import FormValues
from app.ui.components.handlers import Control, Updates, handler, raw
from app.ui.components.markup import Html, element
from app.ui.shell import tour
from app.ui.shell.language import Key, Translator, spoken
from app.ui.shell.page_context import PageContext, Tabs
from app.ui.shell.tour import STEPS, Tour
from app.workspace import Workspace


def text(workspace: Workspace, standing: Tour | None, t: Translator) -> Html:
    """Return what the bar says: an invitation, or the step."""
    if standing is None:
        return invitation(t)
    state = tour.state(workspace, standing)
    key = f"tour.{standing.tab}" if state == "ready" else f"tour.{standing.tab}_{state}"
    step = t("tour.step", step=standing.step + 1, of=len(STEPS))
    return element("div", element("b", step), " ", t(key), class_="wb-tour")


def invitation(t: Translator, *, waiting: bool = False) -> Html:
    """Return the invitation to take the tour; `waiting` marks it as not yet asked for."""
    words = [element("b", t("tour.invite")), " ", t("tour.invite_text")]
    return element("div", *words, class_="wb-tour", data_waiting=waiting)


def buttons(workspace: Workspace, standing: Tour | None) -> tuple[bool, bool, bool]:
    """Return which buttons are offered: start, next, end."""
    if standing is None:
        return True, False, False
    state, last = tour.state(workspace, standing), standing.step == len(STEPS) - 1
    return state == "failed", state == "ready" and not last, True


def is_shown(workspace: Workspace, standing: Tour | None) -> bool:
    """Tell whether the bar is shown: while a tour is under way, and as long as nothing was ever trained."""
    return standing is not None or not artifacts.training_jobs(workspace)


@dataclass(frozen=True)
class TourBar:
    """The controls of the bar."""

    row: Control
    line: gr.HTML
    start: gr.Button
    onward: gr.Button
    end: gr.Button

    def outputs(self) -> list[Control]:
        """Return all controls."""
        return [self.row, self.line, self.start, self.onward, self.end]

    def showing(self, workspace: Workspace, standing: Tour | None, t: Translator, wrong: Html | None = None) -> Updates:
        """Return what shows where a tour stands, or what went wrong at its step."""
        offered = zip((self.start, self.onward, self.end), buttons(workspace, standing), strict=True)
        shown = {self.row: gr.update(visible=is_shown(workspace, standing))}
        said = {self.line: wrong or text(workspace, standing, t)}
        return Updates({**shown, **said, **{button: gr.update(visible=one) for button, one in offered}})


def build(context: PageContext) -> TourBar:
    """Build the bar above the tabs, in its place from the first paint on where it will be shown.

    The script of the page hides it until it is asked for where the last visit ended without it.
    """
    make = context.translated.make
    first = tour.read(context.workspace) is None and is_shown(context.workspace, None)
    with gr.Row(elem_id="wb-tour-bar", visible=first) as row:
        line = gr.HTML(invitation(Translator(), waiting=True), elem_id="wb-tour-text")
        start = make(gr.Button, value=Key("tour.start"), variant="primary", size="sm", elem_id="wb-tour-start", scale=0)
        later: dict[str, object] = {"size": "sm", "scale": 0, "visible": False}
        onward = make(gr.Button, value=Key("tour.next"), variant="primary", elem_id="wb-tour-next", **later)
        end = make(gr.Button, value=Key("tour.end"), elem_id="wb-tour-end", **later)
    return TourBar(row, line, start, onward, end)


def wire(context: PageContext, bar: TourBar, again: gr.Button, tabs: Tabs) -> None:
    """Wire the bar to the tabs it leads through."""
    workspace, t = context.workspace, context.language_field
    led = [context.draft, tabs.selection, context.tabs, tabs.run, tabs.tried, tabs.prompt, tabs.asked, tabs.taken]
    led += tabs.form.inputs()

    def look(language: object, request: gr.Request) -> Updates:
        return bar.showing(workspace, tour.read(workspace), spoken(language, request.headers))

    def begin(t: Translator) -> Updates:
        standing = tour.begin(workspace)
        return Updates({**bar.showing(workspace, standing, t), **lead(context, tabs, standing)})

    def go_on(t: Translator) -> Updates:
        standing = tour.read(workspace) or tour.begin(workspace)
        try:
            standing = tour.advance(workspace, standing)
        except WorkbenchError as error:
            return bar.showing(workspace, standing, t, messages.problem(error, t))
        return Updates({**bar.showing(workspace, standing, t), **lead(context, tabs, standing)})

    def finish(t: Translator) -> Updates:
        tour.end(workspace)
        return bar.showing(workspace, None, t)

    looks = [context.blocks.load, context.poll_timers["tour"].tick, context.language.change]
    gr.on(looks, **handler(look, [raw(context.language)], bar.outputs()))
    gr.on([bar.start.click, again.click], **handler(begin, [t], [*bar.outputs(), *led])).then(**tabs.plan_again)
    bar.onward.click(**handler(go_on, [t], [*bar.outputs(), *led]))
    bar.end.click(**handler(finish, [t], bar.outputs()))


def lead(context: PageContext, tabs: Tabs, standing: Tour) -> Updates:
    """Return what the tabs show at a step."""
    workspace, draft = context.workspace, tour.draft()
    found = Updates({context.tabs: gr.update(selected=standing.tab)})
    if standing.tab == "plan":
        return Updates({**found, **tabs.form.showing(FormValues.showing(draft.config))})
    found |= {context.draft: draft.to_browser(), tabs.selection: tour.sample().to_browser()}
    offered = [(one.name, one.value) for one in artifacts.all_artifacts(workspace)]
    if standing.tab == "train":
        found |= {tabs.run: standing.run}
    elif standing.tab == "playground":
        artifact = tour.artifact(workspace, standing)
        prompt = (artifacts.held_out_prompts(artifact) or [""])[0]
        chosen = gr.update(choices=offered, value=[artifact.value])
        found |= {tabs.tried: chosen, tabs.prompt: prompt, tabs.asked: (artifact.value, prompt)}
    elif standing.tab == "export":
        found |= {tabs.taken: gr.update(choices=offered, value=standing.run)}
    return found
