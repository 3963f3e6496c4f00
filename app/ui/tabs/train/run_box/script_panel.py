"""The shown run as a script, folded."""

from __future__ import annotations

import gradio as gr

from app.errors import WorkbenchError
from app.runs.current import shown_run
from app.runs.training_script import recipe
from app.ui.components import messages
from app.ui.components.handlers import Updates, handler, held
from app.ui.components.markup import Html
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import PageContext


def build(context: PageContext, selected: gr.State) -> None:
    """Build the box and wire it; the script is written when the box is opened or another run is shown."""
    make = context.translated.make
    with make(gr.Accordion, label=Key("train.recipe"), open=False, elem_id="wb-recipe") as box:
        make(gr.HTML, value=Key("train.recipe.note"))
        said = gr.HTML()
        code = gr.Code(language="python", interactive=False, show_label=False, elem_id="wb-recipe-code")

    def script(chosen: object, t: Translator) -> Updates:
        job = shown_run(context.workspace, chosen)
        try:
            return Updates({code: recipe(job) if job else "", said: Html("")})
        except WorkbenchError as error:
            return Updates({code: "", said: messages.problem(error, t)})

    gr.on([box.expand, selected.change], **handler(script, [held(selected), context.language_field], [code, said]))
