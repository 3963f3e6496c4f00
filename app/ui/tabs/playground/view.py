"""Conversations as the page shows them: the question, and one card a column."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from app.engine.http.event_stream import AnswerFacts
from app.engine.requests import BASE
from app.evaluation import conversation as talk
from app.evaluation.conversation import Answer, Column, Conversation, Turn
from app.ui.components import messages
from app.ui.components.icons import icon
from app.ui.components.markup import Html, element, joined
from app.ui.shell.language import Translator

# Words and the blanks between them, so that the marked text is the text.
_WORDS = re.compile(r"\s+|[^\s]+")
# The comparison takes time of the square of the length; answers beyond this are shown without marks.
_MOST_WORDS = 4000


@dataclass(frozen=True)
class Showing:
    """How answers are shown. `blind` takes away everything that tells who answers; `menus` adds what can be done."""

    differences: bool = True
    thinking: bool = False
    blind: bool = False
    menus: bool = False


def chat(conversation: Conversation, t: Translator, showing: Showing) -> Html:
    """Return a whole conversation, with what can be done with it."""
    if not conversation.turns:
        held_out = messages.Action(t("play.empty.action"), "#wb-held-out")
        return messages.empty(t("play.empty.title"), t("play.empty.text"), "playground", held_out)
    newest = len(conversation.turns) - 1
    turns = [_turn(conversation, number, t, replace(showing, menus=number == newest)) for number in range(newest + 1)]
    return element("div", *turns, _exports(conversation, t), class_="wb-chat")


def _turn(conversation: Conversation, number: int, t: Translator, showing: Showing) -> Html:
    turn = conversation.turns[number]
    edit = element("button", t("play.edit"), type="button", class_="wb-small", data_pick=f"edit:{number}")
    asked = element(
        "div",
        edit,
        element("span", turn.prompt, class_="wb-asked-text"),
        class_="wb-asked",
    )
    return element("div", asked, cards(conversation.columns, turn, t, showing))


def cards(
    columns: Sequence[Column], turn: Turn, t: Translator, showing: Showing, foot: Mapping[str, Html] | None = None
) -> Html:
    """Return one card a column; `foot` is what stands below an answer, by column."""
    settled = all(answer.done for answer in turn.answers.values())
    first = turn.answers[columns[0].name].said if columns and settled and showing.differences else None
    shown = [
        _card(
            column,
            turn.answers[column.name],
            t,
            showing,
            against=first if place else None,
            foot=(foot or {}).get(column.name),
        )
        for place, column in enumerate(columns)
    ]
    return element("div", *shown, class_="wb-answers")


def _card(
    column: Column, answer: Answer, t: Translator, showing: Showing, *, against: str | None, foot: Html | None
) -> Html:
    head = element(
        "header",
        element("b", column.title),
        "" if showing.blind else _details(column),
        "" if showing.blind else element("span", *facts(column, answer.facts, t), class_="wb-answer-facts"),
        _menu(column, t) if showing.menus else "",
    )
    warning = (
        element("p", column.warning, class_="wb-warn wb-column-warning") if column.warning and not showing.blind else ""
    )
    return element(
        "article",
        head,
        warning,
        _thinking(answer, t, showing),
        element("div", _body(answer, t, against), class_="wb-answer"),
        foot or "",
        class_="wb-column-card" + ("" if answer.done or answer.error else " wb-busy"),
        data_column=None if showing.blind else column.name,
    )


def _menu(column: Column, t: Translator) -> Html:
    """Return what can be done with a column. The base is no adapter: it can only be left out."""
    verbs = ("remove",) if column.name == BASE else ("export", "inspect", "remove")
    buttons = [
        element("button", t(f"play.column.{verb}"), type="button", data_pick=f"{verb}:{column.name}") for verb in verbs
    ]
    summary = element("summary", icon("more"), aria_label=t("play.column.menu", name=column.title))
    return element("details", summary, element("div", *buttons, class_="wb-menu-items"), class_="wb-menu")


def _details(column: Column) -> Html:
    return element("span", ", ".join(column.details), class_="wb-muted") if column.details else Html("")


def marked(text: str, against: str) -> Html:
    """Return a text with the words marked that `against` has not."""
    words, others = _WORDS.findall(text), _WORDS.findall(against)
    if text == against or len(words) + len(others) > _MOST_WORDS:
        return joined([text])
    parts: list[object] = []
    for kind, _, _, start, end in SequenceMatcher(None, others, words, autojunk=False).get_opcodes():
        piece = "".join(words[start:end])
        if piece:
            parts.append(piece if kind == "equal" or not piece.strip() else element("mark", piece))
    return joined(parts)


def facts(column: Column, found: AnswerFacts, t: Translator) -> list[Html]:
    """Return the measured facts of an answer: hash, pace, time to the first token, shared batch or not."""
    shown: list[Html] = []
    mark = found.adapter_hash or column.hash
    if mark:
        shown.append(element("span", mark[:8], class_="wb-mono", title=mark))
    if found.tokens_per_s:
        pace = t("play.pace", pace=f"{found.tokens_per_s:,.0f}", tokens=f"{found.tokens or 0:.0f}")
        shown.append(element("span", pace, class_="wb-number"))
    if found.time_to_first_token_s:
        first = f"{1000 * found.time_to_first_token_s:,.0f}"
        shown.append(element("span", t("play.first_token", ms=first), class_="wb-number"))
    if found.batched is not None:
        shown.append(element("span", t("play.batched" if found.batched else "play.alone")))
    return shown


def _thinking(answer: Answer, t: Translator, showing: Showing) -> Html:
    if not answer.thinking:
        return Html("")
    return element(
        "details",
        element("summary", t("play.thinking")),
        element("div", answer.thinking, class_="wb-thought"),
        open=showing.thinking,
    )


def _body(answer: Answer, t: Translator, against: str | None) -> Html:
    if answer.error:
        return element("span", t.heard(answer.error), class_="wb-bad")
    if not answer.said.strip():
        return element("span", t("play.empty_answer" if answer.done else "play.waiting"), class_="wb-muted")
    text = element("span", answer.said) if against is None else element("span", marked(answer.said, against))
    return element("span", text, " ", element("span", t("play.cut_off"), class_="wb-muted")) if answer.stopped else text


def _exports(conversation: Conversation, t: Translator) -> Html:
    return saving(
        t,
        ("conversation.md", "Markdown", talk.as_markdown(conversation)),
        ("conversation.json", "JSON", talk.as_json(conversation)),
    )


def saving(t: Translator, *files: tuple[str, str, str]) -> Html:
    """Return buttons that save (file name, label, text) in the browser; no file is made on this side."""
    buttons = [
        element("button", label, type="button", class_="wb-small", data_save=name, data_text=text)
        for name, label, text in files
    ]
    return element("div", element("span", t("play.save_as"), class_="wb-muted"), *buttons, class_="wb-saving")
