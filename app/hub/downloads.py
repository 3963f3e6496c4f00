"""Fetch a dataset from the hub, as a job: only its files of rows, only when its name was given.

<workspace>/uploads/hub/<owner>--<name>/<revision>[-<part>]/        complete or not there
<workspace>/uploads/hub/<owner>--<name>/.part-<revision>[-<part>]/  what came before a stop; the next one goes on
<workspace>/uploads/hub/<owner>--<name>/about.json                  the licence, and which part was asked for last

A job of the same kind tells beforehand what would be fetched: the files, their size and the licence.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from app.errors import DataError, NetworkError, UsageError, keyed
from app.files import folder_bytes, replace_file
from app.hub import address, transfer
from app.hub.address import Address
from app.hub.dataset_files import Listed, choose_files
from app.hub.ids import is_repository
from app.jobs import directory as jobs
from app.jobs import requests
from app.jobs.child import JobChild, Outcome
from app.jobs.directory import JobDirectory, Status
from app.reading import read_object
from app.workspace import Workspace, safe_name

PART, ABOUT = ".part-", "about.json"
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
    config = {"dataset": hub_id, "folder": str(folder_of(workspace, hub_id)), "part": part, "ask_only": ask_only}
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


def folder_of(workspace: Workspace, hub_id: str) -> Path:
    """Return where a dataset lies in the workspace, whether or not it is there."""
    return workspace.uploads / "hub" / hub_id.replace("/", "--")


def fetched(workspace: Workspace) -> Iterator[tuple[str, Path]]:
    """Yield the datasets that were fetched, whole or in part, by name, with the folder of each."""
    for folder in sorted((workspace.uploads / "hub").glob("*--*")):
        if folder.is_dir() and any(one.is_dir() for one in folder.iterdir()):
            yield folder.name.replace("--", "/", 1), folder


def about(folder: Path) -> tuple[str, str]:
    """Return the licence of a fetched dataset and the part that was asked for last, both empty where nobody noted."""
    try:
        noted = read_object(folder / ABOUT)
    except (OSError, ValueError):
        return "", ""
    return str(noted.get("licence") or ""), str(noted.get("part") or "")


def work(child: JobChild) -> tuple[Outcome, Mapping[str, object]]:
    """Fetch the files one after another; a stop is seen within a second, and what came whole stays for the next try."""
    hub_id, root = str(child.config["dataset"]), Path(str(child.config["folder"]))
    address.pin(address.of_config(child.config) or address.current())
    wanted = str(child.config.get("part") or "")
    child.progress(0, 0, phase="listing")
    listed = _listing(hub_id)
    chosen = choose_files(hub_id, listed.files, wanted)
    name = f"{listed.revision[:12]}-{safe_name(wanted)}" if wanted else listed.revision[:12]
    folder, total_bytes = root / name, sum(size for _, size in chosen)
    facts = {"folder": str(folder), "files": [path for path, _ in chosen], "bytes": total_bytes}
    facts |= {"revision": listed.revision, "licence": listed.licence}
    if child.config.get("ask_only"):
        return "finished", facts
    root.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        missing_bytes = total_bytes - folder_bytes(folder.with_name(f"{PART}{name}"))
        remedy = keyed("free_some_room_or_name_a_part", "free some room, or name a part of the dataset")
        transfer.expect_room(hub_id, missing_bytes, root, remedy)
    replace_file(root / ABOUT, json.dumps({"licence": listed.licence, "part": wanted}) + "\n")
    if not folder.is_dir() and not _come(child, hub_id, listed.revision, chosen, folder):
        return "stopped", {}
    child.progress(total_bytes, total_bytes, phase="downloading")
    return "finished", facts


def _come(child: JobChild, hub_id: str, revision: str, chosen: Sequence[Listed], folder: Path) -> bool:
    """Fetch files into a folder beside, which takes its name when all are there; say whether they came to an end."""
    part, total_bytes = folder.with_name(f"{PART}{folder.name}"), sum(size for _, size in chosen)
    for other in folder.parent.glob(f"{PART}*"):  # of a revision that is the newest no more
        if other != part and other.name[len(PART) + 12 :] == folder.name[12:]:
            shutil.rmtree(other, ignore_errors=True)
    for broken in part.rglob("*.incomplete"):  # the hub's library begins such a file anew
        broken.unlink(missing_ok=True)

    def look() -> None:
        child.progress(min(folder_bytes(part), total_bytes), total_bytes, phase="downloading")

    for path, _ in chosen:
        look()
        if not transfer.ended(lambda path=path: _download(hub_id, revision, path, part), child, look):  # type: ignore[misc]
            return False
    shutil.rmtree(part / ".cache", ignore_errors=True)  # the library's notes about what it fetched
    part.rename(folder)
    return True


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
