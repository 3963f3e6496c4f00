"""A 16-bit copy of a base that is stored in bitsandbytes' 4 bits, for people who have no other: tensor by tensor.

Its weights carry the rounding of the 4-bit format for good; the receipt says so.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from bitsandbytes.functional import QuantState, dequantize_4bit

from app.catalog.reader import read_config
from app.errors import ExportError, ModelError
from app.export.merge.shards import SHARD_BYTES, Outline, ShardWriter, layout, write_index
from app.models.tensors import INDEX_FILE, StoredTensor, read_checkpoint
from app.reading import is_count, parsed_json

_STATE = re.compile(r"(?P<weight>.+)\.quant_state\.bitsandbytes__(nf4|fp4)")
NOTE = "The base was stored in 4 bits and was dequantised: the merged weights carry that rounding for good."


def write_copy(folder: Path, target: Path, pause: Callable[[], None] = lambda: None) -> None:
    """Write a model folder with plain weights into `target`. Raises ExportError for any other format than 4-bit."""
    stored = read_checkpoint(folder)
    states = {match["weight"]: name for name in stored if (match := _STATE.fullmatch(name))}
    if not states:
        raise ExportError(
            "The base cannot be dequantised", "it is not stored in bitsandbytes' 4 bits", "name the 16-bit model"
        )
    parts = {name for name in stored if any(name.startswith(f"{weight}.") for weight in _owners(name, states))}
    outlines = [_outline(stored, name, states.get(name)) for name in stored if name not in parts]
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shards = layout(outlines, SHARD_BYTES)
    for shard, tensors in shards.items():
        with ShardWriter(target / shard, tensors) as writer:
            for tensor in tensors:
                pause()
                writer.put(tensor, [_plain(stored, tensor.name, tensor.name in states)])
            writer.finish()
    write_index(target, shards)
    _copy_surroundings(folder, target, outlines)


def _owners(name: str, states: Mapping[str, str]) -> list[str]:
    """Return the quantised weight that a tensor belongs to, if it is a part of one."""
    stem, found, _ = name.rpartition(".weight.")
    return [f"{stem}.weight"] if found and f"{stem}.weight" in states else []


def _outline(stored: Mapping[str, StoredTensor], name: str, state: str | None) -> Outline:
    tensor = stored[name]
    if state is None:
        return Outline(name, tensor.dtype, tensor.shape)
    try:
        held = parsed_json(bytes(stored[state].read().tolist()))
        dtype, shape = getattr(torch, held["dtype"]), tuple(held["shape"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{tensor.file} is damaged", f"{state} cannot be read: {error}", "fetch it again") from None
    if not isinstance(dtype, torch.dtype) or not all(is_count(one) for one in shape):
        raise ModelError(f"{tensor.file} is damaged", f"{state} names no tensor", "fetch it again")
    return Outline(name, dtype, shape)


def _plain(stored: Mapping[str, StoredTensor], name: str, quantised: bool) -> torch.Tensor:
    """Return one tensor with plain values; it is held whole."""
    if not quantised:
        return stored[name].read()
    parts = {other.removeprefix(f"{name}."): stored[other].read() for other in stored if other.startswith(f"{name}.")}
    plain: torch.Tensor = dequantize_4bit(stored[name].read(), QuantState.from_dict(parts, device=torch.device("cpu")))
    return plain


def _copy_surroundings(folder: Path, target: Path, outlines: list[Outline]) -> None:
    for path in folder.iterdir():
        if path.is_file() and path.suffix in (".json", ".jinja", ".model", ".txt") and path.name != INDEX_FILE:
            shutil.copyfile(path, target / path.name)
    config = read_config(folder / "config.json")
    config.pop("quantization_config", None)
    largest = max(outlines, key=lambda outline: outline.bytes)
    config.pop("torch_dtype", None)
    config["dtype"] = str(largest.dtype).removeprefix("torch.")
    (target / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")
