"""The sweep: values for a few settings, the runs they make, and the button that queues them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import gradio as gr

from app.errors import UsageError, WorkbenchError, keyed
from app.jobs.directory import JobDirectory
from app.runs import request_paths
from app.runs.dataset_selection import DatasetSelection
from app.runs.draft import Draft
from app.runs.submission import sweep
from app.runs.submission.sweep import Member
from app.ui.components import messages
from app.ui.components.forms import FormValues, PlanForm
from app.ui.components.handlers import LAST, Control, Parts, Updates, Wiring, handler, held, text
from app.ui.components.markup import Html, element
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import PageContext
from app.ui.tabs.train import unplanned
from app.workspace import Workspace

# The settings that the page sweeps over; the command line takes any.
AXES = ("adapter.r", "training.learning_rate", "adapter.lora_alpha", "adapter.target_modules")
_MOST_NAMED = 12
_LONGEST_TEXT = 1000


def members(draft: Draft, texts: Mapping[str, str]) -> list[Member]:
    """Return the runs of a filled form. Raises WorkbenchError for values that are wrong and for too many runs."""
    words = [f"{name}={text[:_LONGEST_TEXT]}" for name, text in texts.items() if text.strip()]
    return sweep.members(draft.config, sweep.parse_axes(words))


def preview(draft: Draft, texts: Mapping[str, str], t: Translator) -> tuple[int, Html]:
    """Return how many runs there would be, and their names or what is wrong."""
    if not any(text.strip() for text in texts.values()):
        return 0, messages.note(t("sweep.empty"))
    try:
        found = members(draft, texts)
    except WorkbenchError as error:
        return 0, messages.problem(error, t)
    named = [element("li", member.name) for member in found[:_MOST_NAMED]]
    if len(found) > _MOST_NAMED:
        named.append(element("li", t("sweep.more", count=len(found) - _MOST_NAMED), class_="wb-muted"))
    heading = element("b", t("sweep.count", count=len(found)))
    return len(found), element("div", heading, element("ul", *named, class_="wb-sweep-list"))


def launch(workspace: Workspace, draft: Draft, texts: Mapping[str, str], seen: object, name: str) -> list[JobDirectory]:
    """Queue the runs, if they are as many as were shown. Raises WorkbenchError."""
    found = members(draft, texts)
    if len(found) != seen:
        raise UsageError(
            keyed("sweep_now", "The sweep has {count} runs now", count=len(found)),
            keyed("shown_before", "{count} were shown", count=seen),
            keyed("press_again", "look at them and press again"),
        )
    request_paths.model_name(workspace, draft.config.model.name)
    if draft.config.data.file:
        request_paths.data_file(workspace, draft.config.data.file)
    return sweep.start(workspace, found, name)


@dataclass(frozen=True)
class SweepForm:
    """The texts of the form: the values of each of AXES."""

    texts: Mapping[str, gr.Textbox]

    def inputs(self) -> list[Control]:
        """Return the controls."""
        return list(self.texts.values())

    def read(self, values: Sequence[object]) -> dict[str, str]:
        """Return what was typed, by setting."""
        typed = (value if isinstance(value, str) else "" for value in values)
        return dict(zip(self.texts, typed, strict=True))


@dataclass(frozen=True)
class SweepControls:
    """The box that the Sweep button opens. `count` is how many runs were shown last."""

    box: gr.Column
    form: SweepForm
    name: gr.Textbox
    shown: gr.HTML
    count: gr.State
    go: gr.Button


def build(context: PageContext, form: PlanForm, opener: gr.Button, selected: gr.State, after: Wiring) -> None:
    """Build the form that the Sweep button opens. `after` is the event that looks at everything again.

    `form` is the Plan tab's: what it shows and the draft does not have is not swept over without a word.
    """
    make = context.translated.make
    with gr.Column(visible=False, elem_id="wb-sweep") as box:
        make(gr.HTML, value=Key("sweep.help"))
        texts = {}
        with gr.Row(elem_classes="wb-pair"):
            for axis in AXES:
                label, example = Key(f"setting.{axis}.label"), Key(f"sweep.example.{axis}")
                texts[axis] = make(gr.Textbox, label=label, placeholder=example, max_lines=1, min_width=180)
        name = make(gr.Textbox, label=Key("sweep.name"), max_lines=1, elem_id="wb-sweep-name")
        shown, count = gr.HTML(elem_id="wb-sweep-shown"), gr.State(0)
        with gr.Row(elem_classes="wb-actions"):
            hold: dict[str, object] = {"variant": "primary", "interactive": False, "scale": 0}
            go = make(gr.Button, value=Key("sweep.queue"), elem_id="wb-sweep-go", **hold)
    _wire(context, SweepControls(box, SweepForm(texts), name, shown, count, go), form, opener, selected, after)


def _wire(
    context: PageContext, c: SweepControls, form: PlanForm, opener: gr.Button, selected: gr.State, after: Wiring
) -> None:
    opened = gr.State(False)

    def toggle(is_open: bool) -> Updates:
        return Updates({opened: not is_open, c.box: gr.update(visible=not is_open)})

    def look(mine: Draft, t: Translator, typed: Mapping[str, str]) -> Updates:
        found, html = preview(mine, typed, t)
        return Updates({c.count: found, c.shown: html, c.go: gr.update(interactive=found > 0)})

    def begin(
        mine: Draft,
        looked: DatasetSelection,
        seen: object,
        called: str,
        t: Translator,
        typed: Mapping[str, str],
        filled: FormValues,
    ) -> Updates:
        try:
            unplanned.refuse(unplanned.found(mine, looked, filled))
            jobs = launch(context.workspace, mine, typed, seen, called)
        except WorkbenchError as error:
            return Updates({c.shown: messages.problem(error, t)})
        return Updates({selected: jobs[0].id, c.shown: messages.note(t("sweep.queued", count=len(jobs)))})

    draft, language = context.draft_field, context.language_field
    opener.click(**handler(toggle, [held(opened)], [opened, c.box]))
    # What is typed: a change of a box that has only just been shown is not told (gradio 6.31), a person's input is.
    changes = [opener.click, context.draft.change, context.language.change, *(text.input for text in c.form.inputs())]
    shows = [c.count, c.shown, c.go]
    gr.on(changes, **handler(look, [draft, language, c.form], shows, how=LAST))
    reads: Parts = [draft, context.selection_field, held(c.count), text(c.name), language, c.form, form]
    c.go.click(**handler(begin, reads, [selected, c.shown])).then(**after)
