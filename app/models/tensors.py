"""Read safetensors files row by row with plain reads.

A memory-mapped file counts as memory of the process once its pages are touched; reading into a buffer does not, so a
model of any size can be walked through in a bounded amount of memory. Format: https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from app.errors import ModelError
from app.reading import file_size, parsed_json

INDEX_FILE, SINGLE_FILE = "model.safetensors.index.json", "model.safetensors"
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
# A file begins with its header's length, a little-endian number.
_LENGTH_BYTES = 8
# The reference implementation's limit on headers.
_LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies: file, dtype, shape, and the place of its first byte."""

    name: str
    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def rows(self) -> int:
        """Return the size of the first dimension, 1 for a single number."""
        return self.shape[0] if self.shape else 1

    @property
    def row_elements(self) -> int:
        """Return the elements of one row."""
        return math.prod(self.shape[1:])

    @property
    def bytes(self) -> int:
        """Return the size on disk."""
        return math.prod(self.shape) * int(self.dtype.itemsize)

    def read(self, first: int = 0, last: int | None = None) -> torch.Tensor:
        """Return the rows from `first` up to `last` in a buffer of their own."""
        last = self.rows if last is None else min(last, self.rows)
        row_bytes = self.row_elements * self.dtype.itemsize
        buffer = bytearray((last - first) * row_bytes)
        with self.file.open("rb", buffering=0) as file:
            file.seek(self.start + first * row_bytes)
            _read_all(file, memoryview(buffer), self)
        shape = (last - first, *self.shape[1:]) if self.shape else ()
        if not buffer:
            return torch.empty(shape, dtype=self.dtype)
        return torch.frombuffer(buffer, dtype=self.dtype).view(shape)

    def inner(self, number: int) -> StoredTensor:
        """Return one entry of the first dimension as a tensor of its own."""
        start = self.start + number * self.row_elements * int(self.dtype.itemsize)
        return replace(self, shape=self.shape[1:], start=start)

    def blocks(self, elements: int) -> Iterator[tuple[int, int]]:
        """Yield row ranges of about this many elements, one row at least."""
        step = max(1, elements // max(1, self.row_elements))
        for first in range(0, self.rows, step):
            yield first, min(first + step, self.rows)


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of one safetensors file. Raises ModelError when the header or an offset is wrong."""
    try:
        size = file_size(path)
        with path.open("rb") as file:
            if size < _LENGTH_BYTES:
                raise ValueError("the file is cut off before its header" if size else "the file is empty")
            (length,) = struct.unpack("<Q", file.read(_LENGTH_BYTES))
            if length > min(size, _LONGEST_HEADER):
                raise ValueError("the header is longer than the file")
            header = parsed_json(file.read(length))
        if not isinstance(header, dict):
            raise ValueError("the header is no object")
        header.pop("__metadata__", None)
        return {name: _stored(path, name, entry, _LENGTH_BYTES + length, size) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, struct.error, RecursionError) as error:
        raise ModelError(f"{path} is damaged", str(error), "fetch the file again") from None


def read_checkpoint(folder: Path) -> dict[str, StoredTensor]:
    """Return all tensors of a model folder, sharded or not. Raises ModelError."""
    index = folder / INDEX_FILE
    if not index.is_file():
        return read_header(folder / SINGLE_FILE)
    try:
        weight_map = parsed_json(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted({str(name) for name in weight_map.values()})
        if any(Path(name).name != name for name in files):
            raise ValueError("a shard lies outside the folder")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} cannot be read", str(error), "fetch the file again") from None
    found: dict[str, StoredTensor] = {}
    for name in files:
        found.update(read_header(folder / name))
    missing = sorted(set(weight_map) - set(found))
    if missing:
        raise ModelError(f"{folder} is incomplete", f"the tensor {missing[0]} is in no shard", "fetch the model again")
    return found


def _stored(path: Path, name: str, entry: Mapping[str, Any], data_start: int, size: int) -> StoredTensor:
    dtype = DTYPES.get(entry["dtype"])
    if dtype is None:
        raise ValueError(f"{name} has the unknown format {entry['dtype']}")
    shape = tuple(int(length) for length in entry["shape"])
    start, end = (int(place) for place in entry["data_offsets"])
    if min((*shape, start), default=0) < 0 or end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} has offsets that do not fit its shape")
    if data_start + end > size:
        raise ValueError(f"{name} reaches behind the end of the file")
    return StoredTensor(name, path, dtype, shape, data_start + start)


def _read_all(file: Any, target: memoryview, tensor: StoredTensor) -> None:
    while target:
        count = file.readinto(target)
        if not count:
            raise ModelError(
                f"{tensor.file} is damaged", f"the tensor {tensor.name} breaks off", "fetch the file again"
            )
        target = target[count:]
