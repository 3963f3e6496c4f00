"""Add an adapter to its base, block by block: float32 arithmetic, one rounding, bounded memory.

With W the stored weight, s the scaling, and m the magnitude of DoRA (arXiv:2402.09353):

    LoRA  W + s B A         DoRA  m / ||W + s B A|| * (W + s B A), the norm taken over the inputs of each output

A stack of experts is as many matrices, each with its own slice of A and B.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from app.errors import ExportError
from app.export.merge.plan import Output
from app.export.merge.weight_delta import Addend
from app.models.adapters import AdapterFolder, LoraUpdate
from app.models.tensors import StoredTensor

# Bytes that one element of a block takes at most: as stored, in float32, its rounded copy, and room for the product.
_BYTES_AN_ELEMENT = 16
_LARGEST_BLOCK = 32 << 20


def block_elements(max_ram_bytes: int) -> int:
    """Return the elements of a block; half of the memory is left for A and B, buffers and the allocator."""
    return max(1, min(_LARGEST_BLOCK, max_ram_bytes // 2 // _BYTES_AN_ELEMENT))


class Updates:
    """The updates of an adapter, in float32. Those of stacked experts are needed once an expert, so the last are kept.

    Three are as many as one layer has parameters of experts, whose matrices may lie mixed in the files.
    """

    _KEPT = 3

    def __init__(self, adapter: AdapterFolder) -> None:
        self.adapter = adapter
        self._kept: dict[str, LoraUpdate] = {}

    def of(self, addend: Addend) -> LoraUpdate:
        """Return an update, read from the file where it is not kept."""
        if addend.name in self._kept:
            return self._kept[addend.name]
        update = _widened(self.adapter.update(addend.layer, name=addend.name, experts=addend.experts))
        if addend.experts > 1:
            while len(self._kept) >= self._KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[addend.name] = update
        return update


def merged_blocks(output: Output, updates: Updates, elements: int, pause: Callable[[], None]) -> Iterator[torch.Tensor]:
    """Yield the rows of one merged tensor in order, in the output's dtype. `pause` is called before each block."""
    rows = None if output.rows is None else updates.adapter.finite(output.rows.key)
    for source, update in _matrices(output, updates):
        factor = None
        if update is not None and update.magnitude is not None and not output.bias:
            factor = update.magnitude.float().flatten() / _norms(source, output, update, elements, pause)
        for first, last in source.blocks(elements):
            pause()
            block = source.read(first, last)
            if source.file == updates.adapter.weights_file:
                _refuse_not_finite(block, f"{output.outline.name} in the adapter holds values that are not numbers")
            if update is not None:
                block = _updated(block, output, update, first, last, factor)
            if rows is not None:
                block = _replaced(block, output, rows, first)
            if block.dtype != output.outline.dtype:
                block = rounded(block, output.outline.dtype, output.outline.name)
            yield block


def _matrices(output: Output, updates: Updates) -> Iterator[tuple[StoredTensor, LoraUpdate | None]]:
    """Yield the matrices that a tensor is made of, each with what is added to it; a plain tensor is one."""
    addend, place = output.addend, output.place
    update = None if addend is None else updates.of(addend)
    if addend is None or update is None or addend.experts == 1:
        yield output.source, update
    elif place.expert is not None:
        yield output.source, update.expert(place.expert, addend.experts).share(place.part, place.parts)
    else:
        for number in range(addend.experts):
            yield output.source.inner(number), update.expert(number, addend.experts)


def _replaced(block: torch.Tensor, output: Output, rows: torch.Tensor, first: int) -> torch.Tensor:
    """Return a block, which begins at row `first`, with the adapter's rows in it."""
    assert output.rows is not None
    for number, row in zip(output.rows.numbers, rows, strict=True):
        if first <= number < first + len(block):
            block[number - first] = row.to(block.dtype)
    return block


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
        result *= factor if _is_transposed(output) else factor[first:last, None]
    _refuse_not_finite(result, f"the sum overflows in {output.outline.name}")
    return result


def _refuse_not_finite(block: torch.Tensor, why: str) -> None:
    """Raise ExportError unless all values are finite; any other one would make every answer meaningless."""
    if not bool(torch.isfinite(block).all()):
        raise ExportError("The adapter cannot be merged", why, "use another copy of the adapter or of the base")


def _is_transposed(output: Output) -> bool:
    return output.addend is not None and output.addend.transposed


def _summed(block: torch.Tensor, output: Output, update: LoraUpdate, first: int, last: int) -> torch.Tensor:
    """Return rows of W + s B A; of its transpose where the weight is stored transposed."""
    result = block.float()
    if _is_transposed(output):
        return result.addmm_(update.a[:, first:last].T, update.b.T, alpha=update.scaling)
    return result.addmm_(update.b[first:last], update.a, alpha=update.scaling)


def _norms(
    source: StoredTensor, output: Output, update: LoraUpdate, elements: int, pause: Callable[[], None]
) -> torch.Tensor:
    """Return the norm of each output of W + s B A, in a pass of its own."""
    squares = torch.zeros(update.b.shape[0], dtype=torch.float64)
    for first, last in source.blocks(elements):
        pause()
        rows = _summed(source.read(first, last), output, update, first, last)
        rows *= rows
        if _is_transposed(output):
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
            on_page="choose another format",
        )
    return found
