"""What every tab is built into: the workspace, the language, the draft, and the tabs themselves."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from app.data.client import DataClient
from app.runs import dataset_selection, draft
from app.runs.dataset_selection import DatasetSelection
from app.runs.draft import Draft
from app.ui.components.forms import PlanForm
from app.ui.components.handlers import EVENT_DEFAULTS, Field, Wiring
from app.ui.shell.language import Key, Translator
from app.ui.shell.translated import TranslatedComponents
from app.workspace import Workspace

# An HTML block in which every element with data-pick can be clicked; the handler gets its value as `picked`, as it was
# when it was pressed: an answer may put something else in its place before it is let go.
CLICK_JS = """
element.dataset.wbPicks = "";
element.addEventListener("wb-pick", (event) => trigger("select", { value: event.detail }));
element.addEventListener("click", (event) => {
  const pick = window.workbenchPick(event);
  if (pick !== null) trigger("select", { value: pick });
});
"""
# Storage in the browser is scrambled with this; it is no secret, and every handler checks what comes back.
STORAGE = "lora-workbench"


@dataclass(frozen=True)
class PageContext:
    """The shared parts of the page. `language`, `draft`, `selection` (of data) and `conversation` live in the browser's
    storage, not in the server. They stand outside of the tabs: what a tab holds is read from the storage only when that
    tab is opened (gradio 6.31), which is after the page has asked for it.

    `shown` is the name of the tab that is shown, which the browser itself keeps: a change of tab asks for nothing.
    `timer` ticks all the time, for the strip alone. `watches` has a timer for each tab and for the tour that ticks only
    while there is something to follow: each tick costs the browser a walk over the whole page for every output.
    """

    blocks: gr.Blocks
    workspace: Workspace
    translated: TranslatedComponents
    language: gr.BrowserState
    draft: gr.BrowserState
    selection: gr.BrowserState
    conversation: gr.BrowserState
    tabs: gr.Tabs
    shown: gr.Textbox
    timer: gr.Timer
    poll_timers: dict[str, gr.Timer]
    data: DataClient

    @property
    def language_field(self) -> Field[Translator]:
        """Return the chosen language as handlers read it."""
        return Field(self.language, Translator)

    @property
    def draft_field(self) -> Field[Draft]:
        """Return the draft as handlers read it."""
        return Field(self.draft, draft.from_browser)

    @property
    def selection_field(self) -> Field[DatasetSelection]:
        """Return the look at the data as handlers read it."""
        return Field(self.selection, dataset_selection.from_browser)

    def tab(self, name: str) -> gr.Tab:
        """Open a tab; use it as `with frame.tab("plan"):` inside the tabs."""
        tab = self.translated.make(gr.Tab, label=Key(f"tab.{name}"), id=name, elem_id=f"tab-{name}")
        tab.select(None, None, self.shown, js=f"() => {name!r}", **EVENT_DEFAULTS)
        return tab


@dataclass(frozen=True)
class Tabs:
    """The controls of the tabs that a step of the way reaches for: the buttons that lead on, and the tour.

    `asked` is a state of (adapter, prompt) whose change asks the playground; `plan_again` is the event that plans anew.
    """

    form: PlanForm
    plan_again: Wiring
    selection: gr.BrowserState
    run: gr.State
    run_head: gr.HTML
    try_it: gr.Button
    clone: gr.Button
    kept_preset: gr.State
    train_wrong: gr.HTML
    chips: gr.Radio
    tried: gr.Dropdown
    prompt: gr.Textbox
    asked: gr.State
    answers: gr.HTML
    to_export: gr.Button
    taken: gr.Dropdown
