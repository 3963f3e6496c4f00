"""Blind vote: the columns shuffled and unnamed, one vote, then who was who; and the score over all votes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import gradio as gr

from app.engine.client import Ask
from app.errors import UsageError, WorkbenchError, keyed
from app.evaluation import preferences, votes
from app.evaluation.ballot import LETTERS, Ballot, candidates, decide
from app.evaluation.votes import NONE, TIE, Standing
from app.runs import engine_session
from app.runs.engine_session import Choice, Loading, Settings
from app.ui.components import messages
from app.ui.components.handlers import QUEUED, Updates, handler, held, text
from app.ui.components.markup import Html, element, joined
from app.ui.shell.language import Key, Translator
from app.ui.shell.page_context import CLICK_JS, PageContext
from app.ui.tabs.playground import chooser, session, view
from app.ui.tabs.playground.chooser import Asked, Chooser
from app.ui.tabs.playground.learning import Learning
from app.ui.tabs.playground.view import Showing
from app.workspace import Workspace

# Half the width of a score's bar in points: three quarters of all games are won with 190 points more.
_REACH_POINTS = 400.0


def ask(workspace: Workspace, prompt: str, choice: Choice, settings: Settings, t: Translator) -> Iterator[Ballot | str]:
    """Ask all columns in a random order; yield what the engine does, then the ballot as answers come in."""
    columns = session.columns(choice, t)
    if len(columns) < 2:
        raise UsageError(
            keyed("a_vote_needs_two_columns", "A vote needs two columns"),
            "",
            keyed("choose_an_adapter_and_the_base", "choose an adapter and the base, or two adapters"),
        )
    for step in engine_session.loading(workspace, choice):
        if isinstance(step, Loading):
            yield session.told(step, t)
            continue
        with engine_session.connected(step) as client:
            engine_session.introduce(client, columns)
            if not votes.distinct(candidates(columns)):
                raise UsageError(
                    keyed("two_columns_are_the_same_adapter", "Two columns are the same adapter"),
                    keyed("their_weights_are_equal", "their weights are equal"),
                    keyed("choose_others", "choose others"),
                )
            random.shuffle(columns)
            turn = engine_session.open_turn(prompt, columns)
            ballot = Ballot(columns, turn, system=settings.system)
            opening = engine_session.first_messages(prompt, settings.system)
            asks = [Ask(column.name, opening, settings.request()) for column in columns]
            for _ in engine_session.stream(client, asks, turn.answers):
                yield ballot


def shown(ballot: Ballot, t: Translator) -> Html:
    """Return the answers: unnamed with buttons, and after the vote with names."""
    if ballot.turn is None:
        return Html("")
    blind = not ballot.winner
    columns = [
        replace(column, title=letter if blind else f"{letter}: {column.title}")
        for letter, column in zip(LETTERS, ballot.columns, strict=False)
    ]
    ready = blind and ballot.complete
    foot = {
        column.name: _vote_button(t("play.vote_for", letter=letter), letter)
        for letter, column in zip(LETTERS, ballot.columns, strict=False)
        if ready
    }
    foot |= {
        column.name: element("p", t("play.your_vote"), class_="wb-good")
        for column, one in zip(ballot.columns, candidates(ballot.columns), strict=True)
        if one.key == ballot.winner
    }
    asked = element("div", element("span", t("play.prompt"), class_="wb-role"), ballot.turn.prompt, class_="wb-asked")
    rest = [_vote_button(t("play.tie"), TIE), _vote_button(t("play.none_good"), NONE)] if ready else []
    cards = view.cards(columns, ballot.turn, t, Showing(differences=False, blind=blind), foot)
    return element("div", asked, cards, element("p", *rest) if rest else "")


def _vote_button(text: str, choice: str) -> Html:
    return element("button", text, type="button", class_="wb-small wb-vote", data_pick=choice)


def scores(workspace: Workspace, t: Translator) -> Html:
    """Return everyone's wins and score over the saved votes."""
    cast = votes.read(workspace.votes_file)
    standings = votes.standings(cast)
    if not standings:
        return messages.empty(t("play.no_votes"), t("play.no_votes_text"), "chart")
    head = [t(f"play.score.{name}") for name in ("name", "votes", "wins", "points")]
    rows = [_row(one) for one in standings]
    table = element(
        "table",
        element("thead", element("tr", *(element("th", text) for text in head), element("th"))),
        element("tbody", *rows),
    )
    note = t("play.score_note", count=len(cast), votes=len(cast))
    return element("div", element("div", table, class_="wb-table", tabindex="0"), messages.note(note))


