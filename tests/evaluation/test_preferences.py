"""Votes and verdicts as training data: what was preferred, with its source, and nothing else."""

from __future__ import annotations

import pytest

from app.data.formats.preferences import pair_of, thumbs_of
from app.errors import UsageError
from app.evaluation import preferences, votes
from app.evaluation.suites import SuiteAnswer, SuiteColumn, SuiteResult, SuiteRow
from app.evaluation.votes import NONE, TIE, Candidate, Vote
from app.workspace import Workspace

A, B, C = Candidate("a", "Pirate"), Candidate("b", "Base"), Candidate("c", "Other")
SAID = {"a": "Arr!", "b": "<think>hm</think>Yes.", "c": "Arr!"}


def vote(winner: str, **changes: object) -> Vote:
    settings: dict[str, object] = {"prompt": "hello?", "time": 0.0, "answers": dict(SAID)}
    return Vote((A, B, C), winner, **{**settings, **changes})  # type: ignore[arg-type]


def test_the_winner_s_answer_is_preferred_to_those_that_differ() -> None:
    (row,) = preferences.of_votes([vote("a", system="Be kind.")], "pairs")
    assert {name: row[name] for name in ("prompt", "system", "chosen", "rejected")} == {
        "prompt": "hello?",
        "system": "Be kind.",
        "chosen": "Arr!",
        "rejected": "Yes.",
    }
    assert str(row["source"]).startswith("vote ") and "Pirate over Base" in str(row["source"])
    pair = pair_of(row)
    assert [turn.content for turn in (*pair.prompt, *pair.chosen, *pair.rejected)] == [
        *("Be kind.", "hello?"),
        *("Arr!", "Yes."),
    ]


def test_ties_old_votes_and_votes_twice_say_nothing_more() -> None:
    assert preferences.of_votes([vote(TIE), vote(NONE), vote("a", answers={})], "pairs") == []
    assert len(preferences.of_votes([vote("a"), vote("a", time=99.0)], "pairs")) == 1
    thumbs = preferences.of_votes([vote(NONE)], "thumbs")
    assert [(row["completion"], row["label"]) for row in thumbs] == [("Arr!", False), ("Yes.", False)]
    up, down = preferences.of_votes([vote("b")], "thumbs")
    assert (up["completion"], up["label"], down["completion"], down["label"]) == ("Yes.", True, "Arr!", False)
    assert [thumb.up for thumb in thumbs_of(up)] == [True]


def test_a_vote_keeps_what_was_answered_and_older_lines_are_read(workspace: Workspace) -> None:
    votes.append(workspace.votes_file, vote("a", system="s"))
    with workspace.votes_file.open("a") as file:
        file.write('{"candidates": [{"key": "a", "name": "A"}], "winner": "a", "prompt": "q", "time": 1.0}\n')
        file.write('{"candidates": [], "winner": "a", "answers": [1]}\n')
    first, old = votes.read(workspace.votes_file)
    assert first.answers == SAID and first.system == "s" and old.answers == {}


def test_a_suite_s_verdicts_prefer_what_holds_the_expected() -> None:
    answers = {"x": SuiteAnswer("Paris", passed=True), "y": SuiteAnswer("Rome", passed=False)}
    row = SuiteRow("capital?", "Paris", {**answers, "z": SuiteAnswer("?", error="broke", passed=False)})
    open_row = SuiteRow("hello?", "", {"x": SuiteAnswer("Hi"), "y": SuiteAnswer("Yo")})
    result = SuiteResult("facts", (SuiteColumn("x", "One"), SuiteColumn("y", "Two")), (row, open_row))
    (pair,) = preferences.of_suite(result, "pairs")
    assert (pair["chosen"], pair["rejected"], pair["source"]) == ("Paris", "Rome", "suite facts: One over Two")
    assert [one["label"] for one in preferences.of_suite(result, "thumbs")] == [True, False]


def test_nothing_preferred_is_refused_and_rows_are_kept_under_their_content(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="nothing to learn"):
        preferences.keep(workspace, [], "votes.jsonl")
    rows = preferences.of_votes([vote("a")], "pairs")
    file = preferences.keep(workspace, rows, "votes.jsonl")
    assert file == preferences.keep(workspace, rows, "votes.jsonl") and file.is_relative_to(workspace.uploads)
