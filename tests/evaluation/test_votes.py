"""Votes: appended, read again whatever the file holds, and counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import WorkspaceError
from app.evaluation.votes import NONE, TIE, Candidate, Vote, append, distinct, read, standings

A, B, C = Candidate("a1", "alpha"), Candidate("b2", "beta"), Candidate("c3", "gamma")


def test_votes_are_appended_and_come_back(tmp_path: Path) -> None:
    file = tmp_path / "votes.jsonl"
    assert read(file) == []
    first, second = Vote((A, B), "a1", "who <b>?"), Vote((A, B, C), TIE)
    append(file, first)
    before = file.read_bytes()
    append(file, second)
    assert file.read_bytes().startswith(before) and read(file) == [first, second]
    with pytest.raises(WorkspaceError):
        append(tmp_path / "nowhere" / "votes.jsonl", first)


@pytest.mark.parametrize("line", ["", "{", "[]", "null", '{"candidates": 1, "winner": "x"}', "[" * 100_000])
def test_lines_that_are_no_votes_are_passed_over(tmp_path: Path, line: str) -> None:
    file = tmp_path / "votes.jsonl"
    append(file, Vote((A, B), "a1"))
    with file.open("a") as opened:
        opened.write(line + "\n")
    append(file, Vote((A, B), "b2"))
    assert [vote.winner for vote in read(file)] == ["a1", "b2"]


def test_the_winner_beats_everyone_else_and_a_tie_is_shared() -> None:
    assert dict(Vote((A, B, C), "b2").pairs()) == {("b2", "a1"): 1.0, ("b2", "c3"): 1.0}
    assert dict(Vote((A, B), TIE).pairs()) == {("a1", "b2"): 0.5, ("b2", "a1"): 0.5}
    assert Vote((A, B), NONE).pairs() == Vote((A, B), "stranger").pairs() == []
    assert distinct((A, B)) and not distinct((A, B, A))


def test_standings_have_the_newest_name_and_count_only_what_decides() -> None:
    votes = [Vote((A, B), "a1")] * 3 + [Vote((A, B), NONE), Vote((Candidate("a1", "renamed"), B, C), "c3")]
    found = {one.score.name: one for one in standings(votes)}
    assert (found["a1"].name, found["a1"].votes, found["a1"].wins) == ("renamed", 4, 3)
    assert found["a1"].score.strength > found["b2"].score.strength
    assert [one.score.strength for one in standings(votes)] == sorted(
        (one.score.strength for one in found.values()), reverse=True
    )
    assert standings([]) == standings([Vote((A, B), NONE)]) == []
