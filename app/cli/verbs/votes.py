"""`votes`: the blind votes so far, and what they and a suite's verdicts prefer as training data."""

from __future__ import annotations

import argparse

from app import outputs
from app.cli.terminal import Verbs, answer, table, workspace_of
from app.errors import JobError, WorkspaceError
from app.evaluation import preferences, suites, votes
from app.files import replace_file
from app.jobs import directory
from app.workspace import user_path


def register(verbs: Verbs) -> None:
    """Add the verbs."""
    group = verbs.group(
        "votes", help="blind votes, and what they teach", example="python3 launch.py votes export --out pairs.jsonl"
    )
    group.add("list", show, help="who was preferred how often", example="python3 launch.py votes list")
    parser = group.add(
        "export",
        export,
        help="write what was preferred as pairs for dpo or thumbs for kto",
        example="python3 launch.py votes export --out pairs.jsonl",
    )
    parser.add_argument("--out", required=True, metavar="OUT", help="a .jsonl file to write")
    parser.add_argument("--shape", choices=preferences.SHAPES, default="pairs", help="pairs (default) or thumbs")
    parser.add_argument("--suite", metavar="ID", help="take the verdicts of this run of a suite instead of the votes")


def show(arguments: argparse.Namespace) -> None:
    """Print everyone's votes, wins and score."""
    standings = votes.standings(votes.read(workspace_of(arguments).votes_file))
    found = [
        {
            "name": one.name,
            "votes": one.votes,
            "wins": one.wins,
            "score": round(one.score.points, 1),
            "margin": round(one.score.margin, 1),
        }
        for one in standings
    ]
    empty = ["No votes yet. The playground's blind vote makes some."]
    answer(arguments, found, table(found, ("name", "votes", "wins", "score", "margin")) if found else empty)


def export(arguments: argparse.Namespace) -> None:
    """Write preferences. Raises UsageError where there are none."""
    workspace = workspace_of(arguments)
    if arguments.suite:
        result = suites.read_result(directory.find(workspace, arguments.suite))
        if result is None:
            raise JobError(
                f"{arguments.suite} has no answers", "it is no run of a suite, or has not begun", "run a suite"
            )
        rows = preferences.of_suite(result, arguments.shape)
    else:
        rows = preferences.of_votes(votes.read(workspace.votes_file), arguments.shape)
    preferences.refuse_none(rows)
    out = user_path(arguments.out)
    outputs.refuse_foreign(getattr(arguments, "workspace", None), out)
    try:
        replace_file(out, preferences.as_jsonl(rows))
    except OSError as error:
        raise WorkspaceError(f"{out} cannot be written", error.strerror or str(error), "choose another place") from None
    outputs.remember(getattr(arguments, "workspace", None), out)
    objective = "dpo" if arguments.shape == "pairs" else "kto"
    learn = f"`train --data {out} --set training.objective={objective}` learns them"
    told = f"{out}: {len(rows):,} {arguments.shape}. {learn}."
    answer(arguments, {"out": str(out), "rows": len(rows), "shape": arguments.shape}, [told])
