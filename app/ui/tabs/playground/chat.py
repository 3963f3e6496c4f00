"""Chat: one question for all columns, over several turns."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import gradio as gr

from app.engine.client import Ask
from app.engine.requests import BASE
from app.errors import WorkbenchError
from app.evaluation import conversation, history
from app.evaluation.conversation import Conversation
from app.runs import engine_session
from app.runs.engine_session import Choice, Loading, Settings
from app.runs.on_disk import artifacts
from app.ui.components import messages
from app.ui.components.handlers import QUEUED, Control, Parts, Updates, Wiring, handler, held, raw, text
from app.ui.components.markup import Html
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import CLICK_JS, PageContext
from app.ui.tabs.playground import chooser, conversations_panel, session, view
from app.ui.tabs.playground.chooser import Asked, Chooser
from app.ui.tabs.playground.view import Showing
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
    t: Translator,
    attempt: int = 0,
) -> Iterator[News]:
    """Ask all columns and yield as the engine loads and the answers come in. Raises WorkbenchError.

    Other columns, or another system prompt, begin a new conversation.
    """
    columns = session.columns(choice, t)
    for step in engine_session.loading(workspace, choice):
        if isinstance(step, Loading):
            yield News(messages.sentence(session.told(step, t)), talk)
            continue
        with engine_session.connected(step) as client:
            engine_session.introduce(client, columns)
            if not talk.fits(columns, settings.system):
                talk = Conversation(system=settings.system)
            talk.columns = columns
            turn = talk.ask(prompt, attempt)
            wanted = settings.request(attempt)
            asks = [Ask(column.name, talk.messages(column.name), wanted) for column in columns]
            for _ in engine_session.stream(client, asks, turn.answers):
                yield News(messages.sentence(t("play.answering")), talk)
    names = ", ".join(column.title for column in columns)
    yield News(messages.sentence(t("play.answered", names=names)), talk)


def held_out(workspace: Workspace, values: object) -> str:
    """Return a prompt that the chosen run has not been trained on, or an empty text."""
    try:
        prompts = artifacts.held_out_prompts(artifacts.together(workspace, values)[0])
    except WorkbenchError:
        return ""
    return random.choice(prompts) if prompts else ""


@dataclass(frozen=True)
class Chat:
    """The controls of the mode. `asked` is a state of (adapter, prompt) whose change asks the base and that adapter.

    In `answers` a column's menu is picked from, as "export:NAME", "inspect:NAME" or "remove:NAME".
    """

    prompt: gr.Textbox
    asked: gr.State
    answers: gr.HTML


@dataclass(frozen=True)
class ShowingFields:
    """How the answers are shown."""

    differences: gr.Checkbox
    thinking: gr.Checkbox

    def inputs(self) -> list[Control]:
        """Return the controls."""
        return [self.differences, self.thinking]

    def read(self, values: Sequence[object]) -> Showing:
        """Return what they ask for."""
        differences, thinking = values
        return Showing(differences=differences is not False, thinking=thinking is True)


@dataclass(frozen=True)
class _Controls:
    line: gr.HTML
    wrong: gr.HTML
    prompt: gr.Textbox
    ask: gr.Button
    halt: gr.Button
    other: gr.Button
    retry: gr.Button
    undo: gr.Button
    clear: gr.Button
    showing: ShowingFields
    talk: gr.State
    kept: gr.BrowserState
    answers: gr.HTML
    asked: gr.State
    earlier: conversations_panel.Panel


def build(context: PageContext, shared: Chooser, line: gr.HTML) -> Chat:
    """Build the mode and wire it."""
    make = context.translated.make
    earlier = conversations_panel.build(context)
    answers = gr.HTML(elem_id="wb-answers", js_on_load=CLICK_JS)
    # The composer stands below what was said and stays in sight; Enter sends (see shell.js).
    with gr.Column(elem_id="wb-composer"):
        wrong = gr.HTML(elem_id="wb-play-error", js_on_load=messages.AT_FIELDS)
        with gr.Row(elem_classes="wb-composer-line"):
            prompt = make(
                gr.Textbox, label=Key("play.prompt"), placeholder=Key("play.prompt_hint"), lines=2, max_lines=10,
                elem_id="wb-prompt", min_width=200,
            )  # fmt: skip
            asking = make(gr.Button, value=Key("play.ask"), variant="primary", elem_id="wb-ask", scale=0)
        with gr.Row(elem_classes="wb-actions wb-quiet"):
            small: dict[str, object] = {"size": "sm", "scale": 0}
            halt = make(gr.Button, value=Key("play.halt"), elem_id="wb-halt", **small)
            other = make(gr.Button, value=Key("play.held_out"), elem_id="wb-held-out", **small)
            retry = make(gr.Button, value=Key("play.retry"), elem_id="wb-retry", **small)
            undo = make(gr.Button, value=Key("play.undo"), elem_id="wb-undo", **small)
            clear = make(gr.Button, value=Key("play.clear"), elem_id="wb-clear", **small)
            plain: dict[str, object] = {"container": False, "min_width": 130, "scale": 0}
            differences = make(
                gr.Checkbox, label=Key("play.differences"), value=True, elem_id="wb-differences", **plain
            )
            thinking = make(gr.Checkbox, label=Key("play.show_thinking"), value=False, **plain)
    controls = _Controls(
        line, wrong, prompt, asking, halt, other, retry, undo, clear, ShowingFields(differences, thinking),
        talk=gr.State(Conversation()),
        kept=context.conversation,
        answers=answers,
        asked=gr.State(()),
        earlier=earlier,
    )  # fmt: skip
    _wire_asking(context, shared, controls)
    _wire_turns(context, controls)
    _wire_opening(context, shared, controls)
    return Chat(prompt, controls.asked, answers)


def _wire_asking(context: PageContext, shared: Chooser, c: _Controls) -> None:
    workspace, t = context.workspace, context.language_field

    def go(
        t: Translator, talk: Conversation, prompt: str, look: Showing, asked: Asked, attempt: int = 0
    ) -> Iterator[Updates]:
        try:
            choice, settings = asked.choice(workspace), asked.settings()
            for news in ask(workspace, talk, engine_session.checked_prompt(prompt), choice, settings, t, attempt):
                told = {c.line: news.sentence, c.wrong: Html(""), shared.free: gr.update(visible=True)}
                # What was asked stands in the conversation now; the field is free for the next.
                sent = {c.prompt: ""} if news.talk.turns and news.talk.turns[-1].prompt == prompt.strip() else {}
                yield Updates({**told, **sent, c.talk: news.talk, c.answers: view.chat(news.talk, t, look)})
        except WorkbenchError as error:
            yield Updates({c.wrong: messages.problem(error, t)})

    def again(t: Translator, talk: Conversation, look: Showing, asked: Asked) -> Iterator[Updates]:
        attempt = talk.turns[-1].attempt + 1 if talk.turns else 0
        prompt = talk.back_to(len(talk.turns) - 1)
        yield from go(t, talk, prompt, look, asked, attempt)

    def led(t: Translator, wanted: object) -> Iterator[Updates]:
        if not isinstance(wanted, tuple) or not wanted:  # taken back, so that the same can be asked again
            yield Updates()
            return
        run, prompt = wanted
        yield from go(t, Conversation(), prompt, Showing(), Asked([run]))

    shows = [c.line, c.wrong, c.talk, c.answers, shared.free, c.prompt]
    asking = gr.on(
        [c.ask.click, c.prompt.submit],
        **handler(go, [t, held(c.talk), text(c.prompt), c.showing, shared], shows, how=QUEUED),
    )
    repeated = c.retry.click(**handler(again, [t, held(c.talk), c.showing, shared], shows, how=QUEUED))
    leading = c.asked.change(**handler(led, [t, held(c.asked)], shows, how=QUEUED))
    chooser.clear_when_changed(shared, [c.prompt], c.wrong)
    keep = _keeping(context, c)
    for event in (asking, repeated, leading):
        event.then(**keep).then(**c.earlier.renewal)

    def settle(t: Translator, talk: Conversation, look: Showing) -> Updates:
        talk.settle()
        halted = messages.sentence(t("play.halted"))
        return Updates({c.line: halted, c.talk: talk, c.answers: view.chat(talk, t, look)})

    settled = handler(settle, [t, held(c.talk), c.showing], [c.line, c.talk, c.answers])
    ended = c.halt.click(None, None, None, cancels=[asking, repeated, leading], api_visibility="private")
    ended.then(**settled).then(**keep).then(**c.earlier.renewal)
    other = handler(lambda values: held_out(workspace, values), [raw(shared.chosen)], [c.prompt])
    c.other.click(**other)


def _keeping(context: PageContext, c: _Controls) -> Wiring:
    """Return the event that keeps the conversation: in the browser as the open one, and among the earlier ones."""

    def keep(talk: Conversation, before: object) -> Updates:
        with suppress(OSError):  # a full disk takes the conversation from the list, not from the page
            history.keep_changed(context.workspace, talk, conversation.from_browser(before))
        return Updates({c.kept: conversation.to_browser(talk)})

    return handler(keep, [held(c.talk), raw(c.kept)], [c.kept])


def _wire_turns(context: PageContext, c: _Controls) -> None:
    """Wire what changes the conversation without asking: edit, undo, begin anew, come back, show otherwise."""
    reads: Parts = [context.language_field, held(c.talk), c.showing]
    shows = [c.talk, c.prompt, c.answers]

    def shown(t: Translator, talk: Conversation, look: Showing) -> Updates:
        return Updates({c.answers: view.chat(talk, t, look)})

    def undo(t: Translator, talk: Conversation, look: Showing) -> Updates:
        prompt = talk.back_to(len(talk.turns) - 1)
        return Updates({c.talk: talk, c.prompt: prompt, **shown(t, talk, look)})

    def edit(t: Translator, talk: Conversation, look: Showing, picked: str) -> Updates:
        kind, _, number = picked.partition(":")
        prompt = talk.back_to(int(number)) if kind == "edit" and number.isdecimal() else ""
        return Updates({c.talk: talk, **shown(t, talk, look), **({c.prompt: prompt} if prompt else {})})

    def begin_anew(t: Translator, look: Showing) -> Updates:
        """Begin another conversation; the one that was open stands among the earlier ones."""
        return Updates({c.talk: Conversation(), c.prompt: "", **shown(t, Conversation(), look)})

    def return_to(t: Translator, kept: object, look: Showing) -> Updates:
        talk = conversation.from_browser(kept)
        return Updates({c.talk: talk, **shown(t, talk, look)})

    keep = _keeping(context, c)
    c.undo.click(**handler(undo, reads, shows)).then(**keep)
    c.answers.select(**handler(edit, reads, shows)).then(**keep)
    c.clear.click(**handler(begin_anew, [context.language_field, c.showing], shows)).then(**keep)
    looks = [*(control.change for control in c.showing.inputs()), context.language.change]
    gr.on(looks, **handler(shown, reads, [c.answers]))
    returned = handler(return_to, [context.language_field, raw(c.kept), c.showing], [c.talk, c.answers])
    context.blocks.load(**returned)


def _wire_opening(context: PageContext, shared: Chooser, c: _Controls) -> None:
    """Open an earlier conversation with the columns and the system prompt that it had, so that it can go on."""
    workspace = context.workspace

    def open_earlier(t: Translator, look: Showing, picked: str) -> Updates:
        verb, _, conversation_id = picked.partition(":")
        if verb != "open":
            return Updates()
        try:
            talk, values, said = conversations_panel.opened(workspace, conversation_id, t)
        except WorkbenchError as error:
            return Updates({c.wrong: messages.problem(error, t)})
        chosen = gr.update(choices=artifacts.choices(workspace, values), value=values)
        base = any(column.name == BASE for column in talk.columns)
        form = {shared.chosen: chosen, shared.base: base, shared.system: talk.system}
        told = {c.line: said, c.wrong: Html(""), c.earlier.fold: gr.update(open=False)}
        return Updates({**form, **told, c.talk: talk, c.answers: view.chat(talk, t, look)})

    shows = [shared.chosen, shared.base, shared.system, c.line, c.wrong, c.earlier.fold, c.talk, c.answers]
    opening = handler(open_earlier, [context.language_field, c.showing], shows)
    c.earlier.listed.select(**opening).then(**_keeping(context, c))
