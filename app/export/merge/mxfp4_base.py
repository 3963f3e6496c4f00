"""The stacks of experts of a base in MXFP4 as the merge reads any tensor: rows of bfloat16, dequantised when asked for.

Every weight of the format is exact in bfloat16, so nothing is lost and the base needs no copy in 16 bits on the disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from app.errors import ModelError
from app.models.moe import mxfp4
from app.models.tensors import StoredTensor

_GROUP = 32


@dataclass(frozen=True)
class Mxfp4Tensor(StoredTensor):
    """A stack (experts, in, out) or one matrix (in, out) of it.

    packed (..., out, groups, 16) and scales (..., out, groups) are where its weights lie; each group is 32 inputs.
    """

    packed: StoredTensor
    scales: StoredTensor

    def read(self, first: int = 0, last: int | None = None) -> torch.Tensor:
        """Return the rows from `first` up to `last` as numbers. A matrix is unpacked no further than its rows reach."""
        last = self.rows if last is None else min(last, self.rows)
        if len(self.shape) == 3:
            return torch.stack([self.inner(expert).read() for expert in range(first, last)])
        groups = slice(first // _GROUP, -(-last // _GROUP))
        weights = mxfp4.dequantise(self.packed.read()[:, groups], self.scales.read()[:, groups], self.dtype)
        start = first - groups.start * _GROUP
        return weights[:, start : start + last - first].T.contiguous()

    def inner(self, number: int) -> Mxfp4Tensor:
        """Return one expert's matrix."""
        return replace(self, shape=self.shape[1:], packed=self.packed.inner(number), scales=self.scales.inner(number))


def plain(stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Return the tensors of a checkpoint with one of numbers in place of each pair of blocks and scales.

    Raises ModelError when a pair is not whole.
    """
    found: dict[str, StoredTensor] = {}
    for name, tensor in stored.items():
        if name.endswith(mxfp4.SCALES) and name.removesuffix(mxfp4.SCALES) + mxfp4.BLOCKS in stored:
            continue
        if not name.endswith(mxfp4.BLOCKS):
            found[name] = tensor
            continue
        stem = name.removesuffix(mxfp4.BLOCKS)
        scales = stored.get(stem + mxfp4.SCALES)
        if scales is None or tensor.shape[:-1] != scales.shape or len(tensor.shape) != 4 or tensor.shape[-1] != 16:
            raise ModelError(f"{tensor.file} is damaged", f"{name} and its scales do not fit", "fetch the model again")
        experts, outputs, groups, _ = tensor.shape
        shape = (experts, groups * _GROUP, outputs)
        found[stem] = Mxfp4Tensor(stem, tensor.file, torch.bfloat16, shape, tensor.start, tensor, scales)
    return found


def note(stored: Mapping[str, StoredTensor]) -> str:
    """Return the line of a merge's report about a base that was stored so, empty for any other."""
    packed = [tensor for name, tensor in stored.items() if isinstance(tensor, Mxfp4Tensor)]
    if not packed:
        return ""
    held = sum(tensor.packed.bytes + tensor.scales.bytes for tensor in packed)
    written = sum(tensor.bytes for tensor in packed)
    return (
        f"The base's experts are stored in MXFP4 (4.25 bits a weight, {held / 1e9:.2f} GB). They were read as "
        f"bfloat16, which holds them exactly; in the merged model they take {written / 1e9:.2f} GB."
    )
