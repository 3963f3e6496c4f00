"""Add an adapter to its base, block by block: float32 arithmetic, one rounding, bounded memory.

With W the stored weight, s the scaling, and m the magnitude of DoRA (arXiv:2402.09353):

    LoRA  W + s B A         DoRA  m / ||W + s B A|| * (W + s B A), the norm taken over the inputs of each output
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from app.errors import ExportError
from app.export.plan import Output
from app.models.adapters import AdapterFolder, LoraUpdate

# Bytes that one element of a block takes at most: as stored, in float32, its rounded copy, and room for the product.
_BYTES_AN_ELEMENT = 16
_LARGEST_BLOCK = 32 << 20


def block_elements(max_ram_bytes: int) -> int:
    """Return the elements of a block; half of the memory is left for A and B, buffers and the allocator."""
    return max(1, min(_LARGEST_BLOCK, max_ram_bytes // 2 // _BYTES_AN_ELEMENT))


def merged_blocks(
    output: Output, adapter: AdapterFolder, elements: int, pause: Callable[[], None]
) -> Iterator[torch.Tensor]:
    """Yield the rows of one merged tensor in order, in the output's dtype. `pause` is called before each block."""
    update = None if output.layer is None else _widened(adapter.update(output.layer))
    factor = None
    if update is not None and update.magnitude is not None and not output.bias:
        factor = update.magnitude.float().flatten() / _norms(output, update, elements, pause)
    for first, last in output.source.blocks(elements):
        pause()
        block = output.source.read(first, last)
        if update is not None:
            block = _updated(block, output, update, first, last, factor)
        if block.dtype != output.outline.dtype:
            block = rounded(block, output.outline.dtype, output.outline.name)
        yield block


def _widened(update: LoraUpdate) -> LoraUpdate:
    return LoraUpdate(update.module, update.a.float(), update.b.float(), update.scaling, update.magnitude, update.bias)


def _updated(
    block: torch.Tensor, output: Output, update: LoraUpdate, first: int, last: int, factor: torch.Tensor | None
) -> torch.Tensor:
    """Return rows `first` to `last` of the merged tensor in float32."""
    if output.bias:
        assert update.bias is not None
        return block.float() + update.scaling * update.bias.float()[first:last]
    result = _summed(block, output, update, first, last)
    if factor is not None:
        result *= factor if output.transposed else factor[first:last, None]
    return result


def _summed(block: torch.Tensor, output: Output, update: LoraUpdate, first: int, last: int) -> torch.Tensor:
    """Return rows of W + s B A; of its transpose where the weight is stored transposed."""
    result = block.float()
    if output.transposed:
        return result.addmm_(update.a[:, first:last].T, update.b.T, alpha=update.scaling)
    return result.addmm_(update.b[first:last], update.a, alpha=update.scaling)


def _norms(output: Output, update: LoraUpdate, elements: int, pause: Callable[[], None]) -> torch.Tensor:
    """Return the norm of each output of W + s B A, in a pass of its own."""
    squares = torch.zeros(update.b.shape[0], dtype=torch.float64)
    for first, last in output.source.blocks(elements):
        pause()
        rows = _summed(output.source.read(first, last), output, update, first, last)
        rows *= rows
        if output.transposed:
            squares += rows.sum(0, dtype=torch.float64)
        else:
            squares[first:last] = rows.sum(1, dtype=torch.float64)
    return squares.sqrt().float()


def rounded(block: torch.Tensor, dtype: torch.dtype, name: str) -> torch.Tensor:
    """Return a block in another format. Raises ExportError when a value is too large for it."""
    found = block.to(dtype)
    if not torch.isfinite(found).all() and torch.isfinite(block).all():
        raise ExportError(
            f"The tensor {name} does not fit {str(dtype).removeprefix('torch.')}",
            "a value is too large",
            "choose --dtype bf16",
        )
    return found
