"""The votes of a workspace: one JSON line each, appended and never rewritten."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from app.errors import WorkspaceError, keyed
from app.evaluation.bradley_terry import Pair, Score, fit
from app.reading import is_finite, parsed_json

# What is chosen in place of a column: all are as good, or none is any good (kept, and counted for nobody).
TIE, NONE = "tie", "none"
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True)
class Candidate:
    """One column of a vote. `key` stays the same over runs of the page: the adapter's hash, or the base's name."""

    key: str
    name: str


@dataclass(frozen=True)
class Vote:
    """One vote: who was compared, and the key of the preferred one, or `tie` or `none`.

    `answers` are what each said, by key, to `prompt` under the `system` prompt; votes of earlier versions have none.
    """

    candidates: tuple[Candidate, ...]
    winner: str
    prompt: str = ""
    time: float = field(default_factory=time.time)
    system: str = ""
    answers: dict[str, str] = field(default_factory=dict)

    def pairs(self) -> list[tuple[Pair, float]]:
        """Return the comparisons in it: the winner beats each other one; in a tie every pair is shared."""
        keys = [candidate.key for candidate in self.candidates]
        if self.winner == TIE:
            return [(pair, 0.5) for one, other in combinations(keys, 2) for pair in ((one, other), (other, one))]
        if self.winner not in keys:
            return []
        return [((self.winner, other), 1.0) for other in keys if other != self.winner]


@dataclass(frozen=True)
class Standing:
    """How one adapter stands: its newest name, its votes, its wins, and its score."""

    name: str
    votes: int
    wins: int
    score: Score


def append(file: Path, vote: Vote) -> None:
    """Add a vote. Raises WorkspaceError when it cannot be written."""
    line = json.dumps(asdict(vote), ensure_ascii=False) + "\n"
    try:
        with file.open("a", encoding="utf-8") as opened:
            opened.write(line)
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise WorkspaceError(
            keyed("the_vote_could_not_be_kept", "The vote could not be kept"),
            error.strerror or str(error),
            keyed("free_room_2", "free room"),
        ) from None


def read(file: Path) -> list[Vote]:
    """Return all votes, oldest first; a line that is none is passed over."""
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            return [vote for line in opened if len(line) < _LONGEST_LINE and (vote := _vote(line)) is not None]
    except OSError:
        return []


def standings(votes: Iterable[Vote]) -> list[Standing]:
    """Return everyone who was voted on, strongest first."""
    counted = [vote for vote in votes if vote.pairs()]
    wins: Counter[Pair] = Counter()
    names: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for vote in counted:
        names.update({candidate.key: candidate.name for candidate in vote.candidates})
        seen.update(candidate.key for candidate in vote.candidates)
        for pair, share in vote.pairs():
            wins[pair] += share  # type: ignore[assignment]  # a tie counts half
    won = Counter(vote.winner for vote in counted)
    return [Standing(names[score.name], seen[score.name], won[score.name], score) for score in fit(wins)]


def _vote(line: str) -> Vote | None:
    try:
        raw: dict[str, Any] = parsed_json(line)
        candidates = tuple(Candidate(str(one["key"]), str(one["name"])) for one in raw["candidates"])
        answers = raw.get("answers") or {}
        said = {str(key): text for key, text in answers.items() if isinstance(text, str)}
        when, system = _time_s(raw.get("time")), str(raw.get("system") or "")
        return Vote(candidates, str(raw["winner"]), str(raw.get("prompt", "")), when, system, said)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _time_s(value: object) -> float:
    return float(value) if is_finite(value) else 0.0


def distinct(candidates: Sequence[Candidate]) -> bool:
    """Tell whether no two candidates are the same adapter, which could not be told apart."""
    return len({candidate.key for candidate in candidates}) == len(candidates)
