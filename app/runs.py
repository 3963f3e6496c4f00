"""Hand in a training run: everything that can be refused before a process starts is refused here, in one line."""

from __future__ import annotations

from pathlib import Path

from app.config import RunConfig
from app.errors import DiskError, UsageError
from app.hardware import disk_free_bytes
from app.jobs import requests
from app.jobs.directory import JobDirectory
from app.models.names import resolve
from app.workspace import Workspace, existing_file, file_sha256

# Below this a run cannot even keep its log, metrics and one small checkpoint.
LEAST_FREE_BYTES = 500 << 20


def start(
    workspace: Workspace, config: RunConfig, *, queue: bool = False, name: str = "", kind: str = "train"
) -> JobDirectory:
    """Submit a training job, or a `kind` measure one of the same settings, and return its directory at once.

    Raises UsageError without a data file, WorkspaceError when it cannot be read, ModelError for a model that is not
    there, DiskError when the disk is nearly full, BusyError when the accelerator has an owner and `queue` is off.
    """
    if not config.data.file:
        raise UsageError("No training data is named", "", "add --data FILE, or set data.file")
    file = existing_file(config.data.file, "data file")
    resolve(config.model.name)
    check_disk(workspace.root)
    config = config.changed({"data.file": str(file)})
    return requests.submit(
        workspace,
        kind,
        config.as_dict(),
        queue=queue,
        name=name,
        data_sha256=file_sha256(file),
        seed=config.training.seed,
    )


def check_disk(folder: Path, needed_bytes: int = LEAST_FREE_BYTES) -> None:
    """Raise DiskError when the disk of `folder` has less than `needed_bytes` free."""
    free = disk_free_bytes(folder)
    if free < needed_bytes:
        raise DiskError(
            f"The disk of {folder} is nearly full",
            f"{free / 1e9:.1f} GB are free, a run needs at least {needed_bytes / 1e9:.1f} GB",
            "free some room, or choose another folder with --workspace",
        )
