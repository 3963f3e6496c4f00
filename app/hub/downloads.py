"""Fetch a dataset from the hub, as a job: only its files of rows, only when its name was given.

<workspace>/uploads/hub/<owner>--<name>/<revision>[-<part>]/    complete or not there

A job of the same kind tells beforehand what would be fetched: the files, their size and the licence.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from app.errors import DataError, NetworkError, UsageError, keyed
from app.hub import address, transfer
from app.hub.address import Address
from app.hub.dataset_files import choose_files
from app.hub.ids import is_repository
from app.jobs import directory as jobs
from app.jobs import requests
from app.jobs.child import JobChild, Outcome
from app.jobs.directory import JobDirectory, Status
from app.workspace import Workspace, safe_name

_TIMEOUT_S = 10.0


def start(
    workspace: Workspace, hub_id: str, part: str = "", ask_only: bool = False, hub: Address | None = None
) -> JobDirectory:
    """Hand in the download of a dataset, or of one of its splits or files, and return its job at once.

    With `ask_only` nothing is fetched but the listing; the job's result says what would be. A download that is under
    way already is returned as it is. It comes from `hub`, or from where this workspace finds the hub. Raises UsageError
    for what is no hub id.
    """
    if not is_repository(hub_id):
        raise UsageError(
            keyed("is_no_dataset_of_the_hub", "{hub_id} is no dataset of the hub", hub_id=f"{hub_id!r:.120}"),
            "",
            keyed("write_owner_name", "write owner/name"),
        )
    folder = str(workspace.uploads / "hub" / hub_id.replace("/", "--"))
    config = {"dataset": hub_id, "folder": folder, "part": part, "ask_only": ask_only}
    for job in jobs.all_jobs(workspace, "download"):
        if config.items() <= job.config.items() and not job.status().final:
            return job
    where = address.as_config(hub or address.of(workspace))
    return requests.submit(workspace, "download", {**config, **where}, name=f"download: {hub_id}")


def fetch(
    workspace: Workspace, hub_id: str, seen: Callable[[Status], None] = lambda status: None, part: str = ""
) -> Path:
    """Download a dataset and wait for it; return its folder. Raises NetworkError or DataError with the job's reason."""
    status = requests.wait(start(workspace, hub_id, part), seen=seen)
    if status.state != "finished":
        kind = DataError if status.kind == "data" else NetworkError
        raise kind(status.reason or f"The download of {hub_id} was {status.state}")
    return Path(str(status.result["folder"]))


def work(child: JobChild) -> tuple[Outcome, Mapping[str, object]]:
    """Fetch the files one after another; a stop is seen within a second, also inside a file."""
    hub_id, root = str(child.config["dataset"]), Path(str(child.config["folder"]))
    address.pin(address.of_config(child.config) or address.current())
    wanted = str(child.config.get("part") or "")
    child.progress(0, 0, phase="listing")
    listed = _listing(hub_id)
    revision, licence = listed.revision, listed.licence
    chosen = choose_files(hub_id, listed.files, wanted)
    name = f"{revision[:12]}-{safe_name(wanted)}" if wanted else revision[:12]
    folder, part = root / name, root / f".part-{child.directory.id}"
    total_bytes, done_bytes = sum(size for _, size in chosen), 0
    facts = {"folder": str(folder), "files": [path for path, _ in chosen], "bytes": total_bytes}
    facts |= {"revision": revision, "licence": licence}
    if child.config.get("ask_only"):
        return "finished", facts
    try:
        for path, size in [] if folder.is_dir() else chosen:
            child.progress(done_bytes, total_bytes, phase="downloading")
            if not transfer.ended(lambda path=path: _download(hub_id, revision, path, part), child):  # type: ignore[misc]
                return "stopped", {}
            done_bytes += size
        if not folder.is_dir():
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    child.progress(total_bytes, total_bytes, phase="downloading")
    return "finished", facts


def _listing(hub_id: str) -> transfer.Listing:
    from huggingface_hub import HfApi

    info = transfer.asked(
        hub_id, "dataset", lambda: HfApi().dataset_info(hub_id, files_metadata=True, timeout=_TIMEOUT_S)
    )
    return transfer.listing_of(info)


def _download(hub_id: str, revision: str, path: str, folder: Path) -> None:
    from huggingface_hub import hf_hub_download

    transfer.asked(
        hub_id,
        "dataset",
        lambda: hf_hub_download(hub_id, path, repo_type="dataset", revision=revision, local_dir=folder),
    )