def _row(one: Standing) -> Html:
    points = f"{one.score.points:+,.0f} \u00b1 {one.score.margin:,.0f}"
    cells = [one.name, str(one.votes), str(one.wins), points]
    return element("tr", *(element("td", cell) for cell in cells), element("td", _bar(one)))


def _bar(one: Standing) -> Html:
    """Return a score as a dot on a line, with its 95 % interval."""

    def place(points: float) -> float:
        return 50 + 50 * max(-1.0, min(1.0, points / _REACH_POINTS))

    low, high = place(one.score.points - one.score.margin), place(one.score.points + one.score.margin)
    span = element("i", class_="wb-score-span", style=f"left:{low:.1f}%;width:{high - low:.1f}%")
    dot = element("i", class_="wb-score-dot", style=f"left:{place(one.score.points):.1f}%")
    return element("span", joined([element("i", class_="wb-score-middle"), span, dot]), class_="wb-score")


def build(context: PageContext, tab: gr.Tab, shared: Chooser) -> Learning:
    """Build the mode and wire it; return what learns from its votes."""
    make = context.translated.make
    make(gr.HTML, value=Key("play.vote_help"), elem_classes="wb-help wb-muted")
    prompt = make(gr.Textbox, label=Key("play.prompt"), lines=2, max_lines=10, elem_id="wb-vote-prompt")
    with gr.Row(elem_classes="wb-actions"):
        asking = make(gr.Button, value=Key("play.ask_blind"), variant="primary", elem_id="wb-ask-blind", scale=0)
        halt = make(gr.Button, value=Key("play.halt"), scale=0)
    line, wrong = gr.HTML(), gr.HTML(elem_id="wb-vote-error", js_on_load=messages.AT_FIELDS)
    answers = gr.HTML(elem_id="wb-ballot", js_on_load=CLICK_JS)
    make(gr.HTML, value=Key("play.scores"), elem_classes="wb-heading")
    table = gr.HTML(elem_id="wb-scores")
    with gr.Row(elem_classes="wb-actions"):
        learn = make(gr.Button, value=Key("play.learn_votes"), elem_id="wb-learn-votes", scale=0)
    unlearned = gr.HTML(elem_id="wb-learn-error")
    _wire(context, tab, shared, _Controls(prompt, asking, halt, line, wrong, answers, table, gr.State(Ballot())))

    def rows() -> list[preferences.Row]:
        return preferences.of_votes(votes.read(context.workspace.votes_file), "pairs")

    return Learning(learn, unlearned, rows, "votes.jsonl")


@dataclass(frozen=True)
class _Controls:
    prompt: gr.Textbox
    ask: gr.Button
    halt: gr.Button
    line: gr.HTML
    wrong: gr.HTML
    answers: gr.HTML
    table: gr.HTML
    ballot: gr.State


def _wire(context: PageContext, tab: gr.Tab, shared: Chooser, c: _Controls) -> None:
    workspace, t = context.workspace, context.language_field

    def go(t: Translator, prompt: str, asked: Asked) -> Iterator[Updates]:
        try:
            choice, settings = asked.choice(workspace), asked.settings()
            for step in ask(workspace, engine_session.checked_prompt(prompt), choice, settings, t):
                if isinstance(step, str):
                    yield Updates({c.line: messages.note(step), c.wrong: Html("")})
                    continue
                said = messages.note(t("play.vote_now" if step.complete else "play.answering"))
                told = {c.line: said, c.wrong: Html(""), shared.free: gr.update(visible=True)}
                yield Updates({**told, c.answers: shown(step, t), c.ballot: step})
        except WorkbenchError as error:
            yield Updates({c.line: Html(""), c.wrong: messages.problem(error, t)})

    def choose(t: Translator, ballot: Ballot, picked: str) -> Updates:
        try:
            counted = decide(workspace, ballot, picked)
        except WorkbenchError as error:
            return Updates({c.line: messages.problem(error, t)})
        note = {c.line: messages.note(t("play.revealed"))} if counted else {}
        return Updates({**note, c.answers: shown(ballot, t), c.table: scores(workspace, t), c.ballot: ballot})

    asked = gr.on(
        [c.ask.click, c.prompt.submit],
        **handler(go, [t, text(c.prompt), shared], [c.line, c.wrong, c.answers, c.ballot, shared.free], how=QUEUED),
    )
    chooser.clear_when_changed(shared, [c.prompt], c.wrong)
    c.halt.click(None, None, None, cancels=[asked], api_visibility="private")
    c.answers.select(**handler(choose, [t, held(c.ballot)], [c.line, c.answers, c.table, c.ballot]))
    gr.on(
        [context.blocks.load, tab.select, context.language.change],
        **handler(lambda t: scores(workspace, t), [t], [c.table]),
    )
