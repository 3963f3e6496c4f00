"""A blind vote under way: one question, its columns in the order in which they are shown, and the choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.evaluation import votes
from app.evaluation.conversation import Column, Turn
from app.evaluation.votes import NONE, TIE, Candidate, Vote
from app.workspace import Workspace

# What stands in place of the columns' names until the vote.
LETTERS = "ABCDEFGH"


@dataclass
class Ballot:
    """One question with its columns in the order in which they are shown, and the vote once there is one.

    `system` is the prompt under which it was asked.
    """

    columns: list[Column] = field(default_factory=list)
    turn: Turn | None = None
    winner: str = ""
    system: str = ""

    @property
    def complete(self) -> bool:
        """Tell whether all answers are there."""
        return self.turn is not None and all(answer.done for answer in self.turn.answers.values())


def candidates(columns: Sequence[Column]) -> tuple[Candidate, ...]:
    """Return who stands in a vote."""
    return tuple(Candidate(column.key or column.name, column.title) for column in columns)


def decide(workspace: Workspace, ballot: Ballot, choice: str) -> bool:
    """Keep a vote (a letter, `tie` or `none`) for a complete ballot without one. Return whether it counted."""
    found = candidates(ballot.columns)
    named = dict(zip(LETTERS, (one.key for one in found), strict=False)) | {TIE: TIE, NONE: NONE}
    if not ballot.complete or ballot.winner or choice not in named or ballot.turn is None:
        return False
    ballot.winner = named[choice]
    said = {
        one.key: ballot.turn.answers[column.name].text
        for one, column in zip(found, ballot.columns, strict=True)
        if not ballot.turn.answers[column.name].error and not ballot.turn.answers[column.name].stopped
    }
    vote = Vote(found, ballot.winner, ballot.turn.prompt, system=ballot.system, answers=said)
    votes.append(workspace.votes_file, vote)
    return True
