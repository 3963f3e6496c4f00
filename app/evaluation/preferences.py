"""Votes and verdicts as training data: what was preferred becomes pairs for DPO, or thumbs for KTO, with its source."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args

from app.errors import UsageError, WorkspaceError, keyed
from app.evaluation.conversation import split_thinking
from app.evaluation.suites import SuiteResult
from app.evaluation.votes import NONE, Vote
from app.files import replace_file
from app.workspace import Workspace

Shape = Literal["pairs", "thumbs"]
SHAPES: tuple[Shape, ...] = get_args(Shape)
# A row of JSON as data files hold it.
Row = dict[str, object]


def of_votes(votes: Iterable[Vote], shape: Shape) -> list[Row]:
    """Return what blind votes prefer, newest last; a vote twice over the same answers counts once.

    As pairs, the winner's answer is preferred to each other one that differs from it. As thumbs, the winner's answer
    gets one up and the others one down, and all of them one down where none was any good. Votes from before answers
    were kept, and ties, say nothing here.
    """
    rows: list[Row] = []
    for vote in votes:
        said = {key: split_thinking(text)[1].strip() for key, text in vote.answers.items()}
        best, others = said.get(vote.winner, ""), [(key, text) for key, text in said.items() if key != vote.winner]
        names = {one.key: one.name for one in vote.candidates}
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(vote.time))
        asked = _asked(vote.prompt, vote.system)
        if best and shape == "pairs":
            rows += [
                {**asked, "chosen": best, "rejected": text, "source": f"vote {when}: {_over(names, vote.winner, key)}"}
                for key, text in others
                if text and text != best
            ]
        elif shape == "thumbs" and (best or vote.winner == NONE):
            judged = [(vote.winner, best, True)] * bool(best) + [(key, text, False) for key, text in others]
            rows += [
                {**asked, "completion": text, "label": up, "source": f"vote {when}: {names.get(key, key)}"}
                for key, text, up in judged
                if text and (up or text != best)
            ]
    return _once(rows)


def _over(names: dict[str, str], winner: str, other: str) -> str:
    return f"{names.get(winner, winner)} over {names.get(other, other)}"


def of_suite(result: SuiteResult, shape: Shape) -> list[Row]:
    """Return what a suite's verdicts prefer: an answer that holds what was expected to one that does not."""
    rows: list[Row] = []
    titles = {column.name: column.title for column in result.columns}
    for one in result.rows:
        judged = [
            (titles.get(name, name), split_thinking(answer.text)[1].strip(), answer.passed)
            for name, answer in one.answers.items()
            if answer.passed is not None and not answer.error
        ]
        source = f"suite {result.suite}"
        asked = _asked(one.prompt, "")
        if shape == "thumbs":
            rows += [
                {**asked, "completion": text, "label": passed, "source": f"{source}: {name}"}
                for name, text, passed in judged
                if text
            ]
            continue
        good = [(name, text) for name, text, passed in judged if passed and text]
        bad = [(name, text) for name, text, passed in judged if not passed and text]
        rows += [
            {**asked, "chosen": text, "rejected": worse, "source": f"{source}: {name} over {other}"}
            for name, text in good
            for other, worse in bad
        ]
    return _once(rows)


def _asked(prompt: str, system: str) -> Row:
    return {"prompt": prompt, **({"system": system} if system.strip() else {})}


def _once(rows: Sequence[Row]) -> list[Row]:
    """Return rows without those that say what an earlier one says, whatever their source."""
    seen: dict[str, Row] = {}
    for row in rows:
        said = {name: value for name, value in row.items() if name != "source"}
        seen.setdefault(json.dumps(said, sort_keys=True), row)
    return list(seen.values())


def as_jsonl(rows: Sequence[Row]) -> str:
    """Return rows as a data file."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def refuse_none(rows: Sequence[Row]) -> None:
    """Raise UsageError where there is nothing to learn from."""
    if not rows:
        raise UsageError(
            keyed("no_preferences", "There is nothing to learn from yet"),
            keyed("no_preferences_why", "no vote or verdict prefers one answer to another that differs"),
            keyed("no_preferences_fix", "vote on some more prompts, or run a suite with expected answers"),
        )


def keep(workspace: Workspace, rows: Sequence[Row], name: str) -> Path:
    """Keep rows among the workspace's data files, under their content, and return the file.

    Raises UsageError for no rows, WorkspaceError when they cannot be written.
    """
    refuse_none(rows)
    text = as_jsonl(rows)
    target = workspace.upload_path(name, hashlib.sha256(text.encode()).hexdigest())
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_file(target, text)
    except OSError as error:
        raise WorkspaceError(
            keyed("the_vote_could_not_be_kept", "The vote could not be kept"),
            error.strerror or str(error),
            keyed("free_room_2", "free room"),
        ) from None
    return target
