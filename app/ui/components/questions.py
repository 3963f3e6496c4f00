"""A question before something is lost: what exactly, how much of it, and two buttons, in the place of the click."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gradio as gr
from gradio.events import Dependency

from app.ui.components.handlers import Control, Parts, Updates, handler, held
from app.ui.components.markup import Html, element
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import PageContext

_NOTHING = Html("")


@dataclass(frozen=True)
class Question:
    """A question that is shown only while it is asked. `held` is what it was asked about, and nothing else is done."""

    row: Control
    text: gr.HTML
    yes: gr.Button
    no: gr.Button
    held: gr.State

    @property
    def outputs(self) -> list[Control]:
        """Return the controls that `asking` and `closed` fill."""
        return [self.row, self.text, self.held]

    def asking(self, asked: Asked | None) -> Updates:
        """Return what shows a question; what takes it away where there is none."""
        if asked is None:
            return self.closed()
        words = element("p", asked.text, class_="wb-question", role="alert")
        return Updates({self.row: gr.update(visible=True), self.text: words, self.held: asked.about})

    def closed(self) -> Updates:
        """Return what takes the question away."""
        return Updates({self.row: gr.update(visible=False), self.text: Html(""), self.held: None})


@dataclass(frozen=True)
class Asked:
    """The words of a question, and what it is asked about."""

    text: str
    about: object


def replacing(name: str, about: object, t: Translator) -> Asked:
    """Return what asks whether something that is saved under a name is replaced by what is held."""
    return Asked(t("ask.replace", name=name), about)


@dataclass(frozen=True)
class Saving:
    """What came of saving something under a name: the name, what went wrong, or what is asked first."""

    name: str = ""
    wrong: Html = _NOTHING
    asked: Asked | None = None


def build(context: PageContext, name: str, yes: Key) -> Question:
    """Build a question, hidden, whose first button says what is done."""
    make = context.translated.make
    held = gr.State(None)
    with gr.Row(elem_id=f"{name}-ask", elem_classes="wb-actions wb-ask", visible=False) as row:
        text = gr.HTML(elem_id=f"{name}-question", min_width=200)
        no = make(gr.Button, value=Key("ask.keep"), size="sm", elem_id=f"{name}-no", scale=0)
        sure = make(gr.Button, value=yes, size="sm", variant="stop", elem_id=f"{name}-yes", scale=0)
    question = Question(row, text, sure, no, held)
    no.click(**handler(question.closed, shows=question.outputs))
    return question


def answer(question: Question, do: Callable[..., Updates], reads: Parts, shows: Sequence[Control]) -> Dependency:
    """Wire what is done after a yes: `do` gets what was asked about and the parts. The question goes away at once."""

    def act(about: object, *values: object) -> Updates:
        if about is None:  # a second yes: what it was asked about is done
            return question.closed()
        return Updates({**question.closed(), **do(about, *values)})

    return question.yes.click(**handler(act, [held(question.held), *reads], [*question.outputs, *shows]))
