"""Write a GGUF file tensor by tensor and block by block, and read it back the same way.

The head comes from the gguf package; the values are written here, since the package takes a tensor only whole. Tensors
stand one behind the other, so a file that was broken off tells by its length which of them are whole.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from gguf import GGML_QUANT_VERSION, GGUF_DEFAULT_ALIGNMENT, GGMLQuantizationType, GGUFReader, GGUFWriter

from app.errors import ExportError
from app.export.gguf.quantization import formats
from app.export.gguf.quantization.llama_cpp import Floats


@dataclass(frozen=True)
class Entry:
    """A tensor of the file: name, shape (rows first), format, and its values in float32 in blocks of whole rows.

    importance: how much each column counts, (columns), or (experts, columns) where each expert has its own; None counts
    all alike.
    """

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    blocks: Callable[[], Iterator[torch.Tensor]]
    importance: Floats | None = None

    @property
    def bytes(self) -> int:
        """Return its size in the file without padding."""
        return formats.encoded_bytes(self.shape, self.kind)


@dataclass(frozen=True)
class Written:
    """What the reading back found: tensors, the largest difference from the source, and values beyond a half step."""

    tensors: int
    values: int
    max_abs_error: float
    beyond_rounding: int

    @property
    def as_expected(self) -> bool:
        """Tell whether every value is within the rounding of its format."""
        return self.beyond_rounding == 0

    def as_dict(self) -> dict[str, object]:
        """Return plain data."""
        return asdict(self)


def head_of(writer: GGUFWriter, path: Path, entries: Sequence[Entry]) -> bytes:
    """Return all that stands before the tensors, by way of a file beside `path`: the package writes to files alone."""
    writer.add_quantization_version(GGML_QUANT_VERSION)
    for entry in entries:
        # The data type is not looked at where the format is given.
        writer.add_tensor_info(entry.name, entry.shape, np.dtype(np.float32), entry.bytes, raw_dtype=entry.kind)
    place = path.with_name(f"{path.name}.head")
    try:
        writer.write_header_to_file(place)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        return place.read_bytes()
    finally:
        place.unlink(missing_ok=True)


def write(
    path: Path,
    head: bytes,
    entries: Sequence[Entry],
    pause: Callable[[], None] = lambda: None,
    progress: Callable[[int], None] = lambda done_bytes: None,
) -> tuple[str, int]:
    """Write head and tensors; return the file's SHA-256 and how many tensors were there already.

    Whole tensors of a file that was broken off stay where it begins with the same head. That they are of the same
    values is for `check` to tell.
    """
    kept, end = _whole_tensors(path, head, entries)
    with path.open("r+b" if kept else "wb") as file:
        if kept:
            file.truncate(end)
            file.seek(end)
        else:
            file.write(head)
        _write_tensors(file, entries, kept, pause, progress)
        file.flush()
        os.fsync(file.fileno())
    return _sha256(path, pause), kept


def _whole_tensors(path: Path, head: bytes, entries: Sequence[Entry]) -> tuple[int, int]:
    """Return how many tensors of a file are whole, and where the last of them ends; none where the head differs."""
    if not path.is_file():
        return 0, 0
    with path.open("rb") as file:
        if file.read(len(head)) != head:
            return 0, 0
    size, end, kept = path.stat().st_size, len(head), 0
    for entry in entries:
        behind = end + -end % GGUF_DEFAULT_ALIGNMENT + entry.bytes
        if behind > size:
            break
        end, kept = behind, kept + 1
    return kept, end


def _write_tensors(
    file: BinaryIO,
    entries: Sequence[Entry],
    kept: int,
    pause: Callable[[], None],
    progress: Callable[[int], None],
) -> None:
    done = total_bytes(entries[:kept])
    for entry in entries[kept:]:
        _pad(file)
        before, first, weights = file.tell(), 0, entry.importance
        for block in entry.blocks():
            pause()
            its = weights[first : first + len(block)] if weights is not None and weights.ndim == 2 else weights
            file.write(formats.encode(block, entry.kind, entry.name, its))
            first += len(block)
        assert file.tell() - before == entry.bytes, entry.name
        done += entry.bytes
        progress(done)
    _pad(file)


def _pad(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % GGUF_DEFAULT_ALIGNMENT))


def _sha256(path: Path, pause: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            pause()
            digest.update(piece)
    return digest.hexdigest()


def check(path: Path, entries: Sequence[Entry], pause: Callable[[], None] = lambda: None) -> Written:
    """Read a file back and compare every value with its source. Raises ExportError when the file is not what it says.

    The values are read into a buffer: pages of the package's memory map would count as memory of the process.
    """
    places = _places(path, entries)
    values = beyond = 0
    largest = 0.0
    with path.open("rb") as file:
        for entry in entries:
            file.seek(places[entry.name])
            for block in entry.blocks():
                pause()
                source = block.float()
                shape = tuple(source.shape)
                found = formats.decode(file.read(formats.encoded_bytes(shape, entry.kind)), entry.kind, shape)
                off, outside = formats.deviation(found, source, entry.kind, is_weighed=entry.importance is not None)
                largest, beyond = max(largest, off, key=lambda one: (math.isnan(one), one)), beyond + outside
                values += source.numel()
    return Written(len(entries), values, largest, beyond)


def _places(path: Path, entries: Sequence[Entry]) -> dict[str, int]:
    """Return where each tensor's values begin, after comparing names, shapes and formats."""
    reader = GGUFReader(path)
    found = {tensor.name: tensor for tensor in reader.tensors}
    wanted = {entry.name: entry for entry in entries}
    wrong = set(found) ^ set(wanted)
    for name in set(found) & set(wanted):
        shape = tuple(int(length) for length in reversed(found[name].shape))
        if shape != wanted[name].shape or found[name].tensor_type != wanted[name].kind:
            wrong.add(name)
    if wrong:
        raise ExportError("The written GGUF file is not whole", f"{sorted(wrong)[0]} is not as planned", "try again")
    places = {name: int(tensor.data_offset) for name, tensor in found.items()}
    with suppress(AttributeError):  # the map is closed at once where numpy shows it, else with the reader
        reader.data._mmap.close()  # type: ignore[attr-defined]
    return places


def block_elements(max_ram_bytes: int) -> int:
    """Return the values of a block: stored, in float32, shifted, encoded, and compared, 32 bytes each at most."""
    return max(1, min(16 << 20, max_ram_bytes // 2 // 32))


def total_bytes(entries: Sequence[Entry]) -> int:
    """Return the size of all tensors."""
    return sum(entry.bytes for entry in entries)


def parameters(entries: Sequence[Entry]) -> int:
    """Return the number of values."""
    return sum(math.prod(entry.shape) for entry in entries)


def metadata(path: Path) -> Mapping[str, object]:
    """Return the key-value pairs of a file."""
    return {name: field.contents() for name, field in GGUFReader(path).fields.items()}
