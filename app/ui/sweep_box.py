"""The sweep: values for a few settings, the runs they make, and the button that queues them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from app import sweep
from app.errors import UsageError, WorkbenchError
from app.jobs.directory import JobDirectory
from app.sweep import Member
from app.ui import allowed, notices
from app.ui.draft import Draft, from_browser
from app.ui.frame import QUIET, Frame
from app.ui.language import Key, Speech
from app.ui.markup import Html, element
from app.workspace import Workspace

# The settings that the page sweeps over; the command line takes any.
AXES = ("adapter.r", "training.learning_rate", "adapter.lora_alpha", "adapter.target_modules")
_MOST_NAMED = 12
_LONGEST_TEXT = 1000


def members(draft: Draft, texts: Sequence[Any]) -> list[Member]:
    """Return the runs of a filled form. Raises WorkbenchError for values that are wrong and for too many runs."""
    words = [
        f"{name}={text[:_LONGEST_TEXT]}"
        for name, text in zip(AXES, texts, strict=True)
        if isinstance(text, str) and text.strip()
    ]
    return sweep.members(draft.config, sweep.parse_axes(words))


def preview(draft: Draft, texts: Sequence[Any], say: Speech) -> tuple[int, Html]:
    """Return how many runs there would be, and their names or what is wrong."""
    if not any(isinstance(text, str) and text.strip() for text in texts):
        return 0, notices.note(say("sweep.empty"))
    try:
        found = members(draft, texts)
    except WorkbenchError as error:
        return 0, notices.problem(error)
    named = [element("li", member.name) for member in found[:_MOST_NAMED]]
    if len(found) > _MOST_NAMED:
        named.append(element("li", say("sweep.more", count=len(found) - _MOST_NAMED), class_="wb-muted"))
    heading = element("b", say("sweep.count", count=len(found)))
    return len(found), element("div", heading, element("ul", *named, class_="wb-sweep-list"))


def launch(workspace: Workspace, draft: Draft, texts: Sequence[Any], seen: Any, name: Any) -> list[JobDirectory]:
    """Queue the runs, if they are as many as were shown. Raises WorkbenchError."""
    found = members(draft, texts)
    if len(found) != seen:
        raise UsageError(f"The sweep has {len(found)} runs now", f"{seen} were shown", "look at them and press again")
    allowed.model_name(workspace, draft.config.model.name)
    if draft.config.data.file:
        allowed.data_file(workspace, draft.config.data.file)
    return sweep.start(workspace, found, str(name or ""))


def build(frame: Frame, opener: gr.Button, selected: gr.State, after: dict[str, Any]) -> None:
    """Build the form that the Sweep button opens. `after` is the event that looks at everything again."""
    make = frame.wording.make
    opened = gr.State(False)
    with gr.Column(visible=False, elem_id="wb-sweep") as form:
        make(gr.HTML, value=Key("sweep.help"))
        texts = []
        with gr.Row(elem_classes="wb-pair"):
            for axis in AXES:
                label, example = Key(f"setting.{axis}.label"), Key(f"sweep.example.{axis}")
                texts.append(make(gr.Textbox, label=label, placeholder=example, max_lines=1, min_width=180))
        name = make(gr.Textbox, label=Key("sweep.name"), max_lines=1, elem_id="wb-sweep-name")
        shown, count = gr.HTML(elem_id="wb-sweep-shown"), gr.State(0)
        with gr.Row(elem_classes="wb-actions"):
            hold: dict[str, Any] = {"variant": "primary", "interactive": False, "scale": 0}
            go = make(gr.Button, value=Key("sweep.queue"), elem_id="wb-sweep-go", **hold)

    def toggle(is_open: bool) -> list[Any]:
        return [not is_open, gr.update(visible=not is_open)]

    def look(draft: Any, language: Any, *values: Any) -> list[Any]:
        found, html = preview(from_browser(draft), values, Speech(language))
        return [found, html, gr.update(interactive=found > 0)]

    def begin(draft: Any, seen: Any, called: Any, language: Any, *values: Any) -> list[Any]:
        try:
            jobs = launch(frame.workspace, from_browser(draft), values, seen, called)
        except WorkbenchError as error:
            return [gr.skip(), notices.problem(error)]
        return [jobs[0].id, notices.note(Speech(language)("sweep.queued", count=len(jobs)))]

    inputs = [frame.draft, frame.language, *texts]
    opener.click(toggle, opened, [opened, form], **QUIET)
    # What is typed: a change of a box that has only just been shown is not told (gradio 6.31), a person's input is.
    changes = [opener.click, frame.draft.change, frame.language.change, *(text.input for text in texts)]
    gr.on(changes, look, inputs, [count, shown, go], trigger_mode="always_last", **QUIET)
    started = go.click(begin, [frame.draft, count, name, frame.language, *texts], [selected, shown], **QUIET)
    started.then(**after)
