"""The exports that lie on this disk: removed, shown in the file manager, or packed for a browser."""

from __future__ import annotations

import shutil
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import ExportError, JobError, UsageError, WorkspaceError, keyed
from app.files import disk_free_bytes, folder_bytes
from app.jobs import directory as jobs
from app.jobs import supervisor, trash
from app.jobs.directory import JobDirectory
from app.reading import read_object
from app.runs.on_disk import artifacts
from app.workspace import Workspace

# The newest are listed; older ones are in `jobs list`.
_MOST_LISTED = 60
# What is packed for a browser lies on the disk twice while it is fetched.
MOST_PACKED_BYTES = 4_000_000_000
_PACKED_FOR_S = 86_400.0
_READERS = ("export", "merge", "blend", "engine", "evaluate", "suite")


@dataclass(frozen=True)
class MadeExport:
    """A finished merge or export whose folder or file is still where it was put. `ended` in seconds since 1970.

    receipt and verdict are empty where none was written. can_be_removed: it lies in the workspace's own outputs.
    missing: files that were written and are no longer there.
    """

    job: JobDirectory
    target: str
    place: Path
    dtype: str
    bytes: int
    ended: float
    receipt: str
    verdict: str
    can_be_removed: bool
    missing: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Return plain data, as `exports list --json` answers it."""
        return {
            "id": self.job.id,
            "to": self.target,
            "path": str(self.place),
            "dtype": self.dtype or None,
            "bytes": self.bytes,
            "ended": self.ended,
            "verdict": self.verdict or None,
            "receipt": self.receipt or None,
            "can_be_removed": self.can_be_removed,
            "missing": list(self.missing),
        }


def listed(workspace: Workspace) -> list[MadeExport]:
    """Return the exports that are there, newest first."""
    found = [_of(workspace, job) for job in jobs.all_jobs(workspace, "merge", "export")[::-1][:_MOST_LISTED]]
    return sorted((one for one in found if one is not None), key=lambda one: -one.ended)


def find(workspace: Workspace, job_id: str) -> MadeExport:
    """Return the export of a job. Raises UsageError when it is not there."""
    try:
        found = _of(workspace, jobs.find(workspace, job_id))
    except (JobError, WorkspaceError):
        found = None
    if found is None:
        raise UsageError(
            keyed("this_export_is_not_there", "This export is not there"),
            keyed("it_may_have_been_removed", "it may have been removed"),
            keyed("choose_another", "choose another"),
        )
    return found


def made_before(workspace: Workspace, asked: Mapping[str, object], sources: Sequence[Path]) -> MadeExport | None:
    """Return the newest export that was asked for in the same words, is there whole, and is newer than its sources."""
    for job in jobs.all_jobs(workspace, "export")[::-1]:
        one = _of(workspace, job) if job.config == asked else None
        if one is not None and not one.missing and _newest_change(sources) <= one.ended:
            return one
    return None


def _newest_change(sources: Sequence[Path]) -> float:
    return max((path.stat().st_mtime for folder in sources for path in folder.glob("*") if path.is_file()), default=0.0)


def remove(workspace: Workspace, job_id: str) -> None:
    """Delete an export's folder or file, and move its job into the trash.

    Raises UsageError where it lies outside of the workspace's outputs, ExportError while a job reads it.
    """
    found = find(workspace, job_id)
    if not found.can_be_removed:
        raise UsageError(
            keyed("lies_outside_of_the_workspace", "{place} lies outside of the workspace", place=found.place),
            keyed("only_outputs_are_removed", "only what lies in its outputs is removed from here"),
            keyed("remove_it_by_hand", "remove it by hand"),
        )
    reader = next((job for job in jobs.all_jobs(workspace, *_READERS) if _reads(job, found.place)), None)
    if reader is not None:
        raise ExportError(
            keyed("is_being_read", "{place} is being read", place=found.place.name),
            keyed("by_the_job", "by the job {id}", id=reader.id),
            keyed("wait_for_it_or_stop_it", "wait for it, or stop it"),
        )
    # In one step out of its place: half an export is never there under its name.
    going = found.place.with_name(f".{found.place.name}.going")
    try:
        found.place.rename(going)
        shutil.rmtree(going) if going.is_dir() else going.unlink()
    except OSError as error:
        what = keyed("cannot_be_removed", "{place} cannot be removed", place=found.place)
        raise ExportError(what, error.strerror or "", keyed("remove_it_by_hand", "remove it by hand")) from None
    trash.move_to_trash(workspace, found.job)


def show(workspace: Workspace, job_id: str) -> bool:
    """Open an export's folder in this machine's file manager; tell whether there is one. Raises UsageError."""
    place = find(workspace, job_id).place
    return supervisor.open_folder(place if place.is_dir() else place.parent)


def packed(workspace: Workspace, job_id: str) -> Path:
    """Return an export as one file among those of the page: a zip as it is, else all files of its folder in one.

    Raises UsageError for one that is too large for a browser, ExportError without room for it.
    """
    found = find(workspace, job_id)
    if found.bytes > MOST_PACKED_BYTES:
        raise UsageError(
            keyed("is_too_large_for_a_browser", "{name} is too large to go through a browser", name=found.place.name),
            keyed("it_lies_in", "it lies in {place}", place=found.place),
            keyed("copy_it_from_there", "copy it from there"),
        )
    every = workspace.uploads / ".incoming" / "packed"
    folder = every / job_id
    folder.mkdir(parents=True, exist_ok=True)
    for old in every.iterdir():
        if old.name == job_id or old.stat().st_mtime < time.time() - _PACKED_FOR_S:
            shutil.rmtree(old, ignore_errors=True)
    if found.bytes > disk_free_bytes(every):
        raise ExportError(
            keyed("there_is_no_room_to_pack_it", "There is no room to pack {name}", name=found.place.name),
            keyed("it_lies_in", "it lies in {place}", place=found.place),
            keyed("copy_it_from_there", "copy it from there"),
        )
    folder.mkdir()
    if found.place.is_file():
        return Path(shutil.copy2(found.place, folder))
    out = folder / f"{found.place.name}.zip"
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:  # weights hardly shrink
        for path in sorted(found.place.rglob("*")):
            if path.is_file():
                archive.write(path, f"{found.place.name}/{path.relative_to(found.place).as_posix()}")
    return out


def _of(workspace: Workspace, job: JobDirectory) -> MadeExport | None:
    if job.job["kind"] not in ("merge", "export"):
        return None
    status = job.recorded_status()
    place = artifacts.output_place(job)
    if status.state != "finished" or not place.is_absolute() or not place.exists():
        return None
    result = status.result
    receipt = Path(str(result.get("receipt") or ""))
    return MadeExport(
        job=job,
        target=str(job.config.get("to") or "model"),
        place=place,
        dtype=str(result.get("dtype") or ""),
        bytes=folder_bytes(place) if place.is_dir() else place.stat().st_size,
        ended=float(status.ended or 0.0),
        receipt=str(place / receipt.name) if receipt.name and (place / receipt.name).is_file() else "",
        verdict=str(result.get("verdict") or ""),
        can_be_removed=_is_same(place.parent, workspace.outputs) and not place.is_symlink(),
        missing=_missing(place, result),
    )


def _is_same(one: Path, other: Path) -> bool:
    """Tell whether two names are one folder: a workspace may have been named by a link."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def _missing(place: Path, result: Mapping[str, object]) -> tuple[str, ...]:
    """Return the files of an export that are gone; of a merge, which names none, those that its model is loaded by."""
    if place.is_file():
        return ()
    named = result.get("files")
    files = [str(name) for name in named] if isinstance(named, list) else _files_of_model(place)
    return tuple(name for name in files if not (place / name).is_file())


def _files_of_model(folder: Path) -> list[str]:
    try:
        shards = read_object(folder / "model.safetensors.index.json").get("weight_map")
    except (OSError, ValueError):
        shards = None
    return [
        "config.json",
        *(sorted(set(map(str, shards.values()))) if isinstance(shards, dict) else ["model.safetensors"]),
    ]


def _reads(job: JobDirectory, place: Path) -> bool:
    named = (job.config.get(name) for name in ("model", "base", "adapter"))
    return any(_is_same(Path(str(one)), place) for one in named if one) and not job.status().final
