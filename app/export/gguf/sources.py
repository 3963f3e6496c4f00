"""Where the values of a tensor of the file come from, when it is not simply one stored tensor.

Each reads as a stored tensor does: rows from the first dimension, as many at a time as are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from app.models.tensors import StoredTensor


class Source(Protocol):
    """Rows of values."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape, rows first."""

    def read(self, first: int = 0, last: int | None = None) -> torch.Tensor:
        """Return the rows from `first` up to `last`."""


def rows_of(source: Source) -> int:
    """Return the size of the first dimension, 1 for a single number."""
    return source.shape[0] if source.shape else 1


def row_elements(source: Source) -> int:
    """Return the elements of one row."""
    return math.prod(source.shape[1:])


@dataclass(frozen=True)
class Stacked:
    """Matrices of one shape as one tensor: (experts, rows, columns)."""

    parts: Sequence[StoredTensor]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (experts, rows, columns)."""
        return (len(self.parts), *self.parts[0].shape)

    def read(self, first: int = 0, last: int | None = None) -> torch.Tensor:
        """Return the experts from `first` up to `last`."""
        return torch.stack([part.read() for part in self.parts[first:last]])


@dataclass(frozen=True)
class Changed:
    """A tensor whose rows are changed one by one: transposed, cut, squeezed, their columns in another order."""

    source: StoredTensor
    change: Callable[[torch.Tensor], torch.Tensor]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape after the change, found without values."""
        return tuple(self.change(torch.empty(self.source.shape, device="meta")).shape)

    def read(self, first: int = 0, last: int | None = None) -> torch.Tensor:
        """Return the changed rows from `first` up to `last`."""
        return self.change(self.source.read(first, last)).contiguous()


@dataclass(frozen=True)
class Rearranged:
    """A tensor with its rows in another order. `order` names the row of the source for every row."""

    source: Source
    order: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the source's shape."""
        return self.source.shape

    def read(self, first: int = 0, last: int | None = None) -> torch.Tensor:
        """Return the rows from `first` up to `last`, read run by run."""
        wanted = self.order[first:last].tolist()
        found, begin = [], 0
        for place in range(1, len(wanted) + 1):
            if place == len(wanted) or wanted[place] != wanted[place - 1] + 1:
                found.append(self.source.read(wanted[begin], wanted[place - 1] + 1))
                begin = place
        return torch.cat(found)
