"""Hand in a training run: everything that can be refused before a process starts is refused here, in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.config import RunConfig, parse
from app.errors import DataError, DiskError, UsageError
from app.hardware import disk_free_bytes
from app.jobs import requests
from app.jobs.directory import JobDirectory
from app.models.names import resolve
from app.workspace import Workspace, existing_source, source_sha256

# Below this a run cannot even keep its log, metrics and one small checkpoint.
LEAST_FREE_BYTES = 500 << 20


def start(
    workspace: Workspace, config: RunConfig, *, queue: bool = False, name: str = "", kind: str = "train", **facts: Any
) -> JobDirectory:
    """Submit a training job, or a `kind` measure one of the same settings, and return its directory at once.

    `facts`, such as a sweep's name, go into job.yaml.

    Raises what `check` raises, and BusyError when the accelerator has an owner and `queue` is off.
    """
    file = check(workspace, config)
    config = config.changed({"data.file": str(file)})
    return requests.submit(
        workspace,
        kind,
        config.as_dict(),
        queue=queue,
        name=name,
        data_sha256=source_sha256(file),
        seed=config.training.seed,
        **facts,
    )


def check(workspace: Workspace, config: RunConfig) -> Path:
    """Refuse what can be refused before a process starts, and return the data file.

    Raises UsageError without a data file, WorkspaceError when it cannot be read, ModelError for a model that is not
    there, DiskError when the disk is nearly full.
    """
    if not config.data.file:
        raise UsageError("No training data is named", "", "add --data FILE, or set data.file")
    file = existing_source(config.data.file)
    resolve(config.model.name)
    check_disk(workspace.root)
    return file


def again(workspace: Workspace, job: JobDirectory, *, queue: bool = False) -> JobDirectory:
    """Start a run with exactly the settings of an earlier one.

    Raises DataError when its data file is no longer what it was: the same settings would then be another run.
    """
    config = parse(job.config, job.id)
    file = check(workspace, config)
    if source_sha256(file) != job.job.get("data_sha256"):
        raise DataError(
            f"{file.name} has changed since {job.name or job.id} was trained",
            "its content has another SHA-256, so this would be another run",
            "put the old file back, or clone the run to train on the new one",
        )
    return start(workspace, config, queue=queue, name=job.name, again=job.id)


def check_disk(folder: Path, needed_bytes: int = LEAST_FREE_BYTES) -> None:
    """Raise DiskError when the disk of `folder` has less than `needed_bytes` free."""
    free = disk_free_bytes(folder)
    if free < needed_bytes:
        raise DiskError(
            f"The disk of {folder} is nearly full",
            f"{free / 1e9:.1f} GB are free, a run needs at least {needed_bytes / 1e9:.1f} GB",
            "free some room, or choose another folder with --workspace",
        )
