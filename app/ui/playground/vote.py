"""Blind vote: the columns shuffled and unnamed, one vote, then who was who; and the score over all votes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gradio as gr

from app.engine.client import Ask
from app.errors import UsageError, WorkbenchError
from app.ui import notices
from app.ui.frame import PICK, QUIET, Frame, picked
from app.ui.language import Key, Speech
from app.ui.markup import Html, element, joined
from app.ui.playground import chooser, session, view
from app.ui.playground.chooser import Chooser
from app.ui.playground.conversation import Column, Turn
from app.ui.playground.session import Choice, Settings
from app.ui.playground.view import Showing
from app.votes import ballots
from app.votes.ballots import NONE, TIE, Candidate, Standing, Vote
from app.workspace import Workspace

_LETTERS = "ABCDEFGH"
# Half the width of a score's bar in points: three quarters of all games are won with 190 points more.
_REACH_POINTS = 400.0


@dataclass
class Ballot:
    """One question with its columns in the order in which they are shown, and the vote once there is one."""

    columns: list[Column] = field(default_factory=list)
    turn: Turn | None = None
    winner: str = ""

    @property
    def complete(self) -> bool:
        """Tell whether all answers are there."""
        return self.turn is not None and all(answer.done for answer in self.turn.answers.values())


def ask(workspace: Workspace, prompt: str, choice: Choice, settings: Settings, say: Speech) -> Iterator[Ballot | str]:
    """Ask all columns in a random order; yield what the engine does, then the ballot as answers come in."""
    columns = choice.columns(say)
    if len(columns) < 2:
        raise UsageError("A vote needs two columns", "", "choose an adapter and the base, or two adapters")
    for step in session.loading(workspace, choice, say):
        if isinstance(step, str):
            yield step
            continue
        with session.connected(step) as client:
            session.introduce(client, columns)
            if not ballots.distinct(candidates(columns)):
                raise UsageError("Two columns are the same adapter", "their weights are equal", "choose others")
            random.shuffle(columns)
            turn = session.open_turn(prompt, columns)
            ballot = Ballot(columns, turn)
            messages = session.first_messages(prompt, settings.system)
            asks = [Ask(column.name, messages, settings.request()) for column in columns]
            for _ in session.stream(client, asks, turn.answers):
                yield ballot


def candidates(columns: Sequence[Column]) -> tuple[Candidate, ...]:
    """Return who stands in a vote."""
    return tuple(Candidate(column.key or column.name, column.title) for column in columns)


def decide(workspace: Workspace, ballot: Ballot, choice: str) -> bool:
    """Keep a vote (a letter, `tie` or `none`) for a complete ballot without one. Return whether it counted."""
    found = candidates(ballot.columns)
    named = dict(zip(_LETTERS, (one.key for one in found), strict=False)) | {TIE: TIE, NONE: NONE}
    if not ballot.complete or ballot.winner or choice not in named or ballot.turn is None:
        return False
    ballot.winner = named[choice]
    ballots.append(workspace.votes_file, Vote(found, ballot.winner, ballot.turn.prompt))
    return True


def shown(ballot: Ballot, say: Speech) -> Html:
    """Return the answers: unnamed with buttons, and after the vote with names."""
    if ballot.turn is None:
        return Html("")
    blind = not ballot.winner
    columns = [
        replace(column, title=letter if blind else f"{letter}: {column.title}")
        for letter, column in zip(_LETTERS, ballot.columns, strict=False)
    ]
    ready = blind and ballot.complete
    foot = {
        column.name: _vote_button(say("play.vote_for", letter=letter), letter)
        for letter, column in zip(_LETTERS, ballot.columns, strict=False)
        if ready
    }
    foot |= {
        column.name: element("p", say("play.your_vote"), class_="wb-good")
        for column, one in zip(ballot.columns, candidates(ballot.columns), strict=True)
        if one.key == ballot.winner
    }
    asked = element("div", element("span", say("play.prompt"), class_="wb-role"), ballot.turn.prompt, class_="wb-asked")
    rest = [_vote_button(say("play.tie"), TIE), _vote_button(say("play.none_good"), NONE)] if ready else []
    cards = view.cards(columns, ballot.turn, say, Showing(differences=False, blind=blind), foot)
    return element("div", asked, cards, element("p", *rest) if rest else "")


def _vote_button(text: str, choice: str) -> Html:
    return element("button", text, type="button", class_="wb-small wb-vote", data_pick=choice)


def scores(workspace: Workspace, say: Speech) -> Html:
    """Return everyone's wins and score over the saved votes."""
    votes = ballots.read(workspace.votes_file)
    standings = ballots.standings(votes)
    if not standings:
        return notices.empty(say("play.no_votes"), say("play.no_votes_text"))
    head = [say(f"play.score.{name}") for name in ("name", "votes", "wins", "points")]
    rows = [_row(one) for one in standings]
    table = element(
        "table",
        element("thead", element("tr", *(element("th", text) for text in head), element("th"))),
        element("tbody", *rows),
    )
    note = say("play.score_note", count=len(votes), votes=len(votes))
    return element("div", element("div", table, class_="wb-table"), notices.note(note))


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


