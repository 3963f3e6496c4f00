"""`models`: list, fetch, remove: what lies on this disk."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from app.cli.terminal import Verbs, answer, progress, table, workspace_of
from app.errors import JobError
from app.jobs import requests
from app.jobs.directory import Status
from app.runs.on_disk import models_on_disk


def register(verbs: Verbs) -> None:
    """Add the verbs."""
    group = verbs.group("models", help="the models on this disk", example="python3 launch.py models list")
    group.add("list", show, help="every model, its size and its licence", example="python3 launch.py models list")
    parser = group.add(
        "fetch",
        fetch,
        help="fetch a model of the hub; files that came before a break stay",
        example="python3 launch.py models fetch qwen3-0.6b",
    )
    parser.add_argument("id", metavar="ID", help="a name of the catalogue, or a hub id")
    parser.add_argument("--detach", action="store_true", help="print the job and return at once")
    parser = group.add(
        "remove", remove, help="delete a model from this disk", example="python3 launch.py models remove qwen3-0.6b"
    )
    parser.add_argument("id", metavar="ID", help="as `models list` shows it, or a name of the catalogue")


def show(arguments: argparse.Namespace) -> None:
    """Print every model of this machine."""
    found = models_on_disk.on_disk(workspace_of(arguments))
    rows = [
        {**asdict(one), "size": _size(one.bytes), "state": "complete" if one.complete else "in part"} for one in found
    ]
    answer(arguments, [asdict(one) for one in found], table(rows, ("id", "kind", "size", "licence", "state", "path")))


def fetch(arguments: argparse.Namespace) -> None:
    """Fetch a model and wait for it. Raises JobError with the job's reason where it does not come."""
    job = models_on_disk.start(workspace_of(arguments), arguments.id)
    if arguments.detach:
        answer(
            arguments, {"id": job.id, "dir": str(job.path)}, [f"{job.id} fetches it. `jobs watch {job.id}` follows."]
        )
        return
    try:
        status = requests.wait(job, seen=_show)
    except KeyboardInterrupt:
        progress(f"\n{job.id} goes on. `jobs watch {job.id}` follows it, `jobs stop {job.id}` ends it.")
        raise
    if status.state != "finished":
        reason = status.reason or "files that came whole stay, and the next fetch goes on from there"
        raise JobError(f"{job.config['model']} was not fetched ({status.state})", reason)
    result = status.result
    told = f"{job.config['model']}: {_size(int(str(result['bytes'])))}, licence {result['licence'] or 'unknown'}."
    answer(arguments, {"model": job.config["model"], **result}, [told])


def remove(arguments: argparse.Namespace) -> None:
    """Delete a model."""
    gone = models_on_disk.remove(workspace_of(arguments), arguments.id)
    answer(
        arguments, {"id": gone.id, "removed": True, "bytes": gone.bytes}, [f"{gone.id} is gone: {_size(gone.bytes)}."]
    )


def _show(status: Status) -> None:
    if status.of:
        progress(f"\rfetching {status.step / 1e9:,.2f} of {status.of / 1e9:,.2f} GB", end="")


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e8 else f"{size_bytes / 1e6:.1f} MB"
