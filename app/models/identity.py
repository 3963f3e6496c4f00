"""Which base an adapter was trained on: a fingerprint of the base's weights, kept in a note beside the adapter.

Two bases of one shape load each other's adapters without a complaint and answer wrongly. The fingerprint is over the
weights themselves, by tensor and not by file, so it is the same for one file and for shards, on a disk here and from
the hub, and whatever format the base is loaded in. Tensors of up to 1 MiB are read whole, larger ones in 16 pieces: a
fine-tuned or perturbed copy differs in nearly every number, and 16 GB of weights are read in a moment.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from app.errors import ModelError
from app.models.names import is_local
from app.models.tensors import INDEX_FILE, SINGLE_FILE, StoredTensor, read_checkpoint

NOTE_FILE = "workbench.json"
_WHOLE_BYTES = 1 << 20
_PIECES, _PIECE_BYTES = 16, 4096
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
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
        _add_bytes(digest, tensor)
    return digest.hexdigest()


def write_note(adapter: Path, base_hash: str) -> None:
    """Note beside an adapter which base it was trained on; nothing when that is not known."""
    if base_hash:
        (adapter / NOTE_FILE).write_text(json.dumps({"base_sha256": base_hash}, indent=1), encoding="utf-8")


def noted_base(adapter: Path) -> str:
    """Return the identity of the base that an adapter was trained on, empty when it has no note."""
    try:
        found = json.loads((adapter / NOTE_FILE).read_text(encoding="utf-8"))
        return str(found["base_sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def base_warning(adapter: Path, base_hash: str) -> str:
    """Return a warning when an adapter was trained on another base than this one, else nothing."""
    trained_on = noted_base(adapter)
    if not trained_on or not base_hash or trained_on == base_hash:
        return ""
    return f"trained on another base ({trained_on[:_SHOWN]:.12}, this one is {base_hash[:_SHOWN]})"


def _fetched(hub_id: str, revision: str | None) -> Path | None:
    for name in (INDEX_FILE, SINGLE_FILE):
        found = try_to_load_from_cache(hub_id, name, revision=revision)
        if isinstance(found, str):
            return Path(found).parent
    return None


def _add_bytes(digest: hashlib._Hash, tensor: StoredTensor) -> None:
    with tensor.file.open("rb") as file:
        file.seek(tensor.start)
        if tensor.bytes <= _WHOLE_BYTES:
            digest.update(file.read(tensor.bytes))
            return
        for piece in range(_PIECES):
            place = (tensor.bytes - _PIECE_BYTES) * piece // (_PIECES - 1)
            file.seek(tensor.start + place)
            digest.update(file.read(_PIECE_BYTES))
