"""The shown run as a script, folded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from app.errors import WorkbenchError
from app.jobs.directory import JobDirectory
from app.recipe import recipe
from app.ui import notices
from app.ui.frame import QUIET, Frame
from app.ui.language import Key
from app.ui.markup import Html


def build(frame: Frame, selected: gr.State, shown: Callable[[Any], JobDirectory | None]) -> None:
    """Build the box and wire it; the script is written when the box is opened or another run is shown."""
    make = frame.wording.make
    with make(gr.Accordion, label=Key("train.recipe"), open=False, elem_id="wb-recipe") as box:
        make(gr.HTML, value=Key("train.recipe.note"))
        said = gr.HTML()
        code = gr.Code(language="python", interactive=False, show_label=False, elem_id="wb-recipe-code")

    def script(chosen: Any) -> tuple[str, Html]:
        job = shown(chosen)
        try:
            return recipe(job) if job else "", Html("")
        except WorkbenchError as error:
            return "", notices.problem(error)

    box.expand(script, selected, [code, said], **QUIET)
    selected.change(script, selected, [code, said], **QUIET)
