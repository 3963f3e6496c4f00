"""Earlier conversations: a list to search, open and delete, above the conversation that is open."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from app.engine.requests import BASE
from app.errors import WorkbenchError
from app.evaluation import history
from app.evaluation.conversation import Conversation
from app.evaluation.history import Kept
from app.runs.on_disk import artifacts
from app.ui.components import messages, number_format, questions
from app.ui.components.handlers import LAST, Updates, Wiring, handler, held, text
from app.ui.components.markup import Html, element
from app.ui.components.questions import Asked
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import CLICK_JS, PageContext
from app.workspace import Workspace

_LONGEST_QUESTION = 120


def shown(workspace: Workspace, words: str, t: Translator) -> Html:
    """Return the earlier conversations that hold the words, newest first, and how many more there are."""
    look = history.look(workspace, words)
    if not look.shown:
        return messages.note(t("play.history.none_found" if look.all else "play.history.none"))
    parts: list[object] = [element("ul", *(_line(kept, t) for kept in look.shown), class_="wb-history")]
    if look.matching > len(look.shown):
        parts.append(messages.note(t("play.history.more", shown=len(look.shown), count=look.matching)))
    if look.all > look.read:
        parts.append(messages.note(t("play.history.unread", read=f"{look.read:,}", count=f"{look.all:,}")))
    return element("div", *parts)


def _line(kept: Kept, t: Translator) -> Html:
    question = _short(kept.question)
    plain: dict[str, object] = {"type": "button"}
    facts = [
        number_format.moment(kept.changed, t),
        t("play.history.turns", count=kept.turns),
        ", ".join(kept.columns),
    ]
    return element(
        "li",
        element("button", question, class_="wb-link", data_pick=f"open:{kept.id}", **plain),
        element("span", " · ".join(filter(None, facts)), class_="wb-muted"),
        element("span", kept.found, class_="wb-history-found") if kept.found else "",
        element(
            "button", t("play.history.delete"), class_="wb-small", data_pick=f"delete:{kept.id}",
            aria_label=t("play.history.delete_one", question=question), **plain,
        ),
    )  # fmt: skip


def _short(question: str) -> str:
    one_line = " ".join(question.split())
    return one_line if len(one_line) <= _LONGEST_QUESTION else one_line[: _LONGEST_QUESTION - 1] + "…"


def delete_question(workspace: Workspace, conversation_id: str, t: Translator) -> Asked:
    """Ask whether a conversation is deleted, naming it and its turns. Raises UsageError when it is not there."""
    talk = history.find(workspace, conversation_id)
    return Asked(t("play.history.ask", question=_short(talk.turns[0].prompt), count=len(talk.turns)), talk.id)


def opened(workspace: Workspace, conversation_id: str, t: Translator) -> tuple[Conversation, list[str], Html]:
    """Return a conversation, the form's values of those of its adapters that are still there, and what is said of it.

    Raises UsageError when it is not there.
    """
    talk = history.find(workspace, conversation_id)
    values = artifacts.of_columns(workspace, [column.name for column in talk.columns])
    gone = [column.title for column in talk.columns if column.name not in values and column.name != BASE]
    said = t("play.history.gone", names=", ".join(gone)) if gone else t("play.history.opened")
    return talk, list(values.values()), messages.sentence(said)


@dataclass(frozen=True)
class Panel:
    """The fold of earlier conversations: `listed` is picked from, `renewal` says an open list again."""

    fold: gr.Accordion
    listed: gr.HTML
    renewal: Wiring


def build(context: PageContext) -> Panel:
    """Build the fold and wire what is its own: to look, to search, and to delete after a question."""
    make, workspace, t = context.translated.make, context.workspace, context.language_field
    with make(gr.Accordion, label=Key("play.history"), open=False, elem_id="wb-history") as fold:
        words = make(
            gr.Textbox, label=Key("play.history.search"), placeholder=Key("play.history.search_hint"), max_lines=1,
            elem_id="wb-history-search",
        )  # fmt: skip
        wrong = gr.HTML(elem_id="wb-history-error")
        question = questions.build(context, "wb-history", Key("play.history.delete"))
        listed = gr.HTML(elem_id="wb-history-list", js_on_load=CLICK_JS)

    is_open = gr.State(False)

    def renew(is_open: bool, t: Translator, words: str) -> Updates:
        """Say the list again; folded, nobody sees it, and to read a thousand files after each answer takes a second."""
        return Updates({listed: shown(workspace, words, t)} if is_open else {})

    def pick(t: Translator, picked: str) -> Updates:
        verb, _, conversation_id = picked.partition(":")
        if verb != "delete":
            return Updates({**question.closed(), wrong: Html("")})
        try:
            asked = delete_question(workspace, conversation_id, t)
        except WorkbenchError as error:
            return Updates({**question.closed(), wrong: messages.problem(error, t)})
        return Updates({**question.asking(asked), wrong: Html("")})

    def delete(about: object, t: Translator, words: str) -> Updates:
        history.remove(workspace, str(about))
        return Updates({listed: shown(workspace, words, t)})

    renewal = handler(renew, [held(is_open), t, text(words)], [listed], how=LAST)
    fold.expand(**handler(lambda: True, shows=[is_open])).then(**renewal)
    fold.collapse(**handler(lambda: False, shows=[is_open]))
    gr.on([words.input, context.language.change], **renewal)
    listed.select(**handler(pick, [t], [*question.outputs, wrong]))
    questions.answer(question, delete, [t, text(words)], [listed])
    return Panel(fold, listed, renewal)
