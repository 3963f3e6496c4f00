"""4-bit weights of bases, kept on disk as they were quantised: the next load reads them as they are.

Quantising takes most of a load (on a processor nearly all of it) and gives the same bits each time. What is kept is
found by everything that the bits depend on: the hash of every byte of the base's weights, its configuration, the
format, the compute format, the kind of device and the versions of the libraries. It is a folder as `save_pretrained`
writes it, complete or not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from transformers import PreTrainedModel

from app.files import disk_free_bytes
from app.reading import read_object

# Bases that are loaded in a moment anyhow are not kept.
LEAST_BYTES = 50 << 20
# All of them take at most so much, and leave at least so much of the disk free.
MOST_BYTES, LEAST_FREE_BYTES = 40 << 30, 10 << 30
_RECORD = "stored.json"
_LIBRARIES = ("bitsandbytes", "transformers", "torch")
# Counts up when what is kept changes its form.
_FORM = 1


@dataclass(frozen=True)
class Identity:
    """What the bits of a quantised base depend on. `base_sha256` is its fingerprint."""

    base_sha256: str
    config_sha256: str
    quant: str
    double_quant: bool
    compute_dtype: str
    dtype: str
    device: str

    @property
    def name(self) -> str:
        """Return the name of its folder."""
        libraries = {name: version(name) for name in _LIBRARIES}
        facts = {**asdict(self), **libraries, "form": _FORM}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


class StoredWeights:
    """The kept weights of a workspace, in a folder of their own."""

    def __init__(self, root: Path, *, least_bytes: int = LEAST_BYTES, most_bytes: int = MOST_BYTES) -> None:
        """Keep in `root` what takes at least `least_bytes`, and of all at most `most_bytes`."""
        self._root, self._least_bytes, self._most_bytes = root, least_bytes, most_bytes

    def find(self, identity: Identity) -> Path | None:
        """Return the folder of kept weights, None where there is none that is whole; it counts as used now."""
        folder = self._root / identity.name
        try:
            sizes = read_object(folder / _RECORD)
        except (OSError, ValueError):
            return None
        if sizes != _sizes(folder):
            shutil.rmtree(folder, ignore_errors=True)
            return None
        with suppress(OSError):
            os.utime(folder)
        return folder

    def keep(self, identity: Identity, model: PreTrainedModel) -> bool:
        """Write the weights of a base that was just quantised; tell whether they are kept now.

        Those used longest ago make room. Where there is none, and where writing fails, nothing is kept.
        """
        needed = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
        if needed < self._least_bytes or not self._make_room(needed):
            return False
        folder, fresh = self._root / identity.name, self._root / f"{identity.name}.{os.getpid()}.part"
        try:
            model.save_pretrained(fresh)
            (fresh / _RECORD).write_text(json.dumps(_sizes(fresh)), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
        except Exception as error:
            # Broad on purpose: safetensors and transformers raise classes of their own for a full disk and for models
            # that cannot be written. The run goes on with what it has loaded; only the next load takes longer.
            print(f"The quantised base was not kept: {error}", flush=True)
            shutil.rmtree(fresh, ignore_errors=True)
            return False
        return True

    def _make_room(self, needed: int) -> bool:
        """Remove what was used longest ago until `needed` bytes fit; tell whether they do."""
        if needed > self._most_bytes:
            return False
        self._root.mkdir(parents=True, exist_ok=True)
        held = sorted((each for each in self._root.iterdir() if each.is_dir()), key=lambda each: each.stat().st_mtime)
        sizes = {each: sum(_sizes(each).values()) for each in held}
        while sizes and (
            sum(sizes.values()) + needed > self._most_bytes or disk_free_bytes(self._root) < needed + LEAST_FREE_BYTES
        ):
            oldest = next(iter(sizes))
            shutil.rmtree(oldest, ignore_errors=True)
            del sizes[oldest]
        return disk_free_bytes(self._root) >= needed + LEAST_FREE_BYTES


def _sizes(folder: Path) -> dict[str, int]:
    try:
        return {each.name: each.stat().st_size for each in folder.iterdir() if each.name != _RECORD}
    except OSError:
        return {}
