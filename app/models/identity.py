"""Which base an adapter was trained on: a fingerprint of the base's weights, kept in a note beside the adapter.

Two bases of one shape load each other's adapters without a complaint and answer wrongly. The fingerprint is over every
byte of the weights, by tensor and not by file, so it is the same for one file and for shards, on a disk here and from
the hub, and whatever format the base is loaded in. A base that differs in one row is another base.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from app.errors import ModelError
from app.hardware import usable_cpus
from app.hub.client import cached_file
from app.hub.ids import is_local
from app.models.tensors import INDEX_FILE, SINGLE_FILE, StoredTensor, read_checkpoint
from app.reading import read_object

NOTE_FILE = "workbench.json"
# What a note's fingerprint covers. The first notes were made from samples of large tensors and do not say so.
_COVERS = "every byte"
_PIECE_BYTES = 4 << 20
_SHOWN = 12


def fingerprint(model: str, *, revision: str | None = None) -> str:
    """Return the identity of a base (a folder, or a hub id that was fetched) as 64 hex digits, empty if not known."""
    folder = Path(model) if is_local(model) else _fetched(model, revision)
    if folder is None:
        return ""
    try:
        tensors = read_checkpoint(folder)
    except ModelError:  # weights in another form than safetensors: loading it will say so
        return ""
    files = {tensor.file for tensor in tensors.values()}
    states = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(files)]
    return _digest(folder, tuple(states))


def write_note(adapter: Path, base_hash: str) -> None:
    """Note beside an adapter which base it was trained on; nothing when that is not known."""
    if base_hash:
        (adapter / NOTE_FILE).write_text(
            json.dumps({"base_sha256": base_hash, "covers": _COVERS}, indent=1), encoding="utf-8"
        )


def noted_base(adapter: Path) -> str:
    """Return the identity of the base that an adapter was trained on, empty when it has no note."""
    return str(_note(adapter).get("base_sha256", ""))


def base_warning(adapter: Path, base_hash: str) -> str:
    """Return a warning when an adapter was trained on another base than this one, else nothing."""
    trained_on = noted_base(adapter)
    if not trained_on or not base_hash or trained_on == base_hash:
        return ""
    if _note(adapter).get("covers") != _COVERS:
        return "trained by an earlier version, whose note cannot tell whether this is its base"
    return f"trained on another base ({trained_on[:_SHOWN]:.12}, this one is {base_hash[:_SHOWN]})"


def _note(adapter: Path) -> dict[str, object]:
    try:
        return read_object(adapter / NOTE_FILE)
    except (OSError, ValueError):
        return {}


@lru_cache(maxsize=4)
def _digest(folder: Path, states: tuple[tuple[str, int, int], ...]) -> str:
    """Hash all tensors of a folder; a process that asks twice reads files of the same `states` once."""
    tensors = read_checkpoint(folder)
    # hashlib holds no lock of Python's meanwhile, so that the disk is the limit and not one core.
    with ThreadPoolExecutor(usable_cpus()) as pool:
        hashes = pool.map(_tensor_sha256, (tensors[name] for name in sorted(tensors)))
        digest = hashlib.sha256()
        for name, content in zip(sorted(tensors), hashes, strict=True):
            digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape} {content}\n".encode())
    return digest.hexdigest()


def _fetched(hub_id: str, revision: str | None) -> Path | None:
    for name in (INDEX_FILE, SINGLE_FILE):
        if found := cached_file(hub_id, name, revision):
            return found.parent
    return None


def _tensor_sha256(tensor: StoredTensor) -> str:
    digest, left = hashlib.sha256(), tensor.bytes
    with tensor.file.open("rb", buffering=0) as file:
        file.seek(tensor.start)
        while left and (piece := file.read(min(left, _PIECE_BYTES))):
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()