def build(frame: Frame, tab: gr.Tab, shared: Chooser) -> None:
    """Build the mode and wire it."""
    make = frame.wording.make
    make(gr.HTML, value=Key("play.vote_help"), elem_classes="wb-help wb-muted")
    prompt = make(gr.Textbox, label=Key("play.prompt"), lines=2, max_lines=10, elem_id="wb-vote-prompt")
    with gr.Row(elem_classes="wb-actions"):
        asking = make(gr.Button, value=Key("play.ask_blind"), variant="primary", elem_id="wb-ask-blind", scale=0)
        halt = make(gr.Button, value=Key("play.halt"), scale=0)
    line, wrong = gr.HTML(), gr.HTML()
    answers = gr.HTML(elem_id="wb-ballot", js_on_load=PICK)
    make(gr.HTML, value=Key("play.scores"), elem_classes="wb-heading")
    table = gr.HTML(elem_id="wb-scores")
    ballot = gr.State(Ballot())
    _wire(frame, tab, shared, (prompt, asking, halt), (line, wrong, answers, table, ballot))


def _wire(
    frame: Frame,
    tab: gr.Tab,
    shared: Chooser,
    given: tuple[gr.Textbox, gr.Button, gr.Button],
    shown_in: tuple[gr.HTML, gr.HTML, gr.HTML, gr.HTML, gr.State],
) -> None:
    prompt, asking, halt = given
    line, wrong, answers, table, ballot = shown_in
    workspace = frame.workspace

    def go(language: Any, text: Any, *values: Any) -> Iterator[list[Any]]:
        say = Speech(language)
        try:
            choice, settings = chooser.read(workspace, values)
            for step in ask(workspace, session.checked_prompt(text), choice, settings, say):
                if isinstance(step, str):
                    yield [notices.note(step), Html(""), gr.skip(), gr.skip(), gr.skip()]
                else:
                    said = say("play.vote_now" if step.complete else "play.answering")
                    yield [notices.note(said), Html(""), shown(step, say), step, gr.update(visible=True)]
        except WorkbenchError as error:
            yield [Html(""), notices.problem(error), gr.skip(), gr.skip(), gr.skip()]

    def choose(language: Any, held: Ballot, event: gr.EventData) -> list[Any]:
        say = Speech(language)
        try:
            counted = decide(workspace, held, picked(event))
        except WorkbenchError as error:
            return [notices.problem(error), gr.skip(), gr.skip(), gr.skip()]
        note = notices.note(say("play.revealed")) if counted else gr.skip()
        return [note, shown(held, say), scores(workspace, say), held]

    asked = gr.on(
        [asking.click, prompt.submit],
        go,
        [frame.language, prompt, *shared.inputs],
        [line, wrong, answers, ballot, shared.free],
        **QUIET,
    )
    halt.click(None, None, None, cancels=[asked], api_visibility="private")
    answers.select(choose, [frame.language, ballot], [line, answers, table, ballot], **QUIET)
    gr.on(
        [frame.blocks.load, tab.select, frame.language.change],
        lambda language: scores(workspace, Speech(language)),
        frame.language,
        table,
        **QUIET,
    )
