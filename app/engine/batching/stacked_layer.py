"""One linear layer of the base with the adapters on it: all A and all B side by side, in two matrices.

The rows of a batch each use their own adapter. With x (batch, length, in), A (ranks, in), B (ranks, out), the layer
computes the products of all adapters in use for every row and blanks what is not the row's own:

    y = base(x) + blank(x @ A.T) @ B

PEFT walks over the adapters in a Python loop in each layer; here their number changes only the width of A and B.
Ranks may differ, nothing is padded, and a row of the base adds exact zeros.

On a processor, where arithmetic and not the launch of kernels takes the time, the blanked products are left out:
prompts are multiplied row by row, and a batch that goes on unchanged gets copies of A and B row by row, so that a
token of all rows costs two batched products with the rows' own ranks. See docs/decisions/engine-one-batch.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import nn

from app.models.adapters import LoraUpdate

Span = tuple[int, int]
# What one row uses of a layer: spans of A and B, each with its weight. A row of the base uses none.
Claim = tuple[tuple[Span, float], ...]
# Tokens a row from which a product row by row costs less than one product with blanks.
_LONG = 16
# A product with blanks takes about 2.5 times as long a rank as a batched one (8 rows on one core, widths 256 to 1536).
_COPIED_RANKS = 2.0


@dataclass(frozen=True)
class BatchRouting:
    """Which columns of A and B a batch uses in one layer.

    `claims` says it row by row; it is empty when all rows use all columns. `foreign` (batch, 1, columns) marks those
    of other rows; `weights`, of the same shape, scales those of mixes.
    """

    start: int
    end: int
    claims: tuple[Claim, ...] = ()
    foreign: torch.Tensor | None = None
    weights: torch.Tensor | None = None

    @property
    def widest(self) -> int:
        """Return the largest sum of ranks that a row uses."""
        return max((sum(high - low for (low, high), _ in claim) for claim in self.claims), default=0)

    @cached_property
    def rows(self) -> slice:
        """Return the rows from the first to the last that uses an adapter."""
        used = [row for row, claim in enumerate(self.claims) if claim]
        return slice(used[0], used[-1] + 1) if used else slice(0, 0)


def route_of(claims: tuple[Claim, ...], like: torch.Tensor) -> BatchRouting | None:
    """Return the route of a batch, None when no row adds anything. Masks get the device and dtype of `like`."""
    used = [span for claim in claims for span, _ in claim]
    if not used:
        return None
    start, end = min(low for low, _ in used), max(high for _, high in used)
    if all(claim == (((start, end), 1.0),) for claim in claims):
        return BatchRouting(start, end)
    foreign = torch.ones(len(claims), 1, end - start, dtype=torch.bool)
    weights = torch.ones(len(claims), 1, end - start)
    for row, claim in enumerate(claims):
        for (low, high), weight in claim:
            foreign[row, 0, low - start : high - start] = False
            weights[row, 0, low - start : high - start] = weight
    mixed = bool((weights != 1).any())
    return BatchRouting(start, end, claims, foreign.to(like.device), weights.to(like) if mixed else None)


@dataclass
class StackedLayer:
    """One linear layer of the base and the adapters on it, B scaled already.

    `own` holds the copies for a batch that goes on unchanged: the rows from the first to the last that uses an
    adapter, their A (rows, rank, in) and B (rows, rank, out).
    """

    a: torch.Tensor
    b: torch.Tensor
    spans: dict[str, Span] = field(default_factory=dict)
    route: BatchRouting | None = None
    own: tuple[slice, torch.Tensor, torch.Tensor] | None = None

    def put(self, name: str, update: LoraUpdate) -> None:
        """Append one adapter."""
        dtype, device = self.a.dtype, self.a.device
        start = self.a.shape[0]
        self.a = torch.cat([self.a, update.a.to(device, dtype)])
        self.b = torch.cat([self.b, _scaled(update).to(device, dtype)])
        self.spans[name] = (start, start + update.rank)

    def holds(self, name: str, update: LoraUpdate) -> bool:
        """Tell whether the adapter's part is this update, bit by bit."""
        start, end = self.spans.get(name, (0, 0))
        a, b = update.a.to(self.a), _scaled(update).to(self.b)
        return bool(torch.equal(self.a[start:end], a) and torch.equal(self.b[start:end], b))

    def drop(self, name: str) -> None:
        """Cut one adapter out; those behind it move up."""
        start, end = self.spans.pop(name, (0, 0))
        self.a = torch.cat([self.a[:start], self.a[end:]])
        self.b = torch.cat([self.b[:start], self.b[end:]])
        for other, (low, high) in self.spans.items():
            if low >= end:
                self.spans[other] = (low - (end - start), high - (end - start))

    @property
    def copied_bytes(self) -> int:
        """Return what copies for the rows of the route would take; 0 where they would not pay."""
        if self.route is None or not self.route.claims or self.a.device.type != "cpu":
            return 0
        ranks = len(self.route.claims[self.route.rows]) * self.route.widest
        pays = ranks <= _COPIED_RANKS * (self.route.end - self.route.start)
        return ranks * (self.a.shape[1] + self.b.shape[1]) * self.a.itemsize if pays else 0

    def copy_rows(self) -> None:
        """Copy what each row of the route uses; a row of the base between two others gets zeros."""
        assert self.route is not None
        rows, rank = self.route.claims[self.route.rows], self.route.widest
        a, b = self.a.new_zeros(len(rows), rank, self.a.shape[1]), self.b.new_zeros(len(rows), rank, self.b.shape[1])
        for row, claim in enumerate(rows):
            place = 0
            for (low, high), weight in claim:
                a[row, place : place + high - low] = self.a[low:high]
                torch.mul(self.b[low:high], weight, out=b[row, place : place + high - low])
                place += high - low
        self.own = (self.route.rows, a, b)

    def add(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        """Add the updates to the output of the base layer (a forward hook)."""
        route = self.route
        if route is None:
            return output
        x = inputs[0].to(self.a.dtype)
        in_place = output.dtype == self.b.dtype and output.is_contiguous()
        if in_place and route.claims and x.ndim == 3 and x.device.type == "cpu":
            if self.own is not None and x.shape[1] == 1:
                _add_copied(x, *self.own, output)
                return output
            if x.shape[1] >= _LONG:
                return self._add_by_row(x, route.claims, output)
        hidden = F.linear(x, self.a[route.start : route.end])
        # OPT hands its layers (batch * length, in).
        by_row = hidden.view(len(route.claims), -1, hidden.shape[-1]) if route.claims else hidden
        if route.foreign is not None:
            by_row.masked_fill_(route.foreign, 0.0)
        if route.weights is not None:
            by_row.mul_(route.weights)
        columns, rows = self.b[route.start : route.end], hidden.reshape(-1, hidden.shape[-1])
        if in_place:
            output.view(-1, output.shape[-1]).addmm_(rows, columns)
            return output
        return output + (rows @ columns).view(output.shape).to(output.dtype)

    def _add_by_row(self, x: torch.Tensor, claims: Sequence[Claim], output: torch.Tensor) -> torch.Tensor:
        for row, claim in enumerate(claims):
            for (low, high), weight in claim:
                output[row].addmm_(x[row] @ self.a[low:high].T, self.b[low:high], alpha=weight)
        return output


def _add_copied(x: torch.Tensor, rows: slice, a: torch.Tensor, b: torch.Tensor, output: torch.Tensor) -> None:
    hidden = torch.bmm(a, x[rows].transpose(1, 2))  # (rows, rank, 1)
    output[rows].baddbmm_(hidden.transpose(1, 2), b)


def _scaled(update: LoraUpdate) -> torch.Tensor:
    """Return B as it is multiplied with, (rank, out), in float32."""
    return update.b.float().T * update.scaling
