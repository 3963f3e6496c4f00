"""The models and datasets on this machine: which there are, what they take, and one more or one less of them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.catalog.catalogue import entries, hub_id_of
from app.errors import JobError, ModelError, UsageError, keyed
from app.files import folder_bytes
from app.hub import address, downloads
from app.hub.address import Address
from app.hub.ids import is_local
from app.hub.model_files import KIND, cached, hub_folder, is_complete
from app.jobs import directory as jobs
from app.jobs import requests
from app.jobs.directory import JobDirectory
from app.models.names import STARTER, resolve
from app.workspace import Workspace

_LICENCE = re.compile(r"^license(?:_name)?:\s*(\S.*?)\s*$", re.MULTILINE)
_UNKNOWN = "unknown"
Kind = Literal["bundled", "hub", "merged", "dataset"]
Type = Literal["model", "dataset"]


@dataclass(frozen=True)
class OnDisk:
    """One model or dataset of this machine.

    `kind` says of a model where it lies: with the program, in the hub's cache, or among this workspace's outputs; of a
    dataset of the hub that it is one. `bytes` is what it takes on the disk, in `files` files. `complete` tells whether
    it can be loaded; a plan alone fetches no more than a config.json.
    """

    id: str
    kind: Kind
    bytes: int
    licence: str
    complete: bool
    path: str
    type: Type = "model"
    files: int = 0


def on_disk(workspace: Workspace) -> list[OnDisk]:
    """Return every model and dataset of this machine: the bundled model, the hub's, and what was merged here."""
    starter = Path(resolve(STARTER))
    bundled = _found(STARTER, "bundled", starter, starter, complete=True)
    return [bundled, *_of_hub(), *_merged(workspace), *_datasets(workspace)]


def is_here(hub_id: str) -> bool:
    """Tell whether a model of the hub lies whole in the hub's cache; cheap enough for every keystroke."""
    folder = hub_folder(hub_id)
    return any(map(is_complete, (folder / "snapshots").glob("*")))


def start(workspace: Workspace, name: str, hub: Address | None = None) -> JobDirectory:
    """Hand in the fetch of a model and return its job; one that is under way already is returned as it is.

    It comes from `hub`, or from where this workspace finds the hub.
    Raises UsageError for a model that lies on this machine anyway, ModelError for a name that is none.
    """
    hub_id = resolve(name)
    if is_local(hub_id):
        raise UsageError(f"{name!r:.120} is a folder of this machine", "there is nothing to fetch", "name a hub id")
    config = {"model": hub_id, **address.as_config(hub or address.of(workspace))}
    for job in jobs.all_jobs(workspace, KIND):
        if job.config.get("model") == hub_id and not job.status().final:
            return job
    return requests.submit(workspace, KIND, config, name=f"fetch: {hub_id}")


def go_on(workspace: Workspace, hub_id: str) -> JobDirectory:
    """Hand in the rest of a dataset that came in part, and return its job. Raises UsageError for what is no name."""
    part = downloads.about(downloads.folder_of(workspace, hub_id))[1]
    return downloads.start(workspace, hub_id, part)


def going(workspace: Workspace) -> Iterator[JobDirectory]:
    """Yield the downloads of models and datasets, the newest first; a look at what a dataset has is none."""
    every = jobs.all_jobs(workspace, KIND, "download")[::-1]
    yield from (job for job in every if not job.config.get("ask_only"))


def remove(workspace: Workspace, name: str) -> OnDisk:
    """Delete a model or a dataset by its id or its path, and return what it was.

    Raises ModelError for one that is not here, UsageError for the bundled one and for an id that several have, JobError
    while a job uses it.
    """
    wanted = {name.strip(), str(Path(name).absolute())}
    with suppress(ModelError):
        wanted.add(resolve(name))
    every = [one for one in on_disk(workspace) if {one.id, one.path} & wanted]
    if len(every) > 1:
        places = " and ".join(one.path for one in every)
        raise UsageError(
            keyed("is_more_than_one_thing", "{name} is more than one thing", name=f"{name!r:.120}"),
            keyed("it_lies_at", "it lies at {places}", places=places),
            keyed("name_one_of_these_folders", "name one of these folders"),
        )
    found = every[0] if every else None
    if found is None:
        raise ModelError(f"{name!r:.120} is not on this disk", "", "`models list` shows what is")
    if found.kind == "bundled":
        raise UsageError(f"'{found.id}' comes with the program", "demo, tour and tests need it", "it stays")
    for job in jobs.all_jobs(workspace):
        if not job.status().final and _is_named(found, job.config):
            raise JobError(f"{found.id} is in use", f"by {job.id}", f"end it first with `jobs stop {job.id}`")
    shutil.rmtree(found.path)
    return found


