"""Chat: one question for all columns, over several turns."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.engine.client import Ask
from app.errors import WorkbenchError
from app.ui import notices, trials
from app.ui.frame import PICK, QUIET, Frame, picked
from app.ui.language import Key, Speech
from app.ui.markup import Html
from app.ui.playground import chooser, conversation, session, view
from app.ui.playground.chooser import Chooser
from app.ui.playground.conversation import Conversation
from app.ui.playground.session import Choice, Settings
from app.ui.playground.view import Showing
from app.workspace import Workspace


@dataclass(frozen=True)
class News:
    """What the page shows while answers come in: a sentence, and the conversation."""

    sentence: Html
    talk: Conversation


def ask(
    workspace: Workspace,
    talk: Conversation,
    prompt: str,
    choice: Choice,
    settings: Settings,
    say: Speech,
    attempt: int = 0,
) -> Iterator[News]:
    """Ask all columns and yield as the engine loads and the answers come in. Raises WorkbenchError.

    Other columns, or another system prompt, begin a new conversation.
    """
    columns = choice.columns(say)
    for step in session.loading(workspace, choice, say):
        if isinstance(step, str):
            yield News(notices.sentence(step), talk)
            continue
        with session.connected(step) as client:
            session.introduce(client, columns)
            if not talk.fits(columns, settings.system):
                talk = Conversation(system=settings.system)
            talk.columns = columns
            turn = talk.ask(prompt, attempt)
            wanted = settings.request(attempt)
            asks = [Ask(column.name, talk.messages(column.name), wanted) for column in columns]
            for _ in session.stream(client, asks, turn.answers):
                yield News(notices.sentence(say("play.answering")), talk)
    names = ", ".join(column.title for column in columns)
    yield News(notices.sentence(say("play.answered", names=names)), talk)


def held_out(workspace: Workspace, values: Any) -> str:
    """Return a prompt that the chosen run has not been trained on, or an empty text."""
    try:
        prompts = trials.held_out_prompts(trials.together(workspace, values)[0])
    except WorkbenchError:
        return ""
    return random.choice(prompts) if prompts else ""


@dataclass(frozen=True)
class Chat:
    """The controls of the mode. `asked` is a state of (adapter, prompt) whose change asks the base and that adapter."""

    prompt: gr.Textbox
    asked: gr.State
    shown: list[Any]


@dataclass(frozen=True)
class _Controls:
    prompt: gr.Textbox
    ask: gr.Button
    halt: gr.Button
    other: gr.Button
    retry: gr.Button
    undo: gr.Button
    clear: gr.Button
    differences: gr.Checkbox
    thinking: gr.Checkbox
    talk: gr.State
    kept: gr.BrowserState
    answers: gr.HTML
    asked: gr.State


def build(frame: Frame, shared: Chooser, line: gr.HTML, wrong: gr.HTML) -> Chat:
    """Build the mode and wire it."""
    make = frame.wording.make
    prompt = make(gr.Textbox, label=Key("play.prompt"), lines=2, max_lines=10, elem_id="wb-prompt")
    with gr.Row(elem_classes="wb-actions"):
        asking = make(gr.Button, value=Key("play.ask"), variant="primary", elem_id="wb-ask", scale=0)
        halt = make(gr.Button, value=Key("play.halt"), elem_id="wb-halt", scale=0)
        other = make(gr.Button, value=Key("play.held_out"), elem_id="wb-held-out", scale=0)
        retry = make(gr.Button, value=Key("play.retry"), elem_id="wb-retry", scale=0)
        undo = make(gr.Button, value=Key("play.undo"), elem_id="wb-undo", scale=0)
        clear = make(gr.Button, value=Key("play.clear"), elem_id="wb-clear", scale=0)
    with gr.Row(elem_classes="wb-switches"):
        differences = make(gr.Checkbox, label=Key("play.differences"), value=True, elem_id="wb-differences")
        thinking = make(gr.Checkbox, label=Key("play.show_thinking"), value=False)
    controls = _Controls(
        prompt, asking, halt, other, retry, undo, clear, differences, thinking,
        talk=gr.State(Conversation()),
        kept=frame.conversation,
        answers=gr.HTML(elem_id="wb-answers", js_on_load=PICK),
        asked=gr.State(()),
    )  # fmt: skip
    shown = [line, wrong, controls.talk, controls.answers, shared.free]
    _wire_asking(frame, shared, controls, shown)
    _wire_turns(frame, controls)
    return Chat(prompt, controls.asked, shown)


def _wire_asking(frame: Frame, shared: Chooser, controls: _Controls, shown: list[Any]) -> None:
    workspace = frame.workspace

    def go(
        language: Any, talk: Any, text: Any, look: Showing, values: tuple[Any, ...], attempt: int = 0
    ) -> Iterator[Any]:
        say = Speech(language)
        try:
            choice, settings = chooser.read(workspace, values)
            for news in ask(workspace, talk, session.checked_prompt(text), choice, settings, say, attempt):
                yield [news.sentence, Html(""), news.talk, view.chat(news.talk, say, look), gr.update(visible=True)]
        except WorkbenchError as error:
            yield [gr.skip(), notices.problem(error), gr.skip(), gr.skip(), gr.skip()]

    def fresh(language: Any, talk: Any, text: Any, marks: Any, thoughts: Any, *values: Any) -> Iterator[Any]:
        yield from go(language, talk, text, _showing(marks, thoughts), values)

    def again(language: Any, talk: Conversation, marks: Any, thoughts: Any, *values: Any) -> Iterator[Any]:
        attempt = talk.turns[-1].attempt + 1 if talk.turns else 0
        prompt = talk.back_to(len(talk.turns) - 1)
        yield from go(language, talk, prompt, _showing(marks, thoughts), values, attempt)

    def led(language: Any, wanted: Any) -> Iterator[Any]:
        run, prompt = wanted if isinstance(wanted, tuple) else ("", "")
        yield from go(language, Conversation(), prompt, Showing(), ([run], True, "", 96, 0, 0, True, "", "", ""))

    look = [controls.differences, controls.thinking]
    inputs = [frame.language, controls.talk, controls.prompt, *look, *shared.inputs]
    asking = gr.on([controls.ask.click, controls.prompt.submit], fresh, inputs, shown, **QUIET)
    repeated = controls.retry.click(again, [frame.language, controls.talk, *look, *shared.inputs], shown, **QUIET)
    leading = controls.asked.change(led, [frame.language, controls.asked], shown, **QUIET)
    keep = {"fn": _kept, "inputs": controls.talk, "outputs": controls.kept, **QUIET}
    for event in (asking, repeated, leading):
        event.then(**keep)

    def settle(language: Any, talk: Conversation, marks: Any, thoughts: Any) -> list[Any]:
        talk.settle()
        say = Speech(language)
        return [notices.sentence(say("play.halted")), talk, view.chat(talk, say, _showing(marks, thoughts))]

    controls.halt.click(None, None, None, cancels=[asking, repeated, leading], api_visibility="private").then(
        settle, [frame.language, controls.talk, *look], [shown[0], controls.talk, controls.answers], **QUIET
    ).then(**keep)


def _wire_turns(frame: Frame, controls: _Controls) -> None:
    """Wire what changes the conversation without asking: edit, undo, begin anew, come back, show otherwise."""
    look = [controls.differences, controls.thinking]
    outputs = [controls.talk, controls.prompt, controls.answers]

    def shown(language: Any, talk: Conversation, marks: Any, thoughts: Any) -> Html:
        return view.chat(talk, Speech(language), _showing(marks, thoughts))

    def undo(language: Any, talk: Conversation, marks: Any, thoughts: Any) -> list[Any]:
        prompt = talk.back_to(len(talk.turns) - 1)
        return [talk, prompt, shown(language, talk, marks, thoughts)]

    def edit(language: Any, talk: Conversation, marks: Any, thoughts: Any, event: gr.EventData) -> list[Any]:
        kind, _, number = picked(event).partition(":")
        prompt = talk.back_to(int(number)) if kind == "edit" and number.isdecimal() else ""
        return [talk, prompt or gr.skip(), shown(language, talk, marks, thoughts)]

    def clear() -> list[Any]:
        return [Conversation(), "", Html("")]

    def return_to(language: Any, kept: Any, marks: Any, thoughts: Any) -> list[Any]:
        talk = conversation.from_browser(kept)
        return [talk, shown(language, talk, marks, thoughts)]

    inputs = [frame.language, controls.talk, *look]
    keep = {"fn": _kept, "inputs": controls.talk, "outputs": controls.kept, **QUIET}
    controls.undo.click(undo, inputs, outputs, **QUIET).then(**keep)
    controls.answers.select(edit, inputs, outputs, **QUIET).then(**keep)
    controls.clear.click(clear, None, outputs, **QUIET).then(**keep)
    gr.on([control.change for control in look], shown, inputs, controls.answers, **QUIET)
    frame.blocks.load(return_to, [frame.language, controls.kept, *look], [controls.talk, controls.answers], **QUIET)


def _showing(differences: Any, thinking: Any) -> Showing:
    return Showing(differences=differences is not False, thinking=thinking is True)


def _kept(talk: Conversation) -> Any:
    return conversation.to_browser(talk)
