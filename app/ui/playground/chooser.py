"""The choice of columns, which all modes share: adapters, the base, a run's checkpoints, another server."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.jobs import requests
from app.ui import trials
from app.ui.frame import QUIET, Frame
from app.ui.language import Key
from app.ui.playground.session import Choice, Server, Settings
from app.workspace import Workspace


@dataclass(frozen=True)
class Chooser:
    """The shared controls of the playground."""

    chosen: gr.Dropdown
    base: gr.Checkbox
    system: gr.Textbox
    tokens: gr.Number
    temperature: gr.Number
    seed: gr.Number
    thinks: gr.Checkbox
    free: gr.Button
    server: list[Any]

    @property
    def inputs(self) -> list[Any]:
        """Return the controls whose values `read` takes, in its order."""
        settings = [self.system, self.tokens, self.temperature, self.seed, self.thinks]
        return [self.chosen, self.base, *settings, *self.server]


# How many values `Chooser.inputs` has.
WIDTH = 10


def read(workspace: Workspace, values: tuple[Any, ...]) -> tuple[Choice, Settings]:
    """Return what the shared controls ask for. Raises UsageError."""
    chosen, base, *settings = values[:7]
    server = Server.checked(*values[7:WIDTH])
    return Choice.checked(workspace, chosen, base, server), Settings.checked(*settings)


def build(frame: Frame) -> Chooser:
    """Build the controls and wire what is their own."""
    make = frame.wording.make
    chosen = make(
        gr.Dropdown, label=Key("play.adapters"), info=Key("play.adapters_help"), choices=[], multiselect=True,
        elem_id="wb-adapters",
    )  # fmt: skip
    base = make(gr.Checkbox, label=Key("play.with_base"), value=True, elem_id="wb-with-base")
    _build_checkpoints(frame, chosen)
    system = make(gr.Textbox, label=Key("play.system"), lines=2, max_lines=4, elem_id="wb-system")
    with gr.Row(elem_classes="wb-pair"):
        most = make(gr.Number, label=Key("play.max_tokens"), value=96, precision=0, min_width=90)
        warmth = make(gr.Number, label=Key("play.temperature"), value=0, step=0.1, min_width=90)
        seed = make(gr.Number, label=Key("play.seed"), value=0, precision=0, min_width=90)
    thinks = make(gr.Checkbox, label=Key("play.thinks"), value=True)
    with make(gr.Accordion, label=Key("play.server"), open=False, elem_id="wb-server"):
        make(gr.Markdown, value=Key("play.server_help"))
        address = make(gr.Textbox, label=Key("play.server_url"), placeholder="http://127.0.0.1:8000/v1", max_lines=1)
        token = make(gr.Textbox, label=Key("play.server_token"), type="password", max_lines=1)
        models = make(gr.Textbox, label=Key("play.server_models"), max_lines=1)
    free = make(gr.Button, value=Key("play.free"), visible=False)
    free.click(lambda: release(frame.workspace), None, free, **QUIET)
    return Chooser(chosen, base, system, most, warmth, seed, thinks, free, [address, token, models])


def release(workspace: Workspace) -> Any:
    """End every engine of the workspace and hide the button."""
    free_memory(workspace)
    return gr.update(visible=False)


def free_memory(workspace: Workspace) -> None:
    """End every engine of the workspace."""
    for job in trials.living_engines(workspace):
        requests.stop(workspace, job)


def _build_checkpoints(frame: Frame, chosen: gr.Dropdown) -> None:
    """Build the slider over the steps of the first chosen run; its button adds that checkpoint as a column."""
    make = frame.wording.make
    with make(gr.Accordion, label=Key("play.checkpoints"), open=False, elem_id="wb-checkpoints"):
        slider = make(gr.Slider, label=Key("play.checkpoint"), minimum=0, maximum=1, step=1, elem_id="wb-step")
        add = make(gr.Button, value=Key("play.add_checkpoint"), interactive=False, elem_id="wb-add-step")

    def reach(values: Any, at: Any) -> list[Any]:
        steps = trials.checkpoint_steps(frame.workspace, first_of(values))
        if not steps:
            return [gr.update(minimum=0, maximum=1, value=0, interactive=False), gr.update(interactive=False)]
        low, high = (steps[0], steps[-1]) if len(steps) > 1 else (0, steps[0])
        stride = math.gcd(*(step - low for step in steps)) or 1
        slid = gr.update(
            minimum=low, maximum=high, step=stride, value=at if at in steps else steps[0], interactive=len(steps) > 1
        )
        return [slid, gr.update(interactive=True)]

    def put(values: Any, step: Any) -> Any:
        added = with_checkpoint(frame.workspace, values, step)
        return gr.update(choices=trials.choices(frame.workspace, added), value=added)

    chosen.change(reach, [chosen, slider], [slider, add], **QUIET)
    add.click(put, [chosen, slider], chosen, **QUIET)


def with_checkpoint(workspace: Workspace, values: Any, step: Any) -> list[str]:
    """Return the chosen adapters with the checkpoint of the first one's run that is nearest to a step."""
    kept = [str(value) for value in values] if isinstance(values, list) else []
    steps = trials.checkpoint_steps(workspace, first_of(values))
    if not steps or not isinstance(step, (int, float)):
        return kept
    nearest = min(steps, key=lambda one: abs(one - step))
    return list(dict.fromkeys([*kept, f"{kept[0].partition(':')[0]}:{nearest}"]))


def first_of(values: Any) -> str:
    """Return the first of the chosen adapters, or an empty text."""
    return str(values[0]) if isinstance(values, list) and values else ""
