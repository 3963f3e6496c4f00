"""Write safetensors shards tensor by tensor: the header first, then the bytes as they come."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch

from app.models.tensors import INDEX_FILE, NAMES, SINGLE_FILE

SHARD_BYTES = 4 << 30


@dataclass(frozen=True)
class Outline:
    """A tensor that will be written."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Return its size on disk."""
        return math.prod(self.shape) * int(self.dtype.itemsize)


def layout(tensors: Sequence[Outline], shard_bytes: int = SHARD_BYTES) -> dict[str, list[Outline]]:
    """Share tensors out over files of at most `shard_bytes`, in order; a larger tensor gets a file of its own."""
    shards: list[list[Outline]] = [[]]
    for tensor in tensors:
        if shards[-1] and sum(other.bytes for other in shards[-1]) + tensor.bytes > shard_bytes:
            shards.append([])
        shards[-1].append(tensor)
    if len(shards) == 1:
        return {SINGLE_FILE: shards[0]}
    count = len(shards)
    return {f"model-{number:05d}-of-{count:05d}.safetensors": shard for number, shard in enumerate(shards, 1)}


def write_index(folder: Path, shards: dict[str, list[Outline]]) -> None:
    """Write the index of a sharded model; a single file needs none."""
    if len(shards) == 1:
        return
    weight_map = {tensor.name: name for name, shard in shards.items() for tensor in shard}
    total = sum(tensor.bytes for shard in shards.values() for tensor in shard)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=2), encoding="utf-8")


class ShardWriter:
    """One shard. It has its final name only once every byte is on the disk."""

    def __init__(self, path: Path, tensors: Sequence[Outline]) -> None:
        self._path, self._fresh = path, path.with_name(path.name + ".tmp")
        self._tensors = list(tensors)
        self._digest = hashlib.sha256()
        self._file = self._fresh.open("wb")
        self._write(_header(self._tensors))

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def put(self, tensor: Outline, blocks: Iterable[torch.Tensor]) -> None:
        """Write the next tensor, block by block, in the order of the header."""
        assert self._tensors and self._tensors[0] == tensor, tensor.name
        before = self._file.tell()
        for block in blocks:
            self._write(memoryview(block.contiguous().reshape(-1).view(torch.uint8).numpy()))
        assert self._file.tell() - before == tensor.bytes, tensor.name
        self._tensors.pop(0)

    def finish(self) -> str:
        """Put the shard in its place and return its SHA-256."""
        assert not self._tensors
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._fresh.replace(self._path)
        return self._digest.hexdigest()

    def _write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._digest.update(data)


def _header(tensors: Sequence[Outline]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    place = 0
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [place, place + tensor.bytes],
        }
        place += tensor.bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # data begins on a multiple of 8, as the reference implementation has it
    return struct.pack("<Q", len(text)) + text
