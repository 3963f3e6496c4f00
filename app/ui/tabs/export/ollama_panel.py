"""The Ollama card's own button: the model is made in Ollama over its API, after a question, and asked once."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from app.errors import ExportError, UsageError, WorkbenchError, keyed
from app.export.requests import OLLAMA_NAME, ollama_name
from app.export.targets.ollama_api import Ollama
from app.jobs.directory import JobDirectory
from app.runs.on_disk import exports
from app.ui.components import messages, questions
from app.ui.components.handlers import Parts, Updates, Wiring, handler, raw, text
from app.ui.components.markup import Html
from app.ui.components.questions import Asked
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import PageContext
from app.ui.tabs.export.making import FileChoice, FileFields, make
from app.workspace import Workspace


@dataclass(frozen=True)
class _Wanted:
    """What was asked about: the source, the name, the format, whether the name was seen to be in use, and where."""

    value: str
    name: str
    file: FileChoice
    is_taken: bool
    address: str


def ask(workspace: Workspace, value: object, name: str, file: FileChoice, t: Translator) -> Asked:
    """Ask whether Ollama shall make the model, and whether it may replace one of that name.

    Raises UsageError for what is no name, ExportError where Ollama does not answer.
    """
    source = exports.find(workspace, value)
    name = name.strip() or ollama_name(source.stem)
    if not OLLAMA_NAME.fullmatch(name):
        remedy = keyed("use_letters_digits_and", "use letters, digits, - . _ and :")
        raise UsageError(f"{name!r:.80} is no name for Ollama", "", remedy)
    server = Ollama.of()
    if not server.is_here():
        raise ExportError(
            keyed("ollama_does_not_answer_at", "Ollama does not answer at {place}", place=server.place),
            "",
            keyed("start_ollama_and_try_again", "start Ollama and try again"),
        )
    taken = server.has(name)
    words = t("take.ollama.ask_replace" if taken else "take.ollama.ask", name=name, place=server.place)
    return Asked(words, _Wanted(source.value, name, file, taken, server.address))


def create(workspace: Workspace, about: object) -> JobDirectory:
    """Hand in what was asked about; a name that came into use since is refused by the job. Raises WorkbenchError."""
    assert isinstance(about, _Wanted)
    return make(
        workspace, about.value, "ollama", about.file, create=about.name, replace=about.is_taken, ollama=about.address
    )


@dataclass(frozen=True)
class Panel:
    """The controls below the card."""

    name: gr.Textbox
    button: gr.Button
    question: questions.Question


def build(context: PageContext) -> Panel:
    """Build the name, the button and the question; they are placed in the card."""
    made = context.translated.make
    name = made(gr.Textbox, label=Key("take.ollama.name"), max_lines=1, elem_id="wb-ollama-name")
    button = made(gr.Button, value=Key("take.ollama.create"), scale=0, elem_id="wb-ollama-create")
    return Panel(name, button, questions.build(context, "wb-ollama", Key("take.ollama.yes")))


def wire(
    context: PageContext,
    panel: Panel,
    chosen: gr.Dropdown,
    file: FileFields,
    wrong: gr.HTML,
    looked: Wiring,
) -> None:
    """Wire the button: it asks, and a yes hands the job in."""
    workspace, t, question = context.workspace, context.language_field, panel.question

    def asks(value: object, name: str, file: FileChoice, t: Translator) -> Updates:
        try:
            return Updates({**question.asking(ask(workspace, value, name, file, t)), wrong: Html("")})
        except WorkbenchError as error:
            return Updates({**question.closed(), wrong: messages.problem(error, t)})

    def do(about: object, t: Translator) -> Updates:
        try:
            create(workspace, about)
        except WorkbenchError as error:
            return Updates({wrong: messages.problem(error, t)})
        return Updates({wrong: Html("")})

    reads: Parts = [raw(chosen), text(panel.name), file, t]
    panel.button.click(**handler(asks, reads, [*question.outputs, wrong]))
    questions.answer(question, do, [t], [wrong]).then(**looked)
    chosen.change(**handler(question.closed, shows=question.outputs))
