"""The experts of a mixture: three tensors a layer in the file, however a checkpoint stores them.

Checkpoints have a matrix an expert, or all of a layer in one tensor with gate and up joined: one behind the other, or
by turns (gpt-oss, whose matrices are transposed as well).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch

from app.export.gguf.sources import Changed, Source, Stacked
from app.models.tensors import StoredTensor

_SINGLE = re.compile(r".*layers\.(\d+)\.(?:mlp|block_sparse_moe)\.experts\.(\d+)\.(\w+)\.weight")
_JOINED = re.compile(
    r".*layers\.(\d+)\.(?:mlp|block_sparse_moe)\.(?:experts\.)?"
    r"(gate_up_proj|down_proj|gate_up_proj_bias|down_proj_bias|input_linear\.weight|output_linear\.weight)"
)
_KINDS = {"gate_proj": "gate", "up_proj": "up", "down_proj": "down", "w1": "gate", "w3": "up", "w2": "down"}


def is_expert(name: str) -> bool:
    """Tell whether a stored tensor belongs to routed experts."""
    return bool(_SINGLE.fullmatch(name)) or _joined(name) is not None


def parts_of(stored: Mapping[str, StoredTensor], *, transposed: bool) -> dict[str, Source]:
    """Return the experts' tensors of the file by name."""
    found: dict[str, Source] = {}
    stacks: dict[str, dict[int, StoredTensor]] = {}
    for name, source in stored.items():
        single, joined = _SINGLE.fullmatch(name), _joined(name)
        if single:
            stacks.setdefault(f"blk.{single[1]}.ffn_{_KINDS[single[3]]}_exps.weight", {})[int(single[2])] = source
        elif joined:
            end = "bias" if joined[2].endswith("_bias") else "weight"
            place = f"blk.{joined[1]}.ffn_"
            if joined[2].startswith(("down", "output")):
                turned = transposed and end == "weight"
                found[f"{place}down_exps.{end}"] = Changed(source, _turned) if turned else source
            else:
                for number, kind in enumerate(("gate", "up")):
                    found[f"{place}{kind}_exps.{end}"] = Changed(source, _half(number, by_turns=transposed))
    for name, parts in stacks.items():
        found[name] = Stacked([parts[number] for number in sorted(parts)])
    return found


def _joined(name: str) -> re.Match[str] | None:
    found = _JOINED.fullmatch(name)
    # A dense layer may join gate and up as well, as a linear layer with `.weight` behind it.
    return found if found and (".experts." in name or "_linear." in name) else None


def _turned(block: torch.Tensor) -> torch.Tensor:
    return block.transpose(-1, -2)


def _half(number: int, *, by_turns: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what takes gate (0) or up (1) out of (experts, both, columns), or by turns out of (..., both)."""

    def take(block: torch.Tensor) -> torch.Tensor:
        if not by_turns:
            half = block.shape[1] // 2
            return block[:, number * half : (number + 1) * half]
        part = block[..., number::2]
        return part.transpose(-1, -2) if part.ndim == 3 else part

    return take
