"""The models on this machine: which there are, what they take, and one more or one less of them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.catalog.catalogue import entries
from app.errors import JobError, ModelError, UsageError
from app.files import folder_bytes
from app.hub import address
from app.hub.address import Address
from app.hub.ids import is_local
from app.hub.model_files import KIND, cached_models, hub_folder, is_complete
from app.jobs import directory as jobs
from app.jobs import requests
from app.jobs.directory import JobDirectory
from app.models.names import STARTER, resolve
from app.workspace import Workspace

_LICENCE = re.compile(r"^license(?:_name)?:\s*(\S.*?)\s*$", re.MULTILINE)
_UNKNOWN = "unknown"
Kind = Literal["bundled", "hub", "merged"]


@dataclass(frozen=True)
class ModelOnDisk:
    """One model of this machine.

    `kind` says where it lies: with the program, in the hub's cache, or among this workspace's outputs. `bytes` is what
    it takes on the disk. `complete` tells whether it can be loaded; a plan alone fetches no more than a config.json.
    """

    id: str
    kind: Kind
    bytes: int
    licence: str
    complete: bool
    path: str


def on_disk(workspace: Workspace) -> list[ModelOnDisk]:
    """Return every model of this machine: the bundled one, the hub's, and what was merged here."""
    starter = Path(resolve(STARTER))
    bundled = _found(STARTER, "bundled", starter, starter, complete=True)
    return [bundled, *_of_hub(), *_merged(workspace)]


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


def remove(workspace: Workspace, name: str) -> ModelOnDisk:
    """Delete a model of the hub's cache or of this workspace's outputs, and return what it was.

    Raises ModelError for one that is not here, UsageError for the bundled one, JobError while a job uses it.
    """
    wanted = {name.strip(), str(Path(name).absolute())}
    with suppress(ModelError):
        wanted.add(resolve(name))
    found = next((one for one in on_disk(workspace) if {one.id, one.path} & wanted), None)
    if found is None:
        raise ModelError(f"{name!r:.120} is not on this disk", "", "`models list` shows what is")
    if found.kind == "bundled":
        raise UsageError(f"'{found.id}' comes with the program", "demo, tour and tests need it", "it stays")
    for job in jobs.all_jobs(workspace):
        if not job.status().final and (found.id in json.dumps(job.config) or found.path in json.dumps(job.config)):
            raise JobError(f"{found.id} is in use", f"by {job.id}", f"end it first with `jobs stop {job.id}`")
    shutil.rmtree(found.path)
    return found


def _found(name: str, kind: Kind, folder: Path, card: Path, *, complete: bool) -> ModelOnDisk:
    """Return a model of a folder; `card` is where its card lies. The hub's links take no room beside what they name."""
    licence = _licence("" if kind == "merged" else name, card)
    return ModelOnDisk(name, kind, folder_bytes(folder, follow_links=False), licence, complete, str(folder))


def _of_hub() -> Iterator[ModelOnDisk]:
    """Yield the models of the hub's cache, by name; one whose first file is only begun has no snapshot yet."""
    for hub_id, folder in cached_models():
        snapshots = sorted((folder / "snapshots").glob("*"), key=lambda path: path.stat().st_mtime)
        newest = snapshots[-1] if snapshots else folder
        yield _found(hub_id, "hub", folder, newest, complete=any(map(is_complete, snapshots)))


def _merged(workspace: Workspace) -> Iterator[ModelOnDisk]:
    for folder in sorted(workspace.outputs.glob("*")):
        if folder.is_dir() and not folder.is_symlink() and is_complete(folder):
            yield _found(folder.name, "merged", folder, folder, complete=True)


def _licence(hub_id: str, folder: Path) -> str:
    """Return the licence that the catalogue knows, or the one that the folder's card names; else "unknown"."""
    known = _listed_licence(hub_id)
    if known:
        return known
    try:
        card = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        card = ""
    head = card.split("\n---", 1)[0] if card.startswith("---") else ""
    named = _LICENCE.search(head)
    if named:
        return named[1].strip("\"'")
    return "Apache-2.0" if hub_id == STARTER else _UNKNOWN


def _listed_licence(hub_id: str) -> str:
    """Return the catalogue's licence of a hub id, empty for one that it does not hold."""
    wanted = hub_id.lower()
    for entry in entries():
        if wanted in (name.lower() for name in (entry.listing.hub_id, *entry.listing.aliases)):
            return entry.listing.licence
    return ""
