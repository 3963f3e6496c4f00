"""`models` and `exports`: what lies on this disk, fetched, shown and removed."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict

from app.cli.terminal import Verbs, answer, progress, size_text, table, workspace_of
from app.errors import JobError, UsageError
from app.hub import downloads, mirror
from app.hub.address import Address
from app.jobs import requests
from app.jobs.directory import JobDirectory, Status
from app.runs.on_disk import made_exports, models_on_disk
from app.runs.on_disk.made_exports import MadeExport

_EXPORT_COLUMNS = ("id", "what", "size", "made", "report", "path")


def register(verbs: Verbs) -> None:
    """Add the verbs."""
    group = verbs.group("models", help="the models and datasets on this disk", example="python3 launch.py models list")
    group.add(
        "list", show, help="every model and dataset, its size and its licence", example="python3 launch.py models list"
    )
    parser = group.add(
        "fetch",
        fetch,
        help="fetch a model or a dataset of the hub; files that came before a break stay",
        example="python3 launch.py models fetch qwen3-0.6b",
    )
    parser.add_argument("id", metavar="ID", help="a name of the catalogue, or a hub id")
    parser.add_argument("--dataset", action="store_true", help="the id is a dataset's; its files of rows are fetched")
    parser.add_argument(
        "--part", metavar="NAME", default="", help="of a dataset: another split, one file or one folder"
    )
    parser.add_argument(
        "--mirror", metavar="URL", help="fetch it from this address of a hub, this once (default: what the page keeps)"
    )
    parser.add_argument(
        "--send-token", action="store_true", help="send the hub token to the mirror, which gets none otherwise"
    )
    parser.add_argument("--detach", action="store_true", help="print the job and return at once")
    parser = group.add(
        "remove",
        remove,
        help="delete a model or dataset from this disk",
        example="python3 launch.py models remove qwen3-0.6b",
    )
    parser.add_argument("id", metavar="ID", help="as `models list` shows it, or a name of the catalogue")
    _register_exports(verbs)


def _register_exports(verbs: Verbs) -> None:
    group = verbs.group("exports", help="the merges and exports on this disk", example="python3 launch.py exports list")
    group.add(
        "list", list_exports, help="every export, its size, date and report", example="python3 launch.py exports list"
    )
    for name, run, help in (
        ("show", show_export, "open an export's folder in this machine's file manager"),
        ("remove", remove_export, "delete an export that lies in the workspace's outputs; it cannot come back"),
    ):
        parser = group.add(name, run, help=help, example=f"python3 launch.py exports {name} ID")
        parser.add_argument("id", metavar="ID", help="id of its job, as `exports list` shows it")


def show(arguments: argparse.Namespace) -> None:
    """Print every model and dataset of this machine."""
    found = models_on_disk.on_disk(workspace_of(arguments))
    rows = [
        {**asdict(one), "size": size_text(one.bytes), "state": "complete" if one.complete else "in part"}
        for one in found
    ]
    answer(arguments, [asdict(one) for one in found], table(rows, ("id", "kind", "size", "licence", "state", "path")))


def fetch(arguments: argparse.Namespace) -> None:
    """Fetch a model or a dataset and wait for it. Raises JobError with the job's reason where it does not come."""
    job = _started(arguments)
    if arguments.detach:
        answer(
            arguments, {"id": job.id, "dir": str(job.path)}, [f"{job.id} fetches it. `jobs watch {job.id}` follows."]
        )
        return
    kind = "dataset" if arguments.dataset else "model"
    name = job.config[kind]
    try:
        status = requests.wait(job, seen=_show)
    except KeyboardInterrupt:
        progress(f"\n{job.id} goes on. `jobs watch {job.id}` follows it, `jobs stop {job.id}` ends it.")
        raise
    if status.state != "finished":
        reason = status.reason or "files that came whole stay, and the next fetch goes on from there"
        raise JobError(f"{name} was not fetched ({status.state})", reason)
    result = status.result
    told = f"{name}: {size_text(int(str(result['bytes'])))}, licence {result['licence'] or 'unknown'}."
    answer(arguments, {kind: name, **result}, [told])


def _started(arguments: argparse.Namespace) -> JobDirectory:
    """Hand in the fetch that was asked for. Raises UsageError for options that do not go together."""
    workspace, hub = workspace_of(arguments), _hub(arguments)
    if arguments.dataset:
        return downloads.start(workspace, arguments.id, arguments.part, hub=hub)
    if arguments.part:
        raise UsageError(
            "--part is given without --dataset", "a model is fetched whole", "add --dataset, or leave it out"
        )
    return models_on_disk.start(workspace, arguments.id, hub)


def _hub(arguments: argparse.Namespace) -> Address | None:
    """Return the mirror that was named, once it has answered. Raises UsageError and NetworkError."""
    if not arguments.mirror and arguments.send_token:
        raise UsageError(
            "--send-token is given without --mirror", "it says who gets the token", "name the mirror as well"
        )
    if not arguments.mirror:
        return None
    hub = mirror.named(arguments.mirror, arguments.send_token)
    progress(f"from {hub.host}")
    return hub


def remove(arguments: argparse.Namespace) -> None:
    """Delete a model or a dataset."""
    gone = models_on_disk.remove(workspace_of(arguments), arguments.id)
    answer(
        arguments,
        {"id": gone.id, "removed": True, "bytes": gone.bytes, "files": gone.files, "type": gone.type},
        [f"{gone.id} is gone: {size_text(gone.bytes)} in {gone.files} {'file' if gone.files == 1 else 'files'}."],
    )


def _show(status: Status) -> None:
    if status.of:
        progress(f"\rfetching {status.step / 1e9:,.2f} of {status.of / 1e9:,.2f} GB", end="")


def list_exports(arguments: argparse.Namespace) -> None:
    """Print the exports, newest first."""
    found = made_exports.listed(workspace_of(arguments))
    rows = [
        {
            "id": one.job.id,
            "what": f"{one.target} {one.dtype}".strip(),
            "size": size_text(one.bytes),
            "made": time.strftime("%Y-%m-%d %H:%M", time.localtime(one.ended)),
            "report": _report(one),
            "path": str(one.place),
        }
        for one in found
    ]
    answer(arguments, [one.as_dict() for one in found], table(rows, _EXPORT_COLUMNS))


def _report(one: MadeExport) -> str:
    gone = f"{one.missing[0]} is gone" if one.missing else ""
    return ", ".join(word for word in (gone, one.verdict) if word) or "-"


def show_export(arguments: argparse.Namespace) -> None:
    """Open an export's folder where there is a file manager, and say where it lies and what its report says."""
    workspace = workspace_of(arguments)
    one = made_exports.find(workspace, arguments.id)
    opened = made_exports.show(workspace, arguments.id)
    lines = [
        f"{one.place} {'is open in the file manager' if opened else 'lies on this machine; no desktop to open it'}"
    ]
    lines += [f"report: {one.verdict}, {one.receipt}"] if one.receipt else []
    answer(arguments, {**one.as_dict(), "opened": opened}, lines + [f"gone: {name}" for name in one.missing])


def remove_export(arguments: argparse.Namespace) -> None:
    """Delete an export."""
    workspace = workspace_of(arguments)
    one = made_exports.find(workspace, arguments.id)
    made_exports.remove(workspace, arguments.id)
    said = {"id": one.job.id, "path": str(one.place), "removed": True, "bytes": one.bytes}
    answer(arguments, said, [f"{one.place} is gone: {size_text(one.bytes)}."])