def _is_named(found: OnDisk, config: object) -> bool:
    """Tell whether a job's settings name a model or dataset: by its id, its folder, or its name in the catalogue."""
    if isinstance(config, str):
        return found.id in config or found.path in config or hub_id_of(config) == found.id
    inner = config.values() if isinstance(config, dict) else config if isinstance(config, list) else ()
    return any(_is_named(found, one) for one in inner)


def _found(name: str, kind: Kind, folder: Path, card: Path, *, complete: bool) -> OnDisk:
    """Return a model of a folder; `card` is where its card lies. The hub's links take no room beside what they name."""
    licence = _licence("" if kind == "merged" else name, card)
    size = folder_bytes(folder, follow_links=False)
    return OnDisk(name, kind, size, licence, complete, str(folder), files=_count(folder))


def _count(folder: Path) -> int:
    """Return how many files a folder holds; of the hub's cache those that were fetched, not its links and notes."""
    blobs = folder / "blobs"
    files = (blobs if blobs.is_dir() else folder).rglob("*")
    return sum(path.is_file() and not path.is_symlink() and path.name != downloads.ABOUT for path in files)


def _datasets(workspace: Workspace) -> Iterator[OnDisk]:
    """Yield the datasets that were fetched into this workspace, then those of the hub's cache."""
    for hub_id, folder in downloads.fetched(workspace):
        licence = downloads.about(folder)[0] or _UNKNOWN
        complete = not any(folder.glob(f"{downloads.PART}*"))
        yield _dataset(hub_id, folder, licence, complete=complete)
    for hub_id, folder in cached("datasets"):
        snapshots = sorted((folder / "snapshots").glob("*"), key=lambda path: path.stat().st_mtime)
        complete = bool(snapshots) and not any((folder / "blobs").glob("*.incomplete"))
        yield _dataset(hub_id, folder, _card_licence(snapshots[-1] if snapshots else folder), complete=complete)


def _dataset(hub_id: str, folder: Path, licence: str, *, complete: bool) -> OnDisk:
    size = folder_bytes(folder, follow_links=False)
    return OnDisk(hub_id, "dataset", size, licence, complete, str(folder), "dataset", _count(folder))


def _of_hub() -> Iterator[OnDisk]:
    """Yield the models of the hub's cache, by name; one whose first file is only begun has no snapshot yet."""
    for hub_id, folder in cached("models"):
        snapshots = sorted((folder / "snapshots").glob("*"), key=lambda path: path.stat().st_mtime)
        newest = snapshots[-1] if snapshots else folder
        yield _found(hub_id, "hub", folder, newest, complete=any(map(is_complete, snapshots)))


def _merged(workspace: Workspace) -> Iterator[OnDisk]:
    for folder in sorted(workspace.outputs.glob("*")):
        if folder.is_dir() and not folder.is_symlink() and is_complete(folder):
            yield _found(folder.name, "merged", folder, folder, complete=True)


def _licence(hub_id: str, folder: Path) -> str:
    """Return the licence that the catalogue knows, or the one that the folder's card names; else "unknown"."""
    known = _listed_licence(hub_id) or _card_licence(folder)
    return "Apache-2.0" if known == _UNKNOWN and hub_id == STARTER else known


def _card_licence(folder: Path) -> str:
    """Return the licence that a folder's card names, else "unknown"."""
    try:
        card = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        card = ""
    head = card.split("\n---", 1)[0] if card.startswith("---") else ""
    named = _LICENCE.search(head)
    return named[1].removeprefix("- ").strip("\"'") if named else _UNKNOWN


def _listed_licence(hub_id: str) -> str:
    """Return the catalogue's licence of a hub id, empty for one that it does not hold."""
    wanted = hub_id.lower()
    for entry in entries():
        if wanted in (name.lower() for name in (entry.listing.hub_id, *entry.listing.aliases)):
            return entry.listing.licence
    return ""
