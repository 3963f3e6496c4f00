"""What every tab is built into: the workspace, the language, the draft, and the tabs themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.data.client import DataClient
from app.ui.language import Key
from app.ui.wording import Wording
from app.workspace import Workspace

# How handlers are wired: hidden from the API page, as many at once as there are readers, no flicker while they run.
# Without a place for progress the browser is spared a walk over the whole page for each output that ever had one, at
# every event (gradio 6.31; measured: an idle page took a quarter of a core).
QUIET: dict[str, Any] = {
    "show_progress": "hidden",
    "show_progress_on": [],
    "api_visibility": "private",
    "concurrency_limit": None,
}
# An HTML block in which every element with data-pick can be clicked; the handler gets its value by `picked`.
PICK = """
element.addEventListener("click", (event) => {
  const chosen = event.target.closest("[data-pick]");
  if (chosen) trigger("select", { value: chosen.dataset.pick });
});
"""
# Storage in the browser is scrambled with this; it is no secret, and every handler checks what comes back.
STORAGE = "lora-workbench"


@dataclass(frozen=True)
class Frame:
    """The shared parts of the page. `language`, `draft`, `look` (at the data) and `conversation` live in the browser's
    storage, not in the server. They stand outside of the tabs: what a tab holds is read from the storage only when that
    tab is opened (gradio 6.31), which is after the page has asked for it.

    `timer` ticks all the time, for the strip alone. `watches` has a timer for each tab and for the tour that ticks only
    while there is something to follow: each tick costs the browser a walk over the whole page for every output.
    """

    blocks: gr.Blocks
    workspace: Workspace
    wording: Wording
    language: gr.BrowserState
    draft: gr.BrowserState
    look: gr.BrowserState
    conversation: gr.BrowserState
    tabs: gr.Tabs
    shown: gr.State
    timer: gr.Timer
    watches: dict[str, gr.Timer]
    data: DataClient

    def tab(self, name: str) -> gr.Tab:
        """Open a tab; use it as `with frame.tab("plan"):` inside the tabs."""
        tab = self.wording.make(gr.Tab, label=Key(f"tab.{name}"), id=name, elem_id=f"tab-{name}")
        tab.select(lambda: name, None, self.shown, **QUIET)
        return tab


def picked(event: gr.EventData) -> str:
    """Return the value that was clicked in an HTML block, or an empty text for anything that is none."""
    data = event._data
    value = data.get("value") if isinstance(data, dict) else None
    return value if isinstance(value, str) else ""


@dataclass(frozen=True)
class Tabs:
    """The controls of the tabs that a step of the way reaches for: the buttons that lead on, and the tour.

    `asked` is a state of (adapter, prompt) whose change asks the playground; `plan_again` is the event that plans anew.
    """

    form: list[Any]
    plan_again: dict[str, Any]
    look: gr.BrowserState
    run: gr.State
    try_it: gr.Button
    clone: gr.Button
    kept_preset: gr.State
    train_wrong: gr.HTML
    chips: gr.Radio
    tried: gr.Dropdown
    prompt: gr.Textbox
    asked: gr.State
    take_away: gr.Button
    taken: gr.Dropdown
