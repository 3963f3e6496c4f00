from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.errors import ModelError
from app.export.merge.shards import Outline, ShardWriter, layout, write_index
from app.models.tensors import INDEX_FILE, SINGLE_FILE, read_checkpoint, read_header

TENSORS = {
    "matrix": torch.arange(12, dtype=torch.float32).view(4, 3),
    "half": torch.randn(5, 2, 3).to(torch.bfloat16),
    "number": torch.tensor(7, dtype=torch.int64),
    "empty": torch.empty(0, 3),
    "flags": torch.tensor([True, False]),
}


def test_tensors_are_read_whole_and_by_rows(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / SINGLE_FILE)
    stored = read_checkpoint(tmp_path)
    assert set(stored) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert torch.equal(stored[name].read(), tensor) and stored[name].read().dtype == tensor.dtype
    assert torch.equal(stored["matrix"].read(1, 3), TENSORS["matrix"][1:3])
    pieces = [stored["half"].read(first, last) for first, last in stored["half"].blocks(12)]
    assert len(pieces) == 3 and torch.equal(torch.cat(pieces), TENSORS["half"])


def test_written_shards_are_read_by_safetensors(tmp_path: Path) -> None:
    outlines = [Outline(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in TENSORS.items()]
    shards = layout(outlines, 60)
    assert len(shards) > 1
    for name, shard in shards.items():
        with ShardWriter(tmp_path / name, shard) as writer:
            for outline in shard:
                tensor = TENSORS[outline.name]
                writer.put(outline, [tensor] if tensor.ndim < 2 else list(tensor.split(2)))
            writer.finish()
    write_index(tmp_path, shards)
    found = {key: value for name in shards for key, value in load_file(tmp_path / name).items()}
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())
    assert set(read_checkpoint(tmp_path)) == set(TENSORS)


def header(entry: dict[str, object], data: bytes = b"\0" * 16) -> bytes:
    text = json.dumps({"t": entry}).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        struct.pack("<Q", 4) + b"nope",
        struct.pack("<Q", 2) + b"[]",
        header({"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}),
        header({"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}),
        header({"dtype": "F32", "shape": [-4], "data_offsets": [0, -16]}),
        header({"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]}),
        header({"dtype": "XYZ", "shape": [4], "data_offsets": [0, 16]}),
        header({"shape": [4]}),
    ],
)
@pytest.mark.fault("A13")
def test_wrong_headers_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / SINGLE_FILE).write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        read_header(tmp_path / SINGLE_FILE)


def test_an_index_cannot_point_outside_or_at_nothing(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors")
    (tmp_path / INDEX_FILE).write_text(json.dumps({"weight_map": {"matrix": "../a.safetensors"}}))
    with pytest.raises(ModelError, match="outside"):
        read_checkpoint(tmp_path)
    (tmp_path / INDEX_FILE).write_text(json.dumps({"weight_map": {"matrix": "a.safetensors", "gone": "a.safetensors"}}))
    with pytest.raises(ModelError, match="in no shard"):
        read_checkpoint(tmp_path)
