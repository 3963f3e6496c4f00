"""An export on its way: written beside its place, looked through, and moved there when it is whole."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.errors import ExportError
from app.export.folder import refuse_existing, sole_writer, sync

# What trainers leave beside an adapter; training_args.bin holds a hub token in clear (measured).
_PRIVATE_FILES = re.compile(
    r".*\.(bin|pt|pth|ckpt|pkl)|optimizer.*|scheduler.*|rng_state.*|trainer_state\.json|complete\.json|events\.out.*"
)
_TOKEN = re.compile(rb"\bhf_[A-Za-z0-9]{20,}")
_TEXTS = {".json", ".jsonl", ".md", ".txt", ".jinja", ".svg", ".sh", ".yaml", ".gguf", ".safetensors", ""}
# Heads of GGUF and safetensors files, in which names and settings stand.
_LOOKED_AT_BYTES = 4 << 20
_PIECE_BYTES = 8 << 20


@dataclass(frozen=True)
class Parcel:
    """The folder that an export is written into. A place that ends in .zip becomes one file."""

    folder: Path
    out: Path

    @property
    def files(self) -> list[Path]:
        """Return all files, relative to the folder."""
        return sorted(path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file())

    @property
    def bytes(self) -> int:
        """Return the size of all files."""
        return sum((self.folder / name).stat().st_size for name in self.files)

    def add(self, source: Path, name: str | None = None, pause: Callable[[], None] = lambda: None) -> None:
        """Copy a file in, in pieces."""
        with source.open("rb") as read, (self.folder / (name or source.name)).open("wb") as write:
            while piece := read.read(_PIECE_BYTES):
                pause()
                write.write(piece)

    def add_text(self, name: str, text: str) -> None:
        """Write a text file."""
        (self.folder / name).write_text(text, encoding="utf-8")

    def publish(self, secrets: Sequence[str]) -> None:
        """Look the files through and move them to their place in one step.

        Raises ExportError when a file is a trainer's own, or a token or one of `secrets` (folders of this machine)
        stands in it.
        """
        for name in self.files:
            refuse_private(self.folder / name, secrets)
        sync(self.folder)
        refuse_existing(self.out)
        if self.out.suffix == ".zip":
            self._zipped().rename(self.out)
            shutil.rmtree(self.folder)
        else:
            self.folder.rename(self.out)
        sync(self.out.parent)

    def _zipped(self) -> Path:
        packed = self.folder.with_name(f"{self.folder.name}.zip")
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in self.files:
                archive.write(self.folder / name, f"{self.out.stem}/{name.as_posix()}")
        return packed


def refuse_private(path: Path, secrets: Sequence[str]) -> None:
    """Raise ExportError when a file must not leave this machine."""
    if _PRIVATE_FILES.fullmatch(path.name):
        raise ExportError(
            "The export was not made", f"{path.name} belongs to the trainer alone", "report it as a defect"
        )
    if path.suffix not in _TEXTS:
        return
    with path.open("rb") as file:
        head = file.read(_LOOKED_AT_BYTES)
    if _TOKEN.search(head):
        raise ExportError("The export was not made", f"{path.name} holds a hub token", "remove it from the source")
    for secret in secrets:
        if secret.encode() in head:
            raise ExportError(
                "The export was not made", f"{path.name} names a folder of this machine", "remove it from the source"
            )


@contextmanager
def opened(out: Path) -> Iterator[Parcel]:
    """Open an empty parcel for one writer; what a killed export left is removed.

    Raises ExportError when `out` exists.
    """
    with sole_writer(out):
        folder = out.with_name(f".{out.name}.exporting")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield Parcel(folder, out)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            folder.with_name(f"{folder.name}.zip").unlink(missing_ok=True)
