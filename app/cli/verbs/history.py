"""`jobs compare`, `rename`, `again`, `restore`, `trash`: what is done with runs that are there already."""

from __future__ import annotations

import argparse
import sys

from app.cli.terminal import Verbs, answer, table, workspace_of
from app.errors import UsageError
from app.jobs import directory, requests, trash
from app.runs.results import comparison
from app.runs.results.comparison import Comparison
from app.runs.submission import submit


def register(group: Verbs) -> None:
    """Add the verbs to the group `jobs`."""
    example = "python3 launch.py jobs"
    parser = group.add("compare", compare, help="runs side by side", example=f"{example} compare ID ID --differences")
    parser.add_argument("ids", metavar="ID", nargs="+", help="ids of two or more runs")
    parser.add_argument("--differences", action="store_true", help="only the settings in which they differ")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="the table as CSV")
    form.add_argument("--metrics-csv", action="store_true", help="every logged step of every run as CSV")
    parser = group.add(
        "rename",
        rename,
        help="name a job, tag it or note something",
        example=f"{example} rename ID --name NAME",
    )
    _add_id(parser)
    parser.add_argument("--name", help="a name for people; an empty one brings back the first")
    parser.add_argument("--note", help="a note")
    parser.add_argument("--tags", help="tags, with commas between; an empty text takes them away")
    parser = group.add(
        "again", again, help="run once more with exactly the same settings and data", example=f"{example} again ID"
    )
    _add_id(parser)
    parser.add_argument("--queue", action="store_true", help="wait behind what runs")
    parser = group.add("restore", restore, help="bring a removed job back", example=f"{example} restore ID")
    _add_id(parser)
    parser = group.add(
        "trash", show_trash, help="the removed jobs", example=f"{example} trash --empty", former_name="bin"
    )
    parser.add_argument("--empty", action="store_true", help="delete them for good")


def _add_id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="id of the job, as `jobs list` shows it")


def compare(arguments: argparse.Namespace) -> None:
    """Print runs side by side."""
    workspace = workspace_of(arguments)
    if len(set(arguments.ids)) < 2:
        raise UsageError("A comparison needs two runs", "", "name two or more ids")
    jobs = [directory.find(workspace, job_id) for job_id in dict.fromkeys(arguments.ids)]
    if arguments.metrics_csv:
        sys.stdout.write(comparison.metrics_csv(jobs))
        return
    found = comparison.compare(jobs)
    if arguments.csv:
        sys.stdout.write(comparison.table_csv(found, only_differences=arguments.differences))
        return
    answer(arguments, found.as_dict(), _side_by_side(found, arguments.differences))


def _side_by_side(found: Comparison, only_differences: bool) -> list[str]:
    """Return the comparison for people: a column a run, the best figures with a star."""
    settings = found.differing if only_differences else found.settings
    heads = [f"{index}: {name}"[:32] for index, name in enumerate(found.names, start=1)]
    rows: list[dict[str, object]] = []
    for row in (*found.figures, *settings):
        cells = [_cell(value) + (" *" if index in row.best else "") for index, value in enumerate(row.values)]
        rows.append({"": row.name, **dict(zip(heads, cells, strict=True))})
    return [*table(rows, ("", *heads)), "* the best"]


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def rename(arguments: argparse.Namespace) -> None:
    """Change a job's name, note or tags."""
    if arguments.name is None and arguments.note is None and arguments.tags is None:
        raise UsageError("Nothing to change", "", "add --name, --note or --tags")
    job = directory.find(workspace_of(arguments), arguments.id)
    label = requests.relabel(job, arguments.name, arguments.note, arguments.tags)
    changed = {"id": job.id, "name": job.name, "note": label.note, "tags": list(label.tags)}
    answer(arguments, changed, [f"{job.id} is called {job.name!r}."])


def again(arguments: argparse.Namespace) -> None:
    """Hand in a run once more."""
    workspace = workspace_of(arguments)
    old = directory.find(workspace, arguments.id)
    job = submit.again(workspace, old, queue=arguments.queue)
    answer(arguments, {"id": job.id, "dir": str(job.path)}, [f"{job.id} does what {old.id} did."])


def restore(arguments: argparse.Namespace) -> None:
    """Bring a job back from the trash."""
    job = trash.restore(workspace_of(arguments), arguments.id)
    answer(arguments, {"id": job.id, "dir": str(job.path)}, [f"{job.id} is back."])


def show_trash(arguments: argparse.Namespace) -> None:
    """Print the removed jobs, or delete them for good."""
    workspace = workspace_of(arguments)
    if arguments.empty:
        count = trash.empty(workspace)
        answer(arguments, {"deleted": count}, [f"{count} jobs are gone for good."])
        return
    listed = [{"id": job.id, "name": job.name, "state": job.status().state} for job in trash.trashed(workspace)]
    answer(arguments, listed, table(listed, ("id", "name", "state")) if listed else ["The trash is empty."])
