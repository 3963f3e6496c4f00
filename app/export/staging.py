"""An export on its way: written beside its place under another name, and moved there when it is whole."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.errors import DiskError, ExportError, ModelError
from app.files import disk_free_bytes, replace_file, sync_folder
from app.jobs.lock import FileLock
from app.reading import parsed_json
from app.redaction import SECRET
from app.runs.on_disk.exports import is_zip
from app.workspace import file_sha256

# What trainers leave beside an adapter; training_args.bin holds a hub token in clear (measured).
_PRIVATE_FILES = re.compile(
    r".*\.(bin|pt|pth|ckpt|pkl)|optimizer.*|scheduler.*|rng_state.*|trainer_state\.json|complete\.json|events\.out.*"
)
_TOKEN = re.compile(rb"\bhf_[A-Za-z0-9]{20,}")
# Of these only the heads are looked at, in which names and settings stand; any other file is read whole.
_WEIGHTS = {".gguf", ".safetensors"}
_LOOKED_AT_BYTES = 4 << 20
_PIECE_BYTES = 8 << 20
_PROGRESS = "progress.json"
# Room for configuration, tokenizer and receipt beside the weights.
_SMALL_FILES_BYTES = 64 << 20


class Staging:
    """The folder that an export is written into. A place that ends in .zip becomes one file.

    With a digest of what it is made from it survives a kill: the next export of the same inputs goes on with the files
    that are recorded as complete.
    """

    def __init__(self, out: Path, digest: str = "") -> None:
        self.out, self.folder = out, staging_folder(out, resumable=bool(digest))
        self._digest = digest
        self._complete = self._recorded() if digest else {}
        if digest:
            self._write_progress()

    @property
    def files(self) -> list[Path]:
        """Return all files, relative to the folder."""
        return sorted(path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file())

    @property
    def has_begun(self) -> bool:
        """Tell whether there is anything to go on with."""
        return any(path.name != _PROGRESS for path in self.files)

    @property
    def bytes(self) -> int:
        """Return the size of all files."""
        return sum((self.folder / name).stat().st_size for name in self.files)

    @property
    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of the files that are recorded as complete."""
        return dict(self._complete)

    def has(self, name: str) -> bool:
        """Tell whether a file is recorded as complete, and there whole and unchanged."""
        path = self.folder / name
        return name in self._complete and path.is_file() and file_sha256(path) == self._complete[name]

    def record(self, name: str, sha256: str) -> None:
        """Record that a file is complete."""
        self._complete[name] = sha256
        self._write_progress()

    def _write_progress(self) -> None:
        replace_file(self.folder / _PROGRESS, json.dumps({"digest": self._digest, "shards": self._complete}))

    def add(self, source: Path, name: str | None = None, pause: Callable[[], None] = lambda: None) -> None:
        """Copy a file in, in pieces."""
        with source.open("rb") as read, (self.folder / (name or source.name)).open("wb") as write:
            while piece := read.read(_PIECE_BYTES):
                pause()
                write.write(piece)

    def add_text(self, name: str, text: str) -> None:
        """Write a text file."""
        (self.folder / name).write_text(text, encoding="utf-8")

    def look_through(self, secrets: Sequence[str]) -> None:
        """Raise ExportError when a file must not leave this machine; `secrets` are folders that no file may name."""
        for name in self.files:
            refuse_private(self.folder / name, secrets)

    def publish(self) -> None:
        """Move what is written to its place in one step. Raises ExportError when there is something by now."""
        (self.folder / _PROGRESS).unlink(missing_ok=True)
        sync_folder(self.folder)
        refuse_existing(self.out)
        try:
            if is_zip(self.out):
                self._zipped().rename(self.out)
                shutil.rmtree(self.folder)
            else:
                self.folder.rename(self.out)
        except OSError as error:
            raise ExportError(f"{self.out} cannot be made", error.strerror or "", "choose another folder") from None
        sync_folder(self.out.parent)

    def _zipped(self) -> Path:
        packed = self.folder.with_name(f"{self.folder.name}.zip")
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in self.files:
                archive.write(self.folder / name, f"{self.out.stem}/{name.as_posix()}")
        return packed

    def _recorded(self) -> dict[str, str]:
        """Return the files of an interrupted export of the same inputs; remains of any other are removed."""
        try:
            found = parsed_json((self.folder / _PROGRESS).read_text(encoding="utf-8"))
            if found["digest"] == self._digest:
                return {str(name): str(sha256) for name, sha256 in found["shards"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        for path in self.folder.iterdir():
            path.unlink()
        return {}


def refuse_private(path: Path, secrets: Sequence[str]) -> None:
    """Raise ExportError when a file must not leave this machine."""
    if _PRIVATE_FILES.fullmatch(path.name):
        raise ExportError(
            "The export was not made", f"{path.name} belongs to the trainer alone", "report it as a defect"
        )
    with path.open("rb") as file:
        head = file.read(_LOOKED_AT_BYTES if path.suffix in _WEIGHTS else -1)
    if _TOKEN.search(head) or (path.suffix not in _WEIGHTS and SECRET.search(head.decode("utf-8", "replace"))):
        raise ExportError("The export was not made", f"{path.name} holds a token or key", "remove it from the source")
    for secret in secrets:
        if secret.encode() in head:
            raise ExportError(
                "The export was not made", f"{path.name} names a folder of this machine", "remove it from the source"
            )


def staging_folder(out: Path, *, resumable: bool = False) -> Path:
    """Return where an export is written until it is whole."""
    return out.with_name(f".{out.name}.{'merging' if resumable else 'exporting'}")


@contextmanager
def opened(out: Path, digest: str = "", needed_bytes: int = 0) -> Iterator[Staging]:
    """Open the staging folder of one export for one writer.

    Without a digest it begins empty and nothing is left when it ends; with one, what was written and not moved away
    stays unless the export can never succeed. Raises ExportError when `out` exists, DiskError when `needed_bytes` do
    not fit.
    """
    with sole_writer(out):
        folder = staging_folder(out, resumable=bool(digest))
        if not digest:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        staging = Staging(out, digest)
        try:
            if needed_bytes:
                check_disk(folder, needed_bytes - staging.bytes)
            yield staging
        except (ExportError, ModelError):  # it would end so every time: nothing is left to go on with
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            if not digest or not staging.has_begun:
                shutil.rmtree(folder, ignore_errors=True)
                folder.with_name(f"{folder.name}.zip").unlink(missing_ok=True)


@contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Hold the right to write one export. Raises ExportError when it exists or another writes it."""
    refuse_existing(out)
    lock = FileLock(out.with_name(f".{out.name}.lock"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        acquired = lock.acquire()
    except OSError as error:
        raise ExportError(f"{out} cannot be made", error.strerror or "", "choose another folder") from None
    if not acquired:
        raise ExportError(f"Another export is writing {out}", "", "wait for it")
    try:
        refuse_existing(out)  # again: whoever held the lock until now may have put it there
        yield
    finally:
        lock.remove()


def refuse_existing(out: Path) -> None:
    """Raise ExportError when there is anything at `out`."""
    if out.exists() or out.is_symlink():
        raise ExportError(f"{out} exists", "an export is never overwritten", "choose another folder or remove it")


def check_disk(folder: Path, bytes: int) -> None:
    """Raise DiskError when a disk has no room for a model of this size and the small files beside it."""
    needed, free = bytes + _SMALL_FILES_BYTES, disk_free_bytes(folder)
    if needed > free:
        unit, size = ("GB", 1e9) if needed >= 1e9 else ("MB", 1e6)
        raise DiskError(
            f"The export needs {needed / size:,.1f} {unit} more on this disk",
            f"{free / size:,.1f} {unit} are free",
            "free room or choose another folder",
        )
