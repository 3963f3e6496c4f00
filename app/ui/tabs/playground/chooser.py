"""The choice of columns, which all modes share: adapters, the base, a run's checkpoints, a remote server."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import gradio as gr

from app.jobs import requests
from app.runs.engine_session import Choice, Server, Settings
from app.runs.on_disk import artifacts
from app.ui.components import messages
from app.ui.components.handlers import EVENT_DEFAULTS, LAST, Control, Parts, Updates, filled_in, handler, listed, raw
from app.ui.components.markup import Html
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import PageContext
from app.ui.tabs.playground import session
from app.workspace import Workspace


@dataclass(frozen=True)
class Asked:
    """What the shared controls hold, as it came from the browser; it is checked when it is used."""

    chosen: object
    base: object = True
    system: object = ""
    tokens: object = 96
    temperature: object = 0
    seed: object = 0
    thinks: object = True
    top_p: object = None
    top_k: object = None
    penalty: object = None
    server: object = ""
    server_token: object = ""
    server_models: object = ""

    def choice(self, workspace: Workspace) -> Choice:
        """Return what is asked. Raises UsageError."""
        server = Server.checked(self.server, self.server_token, self.server_models)
        return Choice.checked(workspace, self.chosen, self.base, server)

    @property
    def _cuts(self) -> tuple[object, object, object]:
        return self.top_p, self.top_k, self.penalty

    def settings(self) -> Settings:
        """Return what holds for all columns. Raises UsageError."""
        return session.settings(self.system, self.tokens, self.temperature, self.seed, self.thinks, *self._cuts)


@dataclass(frozen=True)
class Chooser:
    """The shared controls of the playground."""

    chosen: gr.Dropdown
    base: gr.Checkbox
    system: gr.Textbox
    tokens: gr.Number
    temperature: gr.Textbox
    seed: gr.Number
    thinks: gr.Checkbox
    top_p: gr.Textbox
    top_k: gr.Textbox
    penalty: gr.Textbox
    server: gr.Textbox
    server_token: gr.Textbox
    server_models: gr.Textbox
    free: gr.Button

    @property
    def _asked(self) -> dict[str, Control]:
        """Return the controls by the names of Asked."""
        return {field.name: getattr(self, field.name) for field in fields(Asked)}

    def inputs(self) -> list[Control]:
        """Return the controls whose values `read` takes."""
        return list(self._asked.values())

    def read(self, values: Sequence[object]) -> Asked:
        """Return what the controls hold."""
        return Asked(**dict(zip(self._asked, values, strict=True)))


def build(context: PageContext) -> Chooser:
    """Build the controls and wire what is their own."""
    make = context.translated.make
    chosen = make(
        gr.Dropdown, label=Key("play.adapters"), info=Key("play.adapters_help"), choices=[], multiselect=True,
        elem_id="wb-adapters",
    )  # fmt: skip
    base = make(gr.Checkbox, label=Key("play.with_base"), value=True, elem_id="wb-with-base")
    _build_checkpoints(context, chosen)
    system = make(gr.Textbox, label=Key("play.system"), lines=2, max_lines=4, elem_id="wb-system")
    with gr.Row(elem_classes="wb-pair"):
        most = make(gr.Number, label=session.TOKENS.label, value=96, min_width=90, elem_id=session.TOKENS.element_id)
        warmth = make(
            gr.Textbox, label=session.TEMPERATURE.label, value="0", max_lines=1, min_width=90,
            elem_id=session.TEMPERATURE.element_id,
        )  # fmt: skip
        seed = make(gr.Number, label=session.SEED.label, value=0, min_width=90, elem_id=session.SEED.element_id)
    wrong = gr.HTML(elem_id="wb-chooser-error", js_on_load=messages.AT_FIELDS)
    with (
        make(gr.Accordion, label=Key("play.sampling"), open=False, elem_id="wb-sampling"),
        gr.Row(elem_classes="wb-pair"),
    ):
        top_p, top_k, penalty = (
            make(gr.Textbox, label=field.label, value=start, max_lines=1, min_width=90, elem_id=field.element_id)
            for field, start in ((session.TOP_P, "1"), (session.TOP_K, "0"), (session.PENALTY, "1"))
        )
    _wire_numbers(context, [most, warmth, seed, top_p, top_k, penalty], wrong)
    thinks = make(gr.Checkbox, label=Key("play.thinks"), value=True)
    with make(gr.Accordion, label=Key("play.server"), open=False, elem_id="wb-server"):
        make(gr.Markdown, value=Key("play.server_help"))
        address = make(gr.Textbox, label=Key("play.server_url"), placeholder="http://127.0.0.1:8000/v1", max_lines=1)
        token = make(gr.Textbox, label=Key("play.server_token"), type="password", max_lines=1)
        models = make(gr.Textbox, label=Key("play.server_models"), max_lines=1)
    free = make(gr.Button, value=Key("play.free"), visible=False)
    free.click(**handler(lambda: release(context.workspace), shows=[free]))
    cuts = (top_p, top_k, penalty)
    return Chooser(chosen, base, system, most, warmth, seed, thinks, *cuts, address, token, models, free)


def _wire_numbers(context: PageContext, numbers: list[Control], wrong: gr.HTML) -> None:
    """Say what is wrong with a number while it stands there; the answers, which are older than it, are grey so long."""

    def check(t: Translator, *values: object) -> Html:
        return messages.number_faults(session.number_faults(*values), t)

    typed = [*(number.input for number in numbers), context.language.change]
    reads: Parts = [context.language_field, *map(raw, numbers)]
    gr.on(typed, **handler(check, reads, [wrong], how=LAST))


def clear_when_changed(shared: Chooser, own: list[Control], *boxes: gr.HTML) -> None:
    """Take an error away when what it was said of has changed. The browser does it alone."""
    changed = [filled_in(control) for control in (*shared.inputs(), *own)]
    gr.on(changed, None, None, list(boxes), js=f"() => {json.dumps([''] * len(boxes))}", **EVENT_DEFAULTS)


def release(workspace: Workspace) -> object:
    """End every engine of the workspace and hide the button."""
    free_memory(workspace)
    return gr.update(visible=False)


def free_memory(workspace: Workspace) -> None:
    """End every engine of the workspace."""
    for job in artifacts.living_engines(workspace):
        requests.stop(workspace, job)


def _build_checkpoints(context: PageContext, chosen: gr.Dropdown) -> None:
    """Build the slider over the steps of the first chosen run; its button adds that checkpoint as a column."""
    make = context.translated.make
    with make(gr.Accordion, label=Key("play.checkpoints"), open=False, elem_id="wb-checkpoints"):
        slider = make(gr.Slider, label=Key("play.checkpoint"), minimum=0, maximum=1, step=1, elem_id="wb-step")
        add = make(gr.Button, value=Key("play.add_checkpoint"), interactive=False, elem_id="wb-add-step")

    def reach(values: list[object], at: object) -> Updates:
        steps = artifacts.checkpoint_steps(context.workspace, first_of(values))
        if not steps:
            slid = gr.update(minimum=0, maximum=1, value=0, interactive=False)
            return Updates({slider: slid, add: gr.update(interactive=False)})
        low, high = (steps[0], steps[-1]) if len(steps) > 1 else (0, steps[0])
        stride = math.gcd(*(step - low for step in steps)) or 1
        slid = gr.update(
            minimum=low, maximum=high, step=stride, value=at if at in steps else steps[0], interactive=len(steps) > 1
        )
        return Updates({slider: slid, add: gr.update(interactive=True)})

    def put(values: list[object], step: object) -> Updates:
        added = with_checkpoint(context.workspace, values, step)
        return Updates({chosen: gr.update(choices=artifacts.choices(context.workspace, added), value=added)})

    reads: Parts = [listed(chosen), raw(slider)]
    chosen.change(**handler(reach, reads, [slider, add]))
    add.click(**handler(put, reads, [chosen]))


def with_checkpoint(workspace: Workspace, values: object, step: object) -> list[str]:
    """Return the chosen adapters with the checkpoint of the first one's run that is nearest to a step."""
    kept = [str(value) for value in values] if isinstance(values, list) else []
    steps = artifacts.checkpoint_steps(workspace, first_of(values))
    if not steps or not isinstance(step, (int, float)):
        return kept
    nearest = min(steps, key=lambda one: abs(one - step))
    return list(dict.fromkeys([*kept, f"{kept[0].partition(':')[0]}:{nearest}"]))


def first_of(values: object) -> str:
    """Return the first of the chosen adapters, or an empty text."""
    return str(values[0]) if isinstance(values, list) and values else ""
